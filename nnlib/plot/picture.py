"""A figure as a page shows it: wide, and restacked for a phone that would shrink its words."""

import json
import math
import os
import warnings

from matplotlib.figure import Figure

from nnlib.plot import narrow as phone
from nnlib.plot.svg import Drawing, check_names, draw, element

REPORT = "NNLIB_FIGURES"  # names a file that is told about every picture


def picture(
    figure: Figure,
    name: str,
    alt: str,
    narrow: Figure | None = None,
    *,
    frame: bool = False,
) -> str:
    """Return the markup of a figure: one `<svg>`, or a wide one and one for narrow columns.

    Args:
        figure: the figure; it may be changed.
        name: prefix of its ids, as for `nnlib.plot.svg.inline_svg`.
        alt: the picture in words.
        narrow: another drawing of the same for a phone's column, 5 inches wide or less. None: the
            figure's own panels restack, where that is needed and can be done.
        frame: whether it is one of a slider's, which should be alike.
    """
    check_names(name, alt)
    wide = draw(figure, name)
    if phone.fit(figure):
        wide = draw(figure, name)
    _report(name, "wide", wide)
    slim = _slim(figure, f"{name}-narrow", wide, narrow, frame)
    if slim is None:
        hold = ""
        if phone.shown(wide) < phone.READABLE:
            least = wide.width * phone.READABLE / wide.smallest
            hold = f";min-width:{math.ceil(least)}px"
        return _box(
            element(wide, name, alt, 'class="nn-wide"', hold), scrolls=bool(hold)
        )
    _report(name, "narrow", slim)
    return _box(
        element(wide, name, alt, 'class="nn-wide"')
        + element(slim, f"{name}-narrow", alt, 'class="nn-narrow"', ";display:none")
    )


def _slim(
    figure: Figure, name: str, wide: Drawing, given: Figure | None, frame: bool
) -> Drawing | None:
    if given is not None:
        return draw(given, name)
    if phone.shown(wide) >= phone.READABLE:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            return _restacked(figure, name, wide, frame)
        except UserWarning:  # no room is left for the panels
            return None


def _restacked(figure: Figure, name: str, wide: Drawing, frame: bool) -> Drawing | None:
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
    if phone.shown(slim) < phone.READABLE or _worse(slim, wide, frame):
        return None
    return slim


def _worse(slim: Drawing, wide: Drawing, frame: bool) -> bool:
    """Tell whether a picture got too slim for its words; the frames of a slider stay alike."""
    return len(slim.collisions) > len(wide.collisions) + (2 if frame else 0)


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
            "smallest": round(phone.shown(drawing), 2),
            "collisions": drawing.collisions,
        }
        with open(file, "a", encoding="utf8") as lines:
            lines.write(json.dumps(told, ensure_ascii=False) + "\n")
