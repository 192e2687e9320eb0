"""Lists of works: one a chapter, by author and year, in time that grows with the book alone.

sphinxcontrib-bibtex asks, for each list and each work, every citation of the book whether it is of
that work, and formats a work again for each list that has it. At seventy chapters that is a minute.
"""

import ast
from collections.abc import Iterable
from typing import Any, ClassVar

from pybtex.backends.plaintext import Backend as PlainText
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsortedStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.names.plain import NameStyle
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinx.application import Sphinx
from sphinxcontrib.bibtex.domain import BibtexDomain

LOCAL, ALL = "docname in docnames", "True"  # the filters that the book has


def setup(app: Sphinx) -> None:
    app.setup_extension("sphinxcontrib.bibtex")
    app.add_domain(Works, override=True)
    app.connect("builder-inited", _remember)
    # Each citation asks for it by name, and a name is looked for in every package installed.
    register_plugin("pybtex.backends", "plaintext", PlainText, force=True)
    register_plugin("pybtex.style.formatting", "nnlib", BookStyle, force=True)
    register_plugin("pybtex.style.formatting", "unsrt", AsCited, force=True)


def _remember(app: Sphinx) -> None:
    """Keep the formatted works with what Sphinx knows of the pages."""
    AsCited.formatted = app.env.__dict__.setdefault("nn_works", {})


class Works(BibtexDomain):
    """The citations of the book, with a table of who cites what."""

    def env_updated(self) -> Iterable[str]:
        self.citing: dict[str, set[str]] = {}
        for ref in self.citation_refs:
            for target in ref.targets:
                self.citing.setdefault(target.key, set()).add(ref.docname)
        return super().env_updated()

    def get_filtered_entries(self, bibliography_key: Any) -> Iterable[tuple[str, Any]]:
        listed = self.bibliographies[bibliography_key]
        wanted = ast.unparse(listed.filter_)
        if wanted not in (LOCAL, ALL):
            yield from super().get_filtered_entries(bibliography_key)
            return
        for entry in self.get_entries(listed.bibfiles):
            key = listed.keyprefix + entry.key
            cited = bibliography_key.docname in self.citing.get(key, ())
            if wanted == ALL or cited or entry.key in listed.keys:
                yield key, entry


class KeyLabels(BaseLabelStyle):
    """Label works by their key: unique in the book, where several chapters cite one work."""

    def format_labels(self, sorted_entries: Iterable[Any]) -> Iterable[str]:
        return (entry.key for entry in sorted_entries)


class AsCited(UnsortedStyle):
    """`:style: unsrt`, works in the order of the text; which cites by author and year."""

    default_label_style = KeyLabels
    default_name_style = NameStyle  # classes: a name is looked for in every package, each time
    formatted: ClassVar[dict[tuple[str, str], Any]] = {}

    def format_entry(self, label: str, entry: Any, bib_data: Any = None) -> Any:
        """Format each work once: it stands in the list of many chapters, and for each twice."""
        key = label, repr(entry)
        if key not in self.formatted:
            self.formatted[key] = super().format_entry(label, entry, bib_data)
        return self.formatted[key]


class BookStyle(AsCited):
    """Works by author and year."""

    default_sorting_style = SortingStyle
