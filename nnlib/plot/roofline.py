"""The roofline diagram: what a machine can reach at each intensity, and where operations lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from nnlib.plot.labels import SIZE
from nnlib.plot.style import COLORS, INK, MUTED

UNITS = (
    (1e15, "PFLOP/s"),
    (1e12, "TFLOP/s"),
    (1e9, "GFLOP/s"),
    (1e6, "MFLOP/s"),
    (1.0, "FLOP/s"),
)

Box = tuple[float, float, float, float]  # left, right, bottom, top, in points
REACH = 5.0  # of a mark, from its middle, in points
# Offsets at which a name is tried, in points: below the slope of a roof first.
AROUND = (
    (7, -10), (8, 0), (9, -22), (-7, 10), (-8, 0), (-7, -10), (7, 10), (-9, 22), (0, -15),
    (0, 15), (-9, -22), (9, 22), (10, -34), (-10, 34),
)  # fmt: skip


def rate(flops: float) -> str:
    """Return a rate in words, such as `"3.4 TFLOP/s"`.

    Example:
        >>> rate(3.351e12), rate(520)
        ('3.35 TFLOP/s', '520 FLOP/s')
    """
    size, unit = next((pair for pair in UNITS if flops >= pair[0]), UNITS[-1])
    return f"{flops / size:.3g} {unit}"


def roof(
    ax: Axes,
    flops: float,
    bandwidth: float,
    *,
    span: tuple[float, float] = (0.05, 5000.0),
    color: str = INK,
    label: str = "",
    fill: bool = False,
) -> None:
    """Draw a machine's roof on logarithmic axes: the slope of its memory, the flat of its FLOPs.

    Args:
        ax: where to draw.
        flops: FLOP/s of the machine, > 0.
        bandwidth: bytes/s of its memory, > 0.
        span: the intensities to draw, from and to.
        color: of the line.
        label: written above the flat part.
        fill: whether to tint what cannot be reached on the memory's side and on the other.
    """
    ridge = flops / bandwidth
    x = np.array([span[0], ridge, span[1]])
    y = np.array([span[0] * bandwidth, flops, flops])
    ax.plot(x, y, color=color, linewidth=2)
    if fill:
        low = span[0] * bandwidth / 20
        ax.fill_between(
            x[:2], low, y[:2], color=COLORS["input"], alpha=0.10, linewidth=0
        )
        ax.fill_between(
            x[1:], low, y[1:], color=COLORS["learned"], alpha=0.10, linewidth=0
        )
    if label:
        ax.text(
            span[1],
            flops * 1.12,
            label,
            ha="right",
            va="bottom",
            fontsize=10,
            color=color,
        )
    ax.set(xscale="log", yscale="log", xlim=span, xlabel="FLOPs for each byte moved")
    low, high = ax.get_ylim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [10.0**k for k in decades if low <= 10.0**k <= high]
    ax.set_yticks(ticks, [rate(tick) for tick in ticks])
    ax.minorticks_off()


def drop(ax: Axes, intensity: float, reached: float, top: float) -> None:
    """Draw the way from the roof down to an operation: what it leaves unused."""
    ax.plot([intensity] * 2, [reached, top], color=MUTED, linewidth=1, linestyle=":")


class _Name(Annotation):
    """A name beside its mark, where it lies on no other mark and no earlier name when drawn."""

    def __init__(self, text: str, xy: tuple[float, float], **options: Any):
        super().__init__(
            text, xy, xytext=(0, 0), textcoords="offset points", va="center",
            fontsize=SIZE, annotation_clip=False, **options,
        )  # fmt: skip

    def update_positions(self, renderer: Any) -> None:
        """Choose the place, then do what an annotation does."""
        assert self.axes is not None
        names = [text for text in self.axes.texts if isinstance(text, _Name)]
        marks = [name.mark() for name in names]
        taken: list[Box] = [
            (x - REACH, x + REACH, y - REACH, y + REACH) for x, y in marks
        ]
        for name in names:
            offset = name.choose(taken)
            if name is self:
                self.xyann = offset
                self.set_horizontalalignment(
                    "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
                )
                break
            taken.append(name.box(offset))
        super().update_positions(renderer)

    def mark(self) -> tuple[float, float]:
        """Return where the mark is, in points from the figure's corner."""
        assert self.axes is not None and self.axes.figure is not None
        x, y = self.axes.transData.transform(self.xy) * 72 / self.axes.figure.dpi
        return float(x), float(y)

    def choose(self, taken: "Sequence[Box]") -> tuple[float, float]:
        """Return the offset at which the name covers the least of what is taken."""
        return min(
            AROUND, key=lambda at: sum(_common(self.box(at), other) for other in taken)
        )

    def box(self, offset: tuple[float, float]) -> "Box":
        """Return left, right, bottom and top of the name at an offset."""
        x, y = self.mark()
        width = 0.6 * SIZE * len(self.get_text())
        left = (
            x
            + offset[0]
            - (0 if offset[0] > 0 else width if offset[0] < 0 else width / 2)
        )
        return (
            left,
            left + width,
            y + offset[1] - SIZE * 0.7,
            y + offset[1] + SIZE * 0.7,
        )


def _common(one: "Box", other: "Box") -> float:
    width = min(one[1], other[1]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[2], other[2])
    return max(width, 0.0) * max(height, 0.0)


def name_places(
    ax: Axes, names: Sequence[str], intensities: Sequence[float], rates: Sequence[float]
) -> None:
    """Mark measured operations; each name finds room, as nobody knows before where the marks lie.

    Args:
        ax: with a roof, and no tint behind the names, which hide the lines under them.
        names: of the operations.
        intensities: FLOPs for each byte.
        rates: FLOP/s.
    """
    ground = {"facecolor": "white", "linewidth": 0, "pad": 1}
    for name, x, y in zip(names, intensities, rates, strict=True):
        ax.plot([x], [y], "o", color=COLORS["learned"], markersize=7, zorder=5)
        ax.add_artist(_Name(name, (x, y), color="learned", bbox=ground))


def places(
    ax: Axes,
    names: Sequence[str],
    intensities: Sequence[float],
    rates: Sequence[float],
    *,
    color: str = COLORS["learned"],
    marker: str = "o",
    offsets: dict[str, tuple[float, float]] | None = None,
) -> None:
    """Mark operations by their intensity and the rate they reach, each with its name.

    Args:
        ax: with a roof.
        names: of the operations; "" for none.
        intensities: FLOPs for each byte.
        rates: FLOP/s.
        color: of the marks and names.
        marker: of the marks.
        offsets: points that a name is moved by, where (6, −10) would hide something.
    """
    for name, x, y in zip(names, intensities, rates, strict=True):
        ax.plot([x], [y], marker, color=color, markersize=7, zorder=5)
        dx, dy = (offsets or {}).get(name, (6, -10))
        ax.annotate(
            name, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=10, color=color,
            ha="left" if dx >= 0 else "right", va="center",
        )  # fmt: skip
