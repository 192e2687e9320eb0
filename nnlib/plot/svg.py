"""A matplotlib figure as SVG that can stand inline in a page, in light mode and in dark.

Matplotlib writes SVG for a file of its own. Inline, three things would go wrong: its ink stays dark
on a dark page, the ids of two figures collide, and its `<style>` rule reaches the whole page.
"""

import html
import io
import re
import zlib
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from nnlib.plot.style import INK

_STYLE_RULE = re.compile(
    r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL
)
_HEADER = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_LONG_NUMBER = re.compile(r'(?:scale|matrix)\([^)]*\)|data:[^"]*|(\d+\.\d{2})\d+')
_LETTER = "[A-Z]+-[0-9a-f]+"
_SPACE = re.compile(r"\s*\n\s*")


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """Return `figure` as an `<svg>` element whose ink is the page's own text colour.

    Args:
        figure: the figure; it is not closed.
        name: prefix of every id in the picture, unique on the page (letters, digits, `-`).
        alt: what the picture shows, for readers who cannot see it.

    Returns:
        The markup, equal from run to run for an equal figure.

    Raises:
        ValueError: `name` is no identifier of that kind, or `alt` is empty.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(
            f"name={name!r} must be letters, digits and hyphens, a letter first"
        )
    if not alt.strip():
        raise ValueError(f"alt={alt!r} must describe the picture in words")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    markup = _HEADER.sub("", buffer.getvalue())
    for pattern in (_METADATA, _STYLE_RULE, _COMMENT):
        markup = pattern.sub("", markup)
    markup = markup.replace("xlink:href", "href").replace(INK, "currentColor")
    markup = _shorten(_rename_ids(markup, _prefix(name)))
    return _OPENING.sub(lambda found: _opening(found[1], alt), markup, count=1).strip()


def share_glyphs(pictures: Sequence[str], name: str) -> tuple[str, list[str]]:
    """Return one invisible `<svg>` with the letters of all pictures, and the pictures without them.

    Every picture of a slider spells out the outlines of its letters; together they are often the
    larger half. The page needs them once, as long as it shows the returned `<svg>` somewhere.

    Args:
        pictures: what `inline_svg` returned under the names `{name}-0`, `{name}-1`, …
        name: the slider's name.
    """
    letters: dict[str, str] = {}
    shared, common = [], _prefix(name)
    for at, picture in enumerate(pictures):
        own = _prefix(f"{name}-{at}")
        glyph = re.compile(rf'<path id="{own}-({_LETTER})"([^>]*)/>')
        letters |= {found[1]: found[2] for found in glyph.finditer(picture)}
        picture = glyph.sub("", picture).replace("<defs></defs>", "")
        shared.append(
            re.sub(rf'href="#{own}-({_LETTER})"', rf'href="#{common}-\1"', picture)
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


def _opening(view_box: str, alt: str) -> str:
    width = float(view_box.split()[2]) * 4 / 3  # points to CSS pixels
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="{view_box}" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:{width:.0f}px;max-width:100%;height:auto;stroke-linejoin:round">'
    )


def _shorten(markup: str) -> str:
    """Keep two decimals of every position: a hundredth of a point is below what one sees."""
    markup = _LONG_NUMBER.sub(lambda found: found[1] or found[0], markup)
    markup = _SPACE.sub(" ", markup).replace("> <", "><")
    return re.sub(
        r'style="[^"]*"', lambda f: f[0].replace(": ", ":").replace("; ", ";"), markup
    )
