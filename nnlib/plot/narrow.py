"""The same figure on a phone: panels restack, titles break into lines, words keep their size.

A phone's column is 358 px wide, and letters are to be 9 px or more there. A figure of 7.2 inches
would show them at 6.7 px. So `restack` makes the canvas narrower, and the panels of a row stand
below one another where they would be too slim side by side.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

from nnlib.plot.labels import _EndLabel
from nnlib.plot.svg import PIXELS, Drawing, at_72_dpi

COLUMN = 358.0  # CSS pixels: a phone's 390, less the page's margins
READABLE = 9.0  # CSS pixels of the smallest words in it
LEAST = 9.0  # points; smaller words grow to it in the narrow variant
ROOM = 3.0  # inches that a panel with axes may ask for
_WORD = re.compile(r"(?:\$[^$]*\$|[^\s$])+")


def shown(drawing: Drawing, width: float) -> float:
    """Return the size of the smallest words in a phone's column, in CSS pixels.

    Args:
        drawing: the drawing.
        width: CSS pixels of the canvas that it is shown on where there is room for it.
    """
    return drawing.smallest * min(1.0, COLUMN / width)


def canvas_width(drawing: Drawing) -> float:
    """Return the inches of a canvas whose smallest words are readable in a phone's column."""
    smallest = max(drawing.smallest / PIXELS, LEAST)
    return COLUMN * smallest * PIXELS / READABLE / 96 - 0.06


def restack(figure: Figure, width: float) -> bool:
    """Make a figure `width` inches wide; its panels stand in as many columns as find room.

    Args:
        figure: a figure whose panels form one grid; it is changed.
        width: inches.

    Returns:
        Whether that can be done: a drawing that fills a panel of its own accord does not get
        slimmer.
    """
    panels = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    places = filter(None, (ax.get_subplotspec() for ax in panels))
    specs = {place.get_topmost_subplotspec() for place in places}
    grids = {id(ax.get_gridspec()) for ax in panels}
    if not panels or len(grids) != 1 or any(_spans(spec) for spec in specs):
        return False
    grid = panels[0].get_gridspec()
    assert grid is not None
    rows, columns = grid.nrows, grid.ncols
    old_width, _height = figure.get_size_inches()
    kept = min(columns, max(1, int(width / max(_need(ax, old_width) for ax in panels))))
    turned = 1 < rows <= kept < columns and columns % kept > 0
    if turned:
        kept = rows
    elif kept < columns and columns % kept and columns < 5:
        kept = kept if columns == 3 and kept == 2 else 1
    _grow_words(figure)
    if kept == columns:
        _squeeze(figure, width, panels)
    elif turned:
        _turn(figure, width, panels, grid)
    else:
        _regrid(figure, width, panels, grid, kept)
    for ax in panels:
        _show_labels(ax)
    return True


def _spans(spec: Any) -> bool:
    return len(spec.rowspan) > 1 or len(spec.colspan) > 1


def _is_bare(ax: Axes) -> bool:
    """Tell whether a panel has no axes to read off: a picture or a drawing."""
    if not ax.axison:
        return True
    ticks = (*ax.get_xticklabels(), *ax.get_yticklabels())
    return not any(tick.get_visible() and tick.get_text() for tick in ticks)


def _need(ax: Axes, figure_width: float) -> float:
    """Return the inches that a panel asks for: as it was, or what is enough for its axes."""
    spec = ax.get_subplotspec()
    assert spec is not None
    grid = spec.get_gridspec()
    ratios: Any = grid.get_width_ratios() or [1] * grid.ncols
    now = figure_width * ratios[spec.colspan.start] / sum(ratios)
    if not _is_bare(ax):
        return min(now, ROOM)
    if ax.images and not ax.texts:
        words = max((len(line) for line in ax.get_title().split("\n")), default=0)
        return max(0.4, min(now, 0.085 * words))
    return now


def _squeeze(figure: Figure, width: float, panels: Iterable[Axes]) -> None:
    old, height = figure.get_size_inches()
    if all(_is_bare(ax) for ax in panels):
        height *= width / old
    _hold_margins(figure, panels, width / old)
    figure.set_size_inches(width, height)


def _hold_margins(figure: Figure, panels: Iterable[Axes], share: float) -> None:
    """Keep the room for labels that a figure with margins has, in inches."""
    if figure.get_layout_engine() is not None:
        return
    for ax in panels:
        place = ax.get_position()
        if share < 1 and not _is_bare(ax):
            left = min(place.x0 / share, 0.35) if place.x0 < 0.3 else place.x0
            right = 1 - min((1 - place.x1) / share, 0.35)
            ax.set_position((left, place.y0, max(right - left, 0.2), place.height))


def _regrid(
    figure: Figure, width: float, panels: list[Axes], grid: Any, kept: int
) -> None:
    height = figure.get_size_inches()[1]
    ratios = grid.get_height_ratios() or [1] * grid.nrows
    tall = [height * ratio / sum(ratios) for ratio in ratios]
    folds = -(-grid.ncols // kept)
    heights = [inches for inches in tall for _ in range(folds)]
    new = _new_grid(figure, width, grid, heights, kept)
    for ax in panels:
        spec = ax.get_subplotspec()
        assert spec is not None
        row, column = spec.rowspan.start, spec.colspan.start
        fold, at = divmod(column, kept)
        alone = grid.ncols % kept == 1 and column == grid.ncols - 1 and kept > 1
        across = slice(0, kept) if alone and not _is_bare(ax) else at
        ax.set_subplotspec(new[row * folds + fold, across])
    figure.set_size_inches(width, sum(heights))


def _turn(figure: Figure, width: float, panels: list[Axes], grid: Any) -> None:
    """Let each column of panels become a row."""
    old, height = figure.get_size_inches()
    share = 1.0
    if all(_is_bare(ax) for ax in panels):
        share = min(1.0, width / grid.nrows / (old / grid.ncols))
    heights = [share * height / grid.nrows] * grid.ncols
    new = _new_grid(figure, width, grid, heights, grid.nrows)
    for ax in panels:
        spec = ax.get_subplotspec()
        assert spec is not None
        ax.set_subplotspec(new[spec.colspan.start, spec.rowspan.start])
    figure.set_size_inches(width, sum(heights))


def _new_grid(
    figure: Figure, width: float, grid: Any, heights: list[float], columns: int
) -> GridSpec:
    """Return a grid of panels in a figure of another width, with the room for labels as it was."""
    old, height = figure.get_size_inches()
    sides = {}
    if figure.get_layout_engine() is None:
        place = grid.get_subplot_params(figure)
        sides = {
            "left": min(place.left * old / width, 0.3),
            "right": 1 - min((1 - place.right) * old / width, 0.3),
            "top": 1 - (1 - place.top) * height / sum(heights),
            "bottom": place.bottom * height / sum(heights),
            "hspace": 0.45,
        }
    return GridSpec(
        len(heights), columns, figure=figure, height_ratios=heights, **sides
    )


def _show_labels(ax: Axes) -> None:
    """Bring back the labels of ticks that a neighbour had, if it is one no more."""
    spec = ax.get_subplotspec()
    assert spec is not None
    group = ax.get_shared_y_axes().get_siblings(ax)
    if len(group) > 1 and not _has_neighbour(spec, group):
        ax.tick_params(axis="y", labelleft=any(_labelled(other) for other in group))
        named = next((o.get_ylabel() for o in group if o.get_ylabel()), "")
        if named and not ax.get_ylabel():
            ax.set_ylabel(named)


def _has_neighbour(spec: Any, group: Iterable[Axes]) -> bool:
    """Tell whether one of these panels stands to the left in the same row."""
    others = [other for ax in group if (other := ax.get_subplotspec()) is not None]
    return any(
        other.rowspan.start == spec.rowspan.start
        and other.colspan.start < spec.colspan.start
        for other in others
    )


def _labelled(ax: Axes) -> bool:
    return bool(ax.yaxis.get_tick_params().get("labelleft", True))


def _grow_words(figure: Figure) -> None:
    words: Any
    for words in figure.findobj(Text):
        if words.get_fontsize() < LEAST:
            words.set_fontsize(LEAST)


def fit(figure: Figure) -> bool:
    """Break titles and names that do not fit into lines; return whether anything changed.

    The figure has been drawn once, so that everything has its place.
    """
    changed = False
    with at_72_dpi(figure):
        canvas: Any = figure.canvas  # its type has no renderer; that of this class has
        pen = canvas.get_renderer()
        right = figure.get_size_inches()[0] * 72 - 2
        title: Any = getattr(figure, "_suptitle", None)  # which has no public name
        if title is not None:
            changed |= _wrap(title, pen, 0.96 * right)
        for ax in figure.axes:
            box = ax.get_window_extent(pen)
            beyond = [
                other.get_window_extent(pen).x0 - 14
                for other in figure.axes
                if other is not ax
                and other.get_subplotspec() is not None
                and other.get_window_extent(pen).x0 > box.x1
                and abs(other.get_window_extent(pen).y1 - box.y1) < 20
            ]
            limit = min([right, *beyond])
            changed |= _wrap(ax._left_title, pen, limit - box.x0)  # type: ignore[attr-defined]
            around = 2 * min(limit - (box.x0 + box.x1) / 2, (box.x0 + box.x1) / 2)
            for words in (ax.title, ax.xaxis.label):
                changed |= _wrap(words, pen, around)
            changed |= _wrap(ax.yaxis.label, pen, max(box.height * 1.15, 60))
            for name in ax.texts:
                if isinstance(name, _EndLabel):
                    changed |= _wrap(name, pen, max(64.0, 0.24 * right))
            changed |= _thin_ticks(ax, pen)
    return changed


def _wrap(words: Text, pen: Any, width: float) -> bool:
    """Break words into lines of at most this many points."""
    text = words.get_text()
    if not text.strip() or width <= 20:
        return False
    unnamed: Any = words  # matplotlib's types leave out what is not public

    def long(part: str) -> float:
        clean, maths = unnamed._preprocess_math(part)
        font = words.get_fontproperties()
        return float(pen.get_text_width_height_descent(clean, font, maths)[0])

    if all(long(line) <= width for line in text.split("\n")):
        return False
    lines: list[str] = []
    for part in _WORD.findall(text):
        if lines and long(f"{lines[-1]} {part}") <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    wrapped = "\n".join(lines)
    words.set_text(wrapped)
    return wrapped != text


def _thin_ticks(ax: Axes, pen: Any) -> bool:
    """Make the names below an axis stand apart: break them, leave out numbers, or slant them."""
    labels = [
        label
        for label in ax.get_xticklabels()
        if label.get_visible() and label.get_text().strip()
    ]
    boxes = [label.get_window_extent(pen) for label in labels]
    near = [b.x0 - a.x1 < 2 for a, b in itertools.pairwise(boxes)]
    if not any(near) or any(label.get_rotation() for label in labels):
        return False
    if all(
        re.fullmatch(r"[-−+.,\d\s%kMG$^{}\\a-z]*", label.get_text()) for label in labels
    ):
        places, texts = (
            ax.get_xticks(),
            [label.get_text() for label in ax.get_xticklabels()],
        )
        kept = [text if at % 2 == 0 else "" for at, text in enumerate(texts)]
        ax.set_xticks(places, kept)
        return True
    pitch = float(np.diff([(b.x0 + b.x1) / 2 for b in boxes]).min())
    changed = [_wrap(label, pen, pitch - 3) for label in labels]
    longest = max(
        (len(word) for label in labels for word in label.get_text().split()), default=0
    )
    if longest * 5 > pitch or not any(changed):
        ax.tick_params(axis="x", labelrotation=32)
        for label in ax.get_xticklabels():
            label.set(
                ha="right",
                rotation_mode="anchor",
                text=label.get_text().replace("\n", " "),
            )
        return True
    places = ax.get_xticks()
    ax.set_xticks(places, [label.get_text() for label in ax.get_xticklabels()])
    return True
