"""Curves that every chapter draws: a loss over steps, a cost as it grows."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from nnlib.plot.labels import end_label
from nnlib.plot.style import CYCLE


def curves(
    ax: Axes,
    x: Any,
    series: Mapping[str, Any],
    *,
    colors: Mapping[str, str] | Sequence[str] | None = None,
    dashed: Sequence[str] = (),
    labels: bool = True,
    shift: Mapping[str, float | tuple[float, float]] | None = None,
    **style: Any,
) -> Axes:
    """Draw named lines over a common `x`, each named at its own end.

    Names that would overlap move apart, also those of several calls.

    Args:
        ax: where to draw.
        x: the common abscissa, a sequence of numbers; None counts 0, 1, 2, … for each line.
        series: a line, a sequence of numbers, for each name.
        colors: a colour, mostly a meaning, for a line's name, or one for each line in order, or one
            for all; others take the cycle.
        dashed: names of baselines, drawn dashed in grey unless `colors` says otherwise.
        labels: whether to write the names at the lines' ends.
        shift: points by which a name is moved up, or right and up.
        **style: of all lines, as `ax.plot` takes it: `marker`, `linewidth`, `alpha`, …

    Returns:
        `ax`.

    Raises:
        ValueError: a line is not as long as `x`, or `shift` or `dashed` name no line.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> lines = {"network": [0.9, 0.3, 0.1], "baseline": [0.5, 0.5, 0.5]}
        >>> curves(ax, [0, 10, 20], lines, dashed=("baseline",)).lines[1].get_color()
        'baseline'
    """
    for given, names in (("shift", shift or ()), ("dashed", dashed)):
        lost = [name for name in names if name not in series]
        if lost:
            raise ValueError(f"{given} names {lost}, the lines are {list(series)}")
    if isinstance(colors, str):
        colors = dict.fromkeys(series, colors)
    elif colors is not None and not isinstance(colors, Mapping):
        colors = dict(zip(series, colors, strict=True))
    cycle = iter(CYCLE * (1 + len(series) // len(CYCLE)))
    for name, y in series.items():
        # the values of a dictionary, too
        y = y if hasattr(y, "__getitem__") else list(y)
        at = range(len(y)) if x is None else x
        if len(y) != len(at):
            raise ValueError(f"series[{name!r}] has {len(y)} values, x has {len(at)}")
        color = (colors or {}).get(name)
        if color is None:
            color = "baseline" if name in dashed else next(cycle)
        drawn = {"color": color, "linestyle": "--" if name in dashed else "-"} | style
        ax.plot(at, y, **drawn)
        if labels:
            move = (shift or {}).get(name, 0.0)
            dx, dy = move if isinstance(move, tuple) else (0.0, move)
            end_label(ax, float(at[-1]), float(y[-1]), name, color, dx=5 + dx, dy=dy)
    return ax


def growth(
    ax: Axes,
    sizes: Sequence[float],
    cost: Mapping[str, Any],
    *,
    powers: bool = True,
    colors: Mapping[str, str] | Sequence[str] | None = None,
    dashed: Sequence[str] = (),
) -> Axes:
    """Draw how a cost grows with size on logarithmic axes, with the fitted power in each label.

    Args:
        ax: where to draw.
        sizes: sizes > 0, two or more.
        cost: costs > 0 (seconds, bytes, operations) for each name.
        powers: whether to write the fitted exponent, as in `∝ n^1.9`.
        colors: as for `curves`.
        dashed: as for `curves`.

    Returns:
        `ax`.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> growth(ax, [8, 16], {"pairs": [64, 256]}).texts[0].get_text()
        'pairs ∝ n^2.0'
    """
    ax.set_yscale("log")
    log_ticks(ax, sizes)
    told = {}
    for name, y in cost.items():
        slope = np.polyfit(np.log(sizes), np.log(y), 1)[0]
        told[name] = f"{name} ∝ n^{slope:.1f}" if powers else name
    lines = {told[name]: y for name, y in cost.items()}
    if isinstance(colors, Mapping):
        colors = {told[name]: color for name, color in colors.items()}
    dashed = tuple(told[name] for name in dashed)
    curves(ax, sizes, lines, colors=colors, dashed=dashed, marker="o")
    return ax


def log_ticks(
    ax: Axes,
    values: Sequence[float],
    labels: Sequence[str] | str = "{:g}",
    *,
    axis: Literal["x", "y"] = "x",
    within: bool = False,
) -> None:
    """Make an axis logarithmic, with ticks at these values and nowhere else.

    Args:
        ax: the axes; a line drawn before or after keeps its place.
        values: where a tick stands, each > 0.
        labels: a text for each, or how a value is written.
        axis: which one.
        within: whether to leave out the values beyond what is drawn so far.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> log_ticks(ax, [1, 16, 256], "{:g} KB")
        >>> [tick.get_text() for tick in ax.get_xticklabels()]
        ['1 KB', '16 KB', '256 KB']
    """
    if isinstance(labels, str):
        labels = [labels.format(float(value)) for value in values]
    pairs = list(zip([float(value) for value in values], labels, strict=True))
    which = ax.xaxis if axis == "x" else ax.yaxis
    ax.set(**{f"{axis}scale": "log"})
    if within:
        low, high = sorted(which.get_view_interval())
        pairs = [(value, label) for value, label in pairs if low <= value <= high]
    which.set_ticks([value for value, _ in pairs], labels=[label for _, label in pairs])
    which.minorticks_off()
