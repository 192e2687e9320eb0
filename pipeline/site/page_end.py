"""What stands at the end of a page: how to cite it, report an error in it, edit it.

`_static/reader.js` adds buttons that copy, and lets the report name the section in view. Without
scripts the report names the page.
"""

import re
from html import escape, unescape
from typing import Any
from urllib.parse import urlencode

from docutils import nodes
from sphinx.application import Sphinx

from pipeline.site import about

_QUESTION = (
    "What is wrong, and what would be right? Best with the number or the source that shows it."
)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _at_the_end, priority=700)


def sentence(told: about.About, doc: str, title: str) -> str:
    """Return how a chapter is cited in a text."""
    parts = [f"{_first_capital(told.authors)}. “{title}.” In {told.title}", _when(told, doc)]
    return ". ".join([*filter(None, parts), told.url(doc)])


def bibtex(told: about.About, doc: str, title: str) -> str:
    """Return the entry of a chapter for a file of references."""
    fields = {
        "author": f"{{{told.authors}}}",
        "title": f"{{{title}}}",
        "booktitle": told.title,
        "year": _year(told, doc),
        "url": told.url(doc),
        "note": _when(told, doc),
    }
    width = max(map(len, fields))
    lines = [
        f"  {name:<{width}} = {{{_tex(text) if name != 'url' else text}}},"
        for name, text in fields.items()
        if text
    ]
    key = "-".join(["encyclopedia", *doc.split("/")[1:]])
    return "\n".join([f"@incollection{{{key},", *lines, "}"])


def report(told: about.About, doc: str, title: str) -> str:
    """Return the address of a new issue about a page, its title and text begun."""
    body = f"Page: {told.url(doc)}\nSection: {title}\n\n{_QUESTION}\n\n"
    return f"{told.repository}/issues/new?" + urlencode({"title": f"{title}: ", "body": body})


def _when(told: about.About, doc: str) -> str:
    version = f"version {told.version}" if told.version else ""
    changed = f"last changed {about.day(told.changed[doc])}" if doc in told.changed else ""
    return _first_capital(", ".join(filter(None, (version, changed))))


def _year(told: about.About, doc: str) -> str:
    return told.changed.get(doc, told.year)[:4]


def _first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tex(text: str) -> str:
    return re.sub(r"(?<!\\)([&%#_$])", r"\\\1", text)


def ending(told: about.About, doc: str, title: str, *, chapter: bool, written: bool) -> str:
    """Return the end of a page as HTML."""
    links = [f'<a class="nn-report" href="{escape(report(told, doc, title))}">Report an error</a>']
    if written:
        links.append(
            f'<a class="nn-edit" href="{escape(told.source(doc, "edit"))}">Edit this page</a>'
        )
        links.append(f'<a href="{escape(told.source(doc, "commits"))}">History of this page</a>')
    cite = _cite(told, doc, title) if chapter else ""
    return (
        f'<aside class="nn-end" aria-label="About this page">\n{cite}'
        f'<p class="nn-links">{" ".join(links)}</p>\n</aside>\n'
    )


def _cite(told: about.About, doc: str, title: str) -> str:
    book = escape(told.title)
    cited = escape(sentence(told, doc, title)).replace(f"In {book}", f"In <cite>{book}</cite>")
    return (
        '<details class="nn-cite"><summary>Cite this chapter</summary>\n'
        f'<p class="nn-copied">{cited}</p>\n'
        f'<pre class="nn-copied">{escape(bibtex(told, doc, title))}</pre>\n</details>\n'
    )


def _at_the_end(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    told = about.of(app)
    if doctree is None or page not in app.env.found_docs or not told.repository:
        return
    title = unescape(re.sub("<[^>]+>", "", context.get("title", "")))
    chapter = context.get("sourcename", "").endswith(".ipynb")
    context["body"] += ending(told, page, title, chapter=chapter, written=page in told.written)
