"""Scans as networks: a column for each entry, a row for each round, a line for each thing read.

Example:
    >>> from operator import add
    >>> steps = network(lambda combine, x: [x, [x[0], combine(*x)]], add, [3, 4])
    >>> [(cell.text, cell.reads, cell.joined) for cell in steps[1]]
    [('3', (0,), False), ('7', (0, 1), True)]
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from nnlib.plot.style import bare, subplots


class Cell(NamedTuple):
    """An entry after a round: what it holds, which columns of the row above it read, and how."""

    text: str
    reads: tuple[int, ...]
    joined: bool  # by the operator, or only passed on


class _Traced:
    """A value that knows what it was made from."""

    def __init__(self, value: Any, *parents: "_Traced"):
        self.value, self.parents = value, parents


def network(
    scan: Callable[..., list[list[Any]]],
    combine: Callable[[Any, Any], Any],
    x: Sequence[Any],
    *rest: Any,
) -> list[list[Cell]]:
    """Run a scan that returns its rounds, and tell what each entry of each round read.

    Args:
        scan: of `nnlib.kernels.scans`.
        combine: the operator.
        x: the entries.
        *rest: further arguments of the scan, such as the identity.
    """

    def traced(left: _Traced, right: _Traced) -> _Traced:
        return _Traced(combine(left.value, right.value), left, right)

    rounds = scan(traced, [_Traced(y) for y in x], *(_Traced(y) for y in rest))
    cells = [[Cell(str(y.value), (), False) for y in rounds[0]]]
    for above, row in pairwise(rounds):
        places = {id(y): column for column, y in enumerate(above)}
        drawn = []
        for y in row:
            joined = id(y) not in places and bool(y.parents)
            read = y.parents if joined else (y,)
            columns = sorted(places[id(part)] for part in read if id(part) in places)
            drawn.append(Cell(str(y.value), tuple(columns), joined))
        cells.append(drawn)
    return cells


def dots(ax: Axes, cells: list[list[Cell]]) -> None:
    """Draw a network small: a dot for each operator, in the rows one below the other."""
    bare(ax).set(xlim=(-0.7, len(cells[0]) - 0.3), ylim=(len(cells) - 0.5, -0.7))
    for depth, row in enumerate(cells):
        for column, cell in enumerate(row):
            for read in cell.reads:
                color = "gate" if cell.joined else ("muted", 0.35)
                ax.plot([read, column], [depth - 1, depth], color=color, linewidth=1)
            if cell.joined or not depth:
                color = "gate" if depth else "input"
                ax.plot(column, depth, "o", color=color, markersize=5.5)


def tree(cells: list[list[Cell]], at: int, names: Sequence[str]) -> Figure:
    """Draw a network with its numbers, lit as far as a round.

    Args:
        cells: what `network` returned.
        at: the round at hand; those after it are empty boxes.
        names: what each row is called, at its left.

    Returns:
        The figure.

    Raises:
        ValueError: not as many names as rows.
    """
    if len(names) != len(cells):
        raise ValueError(f"names must be {len(cells)}, one a row, got {len(names)}")
    height = 0.62 * len(cells) + 0.6
    figure, ax = subplots(width=6.4, height=height, margins=(0.01, 0.01, 0.99, 0.9))
    bare(ax).set(xlim=(-2.1, len(cells[0]) - 0.4), ylim=(len(cells) - 0.4, -0.6))
    work = sum(cell.joined for row in cells[: at + 1] for cell in row)
    ax.set_title(f"round {at} of {len(cells) - 1}: {work} operators so far")
    for depth, row in enumerate(cells):
        now = depth == at
        ax.text(
            -2.05, depth, names[depth], va="center", color="ink" if now else "muted"
        )
        for column, cell in enumerate(row):
            if depth <= at:
                for read in cell.reads:
                    color = "gate" if cell.joined else ("muted", 0.4)
                    ends = [depth - 0.76, depth - 0.24]
                    ax.plot([read, column], ends, color=color, linewidth=1.4)
            edge = "gate" if cell.joined else "input" if not depth else "muted"
            lit = depth <= at and (cell.joined or not depth)
            face = (edge, 0.3 if now else 0.12) if lit else "none"
            corner = (column - 0.36, depth - 0.22)
            ax.add_patch(
                FancyBboxPatch(
                    corner, 0.72, 0.44, boxstyle="round,pad=0,rounding_size=0.1",
                    facecolor=face, edgecolor=edge if depth <= at else ("muted", 0.3),
                    linewidth=1.6 if now and cell.joined else 0.8,
                )
            )  # fmt: skip
            if depth <= at:
                ax.text(column, depth, cell.text, ha="center", va="center")
    return figure


def programs(
    flags: Sequence[str], looks: dict[int, int], known: Sequence[Any], sums: Any
) -> Figure:
    """Draw what each program has published, and where those that look back are looking.

    Args:
        flags: a program's: "", "sum" or "prefix".
        looks: program: the neighbour that it reads.
        known: each program's prefix, or None.
        sums: each program's own sum.

    Returns:
        The figure.
    """
    figure, ax = subplots(width=6.4, height=2.3, margins=(0.01, 0.01, 0.99, 0.86))
    n = len(flags)
    bare(ax).set(xlim=(-0.6, n - 0.4), ylim=(1.35, -1.0))
    done = sum(flag == "prefix" for flag in flags)
    ax.set_title(f"{done} of {n} programs know what stands before them")
    colors = {"": "muted", "sum": "input", "prefix": "learned"}
    for i, flag in enumerate(flags):
        color = colors[flag]
        ax.add_patch(
            FancyBboxPatch(
                (i - 0.4, -0.3), 0.8, 0.6, boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=(color, 0.22) if flag else "none", edgecolor=color, linewidth=1.2,
            )
        )  # fmt: skip
        told = {"": "…", "sum": str(sums[i]), "prefix": str(known[i])}[flag]
        ax.text(i, 0, told, ha="center", va="center", fontsize=11)
        word = {"": "working", "sum": "own sum", "prefix": "prefix"}[flag]
        ax.text(i, 0.62, word, ha="center", va="center", color=color, fontsize=9.5)
    for i, place in looks.items():
        bend = {"arrowstyle": "->", "color": "gate", "connectionstyle": "arc3,rad=0.45"}
        ax.annotate("", (place + 0.1, -0.34), (i - 0.1, -0.34), arrowprops=bend)
    return figure
