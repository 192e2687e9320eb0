"""A figure as a page shows it: wide, and restacked for a phone that would shrink its words."""

import json
import math
import os
import warnings
from collections.abc import Sequence

from matplotlib.figure import Figure

from nnlib.plot import narrow as phone
from nnlib.plot.svg import PIXELS, Drawing, check_names, draw, element

REPORT = "NNLIB_FIGURES"  # names a file that is told about every picture


def picture(figure: Figure, name: str, alt: str, narrow: Figure | None = None) -> str:
    """Return the markup of a figure: one `<svg>`, or a wide one and one for narrow columns.

    Args:
        figure: the figure; it may be changed.
        name: prefix of its ids, as for `nnlib.plot.svg.inline_svg`.
        alt: the picture in words.
        narrow: another drawing of the same for a phone's column, 5 inches wide or less. None: the
            figure's own panels restack, where that is needed and can be done.
    """
    wide = _wide(figure, name, alt)
    slim = None
    if narrow is not None:
        slim = draw(narrow, f"{name}-narrow")
    elif phone.shown(wide, wide.width) < phone.READABLE:
        slim = _slim(figure, f"{name}-narrow", wide)
    return _markup(wide, slim, wide.width, name, alt)


def frames(figures: Sequence[Figure], name: str, alts: Sequence[str]) -> list[str]:
    """Return the markup of each frame of a slider.

    They are shown on one canvas, which is as wide as all of them together, so they have narrow
    variants together, too.

    Args:
        figures: the frames; they may be changed.
        name: `{name}-0`, `{name}-1`, … are their names, as for `picture`.
        alts: each in words.
    """
    names = [f"{name}-{at}" for at in range(len(figures))]
    wides = [_wide(*each) for each in zip(figures, names, alts, strict=True)]
    left, right = min(it.box[0] for it in wides), max(it.box[2] for it in wides)
    canvas = (right - left) * PIXELS
    slims: list[Drawing | None] = [None] * len(wides)
    if min(phone.shown(wide, canvas) for wide in wides) < phone.READABLE:
        slims = [
            _slim(figure, f"{own}-narrow", wide, worse=2)
            for figure, own, wide in zip(figures, names, wides, strict=True)
        ]
    return [
        _markup(wide, slim, canvas, own, alt)
        for wide, slim, own, alt in zip(wides, slims, names, alts, strict=True)
    ]


def _wide(figure: Figure, name: str, alt: str) -> Drawing:
    check_names(name, alt)
    wide = draw(figure, name)
    if phone.fit(figure):
        wide = draw(figure, name)
    _report(name, "wide", wide)
    return wide


def _markup(
    wide: Drawing, slim: Drawing | None, canvas: float, name: str, alt: str
) -> str:
    if slim is None:
        hold = ""
        if phone.shown(wide, canvas) < phone.READABLE:
            least = canvas * phone.READABLE / wide.smallest
            hold = f";min-width:{math.ceil(least)}px"
        return _box(
            element(wide, name, alt, 'class="nn-wide"', hold), scrolls=bool(hold)
        )
    _report(name, "narrow", slim)
    return _box(
        element(wide, name, alt, 'class="nn-wide"')
        + element(slim, f"{name}-narrow", alt, 'class="nn-narrow"', ";display:none")
    )


def _slim(figure: Figure, name: str, wide: Drawing, worse: int = 0) -> Drawing | None:
    """Return the restacked figure, unless it has more collisions than so many more than before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            return _restacked(figure, name, wide, worse)
        except UserWarning:  # no room is left for the panels
            return None


def _restacked(figure: Figure, name: str, wide: Drawing, worse: int) -> Drawing | None:
    width = phone.canvas_width(wide)
    if not phone.restack(figure, width):
        return None
    slim = draw(figure, name)
    for _ in range(3):
        changed = phone.fit(figure)
        beyond = slim.width / 96 - width - 0.06
        if beyond > 0.02:
            inches, height = figure.get_size_inches()
            figure.set_size_inches(max(inches - beyond, 2.0), height)
        elif not changed:
            break
        slim = draw(figure, name)
    if phone.shown(slim, slim.width) < phone.READABLE:
        return None
    return slim if len(slim.collisions) <= len(wide.collisions) + worse else None


def _box(pictures: str, *, scrolls: bool = False) -> str:
    more = " nn-scrolls" if scrolls else ""
    return f'<div class="nn-picture{more}">{pictures}</div>'


def _report(name: str, variant: str, drawing: Drawing) -> None:
    """Tell the runner of a chapter how large the words are, and what lies on what."""
    if file := os.environ.get(REPORT):
        told = {
            "name": name,
            "variant": variant,
            "width": round(drawing.width),
            "smallest": round(phone.shown(drawing, drawing.width), 2),
            "collisions": drawing.collisions,
        }
        with open(file, "a", encoding="utf8") as lines:
            lines.write(json.dumps(told, ensure_ascii=False) + "\n")
