"""Write the pages that changed, and those that show something of a page that changed.

Sphinx reads again what is newer than its last build, and writes what it has read. A page that was
not read may yet look different: the sidebar shows every title, a reference shows the number of an
equation, a link leads to an anchor. So each build keeps what pages can see of one another, and the
next one compares: where the frame of all pages differs (titles, contents, style sheets), every page
is written again, else those that name what has changed. `tests/book/test_incremental.py` holds the
result to a build from nothing, byte for byte.
"""

import ast
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ext import add_global_html_resources
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment
from sphinx.ext import viewcode

from pipeline.site import bibliography

_PARTS = re.compile(r"[.#/,:\s]+")
CITATIONS = "*citations*"  # what a list of works over several pages refers to


def setup(app: Sphinx) -> None:
    # To count figures, Sphinx would open every page at each build; the book's have names.
    app.connect("config-inited", lambda app, config: setattr(config, "numfig", False), priority=900)
    app.connect("env-purge-doc", lambda app, env, doc: _named(env).pop(doc, None))
    app.connect("env-merge-info", _merge)
    app.connect("doctree-read", _note_names)
    # Before bibtex (500) goes through the bibliographies, in the order of their reading.
    app.connect("env-updated", _sort_bibliographies, priority=100)
    app.connect("env-updated", _to_write, priority=900)
    app.connect("build-finished", lambda app, error: error or _mark(app).touch())
    # Its own rule imports every module of the library to learn where it lies.
    viewcode.should_generate_module_page = lambda app, name: not _module_page(app, name).exists()


def _mark(app: Sphinx) -> Path:
    """Return the file that tells, after a build with warnings, that it went to its end."""
    return Path(app.outdir).parent / "finished"


def _named(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return the names that each page refers to."""
    if not hasattr(env, "nn_named"):
        env.nn_named = {}
    return env.nn_named


def _merge(app: Sphinx, env: BuildEnvironment, docs: Iterable[str], other: Any) -> None:
    _named(env).update({doc: names for doc, names in _named(other).items() if doc in set(docs)})


def _note_names(app: Sphinx, doctree: nodes.document) -> None:
    names: set[str] = set()
    for node in doctree.findall(addnodes.pending_xref):
        names |= _words(node["reftarget"])
    domain = app.env.get_domain("cite")
    for key, value in domain.bibliographies.items():
        if key.docname == app.env.docname and ast.unparse(value.filter_) != bibliography.LOCAL:
            names.add(CITATIONS)
    _named(app.env)[app.env.docname] = names


def _words(name: str) -> set[str]:
    """Return a name and its parts: `Cell` may mean `nnlib.sequence.lstm.Cell`."""
    name = name.lower()
    return {name, *_PARTS.split(name)}


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that were not read and yet look different now."""
    if not isinstance(app.builder, StandaloneHTMLBuilder):
        return []
    _forget_modules_without_source(env)
    outdir = Path(app.outdir)
    frame, seen, code = _frame(app, env), dict(_seen(env)), _code(env)
    before = getattr(env, "nn_written", ({}, {}, {}))
    env.nn_written = frame, seen, code
    _depend_on_content(env)
    if before[0] != frame or not outdir.is_dir():
        _empty(outdir)
        (outdir / "_static").mkdir(parents=True, exist_ok=True)
        # myst-nb would write its style sheet after the pages, which then lack its version.
        add_global_html_resources(app, None)
        return sorted(env.found_docs)
    for name in before[2].keys() | code.keys():
        if before[2].get(name) != code.get(name):
            _module_page(app, name).unlink(missing_ok=True)
    changed = {name for name in before[1].keys() | seen if before[1].get(name) != seen.get(name)}
    words = {_PARTS.split(name.lower())[-1] or name.lower() for _, name in changed}
    return sorted(doc for doc, names in _named(env).items() if not names.isdisjoint(words))


def _frame(app: Sphinx, env: BuildEnvironment) -> dict[str, Any]:
    """Return what every page shows, or may show, of the whole book."""
    files = hashlib.sha256()
    for folder in [*app.config.html_static_path, *app.config.templates_path]:
        for file in sorted((Path(app.confdir or app.srcdir) / folder).rglob("*")):
            if file.is_file():
                files.update(f"{file.name} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return {
        "titles": {doc: title.pformat() for doc, title in env.titles.items()},
        "contents": repr(env.external_site_map.as_json()),
        "modules": sorted(getattr(env, "_viewcode_modules", ())),
        "files": files.hexdigest(),
    }


def _seen(env: BuildEnvironment) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield all that a page can see of another: (kind, name) and where and what it is."""
    for kind, domain in env.domains.items():
        for name, *rest in domain.get_objects():
            yield (f"{kind} {rest[1]} {rest[2]}", name), rest
    for label, place in env.get_domain("math").equations.items():
        yield ("equation", label), place
    for doc, known in env.metadata.items():
        for slug, (_, *rest) in known.get("myst_slugs", {}).items():  # the first is a line's number
            yield (f"heading of {doc}", slug), rest
    cite = env.get_domain("cite")
    cited = {(ref.docname, key) for ref in cite.citation_refs for key in _keys(ref)}
    yield ("cite", CITATIONS), sorted(cited)
    for citation in cite.citations:
        place = citation.bibliography_key.docname
        yield (f"citation of {place}", citation.key), citation.citation_id


def _keys(ref: Any) -> list[str]:
    return sorted(target.key for target in ref.targets)


def _code(env: BuildEnvironment) -> dict[str, str]:
    """Return a digest of each module whose source is a page."""
    found = {}
    for name, entry in getattr(env, "_viewcode_modules", {}).items():
        if entry:
            code, _, used, _ = entry
            found[name] = hashlib.sha256(repr((code, sorted(used.items()))).encode()).hexdigest()
    return found


def _forget_modules_without_source(env: BuildEnvironment) -> None:
    """Keep what Python itself is made of out of the list of modules, which would link nowhere."""
    known = getattr(env, "_viewcode_modules", {})
    for name in [name for name, entry in known.items() if not entry]:
        del known[name]


def _module_page(app: Sphinx, name: str) -> Path:
    return Path(app.outdir, "_modules", *name.split(".")).with_suffix(".html")


def _empty(folder: Path) -> None:
    """Remove every page, also those that left the book."""
    if folder.is_dir():
        for item in folder.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def _depend_on_content(env: BuildEnvironment) -> None:
    """Forget the library's files, of which autodoc compares the time.

    The text of a generated page holds a digest of what it is made from.
    """
    source = Path(env.srcdir)
    for files in env.dependencies.values():
        files -= {f for f in files if not Path(source, f).resolve().is_relative_to(source)}


def _sort_bibliographies(app: Sphinx, env: BuildEnvironment) -> None:
    """Let the order of pages decide, not that of their reading, which list a citation leads to."""
    known = env.get_domain("cite").bibliographies
    for key in sorted(known):
        known[key] = known.pop(key)
