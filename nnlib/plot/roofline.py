"""The roofline diagram: what a machine can reach at each intensity, and where operations lie."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from nnlib.plot.style import COLORS, INK, MUTED

UNITS = (
    (1e15, "PFLOP/s"),
    (1e12, "TFLOP/s"),
    (1e9, "GFLOP/s"),
    (1e6, "MFLOP/s"),
    (1.0, "FLOP/s"),
)


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
