"""The book's matplotlib settings, and figures that have them."""

from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nnlib.plot import faces
from nnlib.plot.colors import COLORS as COLORS
from nnlib.plot.colors import INK as INK
from nnlib.plot.colors import MUTED as MUTED

CYCLE = [
    COLORS[name] for name in ("learned", "input", "state", "gate", "highlight", "fixed")
]

MAGNITUDE = "viridis"
SIGNED = LinearSegmentedColormap.from_list(
    "nnlib_signed", [COLORS["input"], "#f4f4f4", COLORS["learned"]]
)
"""Signed values: blue below zero, red above; use it with limits that are symmetric about zero."""

SETTINGS: Any = {  # a dict; matplotlib types its names one by one
    "figure.dpi": 100,
    "figure.figsize": (7.2, 3.6),
    "figure.facecolor": "none",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.06,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titley": 1.0,  # looking for ticks above the axes takes a sixth of all drawing
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
    "axes.prop_cycle": cycler(color=CYCLE),
    "font.family": [faces.FAMILY, "DejaVu Sans"],
    "mathtext.fontset": "custom",
    "mathtext.rm": faces.FAMILY,
    "mathtext.it": f"{faces.FAMILY}:italic",
    "mathtext.bf": f"{faces.FAMILY}:bold",
    "mathtext.sf": faces.FAMILY,
    "mathtext.cal": "STIXGeneral:italic",
    "mathtext.fallback": "stixsans",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


def apply() -> None:
    """Make the book's settings matplotlib's defaults for this process."""
    faces.register()
    mpl.rcParams.update(SETTINGS)


_OF_THE_FIGURE = frozenset(
    (
        "sharex",
        "sharey",
        "squeeze",
        "width_ratios",
        "height_ratios",
        "gridspec_kw",
        "layout",
    )
)


def subplots(
    rows: int = 1,
    cols: int = 1,
    *,
    width: float = 7.2,
    height: float = 3.4,
    title: str = "",
    margins: tuple[float, float, float, float] | None = None,
    **options: Any,
) -> tuple[Figure, Any]:
    """`plt.subplots` in the book's style, whatever the process's own settings are.

    Args:
        rows: rows of panels, ≥ 1.
        cols: columns of panels; at most three read well on a phone.
        width: inches of the whole figure.
        height: inches of the whole figure.
        title: of the only panel; of the whole figure, at its left, where there are several.
        margins: left, bottom, right and top of the panels as shares of the figure. None: as wide as
            the labels need. The frames of a slider take margins, so that nothing jumps.
        **options: `sharex`, `height_ratios` and the like for `plt.subplots`; all others, such as
            `xlabel`, `xscale` or `ylim`, are set on every panel.

    Returns:
        The figure and its axes, as `plt.subplots` gives them.

    Raises:
        ValueError: a limit of None, which can only be found after something was drawn.

    Example:
        >>> figure, (left, right) = subplots(1, 2, title="Two halves", xlabel="step")
        >>> figure.get_suptitle(), right.get_xlabel()
        ('Two halves', 'step')
    """
    apply()
    for name in ("xlim", "ylim"):
        if None in options.get(name, ()):
            raise ValueError(
                f"{name}={options[name]!r} has an open end: set it after drawing"
            )
    outer = {name: value for name, value in options.items() if name in _OF_THE_FIGURE}
    if margins is not None:
        sides = dict(zip(("left", "bottom", "right", "top"), margins, strict=True))
        outer |= {"layout": "none", "gridspec_kw": sides | outer.get("gridspec_kw", {})}
    figure, axes = plt.subplots(rows, cols, figsize=(width, height), **outer)
    inner = {
        name: value for name, value in options.items() if name not in _OF_THE_FIGURE
    }
    if title and rows == cols == 1:
        inner["title"] = title
    elif title:
        figure.suptitle(title, x=0.01, horizontalalignment="left")
    for ax in figure.axes if inner else ():
        ax.set(**inner)
    return figure, axes


def bare(ax: Axes) -> Axes:
    """Take ticks and spines away: for pictures and diagrams, where axes say nothing."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
