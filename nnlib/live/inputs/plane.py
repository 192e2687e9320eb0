"""Points of a plane to drag."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnlib.live.inputs.given import Context, Feed, Given, NotGiven, Widget


@dataclass(frozen=True, kw_only=True)
class Plane(Given):
    """Points of the plane between -1 and 1, each of one of two classes, to be dragged.

    A value is a list of (x, y, class).

    Attributes:
        classes: the names of the two.

    Example:
        >>> plane = Plane(label="Points", classes=("no", "yes"))
        >>> plane.read([(0.0, 1.0, 1)])[0]
        (tensor([[0., 1.]]), tensor([1]))
    """

    classes: tuple[str, str]
    kind = "plane"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"classes": list(self.classes)}

    def plain(self, value: Any) -> list[list[float]]:
        """Return the points."""
        return [list(point) for point in value]

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return the points and their classes."""
        if not value:
            raise NotGiven("There is no point: choose an example.")
        points = torch.tensor([[float(x), float(y)] for x, y, _ in value])
        return (points, torch.tensor([int(kind) for *_, kind in value])), {}

    def body(self, value: Any) -> str:
        """Return the plane with its points."""
        return f'<div class="nn-plane">{self.picture(value)}</div>'

    def picture(self, value: Any, line: Sequence[float] | None = None) -> str:
        """Return the plane, its points, and a line where w₁x + w₂y + b = 0."""
        marks = []
        for number, (x, y, kind) in enumerate(value, 1):
            words = f"Point {number}, {self.classes[kind]}, at {x:.2f}, {y:.2f}"
            at = f'transform="translate({100 * x:.1f} {-100 * y:.1f})"'
            form = (
                '<rect x="-7" y="-7" width="14" height="14"/>'
                if kind
                else '<circle r="8"/>'
            )
            marks.append(
                f'<g class="nn-point" data-kind="{kind}" tabindex="0" role="button" {at} '
                f'aria-label="{html.escape(words)}"><circle class="nn-reach" r="20"/>{form}</g>'
            )
        drawn = _line(line) if line is not None else ""
        return (
            '<svg viewBox="-112 -112 224 224" role="group" aria-label="'
            f'{html.escape(self.label)}"><path class="nn-axes" d="M-110 0h220M0-110v220"/>'
            f'<path class="nn-line" d="{drawn}"/>{"".join(marks)}</svg>'
        )

    def widget(self, value: Any) -> Widget:
        """Return a choice of a point and two sliders that move it."""
        import ipywidgets

        points = [list(point) for point in value]
        which = ipywidgets.Dropdown(
            options=[(f"point {n}", n - 1) for n in range(1, len(points) + 1)], value=0
        )
        across, up = (
            ipywidgets.FloatSlider(
                points[0][k], min=-1, max=1, step=0.05, description=name
            )
            for k, name in enumerate("xy")
        )

        def chosen(_: Any = None) -> None:
            across.value, up.value = points[which.value][:2]

        def moved(_: Any = None) -> None:
            points[which.value][:2] = [across.value, up.value]

        def put(other: Any) -> None:
            points[:] = [list(point) for point in other]
            which.options = [(f"point {n}", n - 1) for n in range(1, len(points) + 1)]
            chosen()

        def taken() -> list[tuple[Any, ...]]:
            moved()
            return [tuple(point) for point in points]

        which.observe(chosen, "value")
        return (
            ipywidgets.VBox([which, across, up]),
            taken,
            put,
        )


def _line(line: Sequence[float]) -> str:
    """Return the path of w₁x + w₂y + b = 0 within a square that is larger than the plane."""
    across, up, bias = (float(number) for number in line)
    length = across * across + up * up
    if length < 1e-12:
        return ""
    x, y = -bias * across / length, -bias * up / length
    along = 3 / length**0.5
    ends = [(x + s * along * -up, y + s * along * across) for s in (-1, 1)]
    (x0, y0), (x1, y1) = [(100 * x, -100 * y) for x, y in ends]
    return f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"
