"""A tile of a four-bit weight, stage by stage: from its bytes to the running sums of the product.

Example:
    >>> import numpy as np
    >>> codes = np.array([[15, 7, 0, 7]])
    >>> frame = tile_stage(codes, [2.0], np.ones(4), np.linspace(-1, 1, 16), 4)
    >>> frame.axes[1].get_title(loc="left")
    'multiply by x, and add'
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnlib.plot.style import bare, subplots

TILE = 4  # columns of a tile
STAGES = {
    "load bytes": "input",
    "split each byte": "fixed",
    "look up the level": "gate",
    "multiply by the scale": "learned",
    "multiply by x, and add": "state",
}


def tile_stage(codes: Any, absmax: Any, x: Any, levels: Any, at: int) -> Figure:
    """Draw the bytes of a weight, and what a program makes of the tile at hand.

    Args:
        codes: places in the table of levels, rows × columns; a multiple of 4 columns.
        absmax: the scale of each row.
        x: the vector that the weight is multiplied with, one number a column.
        levels: the table.
        at: the stage; each tile has five.

    Returns:
        The figure.
    """
    codes, x = np.asarray(codes), np.asarray(x, dtype=float)
    if codes.ndim != 2 or codes.shape[1] % TILE:
        raise ValueError(
            f"codes must have a multiple of {TILE} columns, got {codes.shape}"
        )
    rows, columns = codes.shape
    tile, stage = divmod(at, len(STAGES))
    name, color = list(STAGES.items())[stage]
    weight = np.asarray(levels)[codes] * np.asarray(absmax)[:, None]
    here = slice(tile * TILE, (tile + 1) * TILE)
    done = (tile + (stage == len(STAGES) - 1)) * TILE
    sums = weight[:, :done] @ x[:done]

    figure, (left, right) = subplots(
        1, 2, width=7.0, height=2.9, width_ratios=(1.25, 1)
    )
    packed = codes[:, ::2] * 16 + codes[:, 1::2]
    bare(left).set(
        xlim=(-0.1, columns / 2 + 0.1), ylim=(rows + 0.1, -0.7), aspect="equal"
    )
    left.set_title("the weight in memory, in bytes")
    for row, column in np.ndindex(packed.shape):
        inside = tile * TILE <= 2 * column < (tile + 1) * TILE
        past = 2 * column < done and not inside
        tint = ("input", 0.45) if inside else ("muted", 0.16) if past else "none"
        _cell(left, row, column, 1, str(packed[row, column]), tint)

    bare(right).set(xlim=(-0.1, TILE + 1.9), ylim=(rows + 0.1, -0.7), aspect="equal")
    right.set_title(name)
    if stage == 0:
        for row, column in np.ndindex(rows, TILE // 2):
            told = str(packed[row, tile * TILE // 2 + column])
            _cell(right, row, 2 * column, 2, told, (color, 0.3))
    else:
        values = [codes, np.asarray(levels)[codes], weight, weight * x][stage - 1]
        for row, column in np.ndindex(rows, TILE):
            value = values[row, here][column]
            told = str(value) if stage == 1 else f"{value:.2f}"
            _cell(right, row, column, 1, told, (color, 0.3))
    if stage == len(STAGES) - 1:
        for column, value in enumerate(x[here]):
            right.text(
                column + 0.5,
                -0.3,
                f"×{value:.1f}",
                ha="center",
                va="center",
                fontsize=9,
            )
    right.text(TILE + 1.05, -0.3, "sum", ha="center", va="center", fontsize=9)
    for row, value in enumerate(sums):
        _cell(right, row, TILE + 0.3, 1.5, f"{value:.2f}", "none")
    return figure


def _cell(
    ax: Axes, row: int, column: float, width: float, told: str, color: Any
) -> None:
    box = Rectangle(
        (column + 0.04, row + 0.08), width - 0.08, 0.84, facecolor=color,
        edgecolor="muted", linewidth=0.8,
    )  # fmt: skip
    ax.add_patch(box)
    ax.text(column + width / 2, row + 0.5, told, ha="center", va="center", fontsize=9.5)
