"""A pole on a cart, to push."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnlib import checks
from nnlib.live.inputs.given import Context, Feed, Given, Widget

NAMES = ("position, m", "speed, m/s", "angle, rad", "turning speed, rad/s")
REACH = (2.6, 4.0, math.pi, 8.0)  # of a notebook's sliders
TRACK = "M-2.4 .12H2.4M-2.4 .02v.2M2.4 .02v.2"


@dataclass(frozen=True, kw_only=True)
class Cart(Given):
    """A cart with a pole: four numbers, and a reader who pushes the pole from either side.

    On the page a click or a tap beside the pole, an arrow key or a button pushes it; with `Repeats`
    a module that returns the next four numbers moves the cart.

    Attributes:
        push: what a push adds to the pole's turning speed, in radians a second.

    Example:
        >>> Cart(label="A pole").read([0.0, 0.0, 0.1, 0.0])[0]
        (tensor([[0.0000, 0.0000, 0.1000, 0.0000]]),)
    """

    push: float = 0.5
    kind = "cart"

    def __post_init__(self) -> None:
        checks.number("push", self.push, above=0)

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"push": self.push}

    def plain(self, value: Sequence[float]) -> list[float]:
        """Return the four numbers."""
        return [float(number) for number in value]

    def read(self, value: Sequence[float]) -> tuple[Feed, Context]:
        """Return the four numbers in a row."""
        numbers = self.plain(value)
        if len(numbers) != len(NAMES):
            raise ValueError(f"value must hold 4 numbers, got {len(numbers)}")
        for at, number in enumerate(numbers):
            checks.number(f"value[{at}]", number)
        return (torch.tensor([numbers]),), {}

    def body(self, value: Sequence[float]) -> str:
        """Return the cart, its pole and the buttons that push."""
        x, _, angle, _ = self.plain(value)
        label = html.escape(self.label)
        return (
            f'<div class="nn-cart" tabindex="0" role="group" aria-label="{label}: push the '
            'pole with the left and right arrow keys, or click beside it">'
            '<svg viewBox="-2.7 -1.15 5.4 1.5" aria-hidden="true">'
            f'<path class="nn-axes" d="{TRACK}"/><g transform="translate({x:.3f} 0)">'
            '<rect x="-.25" y="-.1" width=".5" height=".2" rx=".04"/>'
            f'<line class="nn-pole" x2="{math.sin(angle):.3f}" '
            f'y2="{-math.cos(angle):.3f}"/></g></svg></div>'
            '<div class="nn-row"><button type="button" data-do="left">← Push</button>'
            '<button type="button" data-do="right">Push →</button></div>'
        )

    def widget(self, value: Sequence[float]) -> Widget:
        """Return four sliders."""
        import ipywidgets

        sliders = [
            ipywidgets.FloatSlider(
                number, min=-reach, max=reach, step=reach / 100, description=name
            )
            for name, reach, number in zip(NAMES, REACH, value, strict=True)
        ]

        def put(other: Sequence[float]) -> None:
            for slider, number in zip(sliders, other, strict=True):
                slider.value = number

        return ipywidgets.VBox(sliders), lambda: [s.value for s in sliders], put
