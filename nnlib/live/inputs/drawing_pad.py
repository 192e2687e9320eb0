"""A square to draw on."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.live import drawing
from nnlib.live.inputs.given import Context, Feed, Given, NotGiven, Widget


@dataclass(frozen=True, kw_only=True)
class DrawingPad(Given):
    """A square to draw on, brought to `size` × `size` grey values between 0 and 1.

    What is drawn is centred and scaled to a box, with a pen of one width, as the pictures of
    training sets are; only a reader's *shift* moves it away from the middle.

    Attributes:
        size: pixels of a side.
        pen: width of the pen, in pixels of that size.
        box: height and width that a drawing takes, in these pixels; the whole square if None.
        squeeze: how many times narrower what is too broad for the box may become, rather than
            lower; 1 keeps the proportions.
        shape: of the tensor; a row of size² numbers if None.

    Example:
        >>> import torch
        >>> pad = DrawingPad(label="Your digit", size=8)
        >>> pad.read(torch.ones(8, 8))[0][0].shape
        torch.Size([1, 64])
    """

    size: int = 8
    pen: float = 1.4
    box: tuple[float, float] | None = None
    squeeze: float = 1.0
    shape: tuple[int, ...] | None = None
    kind = "pad"

    def __post_init__(self) -> None:
        checks.number("squeeze", self.squeeze, least=1)
        for side in self.box or ():
            checks.number("box", side, least=self.pen, most=self.size)

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "size": self.size,
            "pen": self.pen,
            "box": self.box or (self.size, self.size),
            "squeeze": self.squeeze,
            "shape": self._shape,
        }

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.shape or (1, self.size**2)

    def plain(self, value: Tensor) -> list[float]:
        """Return the grey values in a row."""
        return [round(grey, 4) for grey in value.flatten().tolist()]

    def read(self, value: Tensor) -> tuple[Feed, Context]:
        """Return the picture as the model takes it."""
        picture = checks.tensor("value", value, shape=(self.size, self.size))
        if not picture.any():
            raise NotGiven("The square is empty: draw something.")
        return (picture.float().reshape(self._shape),), {}

    def body(self, value: Tensor) -> str:
        """Return the square to draw on, and what the model sees of it."""
        seen = drawing.pixels(
            value, f"What the model sees: {self.size} × {self.size} grey values"
        )
        return (
            '<div class="nn-pads"><div class="nn-pad">'
            f'<canvas width="256" height="256" tabindex="0" role="img" aria-label="'
            f"{html.escape(self.label)}: draw with a finger or the mouse; or with the arrow "
            'keys, which move a cursor, and the space bar, which paints"></canvas></div>'
            f'<div class="nn-seen"><span>What it sees</span>{seen}</div></div>'
            '<div class="nn-row"><button type="button" data-do="clear">Clear</button>'
            '<label class="nn-slide"><span>Shift it by <output aria-live="off">0</output></span>'
            '<input type="range" data-do="shift" min="-3" max="3" step="1" value="0" '
            'autocomplete="off"></label></div>'
        )

    def widget(self, value: Tensor) -> Widget:
        """Return cells that switch, or shades of an example; moves, where there are many."""
        return (_cells if self.size <= 12 else _moves)(value, self.size)


def _cells(value: Tensor, size: int) -> Widget:
    import ipywidgets

    state = {"now": value.clone()}
    cells = [
        ipywidgets.ToggleButton(
            layout={"width": "26px", "height": "26px", "margin": "0"}
        )
        for _ in range(size**2)
    ]
    busy = []

    def put(other: Tensor) -> None:
        state["now"] = other.clone()
        busy.append(True)
        for cell, grey in zip(cells, other.flatten().tolist(), strict=True):
            cell.value = grey > 0.5
        busy.clear()

    def switched(at: int) -> Callable[[Any], None]:
        def act(change: Any) -> None:
            if not busy:
                state["now"].view(-1)[at] = float(change["new"])

        return act

    put(value)
    for at, cell in enumerate(cells):
        cell.observe(switched(at), "value")
    rows = [ipywidgets.HBox(cells[at : at + size]) for at in range(0, size**2, size)]
    return ipywidgets.VBox(rows), lambda: state["now"], put


def _moves(value: Tensor, size: int) -> Widget:
    """Return sliders that move an example: with hundreds of cells nobody can draw."""
    import ipywidgets

    state = {"now": value.clone()}
    down, right = (
        ipywidgets.IntSlider(description=name, min=-(size // 4), max=size // 4)
        for name in ("down", "right")
    )

    def read() -> Tensor:
        y, x = size - down.value, size - right.value
        wide = F.pad(state["now"], [size] * 4)  # zeros come in
        return wide[y : y + size, x : x + size]

    def put(other: Tensor) -> None:
        state["now"] = other.clone()

    return ipywidgets.VBox([down, right]), read, put
