"""Architecture diagrams drawn by code: boxes, circles and arrows, with shapes on the arrows.

One hand draws every diagram of the book: the same corners, the same arrows, and one colour for each
meaning (input, learned, state, gate, fixed). Coordinates are in units of a box's height.

Example:
    >>> canvas = Diagram(width=6, height=2)
    >>> x = canvas.box(1, 1, "$x$", kind="input")
    >>> layer = canvas.box(4, 1, "Linear", kind="learned")
    >>> canvas.arrow(x, layer, "b d")
    >>> len(canvas.axes.texts)
    3
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from nnlib.plot.labels import arrow
from nnlib.plot.style import COLORS, INK, MUTED, bare, subplots

Kind = Literal[
    "input",
    "learned",
    "state",
    "gate",
    "fixed",
    "target",
    "plain",
    "highlight",
    "baseline",
]


@dataclass(frozen=True)
class Node:
    """A drawn part: its centre and half its extent, where arrows begin and end."""

    x: float
    y: float
    half_width: float
    half_height: float

    def toward(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the outline that faces `(x, y)`."""
        dx, dy = x - self.x, y - self.y
        if dx == dy == 0:
            return self.x, self.y
        scale = min(
            self.half_width / abs(dx) if dx else float("inf"),
            self.half_height / abs(dy) if dy else float("inf"),
        )
        return self.x + dx * scale, self.y + dy * scale


class Diagram:
    """A blank canvas of `width` × `height` units; draw on it, then show `.figure`."""

    def __init__(self, width: float, height: float, *, inches: float = 7.2):
        for name, value in (("width", width), ("height", height), ("inches", inches)):
            if not value > 0:
                raise ValueError(f"{name}={value!r} must be greater than 0")
        self.figure, self.axes = subplots(width=inches, height=inches * height / width)
        bare(self.axes).set(xlim=(0, width), ylim=(0, height), aspect="equal")

    def box(
        self,
        x: float,
        y: float,
        text: str,
        *,
        kind: Kind = "plain",
        width: float = 1.6,
        height: float = 0.9,
        size: float = 11,
        link: str | None = None,
    ) -> Node:
        """Draw a labelled box centred at `(x, y)`; `kind` gives its colour.

        With a `link`, such as "../attention/attention.html", the box and its words lead there.
        """
        color = _color(kind)
        frame = self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.14",
                linewidth=1.6,
                edgecolor=color,
                facecolor=(color if kind != "plain" else MUTED) + "2e",
            )
        )
        words = self.axes.text(x, y, text, ha="center", va="center", fontsize=size)
        if link is not None:
            frame.set_url(link)
            words.set_url(link)
        return Node(x, y, width / 2, height / 2)

    def circle(
        self,
        x: float,
        y: float,
        text: str = "",
        *,
        kind: Kind = "plain",
        radius: float = 0.34,
    ) -> Node:
        """Draw a unit, or an operation such as + or ⊙."""
        color = _color(kind)
        self.axes.add_patch(
            Circle(
                (x, y), radius, linewidth=1.6, edgecolor=color, facecolor=color + "2e"
            )
        )
        self.axes.text(x, y, text, ha="center", va="center", fontsize=11)
        return Node(x, y, radius, radius)

    def arrow(
        self,
        start: Node,
        end: Node,
        label: str = "",
        *,
        kind: Kind = "plain",
        bend: float = 0.0,
        above: bool = True,
        width: float = 1.4,
    ) -> None:
        """Join two parts; `label` is the shape that flows, `bend` curves the arrow."""
        tail, head = start.toward(end.x, end.y), end.toward(start.x, start.y)
        color = MUTED if kind == "plain" else _color(kind)
        self.axes.add_patch(
            FancyArrowPatch(
                tail,
                head,
                arrowstyle="-|>",
                mutation_scale=11,
                shrinkA=2,
                shrinkB=2,
                linewidth=width,
                color=color,
                connectionstyle=f"arc3,rad={bend}",
            )
        )
        if label:
            middle = (tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2
            self.axes.annotate(
                label, middle, xytext=(0, 9 if above else -9), textcoords="offset points",
                ha="center", va="center", fontsize=9.5,
            )  # fmt: skip

    def chain(self, *nodes: Node, kind: Kind = "plain", width: float = 1.4) -> None:
        """Join parts one after the other: an arrow from each to the next."""
        for start, end in pairwise(nodes):
            self.arrow(start, end, kind=kind, width=width)

    def route(
        self, *points: tuple[float, float], kind: Kind = "plain", width: float = 1.4
    ) -> None:
        """Draw a line through points with an arrow's head at the last: a way around other parts."""
        color = MUTED if kind == "plain" else _color(kind)
        self.axes.plot(*zip(*points[:-1], strict=True), color=color, linewidth=width)
        arrow(self.axes, points[-2], points[-1], color=color, width=width)

    def note(
        self,
        x: float,
        y: float,
        text: str,
        *,
        kind: Kind = "target",
        size: float = 10,
        **kwargs: Any,
    ) -> None:
        """Write words on the canvas, centred unless `ha` says otherwise."""
        kwargs.setdefault("ha", "center")
        self.axes.text(
            x, y, text, va="center", fontsize=size, color=_color(kind), **kwargs
        )

    def repeat(
        self, x: float, y: float, width: float, height: float, times: str
    ) -> None:
        """Frame a block that is repeated, with its count such as `×N`."""
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.2",
                linewidth=1.1,
                linestyle=(0, (4, 3)),
                edgecolor=MUTED,
                facecolor="none",
            )
        )
        corner = x + width / 2, y + height / 2
        self.axes.annotate(
            times, corner, xytext=(-6, -5), textcoords="offset points", ha="right", va="top",
            fontsize=10,
        )  # fmt: skip


def _color(kind: str) -> str:
    if kind == "plain":
        return INK
    if kind not in COLORS:
        raise ValueError(f"kind={kind!r} must be one of {['plain', *COLORS]}")
    return COLORS[kind]
