"""A picture to wipe out."""

import html
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nnlib import checks
from nnlib.live import drawing
from nnlib.live.inputs.given import Context, Feed, Given, Widget


@dataclass(frozen=True, kw_only=True)
class Damage(Given):
    """A picture that a reader wipes out with a finger, the mouse, or arrow keys and space.

    Attributes:
        shape: height and width.
        to: the value of what is wiped out.

    Example:
        >>> import torch
        >>> Damage(label="A face", shape=(4, 4)).read(torch.ones(4, 4))[0][0].shape
        torch.Size([1, 16])
    """

    shape: tuple[int, int]
    to: float = 0.0
    feed: tuple[int, ...] | None = None
    kind = "damage"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "shape": self.shape,
            "to": self.to,
            "feed": self._feed,
        }

    @property
    def _feed(self) -> tuple[int, ...]:
        return self.feed or (1, self.shape[0] * self.shape[1])

    def plain(self, value: Tensor) -> list[float]:
        """Return the values in a row."""
        return [round(grey, 4) for grey in value.flatten().tolist()]

    def read(self, value: Tensor) -> tuple[Feed, Context]:
        """Return the picture as the model takes it."""
        checks.tensor("value", value, shape=self.shape)
        return (value.float().reshape(self._feed),), {}

    def body(self, value: Tensor) -> str:
        """Return the picture."""
        picture = drawing.pixels(value, self.label)
        return (
            f'<div class="nn-damage" tabindex="0" role="group" aria-label="'
            f"{html.escape(self.label)}: wipe with a finger or the mouse; or with the arrow "
            f'keys, which move a cursor, and the space bar, which wipes">{picture}</div>'
            '<div class="nn-row"><button type="button" data-do="whole">Whole again</button></div>'
        )

    def widget(self, value: Tensor) -> Widget:
        """Return the examples' pictures and the share of rows that are wiped out."""
        import ipywidgets

        kept = {"now": value}
        rows = ipywidgets.IntSlider(description="rows wiped", max=self.shape[0])

        def read() -> Tensor:
            wiped = kept["now"].clone()
            wiped[: rows.value] = self.to
            return wiped

        return rows, read, lambda other: kept.update(now=other)
