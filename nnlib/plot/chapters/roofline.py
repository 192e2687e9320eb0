"""A kernel's program at work on one row: memory as a tape, registers as lanes, line by line.

Example:
    >>> import numpy as np
    >>> x = np.zeros((3, 5))
    >>> figure = softmax_program(0, x, x + 0.2)
    >>> [text.get_text() for text in figure.axes[0].texts[-1:]]
    ['a grid of 3 programs is launched, one a row']
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnlib.plot.style import bare, subplots

LINES = (
    "a grid of 3 programs is launched, one a row",
    "start = program_id * columns",
    "cols = arange(0, BLOCK)",
    "live = cols < columns",
    "x = load(x_ptr + start + cols, mask=live, other=-inf)",
    "m = max(x)",
    "e = exp(x - m)",
    "total = sum(e)",
    "store(y_ptr + start + cols, e / total, mask=live)",
    "and the programs of the other rows, elsewhere, at the same time",
)
"""What each step of the walk shows."""

ROWS, COLUMNS, BLOCK = 3, 5, 8
LAST = len(LINES) - 1


def softmax_program(step: int, x: Any, y: Any) -> Figure:
    """Draw what the second program of a softmax has done when it reaches a line.

    Args:
        step: which of `LINES`.
        x: what it reads, 3 rows of 5; the program's blocks have 8 lanes.
        y: what it writes, of the same shape.

    Returns:
        The figure.

    Raises:
        ValueError: another shape.
    """
    x, y = (np.asarray(values, dtype=float) for values in (x, y))
    if x.shape != (ROWS, COLUMNS) or y.shape != x.shape:
        raise ValueError(
            f"x and y must be {ROWS} × {COLUMNS}, got {x.shape} and {y.shape}"
        )
    everything, row = set(range(x.size)), set(range(COLUMNS, 2 * COLUMNS))
    read = everything if step in (0, LAST) else row if step >= 4 else {COLUMNS}
    written = everything if step == LAST else row if step == LAST - 1 else set()
    e = np.exp(x[1] - x[1].max())
    blank = BLOCK - COLUMNS

    figure, ax = subplots(width=7.0, height=3.7)
    bare(ax).set(xlim=(-1.9, 12.3), ylim=(-0.2, 6.9))
    _tape(ax, 5.1, "x in memory", [f"{value:g}" for value in x.flat], "input", read)
    if step in (0, LAST):
        for program in range(ROWS):
            ax.text(
                4 * program + 1.9, 4.65, f"program {program}", ha="center", fontsize=10
            )
    if 2 <= step < LAST:
        _lanes(ax, 3.6, "cols", range(BLOCK), BLOCK if step == 2 else COLUMNS)
    if 4 <= step < LAST:
        _lanes(ax, 2.6, "x", [*(f"{value:g}" for value in x[1]), *["−∞"] * blank])
    if 6 <= step < LAST:
        _lanes(ax, 1.6, "e", [*(f"{value:.2f}" for value in e), *["0"] * blank])
    notes = [f"m = {x[1].max():g}"] * (5 <= step < LAST)
    notes += [f"total = {e.sum():.2f}"] * (7 <= step < LAST)
    ax.text(11.7, 1.15, "    ".join(notes), ha="right", va="center", fontsize=10)
    stored = [
        f"{v:.2f}".lstrip("0") if at in written else "" for at, v in enumerate(y.flat)
    ]
    _tape(ax, 0.0, "y in memory", stored, "learned", written)
    family = "monospace" if 0 < step < LAST else None
    ax.text(-1.8, 6.5, LINES[step], fontsize=10.5, family=family)
    return figure


def _tape(
    ax: Axes, bottom: float, name: str, texts: Iterable[Any], color: str, lit: set[int]
) -> None:
    """Draw memory, a gap after each row; the places that are touched are lit."""
    _name(ax, bottom, name)
    for at, text in enumerate(texts):
        left = 0.75 * at + 0.25 * (at // COLUMNS)
        _box(ax, left, bottom, 0.75, text, (color, 0.4 if at in lit else 0.11))


def _lanes(
    ax: Axes, bottom: float, name: str, texts: Iterable[Any], live: int = COLUMNS
) -> None:
    """Draw registers; those that are masked are grey."""
    _name(ax, bottom, name)
    for at, text in enumerate(texts):
        _box(ax, 1.5 * at, bottom, 1.4, text, ("state" if at < live else "muted", 0.22))


def _name(ax: Axes, bottom: float, name: str) -> None:
    ax.text(-0.25, bottom + 0.4, name, ha="right", va="center", fontsize=10)


def _box(
    ax: Axes,
    left: float,
    bottom: float,
    width: float,
    text: Any,
    color: tuple[str, float],
) -> None:
    box = Rectangle(
        (left, bottom), width, 0.8, linewidth=0.8, edgecolor="muted", facecolor=color
    )
    ax.add_patch(box)
    ink = "muted" if color[0] == "muted" else "ink"
    where = left + width / 2, bottom + 0.4
    ax.text(*where, str(text), ha="center", va="center", fontsize=10, color=ink)
