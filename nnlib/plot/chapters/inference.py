"""Who is served in which step, and which block of a cache belongs to whom.

Example:
    >>> from nnlib.plot.style import subplots
    >>> figure, ax = subplots()
    >>> steps = [[("A", "read"), ("B", "read")], [("A", "write"), ("B", "write")], [("B", "write")]]
    >>> [(row, start, end) for row, start, end, *_ in timeline(ax, steps)]
    [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 3)]
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from nnlib.plot.style import bare

KINDS = {"read": "input", "write": "learned", "padding": "muted"}
"""The colour of what a request does in a step."""

Span = tuple[int, int, int, str, str]  # row, first step, step after the last, who, what


def spans(steps: Sequence[Sequence[tuple[str, str]]]) -> list[Span]:
    """Return who stands in which row, from which step to which, doing what.

    A request keeps its row as long as it is in every step; one that is new takes the first that is
    free.

    Args:
        steps: for each step, the name of each request in it and what it does.
    """
    rows: dict[str, int] = {}
    found: dict[tuple[int, str, str], list[int]] = {}
    closed: list[Span] = []
    for at, step in enumerate(steps):
        inside = dict(step)
        rows = {name: row for name, row in rows.items() if name in inside}
        for name in inside:
            if name not in rows:
                taken = set(rows.values())
                rows[name] = next(r for r in range(len(taken) + 1) if r not in taken)
        now = {(rows[name], name, kind) for name, kind in step}
        for key in [key for key in found if key not in now]:
            row, name, kind = key
            first, last = found.pop(key)
            closed.append((row, first, last, name, kind))
        for key in now:
            found.setdefault(key, [at, at])[1] = at + 1
    for (row, name, kind), (first, last) in found.items():
        closed.append((row, first, last, name, kind))
    return sorted(closed)


def timeline(
    ax: Axes, steps: Sequence[Sequence[tuple[str, str]]], *, rows: int | None = None
) -> list[Span]:
    """Draw one row for each place in the batch, and in it who was served, step by step.

    Args:
        ax: where to draw.
        steps: for each step, the name of each request in it and what it does: "read" its prompt,
            "write" a token, or "padding".
        rows: places to draw; None: as many as are used.

    Returns:
        What was drawn: row, first step, the step after the last, who, what.
    """
    drawn = spans(steps)
    named = set()
    for row, start, end, name, kind in drawn:
        faint = 0.12 if kind == "padding" else 0.85 if kind == "read" else 0.3
        edge = "muted" if kind == "padding" else KINDS[kind]
        box = Rectangle(
            (start + 0.06, row + 0.12), end - start - 0.12, 0.76, linewidth=1,
            facecolor=(KINDS[kind], faint), edgecolor=edge,
        )  # fmt: skip
        ax.add_patch(box)
        if kind == "write" and (row, name) not in named:
            named.add((row, name))
            ax.text(
                (start + end) / 2,
                row + 0.5,
                name,
                ha="center",
                va="center",
                fontsize=11,
            )
    count = max((row for row, *_ in drawn), default=0) + 1 if rows is None else rows
    ax.set(xlim=(0, max(1, len(steps))), ylim=(count, 0), yticks=[], xlabel="step")
    return drawn


def pool(
    ax: Axes,
    blocks: Sequence[tuple[Sequence[str], int]],
    block_size: int,
    colors: dict[str, str],
    *,
    columns: int = 4,
) -> None:
    """Draw the blocks of a cache as a grid: whose each is, and how many of its places are taken.

    Args:
        ax: where to draw.
        blocks: for each block, the names of those who hold it, and its places that are taken.
        block_size: places of a block.
        colors: of each name; a block that several hold has stripes of theirs.
        columns: blocks of a row.
    """
    rows = -(-len(blocks) // columns)
    bare(ax).set(xlim=(-0.05, columns), ylim=(rows, -0.05))
    for at, (names, taken) in enumerate(blocks):
        x, y, side = at % columns, at // columns, 0.88 / block_size
        for place in range(block_size):
            owner: Any = names[place % len(names)] if names and place < taken else None
            color = (colors[owner], 0.55) if owner else "none"
            corner = x + 0.04 + place * side, y + 0.3
            box = Rectangle(
                corner, side, 0.55, facecolor=color, edgecolor="muted", linewidth=0.8
            )
            ax.add_patch(box)
        words = f"{at}: {' and '.join(names)}" if names else f"{at}: free"
        ink = "ink" if names else "muted"
        ax.text(x + 0.04, y + 0.24, words, fontsize=10, va="bottom", color=ink)
