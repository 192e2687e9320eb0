"""Every line of code as an element of its own, so that one that wraps can hang under its beginning.

Pages hold 88 columns where there is room; on a phone, lines wrap. What follows then stands further
in than the line begins (`_static/code.css`), or the shape of the code would be lost.
"""

import re
from collections.abc import Iterable, Iterator

from pygments.formatters import HtmlFormatter
from sphinx.application import Sphinx

_TAG = re.compile(r"<[^>]*>")


class Lines(HtmlFormatter):
    """Pygments' own formatter, with a `<span class="nn-line">` around each line.

    Its style says how many columns it is set in, where it is. The newline stays outside, since
    Sphinx cuts the pages of modules there.
    """

    def wrap(self, source: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        return super().wrap(_lines(source))


def _lines(source: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for is_code, line in source:
        text = line.rstrip("\n")
        words = _TAG.sub("", text)
        if is_code and words.strip():
            indent = len(words) - len(words.lstrip(" "))
            style = f' style="--nn-in:{indent}"' if indent else ""
            text = f'<span class="nn-line"{style}>{text}</span>'
        yield is_code, text + line[len(line.rstrip("\n")) :]


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", _use)


def _use(app: Sphinx) -> None:
    if bridge := getattr(app.builder, "highlighter", None):
        bridge.formatter = Lines
