"""Below each work of a chapter's list: in which sections the chapter cites it.

sphinxcontrib-bibtex puts a label before the work, with numbered links back. The book cites by
author and year, so the label is a second name that stands nowhere else, and the numbers tell
nothing. The names of the sections do.
"""

from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> None:
    app.connect("doctree-resolved", lambda app, doctree, doc: name_sections(doctree))


def name_sections(doctree: nodes.document) -> None:
    """Replace the label of each work by links to the sections that cite it."""
    citations = list(doctree.findall(nodes.citation))
    if not citations:
        return
    places = _sections(doctree)
    for citation in citations:
        for label in list(citation.findall(nodes.label)):
            label.parent.remove(label)
        back = citation.attributes.pop("backrefs", [])
        citation["backrefs"] = []
        found: dict[str, str] = {}  # the first citation of each section
        for anchor in back:
            found.setdefault(places.get(anchor, ""), anchor)
        found.pop("", None)
        if found and (text := list(citation.findall(nodes.paragraph))):
            text[-1] += [nodes.Text(" "), _links(found)]


def _sections(doctree: nodes.document) -> dict[str, str]:
    """Return the title of the innermost section around each element that has an id."""
    return {
        name: section.next_node(nodes.title).astext()
        for section in doctree.findall(nodes.section)  # outer ones first
        for element in section.findall(nodes.Element)
        for name in element.get("ids", ())
    }


def _links(found: dict[str, str]) -> nodes.inline:
    links = nodes.inline("", "Cited in ", classes=["nn-cited"])
    for number, (title, anchor) in enumerate(found.items()):
        links += nodes.Text(", " if number else "")
        links += nodes.reference("", title, refid=anchor, internal=True)
    links += nodes.Text(".")
    return links
