"""Causal attention tile by tile: where the walk stands, and what its queries have summed so far.

Example:
    >>> import numpy as np
    >>> scores = np.where(np.tri(4, dtype=bool), 0.0, -np.inf)
    >>> tile_order(2)
    [(1, 0), (1, 1), (0, 0)]
    >>> tile_walk(scores, 2, 1).axes[1].get_title(loc="left")
    'queries 3 to 4'
"""

from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnlib.plot.style import bare, subplots


def cell(
    ax: Axes, row: int, column: int, color: Any = "none", edge: str = "muted"
) -> None:
    """Draw a place of a grid whose rows count downwards."""
    corner = column + 0.05, row + 0.05
    box = Rectangle(corner, 0.9, 0.9, facecolor=color, edgecolor=edge, linewidth=0.8)
    ax.add_patch(box)


def tile_order(grid: int) -> list[tuple[int, int]]:
    """Return the tiles that a causal walk visits, as row and column: the longest row first."""
    return [(row, column) for row in reversed(range(grid)) for column in range(row + 1)]


def tile_walk(scores: Any, tile: int, at: int) -> Figure:
    """Draw the tile at hand in its grid, and beside it the running sums of its queries.

    Args:
        scores: n × n, −∞ where a query may not look; n is a multiple of `tile`.
        tile: queries, and keys, of a tile.
        at: how many tiles of `tile_order` went before.

    Returns:
        The figure.

    Raises:
        ValueError: scores that cannot be cut into tiles.
    """
    scores = np.asarray(scores, dtype=float)
    n = len(scores)
    if scores.shape != (n, n) or n % tile:
        raise ValueError(
            f"scores must be n × n with n a multiple of {tile}, got {scores.shape}"
        )
    grid = n // tile
    order = tile_order(grid)
    i, j = order[at]
    figure, (ax, sums) = subplots(1, 2, width=7.0, height=3.6, width_ratios=(1.25, 1))

    bare(ax).set(xlim=(-0.9, grid + 0.05), ylim=(grid + 0.05, -0.75), aspect="equal")
    ax.set_title(f"tile {at + 1} of {len(order)}")
    for row, column in product(range(grid), repeat=2):
        cell(ax, row, column, ("gate", 0.19) if (row, column) in order[:at] else "none")
        if column > row:
            ax.text(
                column + 0.5, row + 0.5, "–", ha="center", va="center", color="muted"
            )
    cell(ax, i, j, "highlight", "ink")
    ax.text(-0.12, i + 0.5, f"$Q_{i + 1}$", ha="right", va="center", color="input")
    ax.text(j + 0.5, -0.12, f"$K_{j + 1}, V_{j + 1}$", ha="center", color="input")

    rows = scores[i * tile : (i + 1) * tile]
    seen = rows[:, : (j + 1) * tile]
    peak = seen.max(1)
    share = np.exp(seen - peak[:, None]).sum(1) / np.exp(rows - peak[:, None]).sum(1)
    sums.barh(range(tile), 1, color="none", edgecolor="muted", linewidth=0.8)
    sums.barh(range(tile), share, color="state", alpha=0.75)
    for query, largest in enumerate(peak):
        sums.text(1.05, query, f"$m = {largest:.1f}$", va="center", fontsize=9.5)
    sums.set(xlim=(0, 1.42), ylim=(tile - 0.4, -0.6), yticks=[], xticks=[0, 0.5, 1])
    sums.set_xlabel(r"share of the final sum in $\ell$")
    sums.set_title(f"queries {i * tile + 1} to {(i + 1) * tile}")
    sums.spines["left"].set_visible(False)
    sums.spines["bottom"].set_bounds(0, 1)
    return figure
