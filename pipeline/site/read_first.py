"""What to read before a chapter: a line under its idea, from the catalogue.

What stands there is in no page's source, so each build compares it with the last one's.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment

from nnlib import catalog


def setup(app: Sphinx) -> None:
    app.connect("env-updated", _to_write, priority=930)
    # Before the hero, which takes its place under the same paragraph.
    app.connect("doctree-resolved", _tell, priority=600)


def rows(doc: str, found: set[str]) -> list[tuple[str, str]]:
    """Return what to read before a page: the titles, each with its page, or "" where it is planned.

    Args:
        doc: the page.
        found: every page of the book.
    """
    parts = doc.split("/")
    known = {row.name: row for row in catalog.ARCHITECTURES}
    if len(parts) != 3 or parts[0] != "chapters" or parts[2] not in known:
        return []
    before = [known[name] for name in known[parts[2]].requires]
    pages = {row.name: f"chapters/{row.family}/{row.name}" for row in before}
    return [(row.label, pages[row.name] if pages[row.name] in found else "") for row in before]


def _told(env: BuildEnvironment) -> dict[str, list[tuple[str, str]]]:
    found = set(env.found_docs)
    return {doc: told for doc in sorted(found) if (told := rows(doc, found))}


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that tell it differently now."""
    before, env.nn_read_first = getattr(env, "nn_read_first", {}), _told(env)
    now = env.nn_read_first
    return sorted(doc for doc in env.found_docs if before.get(doc) != now.get(doc))


def _tell(app: Sphinx, doctree: nodes.document, doc: str) -> None:
    told = rows(doc, set(app.env.found_docs))
    title = next(iter(doctree.findall(nodes.title)), None)
    if not told or title is None or not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    line = nodes.paragraph("", "Read first: ", classes=["nn-read-first"])
    for at, (label, page) in enumerate(told):
        line += nodes.Text(", " if at else "")
        if page:
            uri = app.builder.get_relative_uri(doc, page)
            line += nodes.reference("", label, internal=True, refuri=uri)
        else:
            line += nodes.Text(f"{label} (to come)")
    section = title.parent
    first = next((at for at, node in enumerate(section) if isinstance(node, nodes.paragraph)), None)
    section.insert((section.index(title) if first is None else first) + 1, line)
