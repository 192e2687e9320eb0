"""A layered network as a graph: units in columns, every edge coloured by a signed value.

Edges of one colour and width are one path, so that a graph of hundreds of edges stays small enough
for a slider.

Example:
    >>> from nnlib.plot.style import subplots
    >>> figure, ax = subplots()
    >>> columns = network_columns(ax, [2, 3, 1])
    >>> network_edges(ax, columns, [np.ones((3, 2)), -np.ones((1, 3))])
    >>> [len(column) for column in columns]
    [2, 3, 1]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from nnlib.plot.style import bare

LEVELS = 5


def network_columns(
    ax: Axes, sizes: Sequence[int], *, height: float = 13.0, gap: float = 7.0
) -> list[np.ndarray]:
    """Place the units of each layer in a column, centred; make `ax` bare.

    Args:
        ax: where to draw.
        sizes: units of each layer, from the input on.
        height: of the tallest column, in units of the axes.
        gap: between columns.

    Returns:
        For each layer an array (units, 2) of positions, the first unit on top.

    Raises:
        ValueError: fewer than two layers, or an empty one.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"sizes={list(sizes)} must name two layers or more, of one unit or more"
        )
    columns = []
    for layer, size in enumerate(sizes):
        tall = height * min(
            1.0, (size - 1) / max(4, max(sizes) - 1) + (0.3 if size < 5 else 0.0)
        )
        y = np.linspace(tall / 2, -tall / 2, size) if size > 1 else np.zeros(1)
        columns.append(np.stack([np.full(size, layer * gap), y], axis=1))
    bare(ax).set(
        xlim=(-0.6, gap * (len(sizes) - 1) + 0.6),
        ylim=(-height / 2 - 0.7, height / 2 + 0.7),
    )
    return columns


def network_edges(
    ax: Axes,
    columns: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    limit: float = 1.0,
) -> None:
    """Draw every edge; red where its value is positive, blue where negative, wider where larger.

    Args:
        ax: where to draw.
        columns: positions, as `network_columns` gives them.
        values: a matrix (out, in) for each gap between layers; zero and NaN are a hair line.
        limit: the magnitude that takes the full width.

    Raises:
        ValueError: a matrix that does not fit the columns, or a `limit` not above 0.
    """
    if not limit > 0:
        raise ValueError(f"limit={limit!r} must be greater than 0")
    groups: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for at, (start, end, matrix) in enumerate(
        zip(columns[:-1], columns[1:], values, strict=True)
    ):
        matrix = np.nan_to_num(np.asarray(matrix, dtype=float))
        if matrix.shape != (len(end), len(start)):
            wanted = (len(end), len(start))
            raise ValueError(
                f"values[{at}] must have shape {wanted}, got {matrix.shape}"
            )
        level = np.ceil(
            LEVELS * np.sqrt(np.minimum(np.abs(matrix) / limit, 1.0)) - 1e-9
        )
        level[np.abs(matrix) < 1e-3 * limit] = 0
        for (i, j), step in np.ndenumerate(level):
            key = int(step), int(np.sign(matrix[i, j])) if step else 0
            groups.setdefault(key, []).extend([tuple(start[j]), tuple(end[i])])
    for (step, sign), points in sorted(groups.items()):
        color = {0: "muted", 1: "learned", -1: "input"}[sign]
        path = Path(points, [Path.MOVETO, Path.LINETO] * (len(points) // 2))
        share = step / LEVELS
        ax.add_patch(
            PathPatch(
                path,
                facecolor="none",
                edgecolor=color,
                linewidth=0.35 + 3.2 * share**1.5,
                alpha=0.28 + 0.62 * share if sign else 0.25,
                zorder=1 + share,
            )
        )


def network_units(
    ax: Axes,
    column: np.ndarray,
    values: Any = None,
    *,
    color: str | Sequence[str] = "state",
    limit: float = 1.0,
    size: float = 120.0,
) -> None:
    """Draw a layer's units, each as full as its value is large; a value of NaN is an empty ring.

    Args:
        ax: where to draw.
        column: positions, as `network_columns` gives them.
        values: one magnitude a unit, a sequence of numbers; all full when None.
        color: a meaning of `COLORS`, or one for each unit.
        limit: the magnitude of a full disc.
        size: area of a disc in square points.
    """
    values = np.ones(len(column)) if values is None else np.asarray(values, dtype=float)
    names = [color] * len(column) if isinstance(color, str) else list(color)
    tones = np.array([to_rgba(name) for name in names])
    off = ~np.isfinite(values)
    fill = tones.copy()
    fill[:, 3] = (
        0.08 + 0.92 * np.minimum(np.abs(np.nan_to_num(values)) / limit, 1.0) ** 0.5
    )
    style: dict[str, Any] = {"s": size, "zorder": 3}
    if (~off).any():
        on = ~off
        ax.scatter(*column[on].T, facecolors=fill[on], edgecolors=tones[on], **style)
    if off.any():
        ax.scatter(
            *column[off].T,
            facecolors="none",
            edgecolors="muted",
            linestyle=":",
            linewidths=1,
            **style,
        )
