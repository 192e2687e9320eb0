"""How long the main line of a chapter takes to read: under its title, and in the gallery.

Words of the text at 210 a minute, six seconds for each displayed equation and twelve for each
picture, in whole minutes. The main line is what stands open: not code and what it prints line by
line, not folds, not the list of references. It is counted when a page is read, since other pages
tell it too.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from pipeline.site import about

WORDS_A_MINUTE = 210
TILE = '<span class="nn-tile-time" data-of="{}"></span>'  # of a chapter; filled on its page
SECONDS = {"equation": 6, "picture": 12}
_CLOSED = ("References", "Check yourself")  # sections that are no part of the main line
_PICTURE = re.compile(r'<figure[^>]*class="[^"]*\bnn-figure\b')
_TILE = re.compile(TILE.format('([^"]+)'))
_WORD = re.compile(r"\w[\w'’-]*")
_SKIPPED = (nodes.literal_block, nodes.comment, addnodes.index, nodes.target)


def setup(app: Sphinx) -> None:
    app.connect("env-purge-doc", lambda app, env, doc: _known(env).pop(doc, None))
    app.connect("env-merge-info", _merge)
    app.connect("doctree-read", _count)
    app.connect("env-updated", _to_write, priority=930)
    app.connect("html-page-context", _under_the_title, priority=600)
    app.connect("html-page-context", _in_tiles, priority=600)


def _known(env: BuildEnvironment) -> dict[str, int]:
    """Return the minutes of each chapter."""
    if not hasattr(env, "nn_minutes"):
        env.nn_minutes = {}
    return env.nn_minutes


def _merge(app: Sphinx, env: BuildEnvironment, docs: Iterable[str], other: Any) -> None:
    _known(env).update({doc: time for doc, time in _known(other).items() if doc in set(docs)})


def _count(app: Sphinx, doctree: nodes.document) -> None:
    doc = app.env.docname
    if app.env.doc2path(doc).endswith(".ipynb"):
        _known(app.env)[doc] = minutes(doctree)


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages with tiles, where a time that they tell has changed."""
    now = dict(_known(env))
    before = getattr(env, "nn_minutes_told", now)
    env.nn_minutes_told = now
    if before == now:
        return []
    source = [(doc, env.doc2path(doc)) for doc in sorted(env.found_docs)]
    return [doc for doc, file in source if file.endswith(".md") and _TILE.search(_text(file))]


def _text(file: str) -> str:
    return Path(file).read_text("utf8")


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
    if not isinstance(node, nodes.Element):
        return False
    hidden = node.get("hide_mode") or ""  # of a cell
    return node.get("design_component") == "dropdown" or hidden == "all" or "output" in hidden


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


def line(told: about.About, page: str, time: int | None) -> str:
    """Return the line under a title: the time for a chapter, the last change where git knows it."""
    parts = []
    if time:
        parts.append(f"<span>{time} min read</span>")
    if on := told.changed.get(page):
        history = escape(told.source(page, "commits"))
        parts.append(
            f'<a class="nn-changed" href="{history}" title="All changes of this page">'
            f'Last changed <time datetime="{on[:10]}">{about.day(on)}</time></a>'
        )
    if not parts:
        return ""
    return f'<p class="nn-facts">{" ".join(parts)}</p>'


def _under_the_title(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None or page not in app.env.found_docs or page == app.config.root_doc:
        return
    facts = line(about.of(app), page, _known(app.env).get(page))
    if facts:
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{facts}", 1)


def _in_tiles(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell the time of each chapter in its tile."""

    def told(found: re.Match[str]) -> str:
        time = _known(app.env).get(found[1])
        return f'<span class="nn-tile-time">{time} min</span>' if time else ""

    if doctree is not None and "nn-tile-time" in context["body"]:
        context["body"] = _TILE.sub(told, context["body"])
