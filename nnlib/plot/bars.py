"""Named values side by side: bars with their numbers, dots in named rows, histograms."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

import nnlib.plot.colors  # noqa: F401  (names the colours)


def bars(
    ax: Axes,
    values: Mapping[Any, Any],
    *,
    colors: str | Sequence[str] = "learned",
    text: str | Callable[[float], str] | None = "{:.2f}",
    upright: bool = False,
    thickness: float = 0.7,
) -> Axes:
    """Draw a bar for each named value, with its number at its end.

    Args:
        ax: where to draw.
        values: for each name a number, or several for a group of bars.
        colors: one for all; one for each name; or, where the bars stand in groups, one for each bar
            of a group.
        text: how a number is written, or what is written for it; None writes none.
        upright: whether bars stand, with their names below; they lie, the first on top, if not.
        thickness: of a bar or a group, as a share of the room it has.

    Returns:
        `ax`.

    Raises:
        ValueError: groups of different sizes, or another number of colours.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> bars(ax, {"counting": 0.41, "network": 0.87}, text="{:.0%}").texts[1].get_text()
        ' 87%'
    """
    groups = [
        np.atleast_1d(np.asarray(value, dtype=float)) for value in values.values()
    ]
    size = len(groups[0])
    if any(len(group) != size for group in groups):
        raise ValueError(
            f"values must be groups of one size, got {[len(g) for g in groups]}"
        )
    wanted = len(groups) if size == 1 else size
    tones = [colors] * wanted if isinstance(colors, str) else list(colors)
    if len(tones) != wanted:
        raise ValueError(f"colors must be one or {wanted}, got {len(tones)}")
    slim = thickness / size
    for at, group in enumerate(groups):
        for k, value in enumerate(group):
            color = tones[at] if size == 1 else tones[k]
            place = at + (k - (size - 1) / 2) * slim
            draw = ax.bar if upright else ax.barh
            draw(place, value, 0.96 * slim if size > 1 else slim, color=color)
            if text is not None:
                word = text.format(value) if isinstance(text, str) else text(value)
                _write(ax, word, value, place, color, upright)
    if upright:
        ax.set_xticks(range(len(values)), [str(name) for name in values])
    else:
        named_rows(ax, values)
    return ax


def _write(
    ax: Axes, word: str, value: float, place: float, color: str, upright: bool
) -> None:
    ink = "ink" if color in ("baseline", "muted") else color
    if upright:
        ax.text(place, value, word, ha="center", va="bottom", fontsize=10, color=ink)
    else:
        ax.text(value, place, f" {word}", va="center", fontsize=10, color=ink)


def named_rows(ax: Axes, names: Iterable[Any]) -> None:
    """Make `y` count rows from the top, each with its name at the left.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> named_rows(ax, ["first", "second"])
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['first', 'second']
    """
    names = [str(name) for name in names]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)


def histogram(
    ax: Axes,
    values: Any,
    edges: Any,
    *,
    color: str = "learned",
    log: bool = False,
    fill: bool = True,
) -> np.ndarray:
    """Draw which share of the values lies in each bin.

    Args:
        ax: where to draw.
        values: numbers of any shape; those beyond the edges count in the whole and in no bin.
        edges: of the bins, rising.
        color: of the bins.
        log: whether shares stand on a logarithmic axis, from 0.001 % to 100 %.
        fill: whether the bins are filled, or only outlined.

    Returns:
        The shares.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> histogram(ax, [0.1, 0.2, 0.9, 7.0], [0.0, 0.5, 1.0])
        array([0.5 , 0.25])
    """
    numbers = np.asarray(values, dtype=float).ravel()
    counts, _ = np.histogram(numbers, edges)
    shares = counts / numbers.size
    ax.stairs(
        shares, edges, color=color, fill=fill, alpha=0.8 if fill else 1.0, linewidth=2
    )
    if log:
        ax.set(yscale="log", ylim=(1e-5, 1.5))
        ax.set_yticks([1e-4, 1e-2, 1.0], ["0.01 %", "1 %", "100 %"])
        ax.yaxis.minorticks_off()
    return shares
