"""A matplotlib figure as SVG that can stand inline in a page, in light mode and in dark.

Matplotlib writes SVG for a file of its own. Inline, three things would go wrong: its ink stays dark
on a dark page, the ids of two figures collide, and its `<style>` rule reaches the whole page.
"""

import html
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from nnlib.plot.style import INK

_STYLE_RULE = re.compile(r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL)
_HEADER = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r"<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_LONG_NUMBER = re.compile(r'(?:scale|matrix)\([^)]*\)|data:[^"]*|(\d+\.\d{2})\d+')
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
        raise ValueError(f"name={name!r} must be letters, digits and hyphens, a letter first")
    if not alt.strip():
        raise ValueError(f"alt={alt!r} must describe the picture in words")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    markup = _HEADER.sub("", buffer.getvalue())
    for pattern in (_METADATA, _STYLE_RULE, _COMMENT):
        markup = pattern.sub("", markup)
    markup = re.sub(r'\bid="', f'id="{name}-', markup)
    markup = re.sub(r'href="#', f'href="#{name}-', markup)
    markup = markup.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
    markup = _shorten(markup)
    return _OPENING.sub(lambda found: _opening(found[1], alt), markup, count=1).strip()


def _opening(view_box: str, alt: str) -> str:
    width = float(view_box.split()[2]) * 4 / 3  # points to CSS pixels
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view_box}" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:{width:.0f}px;max-width:100%;height:auto;stroke-linejoin:round">'
    )


def _shorten(markup: str) -> str:
    """Keep two decimals of every position: a hundredth of a point is below what one sees."""
    markup = _LONG_NUMBER.sub(lambda found: found[1] or found[0], markup)
    return _SPACE.sub(" ", markup).replace("> <", "><")
