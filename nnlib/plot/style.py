"""The book's colours and matplotlib settings: meaning has a colour, the same everywhere.

The ink (text, axes, targets) is one sentinel colour. `nnlib.plot.svg` turns it into the page's own
text colour, so the same picture reads in light and in dark mode.
"""

from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

INK = "#1b1f24"  # text, axes, targets; becomes `currentColor` on the page
MUTED = "#808488"  # ticks and secondary text: ≥ 3.7:1 on white and on the dark page alike

COLORS = {
    "input": "#4477AA",
    "learned": "#EE6677",
    "state": "#228833",
    "gate": "#AA3377",
    "target": INK,
    "baseline": "#888888",
    "highlight": "#CCBB44",
    "fixed": "#66CCEE",
}
"""What each colour means (Paul Tol's bright set, safe for colour-blind readers)."""

CYCLE = [COLORS[name] for name in ("learned", "input", "state", "gate", "highlight", "fixed")]

MAGNITUDE = "viridis"
SIGNED = LinearSegmentedColormap.from_list(
    "nnlib_signed", [COLORS["input"], "#f4f4f4", COLORS["learned"]]
)
"""Signed values: blue below zero, red above; use it with limits that are symmetric about zero."""

SETTINGS: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.figsize": (7.2, 3.6),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.06,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.9,
    "axes.grid": False,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.7,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "image.cmap": MAGNITUDE,
    "image.interpolation": "nearest",
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


def apply() -> None:
    """Make the book's settings matplotlib's defaults for this process."""
    mpl.rcParams.update(SETTINGS)


def subplots(rows: int = 1, cols: int = 1, *, width: float = 7.2, height: float = 3.4, **kwargs):
    """`plt.subplots` in the book's style, whatever the process's own settings are.

    Args:
        rows: rows of panels, ≥ 1.
        cols: columns of panels; at most three read well on a phone.
        width: inches of the whole figure.
        height: inches of the whole figure.
        **kwargs: handed on to `plt.subplots`.

    Returns:
        The figure and its axes, as `plt.subplots` gives them.
    """
    apply()
    return plt.subplots(rows, cols, figsize=(width, height), **kwargs)


def end_label(
    ax: Axes, x: float, y: float, text: str, color: str, *, dx: float = 5, dy: float = 0
) -> None:
    """Name a line at its end, instead of in a legend; `dx` and `dy` are points."""
    ax.annotate(
        text,
        (x, y),
        xytext=(dx, dy),
        textcoords="offset points",
        color=color,
        va="center",
        fontsize=10,
        annotation_clip=False,
    )


def bare(ax: Axes) -> Axes:
    """Take ticks and spines away: for pictures and diagrams, where axes say nothing."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
