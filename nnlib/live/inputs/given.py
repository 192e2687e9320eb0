"""What all inputs of a live model have."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nnlib.live.export import Feed

Context = dict[str, Any]
Widget = tuple[Any, Callable[[], Any], Callable[[Any], None]]
"""A widget for a notebook, what reads it, and what sets it."""


class NotGiven(ValueError):
    """Nothing that the model could read; the message is a plain word for the reader."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """An input of a live model: what all of them have.

    Attributes:
        label: names it, also for a screen reader.
        examples: name → value, to choose from.
    """

    label: str
    examples: Mapping[str, Any] = field(default_factory=dict)
    kind = ""

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        # In order, and not by name: a notebook is written with its names sorted.
        shown = [self.plain(value) for value in self.examples.values()]
        return {"kind": self.kind, "label": self.label, "examples": shown}

    def plain(self, value: Any) -> Any:
        """Return a value as JSON has it."""
        return value

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return tensors, and what the outputs may want to know of the input.

        Raises:
            NotGiven: there is nothing to read.
        """
        raise NotImplementedError

    def body(self, value: Any) -> str:
        """Return the markup that shows a value and takes others."""
        raise NotImplementedError

    def widget(self, value: Any) -> Widget:
        """Return a widget for a notebook, what reads it, and what sets it."""
        raise NotImplementedError

    def markup(self, value: Any) -> str:
        """Return the input as the page shows it, with its examples."""
        buttons = "".join(
            f'<button type="button" data-example="{at}">{html.escape(name)}</button>'
            for at, name in enumerate(self.examples)
        )
        row = (
            f'<div class="nn-examples" role="group" aria-label="Examples">{buttons}</div>'
            if buttons
            else ""
        )
        return self.body(value) + row
