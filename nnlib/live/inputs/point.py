"""A point of a plane to pull."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnlib import checks
from nnlib.live.inputs.given import Context, Feed, Given, Widget

STEPS = 20
"""Presses of an arrow key from the middle to the edge."""


@dataclass(frozen=True, kw_only=True)
class Point(Given):
    """Two numbers, as a point of a square plane that a reader pulls, or moves with arrow keys.

    Attributes:
        reach: the plane goes from −reach to reach both ways.
        cloud: points (x, y, letter) that stand in the plane to show the way, such as the codes of
            known examples.

    Example:
        >>> Point(label="A code", reach=3.0).read([1.0, -2.0])[0]
        (tensor([[ 1., -2.]]),)
    """

    reach: float = 1.0
    cloud: Sequence[tuple[float, float, str]] = ()
    kind = "point"

    def __post_init__(self) -> None:
        checks.number("reach", self.reach, above=0)

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "reach": self.reach,
            "step": self.reach / STEPS,
            "words": self.label,
        }

    def plain(self, value: Sequence[float]) -> list[float]:
        """Return the two numbers."""
        return [float(number) for number in value]

    def read(self, value: Sequence[float]) -> tuple[Feed, Context]:
        """Return the two numbers in a row."""
        for at, number in enumerate(value):
            checks.number(f"value[{at}]", number, least=-self.reach, most=self.reach)
        return (torch.tensor([self.plain(value)]),), {}

    def body(self, value: Sequence[float]) -> str:
        """Return the plane with its cloud and the point."""
        letters = "".join(
            f'<text x="{100 * x / self.reach:.1f}" y="{-100 * y / self.reach:.1f}">'
            f"{html.escape(letter)}</text>"
            for x, y, letter in self.cloud
            if max(abs(x), abs(y)) <= self.reach
        )
        x, y = self.plain(value)
        words = f"{html.escape(self.label)}, at {x:.2f}, {y:.2f}"
        at = f"translate({100 * x / self.reach:.1f} {-100 * y / self.reach:.1f})"
        return (
            '<div class="nn-plane nn-pull"><svg viewBox="-112 -112 224 224" role="group" '
            f'aria-label="{html.escape(self.label)}"><path class="nn-axes" '
            f'd="M-110 0h220M0-110v220"/><g class="nn-cloud" aria-hidden="true">{letters}</g>'
            f'<g class="nn-point" data-kind="1" tabindex="0" role="button" transform="{at}" '
            f'aria-label="{words}"><circle class="nn-reach" r="20"/><circle r="8"/></g>'
            "</svg></div>"
        )

    def widget(self, value: Sequence[float]) -> Widget:
        """Return two sliders."""
        import ipywidgets

        sliders = [
            ipywidgets.FloatSlider(
                number,
                min=-self.reach,
                max=self.reach,
                step=self.reach / STEPS,
                description=name,
            )
            for name, number in zip(("across", "up"), value, strict=True)
        ]

        def put(other: Sequence[float]) -> None:
            for slider, number in zip(sliders, other, strict=True):
                slider.value = number

        return ipywidgets.VBox(sliders), lambda: [s.value for s in sliders], put
