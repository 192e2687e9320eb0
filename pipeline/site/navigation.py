"""The tree of pages that stands beside every page."""

from dataclasses import dataclass, field

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment


@dataclass
class Entry:
    """A page, and the pages below it."""

    doc: str
    title: str
    children: list["Entry"] = field(default_factory=list)

    def holds(self, doc: str) -> bool:
        """Tell whether a page is this one or stands below it."""
        return doc == self.doc or any(child.holds(doc) for child in self.children)


@dataclass
class Part:
    """Pages under a common caption."""

    caption: str
    items: list[Entry]


def parts(env: BuildEnvironment, root: str) -> list[Part]:
    """Return the tree of contents as the table of contents gives it, part by part."""
    return [Part(tree.get("caption") or "", _entries(env, tree)) for tree in _trees(env, root)]


def _trees(env: BuildEnvironment, doc: str) -> list[nodes.Element]:
    return list(env.tocs[doc].findall(addnodes.toctree)) if doc in env.tocs else []


def _entries(env: BuildEnvironment, tree: nodes.Element) -> list[Entry]:
    found = []
    for title, doc in tree["entries"]:
        if doc in env.titles:  # not a link to another site
            below = [entry for sub in _trees(env, doc) for entry in _entries(env, sub)]
            found.append(Entry(doc, title or env.titles[doc].astext(), below))
    return found
