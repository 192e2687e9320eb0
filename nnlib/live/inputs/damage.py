"""A picture to wipe out."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlib import checks
from nnlib.live import drawing
from nnlib.live.inputs.given import Context, Feed, Given, Widget


@dataclass(frozen=True, kw_only=True)
class Damage(Given):
    """A picture that a reader wipes out with a finger, the mouse, or arrow keys and space.

    Attributes:
        shape: height and width.
        channels: numbers of each pixel, of which the first is shown and all are wiped; a value
            then has the shape channels, height, width.
        to: the value of what is wiped out.
        feed: the shape in which the model takes a value; a row if None.
        choices: names of ways to go on, of which the reader takes one. The model then gets a second
            tensor, 1 k, with a 1 at the one that is chosen, and a value may be a pair of a name and
            a picture; a picture alone has the first, and on the page leaves what was chosen.
        choice_label: names the choice.
        photograph: whether high values are light, in a dark page and in a light one.

    Example:
        >>> Damage(label="A face", shape=(4, 4)).read(torch.ones(4, 4))[0][0].shape
        torch.Size([1, 16])
    """

    shape: tuple[int, int]
    channels: int = 1
    to: float = 0.0
    feed: tuple[int, ...] | None = None
    choices: Sequence[str] = ()
    choice_label: str = "Rule"
    photograph: bool = False
    kind = "damage"

    def __post_init__(self) -> None:
        checks.count("channels", self.channels)

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "shape": self.shape,
            "to": self.to,
            "feed": self._feed,
            "choices": len(self.choices),
        }

    @property
    def _feed(self) -> tuple[int, ...]:
        return self.feed or (1, self.channels * self.shape[0] * self.shape[1])

    def _parts(self, value: Any) -> tuple[str, Tensor]:
        if isinstance(value, tuple):
            name, picture = value
            return checks.one_of("choice", name, self.choices), picture
        return next(iter(self.choices), ""), value

    def plain(self, value: Any) -> Any:
        """Return the values in a row; with the number of what was chosen, where a value says so."""
        name, picture = self._parts(value)
        row = [round(grey, 4) for grey in picture.flatten().tolist()]
        if not isinstance(value, tuple):
            return row
        return {"choice": list(self.choices).index(name), "picture": row}

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return the picture as the model takes it, and what was chosen."""
        name, picture = self._parts(value)
        deep = () if self.channels == 1 else (self.channels,)
        checks.tensor("value", picture, shape=(*deep, *self.shape))
        feed: Feed = (picture.float().reshape(self._feed),)
        if self.choices:
            at = list(self.choices).index(name)
            feed += (torch.eye(len(self.choices))[at : at + 1],)
        return feed, {}

    def body(self, value: Any) -> str:
        """Return the picture, and the choice below it."""
        name, shown = self._parts(value)
        picture = drawing.pixels(shown.reshape(-1, *self.shape)[0], self.label)
        return (
            f'<div class="nn-damage{drawing.PHOTOGRAPH * self.photograph}" tabindex="0" '
            f'role="group" aria-label="'
            f"{html.escape(self.label)}: wipe with a finger or the mouse; or with the arrow "
            f'keys, which move a cursor, and the space bar, which wipes">{picture}</div>'
            '<div class="nn-row"><button type="button" data-do="whole">Whole again</button></div>'
            + self._choice(name)
        )

    def _choice(self, chosen: str) -> str:
        if not self.choices:
            return ""
        options = "".join(
            f'<option value="{at}"{" selected" * (name == chosen)}>{html.escape(name)}</option>'
            for at, name in enumerate(self.choices)
        )
        return (
            f'<label class="nn-choice"><span>{html.escape(self.choice_label)}</span> '
            f'<select autocomplete="off">{options}</select></label>'
        )

    def widget(self, value: Any) -> Widget:
        """Return the share of rows that are wiped out, and the choice."""
        import ipywidgets

        name, picture = self._parts(value)
        kept = {"now": picture}
        rows = ipywidgets.IntSlider(description="rows wiped", max=self.shape[0])
        if not self.choices:
            choice, box = None, rows
        else:
            choice = ipywidgets.Dropdown(
                options=list(self.choices), value=name, description=self.choice_label
            )
            box = ipywidgets.VBox([rows, choice])

        def read() -> Any:
            wiped = kept["now"].clone()
            wiped[..., : rows.value, :] = self.to
            return wiped if choice is None else (choice.value, wiped)

        def put(other: Any) -> None:
            kept.update(now=self._parts(other)[1])
            if choice is not None and isinstance(other, tuple):
                choice.value = other[0]

        return box, read, put
