"""The book's own Sphinx extension.

Docstrings with `$maths$`, links between paired chapters, no third party on the pages; beside it,
`bibliography` has the lists of works, `figures` numbers the figures, `folds` says what is folded,
`promises` what ✓ means, `frame` what stands around a page, `search` what is found, and
`incremental` tells which pages to write again.
"""

import posixpath
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from pipeline.site import (
    bibliography,
    code_lines,
    figures,
    folds,
    frame,
    heroes,
    incremental,
    maths,
    promises,
    read_first,
    reader,
    search,
)

_DISPLAY = re.compile(r"(^[ \t]*\$\$.*?\$\$[ \t]*(?:\([\w-]+\))?[ \t]*$)", re.M | re.S)
_DOCTEST = re.compile(r"(^[ \t]*>>>.*(?:\n[ \t]*\S.*)*)", re.M)
_IN_PARAGRAPH = r"(?:[^{0}\n]|\n(?![ \t]*\n))+?"
_CODE = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`" + _IN_PARAGRAPH.format("`") + r"`_{0,2})")
_MATHS = re.compile(r"(?<![\\$\w])\$(?!\s)(" + _IN_PARAGRAPH.format("$") + r")(?<!\s)\$(?![\w$])")
_HEADING = re.compile(r"^Chapter: .*(?:\n\S.*)*", re.M)
_PUNCTUATION = re.compile(r"[.,;:!?)\]’”%-]+\S*")


def setup(app: Sphinx) -> dict[str, Any]:
    # Priority: before napoleon (500) turns sections into fields, so that it sees final markup.
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    app.connect("config-inited", lambda app, config: _without_thebe(app))
    app.connect("builder-inited", _read_side_by_side)
    app.connect("builder-inited", _plain_data)
    app.connect("doctree-read", keep_punctuation)
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-follow-imported", home)
    app.add_post_transform(LinksToPairs)
    for part in (bibliography, code_lines, figures, folds, promises, heroes, read_first, reader):
        part.setup(app)
    incremental.setup(app)
    maths.setup(app)
    frame.setup(app)
    search.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def home(app: Sphinx, module: str, name: str) -> str | None:
    """Return the module whose source page is linked from a class, a member or a function.

    That is where it stands, or where its class stands, if that is the module documented here or a
    private part of it. What comes from another public module is documented there as well, and its
    source can link back to one place only, so here it has no link.

    Args:
        app: Sphinx.
        module: where it is documented.
        name: "GPT", or of a member, "GPT.generate".
    """
    thing = getattr(import_module(module), name.split(".")[0], None)
    found = getattr(thing, "__module__", None)
    if found is None:
        return None
    return found if found.rpartition(".")[2].startswith("_") else module


def _docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    text = "\n".join(lines)
    if what == "module":
        text = _HEADING.sub(lambda found: _fields(app, found[0]), text)
    lines[:] = to_rst(text).split("\n")


def _fields(app: Sphinx, heading: str) -> str:
    """Turn `Chapter: …`, `Paper: …`, `Axes: …` into fields; link to the chapter."""
    fields = re.sub(r"^", "   ", heading, flags=re.M)
    fields = re.sub(r"^   ([A-Z]\w+):(?= )", r":\1:", fields, flags=re.M)

    def link(found: re.Match[str]) -> str:
        doc = found[1]
        return f":doc:`/{doc}`" if doc in app.env.found_docs else found[0]

    return re.sub(r"(chapters/[\w/]+)\.md", link, fields)


def to_rst(text: str) -> str:
    """Turn the Markdown that docstrings use (`$maths$`, `$$…$$`, `code`) into reStructuredText."""
    return _each(_DOCTEST, text, str, lambda t: _each(_DISPLAY, t, _display, _prose))


def _each(
    pattern: re.Pattern[str], text: str, found: Callable[[str], str], rest: Callable[[str], str]
) -> str:
    """Apply `found` to what the pattern's one group matches, `rest` to what lies between."""
    pieces = pattern.split(text)
    pieces[0::2] = map(rest, pieces[0::2])
    pieces[1::2] = map(found, pieces[1::2])
    return "".join(pieces)


def _prose(text: str) -> str:
    return _each(_CODE, text, _code, lambda t: _each(_MATHS, t, ":math:`{}`".format, _escaped))


def _escaped(text: str) -> str:
    """Keep `|z|` and `normal_` from meaning something in reStructuredText."""
    return re.sub(r"\||(?<=\w)_(?=_*(?!\w))", r"\\\g<0>", text)


def _display(block: str) -> str:
    indent = re.match(r"[ \t]*", block)[0]
    maths = re.sub(r"\([\w-]+\)\s*$", "", block.strip()).strip().strip("$").strip()
    body = "\n".join(f"{indent}   {line.strip()}" for line in maths.splitlines())
    return f"\n{indent}.. math::\n\n{body}\n"


def _code(piece: str) -> str:
    """Single backticks mean code, as in Markdown; roles and links keep theirs."""
    single = piece.startswith("`") and not piece.startswith("``") and piece.endswith("`")
    return f"`{piece}`" if single else piece


def keep_punctuation(app: Sphinx, doctree: nodes.document) -> None:
    """Keep a comma at the formula that it follows: browsers break lines after a formula."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        mark = _PUNCTUATION.match(after.astext()) if isinstance(after, nodes.Text) else None
        if mark is None:
            continue
        whole = nodes.inline("", "", formula.deepcopy(), nodes.Text(mark[0]), classes=["nn-whole"])
        # by place: another text of the paragraph may read the same
        at = next(at for at, child in enumerate(formula.parent) if child is formula)
        formula.parent[at : at + 2] = [whole, nodes.Text(after.astext()[mark.end() :])]


def _read_side_by_side(app: Sphinx) -> None:
    """Let Sphinx read with several processes, of which two of its extensions say nothing.

    The one counts sections when all is read, the other is about LaTeX's nodes in a page.
    """
    for name in ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"):
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True


def _plain_data(app: Sphinx) -> None:
    """Keep napoleon from the docstrings of data, whose first colon it takes for a type."""
    listeners = app.events.listeners["autodoc-process-docstring"]
    for at, listener in enumerate(listeners):
        if listener.handler.__module__ == "sphinx.ext.napoleon":
            listeners[at] = listener._replace(handler=_unless_data(listener.handler))


def _unless_data(handler: Callable[..., None]) -> Callable[..., None]:
    def wrapped(app: Sphinx, what: str, *rest: Any) -> None:
        if what not in ("attribute", "data", "property"):
            handler(app, what, *rest)

    return wrapped


def _without_thebe(app: Sphinx) -> None:
    """Take the sphinx-thebe listeners away.

    jupyter-book loads that extension always; although it is switched off, it writes a third
    party's address into every page, twice, which browsers report as an error.
    """
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if (listener.handler.__module__ or "").startswith("sphinx_thebe"):
                listeners.remove(listener)
    app.registry.css_files[:] = [f for f in app.registry.css_files if "thebe" not in f[0]]


class LinksToPairs(SphinxPostTransform):
    """Let `[text](mlp.md)` find the page that is built from `mlp.ipynb`, the pair of `mlp.md`."""

    default_priority = 5  # before MyST's resolver, at 9, which takes the suffix by its word

    def run(self, **kwargs: Any) -> None:
        for node in self.document.findall(addnodes.pending_xref):
            path, _, anchor = node["reftarget"].partition("#")
            if node["reftype"] != "myst" or not path.endswith((".md", ".ipynb")):
                continue
            folder = posixpath.dirname(node.get("refdoc", self.env.docname))
            doc = posixpath.normpath(posixpath.join(folder, posixpath.splitext(path)[0]))
            if doc in self.env.all_docs:
                node["refdomain"], node["reftarget"] = "doc", doc
                node["reftargetid"] = anchor or None
