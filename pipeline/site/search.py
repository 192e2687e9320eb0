"""What the search finds: the sections of every page, collected while Sphinx reads.

A record is a section, a term of the glossary or an object of the library: its title, where it
stands, its text and its code. `search.json` beside the pages holds them all, and `search_index`
makes the index from it. Sphinx's own index, one file that every page would load, is not made.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from pipeline.site.formula_text import as_text

RECORDS = "search.json"  # beside the folder of the pages
_UNSEARCHED = ("chapters/bibliography",)
_DROPPED = {"references"}  # ids of sections that only list works
_BLOCKS = (nodes.paragraph, nodes.term, nodes.entry, nodes.caption, nodes.rubric, nodes.title)
_CAPTION = re.compile(r"<figcaption[^>]*>(.*?)</figcaption>", re.S)
_TAG = re.compile(r"<[^>]+>")
_FORMULA = re.compile(r"\\\((.+?)\\\)")
_OBJECTS = {"class", "function", "method", "exception"}

PAGE = """\
<section id="search">
<h1>Search</h1>
<form class="nn-search-form" action="" role="search">
<label for="nn-search-words">Words to look for in this book</label>
<input type="text" id="nn-search-words" name="q" autocomplete="off" spellcheck="false">
</form>
<div id="nn-search-here"></div>
<noscript><p>The search runs in your browser and needs JavaScript. Without it, look a word up in
the <a href="chapters/glossary.html">glossary</a>, a model in the list of
<a href="architectures.html">architectures</a>, and a name of the library in the
<a href="api/index.html">API reference</a>.</p></noscript>
</section>
"""


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", _without_sphinx_search)
    app.connect("env-purge-doc", lambda app, env, doc: _known(env).pop(doc, None))
    app.connect("env-merge-info", _merge)
    app.connect("doctree-read", _collect, priority=300)  # before formulas are set
    app.connect("html-collect-pages", lambda app: [("search", _page(), "page.html")])
    app.connect("build-finished", _write)


def _without_sphinx_search(app: Sphinx) -> None:
    app.builder.search = False


def _page() -> dict[str, Any]:
    return {"title": "Search", "body": PAGE}


def _known(env: BuildEnvironment) -> dict[str, dict[str, Any]]:
    """Return what was found on each page."""
    if not hasattr(env, "nn_search"):
        env.nn_search = {}
    return env.nn_search


def _merge(app: Sphinx, env: BuildEnvironment, docs: Iterable[str], other: Any) -> None:
    _known(env).update({doc: told for doc, told in _known(other).items() if doc in set(docs)})


def _collect(app: Sphinx, doctree: nodes.document) -> None:
    doc = app.env.docname
    if doc in _UNSEARCHED:
        return
    top = next(iter(doctree.findall(nodes.section)), None)
    if top is not None:
        records = [record for record in _sections(top, doc) if record["title"]]
        _known(app.env)[doc] = {"title": _title(top), "records": records}


def _write(app: Sphinx, error: Exception | None) -> None:
    if error:
        return
    known = _known(app.env)
    told = {doc: known[doc] for doc in sorted(app.env.found_docs) if doc in known}
    file = Path(app.outdir).parent / RECORDS
    file.write_text(json.dumps(told, ensure_ascii=False, indent=0), "utf8")


def _sections(
    section: nodes.section, doc: str, *, inside: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the record of a section, of what it defines, and of the sections in it."""
    title = _title(section)
    anchor = section["ids"][0] if section["ids"] and inside else ""
    if anchor in _DROPPED:
        return
    text, code = Text(section), []
    for block in section.findall(nodes.literal_block):
        if text.holds(block) and not _hidden(block):
            code.append(block.astext())
    yield {
        "id": anchor,
        "title": title,
        "kind": _kind(doc, inside),
        "text": text.pieces(),
        "code": "\n".join(code),
    }
    for item in section.findall(nodes.definition_list_item):
        if text.holds(item) and isinstance(item.parent.parent, addnodes.glossary):
            yield _term(item)
    for desc in section.findall(addnodes.desc):
        if text.holds(desc) and desc.get("objtype") in _OBJECTS:
            yield from _object(desc)
    for child in section.children:
        if isinstance(child, nodes.section):
            yield from _sections(child, doc, inside=True)


class Text:
    """The readable text of a section, without that of the sections and objects in it."""

    def __init__(self, root: nodes.Element):
        self.root = root

    def holds(self, node: nodes.Node) -> bool:
        """Whether the node stands in this section itself, not in one below."""
        parent = node.parent
        while parent is not self.root and parent is not None:
            if isinstance(parent, nodes.section):
                return False
            parent = parent.parent
        return True

    def pieces(self) -> list[str]:
        return [piece for piece in map(_one_line, self._walk(self.root)) if piece]

    def _walk(self, node: nodes.Element) -> Iterator[str]:
        for child in node.children:
            if isinstance(child, (nodes.section, nodes.title, addnodes.desc, addnodes.glossary)):
                continue
            if isinstance(child, (nodes.literal_block, addnodes.toctree, nodes.comment)):
                continue
            if isinstance(child, nodes.raw):
                yield from map(_of_html, _CAPTION.findall(child.astext()))
            elif isinstance(child, _BLOCKS):
                yield _inline(child)
            elif isinstance(child, nodes.Element):
                yield from self._walk(child)


def _term(item: nodes.definition_list_item) -> dict[str, Any]:
    terms = [node for node in item.children if isinstance(node, nodes.term)]
    body = [part for node in item.children if node not in terms for part in Text(node).pieces()]
    title = ", ".join(_one_line(_inline(term)) for term in terms)
    return _record(terms[0]["ids"][0], title, "term", body)


def _object(desc: addnodes.desc) -> Iterator[dict[str, Any]]:
    """Yield a class, a function or a method, if it says something."""
    signature = next(iter(desc.findall(addnodes.desc_signature)))
    name = signature.get("fullname", "")
    body = [part for node in desc.children[1:] for part in Text(node).pieces()]
    if body and signature["ids"]:
        yield _record(signature["ids"][0], name, "api", body)


def _record(anchor: str, title: str, kind: str, text: list[str]) -> dict[str, Any]:
    return {"id": anchor, "title": title, "kind": kind, "text": text, "code": ""}


def _kind(doc: str, inside: bool) -> str:
    """Return what a section of a page is, as the list of results says it."""
    folder, _, name = doc.rpartition("/")
    if folder.startswith("chapters/") and name != "index":
        return "section" if inside else "chapter"
    if doc.split("/")[0] in ("api", "truth"):
        return {"api": "api", "truth": "equations"}[doc.split("/")[0]]
    return "page"


def _title(section: nodes.section) -> str:
    title = next((node for node in section.children if isinstance(node, nodes.title)), None)
    return _one_line(_inline(title)) if title is not None else ""


def _hidden(block: nodes.Node) -> bool:
    """Whether the code is folded away: what draws a figure, what imports."""
    node = block.parent
    while node is not None and not isinstance(node, nodes.section):
        if any(name.startswith(("tag_hide", "tag_remove")) for name in node.get("classes", ())):
            return True
        node = node.parent
    return False


def _inline(node: nodes.Node) -> str:
    """Return the text of a paragraph; formulas as text, citations not at all."""
    if isinstance(node, nodes.math):
        return as_text(node.astext())
    if isinstance(node, (nodes.math_block, nodes.raw, nodes.image)):
        return " "
    if isinstance(node, addnodes.pending_xref) and node.get("refdomain") in ("cite", "math"):
        return ""  # known only when all pages are read
    if isinstance(node, nodes.Text):
        return node.astext()
    return "".join(map(_inline, node.children))


def _of_html(text: str) -> str:
    return html.unescape(_FORMULA.sub(lambda found: as_text(found[1]), _TAG.sub("", text)))


def _one_line(text: str) -> str:
    return re.sub(r" (?=[.,;:])", "", re.sub(r"\s+", " ", text)).strip()
