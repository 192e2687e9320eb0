"""A matplotlib figure as SVG that can stand inline in a page, in light mode and in dark.

Matplotlib writes SVG for a file of its own. Inline, three things would go wrong: its ink stays dark
on a dark page, the ids of two figures collide, and its `<style>` rule reaches the whole page.
"""

import html
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from nnlib.plot import faces
from nnlib.plot.collisions import collisions
from nnlib.plot.record import Record
from nnlib.plot.renderer import AXIS, KEEP, Pen

_STYLE_RULE = re.compile(
    r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL
)
_HEADER = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg [^>]*>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_LONG_NUMBER = re.compile(
    r'(?:scale|matrix)\([^)]*\)|data:[^"]*|>[^<]+|(\d+\.\d{2})\d+'
)
_LETTER = "[A-Z]+-[0-9a-f]+"
_SPACE = re.compile(r"\s*\n\s*")
_GROUP = re.compile(r"<g>((?:<(?:path|use|text|image)[^<]*(?:/>|</text>))*)</g>")
_INVISIBLE = re.compile(r'<path d="[^"]*"(?: clip-path="[^"]*")? style="fill: ?none"/>')
PIXELS = 4 / 3  # of CSS to a point
MARGIN = 4.0  # points around a picture


@dataclass
class Drawing:
    """A figure as drawn: raw markup, all that it consists of, and the part that is not empty."""

    markup: str
    record: Record
    box: tuple[float, float, float, float]  # left, top, right, bottom; in points

    @property
    def width(self) -> float:
        """Width on a page that has room for it, in CSS pixels."""
        return (self.box[2] - self.box[0]) * PIXELS

    @cached_property
    def collisions(self) -> list[str]:
        """What lies on what, in words."""
        return collisions(self.record)

    @property
    def smallest(self) -> float:
        """Size of the smallest words in CSS pixels, where the picture has its own width."""
        return min((words.size for words in self.record.words), default=12.0) * PIXELS


class _Canvas(FigureCanvasSVG):
    """A canvas that measures words as they will be drawn."""

    _pen: Pen | None = None

    def get_renderer(self) -> Pen:
        _Canvas._pen = _Canvas._pen or Pen(self.figure)
        return _Canvas._pen


@contextmanager
def at_72_dpi(figure: Figure) -> Iterator[None]:
    """Let a figure be measured in points while it is laid out and drawn."""
    canvas, dpi = figure.canvas, figure.dpi
    _Canvas(figure)
    figure.dpi = 72
    try:
        yield
    finally:
        figure.dpi = dpi
        figure.set_canvas(canvas)


def draw(figure: Figure, name: str) -> Drawing:
    """Draw a figure; `name` makes its ids."""
    for ax in figure.axes:
        for spine in ax.spines.values():
            spine.set_gid(AXIS)
        for mapped in ax.collections:
            if mapped.get_array() is not None and mapped.get_gid() is None:
                mapped.set_gid(KEEP)
    with (
        mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}),
        at_72_dpi(figure),
    ):
        pen = Pen(figure)
        figure.draw(pen)
        pen.finalize()
    return Drawing(pen.buffer.getvalue(), pen.record, _extent(pen.record))


def _extent(record: Record) -> tuple[float, float, float, float]:
    """Return the box of all that can be seen."""
    boxes = [area.box for area in record.areas]
    boxes += [
        np.concatenate([words.corners.min(axis=0), words.corners.max(axis=0)])
        for words in record.words
    ]
    for stroke in record.strokes:
        low, high = stroke.points.min(axis=0), stroke.points.max(axis=0)
        if stroke.clip is not None:
            low = np.maximum(low, stroke.clip[:2])
            high = np.minimum(high, stroke.clip[2:])
        if (low <= high).all():
            boxes.append(np.concatenate([low, high]))
    if not boxes:
        return (0.0, 0.0, 1.0, 1.0)
    all_boxes = np.array([box for box in boxes if np.isfinite(box).all()])
    low = np.floor(all_boxes[:, :2].min(axis=0) - MARGIN)
    high = np.ceil(all_boxes[:, 2:].max(axis=0) + MARGIN)
    return (*low.tolist(), *high.tolist())


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """Return `figure` as an `<svg>` element whose ink is the page's own text colour.

    Words stand in it as words, in the page's font; formulas as outlines.

    Args:
        figure: the figure; it is not closed.
        name: prefix of every id in the picture, unique on the page (letters, digits, `-`).
        alt: what the picture shows, for readers who cannot see it.

    Returns:
        The markup, equal from run to run for an equal figure.

    Raises:
        ValueError: `name` is no identifier of that kind, or `alt` is empty.
    """
    check_names(name, alt)
    return element(draw(figure, name), name, alt)


def check_names(name: str, alt: str) -> None:
    """Refuse a name that can be no id, and a picture without words."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(
            f"name={name!r} must be letters, digits and hyphens, a letter first"
        )
    if not alt.strip():
        raise ValueError(f"alt={alt!r} must describe the picture in words")


def element(
    drawing: Drawing, name: str, alt: str, attributes: str = "", style: str = ""
) -> str:
    """Return a drawing as an `<svg>` element of a page.

    Args:
        drawing: what was drawn.
        name: as for `inline_svg`.
        alt: as for `inline_svg`.
        attributes: more of the element, such as `class="nn-wide"`.
        style: more of its style.
    """
    markup = _HEADER.sub("", drawing.markup)
    for pattern in (_METADATA, _STYLE_RULE, _COMMENT):
        markup = pattern.sub("", markup)
    # a shape may be clicked; its words are the link that a keyboard and a reader's voice meet
    markup = markup.replace("<a xlink:href", '<a tabindex="-1" aria-hidden="true" href')
    markup = markup.replace("xlink:href", "href")
    role = "group" if "<a " in markup else "img"  # what is one image holds no links
    markup = _shorten(_rename_ids(markup, _prefix(name)))
    left, top, right, bottom = (round(number) for number in drawing.box)
    view = f"{left} {top} {right - left} {bottom - top}"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}{" " if attributes else ""}'
        f'viewBox="{view}" role="{role}" aria-label="{html.escape(alt)}" '
        f'style="width:{drawing.width:.0f}px;max-width:100%;height:auto;'
        f'stroke-linejoin:round;font-family:{faces.ON_THE_PAGE}{style}">'
    )
    return _OPENING.sub(lambda _: opening, markup, count=1).strip()


def share_glyphs(pictures: Sequence[str], name: str) -> tuple[str, list[str]]:
    """Return one invisible `<svg>` with the letters of all pictures, and the pictures without them.

    Every picture of a slider spells out the outlines of its formulas. The page needs them once, as
    long as it shows the returned `<svg>` somewhere.

    Args:
        pictures: what `inline_svg` returned under the names `{name}-0`, `{name}-1`, …
        name: the slider's name.
    """
    letters: dict[str, str] = {}
    shared, common = [], _prefix(name)
    for at, picture in enumerate(pictures):
        own = "|".join({_prefix(f"{name}-{at}"), _prefix(f"{name}-{at}-narrow")})
        glyph = re.compile(rf'<path id="(?:{own})-({_LETTER})"([^>]*)/>')
        letters |= {found[1]: found[2] for found in glyph.finditer(picture)}
        picture = glyph.sub("", picture).replace("<defs></defs>", "")
        shared.append(
            re.sub(rf'href="#(?:{own})-({_LETTER})"', rf'href="#{common}-\1"', picture)
        )
    paths = "".join(
        f'<path id="{common}-{key}"{outline}/>' for key, outline in letters.items()
    )
    hidden = '<svg aria-hidden="true" style="position:absolute;width:0;height:0">'
    return f"{hidden}<defs>{paths}</defs></svg>", shared


def _prefix(name: str) -> str:
    """Return a short word for a name, so that ids stay short: letters are used by the thousand."""
    return f"i{zlib.crc32(name.encode()):x}"


def _rename_ids(markup: str, prefix: str) -> str:
    """Make ids short and unique on a page; drop those that nothing refers to.

    A letter of a font keeps a name that says which it is, for `share_glyphs`.
    """
    new: dict[str, str] = {}
    for old in re.findall(r'(?:href="#|url\(#)([^")]+)', markup):
        letter = re.fullmatch(r"([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)?)-([0-9a-f]+)", old)
        short = (
            re.sub("[^A-Z]", "", letter[1]) + f"-{letter[2]}"
            if letter
            else str(len(new))
        )
        new.setdefault(old, f"{prefix}-{short}")
    markup = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{new[found[1]]}"' if found[1] in new else "",
        markup,
    )
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda f: f[1] + new[f[2]], markup)


def _shorten(markup: str) -> str:
    """Keep two decimals of every position: a hundredth of a point is below what one sees.

    Numbers that are read as words keep all of theirs.
    """
    markup = _LONG_NUMBER.sub(lambda found: found[1] or found[0], markup)
    markup = _SPACE.sub(" ", markup).replace("> <", "><")
    markup = _INVISIBLE.sub("", markup)
    markup = re.sub(
        r'style="[^"]*"', lambda f: f[0].replace(": ", ":").replace("; ", ";"), markup
    )
    before = ""
    while before != markup:
        before, markup = markup, _GROUP.sub(r"\1", markup)
    return markup
