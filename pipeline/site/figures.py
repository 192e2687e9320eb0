"""Figures of a page are numbered: "Figure 3" stands before the caption, and links to the figure.

The count is of the page, in its order, figures and sliders alike. `_static/figures.js` enlarges a
figure, and hands it out as SVG and PNG.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

_CAPTION = re.compile(
    r'(<figure class="nn-figure[^"]*" id="(figure-[\w-]+)".*?<figcaption[^>]*>)', re.DOTALL
)


def setup(app: Sphinx) -> None:
    # After what moves figures about on a page.
    app.connect("doctree-read", lambda app, doctree: number(doctree), priority=900)


def number(doctree: nodes.document) -> int:
    """Number the figures of a page; return how many there are."""
    count = 0

    def told(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f'{found[1]}<a class="nn-number" href="#{found[2]}">Figure {count}</a> '

    for raw in doctree.findall(nodes.raw):
        text = raw.astext()
        if "nn-figure" in text and "html" in raw.get("format", "").split():
            raw.children = [nodes.Text(_CAPTION.sub(told, text))]
            raw.children[0].parent = raw
    return count
