"""The picture of a sweep: a panel for each result, points for runs, a line through their means."""

import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from nnlib.plot.style import CYCLE, subplots

PANELS = 6  # more would be too small to read; the tables have all


def draw(results: Any, summary: Any, varied: list[str], file: Path) -> None:
    """Write `file`.svg and .png: the first numeric parameter along x, the others as colours.

    Args:
        results: a row a run, with columns of `varied` and of every scalar.
        summary: columns `varied`, scalar, mean, std.
        varied: the parameters that the grid varies.
        file: path without suffix.
    """
    counts = {name: results[name].nunique(dropna=False) for name in varied}
    several = [name for name in varied if counts[name] > 1] or varied[:1]
    numeric = [name for name in several if results[name].dtype.kind in "if"]
    x = (numeric or several or [None])[0]
    others = [name for name in several if name != x]
    # What is the same everywhere needs no picture, as long as something else is not.
    changes = summary.groupby("scalar", sort=False)["mean"].nunique() > 1
    scalars = list(changes.index[changes] if changes.any() else changes.index)[:PANELS]
    cols = min(len(scalars), 3)
    rows = math.ceil(len(scalars) / cols)
    figure, axes = subplots(rows, cols, width=3.3 * cols + 0.6, height=2.9 * rows, squeeze=False)
    for ax in axes.flat[len(scalars) :]:
        ax.remove()
    done = results[results["status"] == "done"]
    for ax, scalar in zip(axes.flat, scalars, strict=False):
        runs, means = done.dropna(subset=scalar), summary[summary["scalar"] == scalar]
        for at, (name, part) in enumerate(_groups(runs, others)):
            color = CYCLE[at % len(CYCLE)]
            ax.plot(_along(part, x), part[scalar], "o", color=color, markersize=3.5, alpha=0.5)
            line = dict(_groups(means, others))[name]
            spread = line["std"].fillna(0)
            where = _along(line, x)
            ax.plot(where, line["mean"], color=color, label=name)
            low, high = line["mean"] - spread, line["mean"] + spread
            ax.fill_between(where, low, high, color=color, alpha=0.15, linewidth=0)
        ax.set_title(textwrap.fill(scalar, 30), fontsize=10)
        ax.set_xlabel(x or "")
        if x in numeric:
            ax.set_xticks(sorted(runs[x].unique()))
    if others:
        axes[0, 0].legend(title=", ".join(others), fontsize=8, title_fontsize=8)
    for suffix in (".svg", ".png"):
        partial = file.with_name(f".{file.name}.partial{suffix}")
        figure.savefig(partial)
        partial.replace(file.with_suffix(suffix))
    plt.close(figure)


def _groups(table: Any, others: list[str]) -> list[tuple[str, Any]]:
    if not others:
        return [("", table)]
    groups = table.groupby(others, sort=False, dropna=False)
    return [(", ".join(str(part) for part in name), group) for name, group in groups]


def _along(table: Any, x: str | None) -> Any:
    """Return places along the axis: numbers as they are, anything else as a category."""
    if x is None:
        return ["all"] * len(table)
    return table[x] if table[x].dtype.kind in "if" else table[x].astype(str)
