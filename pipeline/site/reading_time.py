"""How long the main line of a chapter takes to read, told under its title with its last change.

Words of the text at 210 a minute, six seconds for each displayed equation and twelve for each
picture, in whole minutes. The main line is what stands open: not code and what it prints line by
line, not folds, not the list of references.
"""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from pipeline.site import about

WORDS_A_MINUTE = 210
SECONDS = {"equation": 6, "picture": 12}
_CLOSED = ("References", "Check yourself")  # sections that are no part of the main line
_PICTURE = re.compile(r'<figure[^>]*class="[^"]*\bnn-figure\b')
_WORD = re.compile(r"\w[\w'’-]*")
_SKIPPED = (nodes.literal_block, nodes.comment, addnodes.index, nodes.target)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _under_the_title, priority=600)


def minutes(doctree: nodes.Element) -> int:
    """Return how long a page takes to read, rounded to minutes, one at least."""
    words = equations = pictures = 0
    for node in main_line(doctree):
        if isinstance(node, nodes.math_block):
            equations += 1
        elif isinstance(node, nodes.math):
            words += 1
        elif isinstance(node, nodes.raw):
            pictures += len(_PICTURE.findall(node.astext()))
        elif isinstance(node, nodes.image):
            pictures += 1
        else:
            words += len(_WORD.findall(node.astext()))
    seconds = SECONDS["equation"] * equations + SECONDS["picture"] * pictures
    return max(1, round(words / WORDS_A_MINUTE + seconds / 60))


def main_line(node: nodes.Element) -> Iterator[nodes.Node]:
    """Yield the texts, formulas, pictures and raw pieces of a page that stand open, in order."""
    for child in node.children:
        if isinstance(child, nodes.Text | nodes.math_block | nodes.math | nodes.raw | nodes.image):
            yield child
        elif not (isinstance(child, _SKIPPED) or is_fold(child) or is_aside(child)):
            yield from main_line(child)


def is_fold(node: nodes.Node) -> bool:
    """Whether what stands in the node is closed until a reader opens it."""
    kind = type(node).__name__
    return kind in ("dropdown_main", "HideCodeCellNode") or (
        isinstance(node, nodes.Element) and node.get("design_component") == "dropdown"
    )


def is_aside(node: nodes.Node) -> bool:
    """Whether the node is the code of a cell, a list of works, or a section of questions."""
    if isinstance(node, nodes.section):
        title = node.next_node(nodes.title)
        return title is not None and title.astext() in _CLOSED
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code_source"


def in_a_cell(node: nodes.Node) -> bool:
    """Whether the node is a cell's code or what it printed."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.container) and node.get("nb_element") == "cell_code":
            return True
    return False


def line(told: about.About, page: str, doctree: nodes.document | None) -> str:
    """Return the line under a title: the time for a chapter, the last change where git knows it."""
    parts = []
    if doctree is not None:
        parts.append(f"<span>{minutes(doctree)} min read</span>")
    if time := told.changed.get(page):
        history = escape(told.source(page, "commits"))
        parts.append(
            f'<a class="nn-changed" href="{history}" title="All changes of this page">'
            f'Last changed <time datetime="{time[:10]}">{about.day(time)}</time></a>'
        )
    if not parts:
        return ""
    return f'<p class="nn-facts">{" ".join(parts)}</p>'


def _under_the_title(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None or page not in app.env.found_docs or page == app.config.root_doc:
        return
    chapter = context.get("sourcename", "").endswith(".ipynb")
    facts = line(about.of(app), page, doctree if chapter else None)
    if facts:
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{facts}", 1)
