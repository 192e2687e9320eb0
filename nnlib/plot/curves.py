"""Curves that every chapter draws: a loss over steps, a cost as it grows."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from nnlib.plot.style import COLORS, CYCLE, end_label


def curves(
    ax: Axes,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    colors: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    labels: bool = True,
) -> Axes:
    """Draw named lines over a common `x`, each named at its own end.

    Args:
        ax: where to draw.
        x: the common abscissa.
        series: a line for each name.
        colors: a colour, or the name of a meaning, for a line's name; others take the cycle.
        dashed: names of baselines, drawn dashed in grey unless `colors` says otherwise.
        labels: whether to write the names at the lines' ends.

    Returns:
        `ax`.

    Raises:
        ValueError: a line is not as long as `x`.
    """
    cycle = iter(CYCLE * (1 + len(series) // len(CYCLE)))
    for name, y in series.items():
        if len(y) != len(x):
            raise ValueError(f"series[{name!r}] has {len(y)} values, x has {len(x)}")
        wanted = (colors or {}).get(name)
        if wanted is None:
            wanted = "baseline" if name in dashed else next(cycle)
        color = COLORS.get(wanted, wanted)
        ax.plot(x, y, color=color, linestyle="--" if name in dashed else "-")
        if labels:
            end_label(ax, x[-1], y[-1], name, color)
    return ax


def growth(
    ax: Axes, sizes: Sequence[float], cost: Mapping[str, Sequence[float]], *, powers: bool = True
) -> Axes:
    """Draw how a cost grows with size on logarithmic axes, with the fitted power in each label.

    Args:
        ax: where to draw.
        sizes: sizes > 0, two or more.
        cost: costs > 0 (seconds, bytes, operations) for each name.
        powers: whether to write the fitted exponent, as in `∝ n^1.9`.

    Returns:
        `ax`.
    """
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.minorticks_off()
    labels = {}
    for name, y in cost.items():
        slope = np.polyfit(np.log(sizes), np.log(y), 1)[0]
        labels[f"{name} ∝ n^{slope:.1f}" if powers else name] = y
    curves(ax, sizes, labels)
    for line in ax.lines:
        line.set_marker("o")
    return ax
