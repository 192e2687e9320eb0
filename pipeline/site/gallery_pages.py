"""The gallery: every chapter by its picture, family by family, in the book's order."""

from collections.abc import Iterable
from html import escape

from nnlib import catalog
from nnlib.markup import prose
from pipeline.site import heroes

WIDTH, HEIGHT = heroes.SMALL


def page() -> str:
    """Return the page in MyST."""
    rows, written = catalog.ARCHITECTURES, catalog.written()
    text = [
        "# Gallery",
        f"**Every chapter by its picture: {len(written)} of {len(rows)} are written.**",
        "Each picture is drawn by the chapter that it leads to, when that chapter runs.",
    ]
    bare = []
    for family, (title, idea) in catalog.FAMILIES.items():
        members = catalog.members(family)
        shown = [row for row in members if row.module]
        waiting = [row for row in members if not row.module]
        if not shown:
            bare.append((title, waiting))
            continue
        text += [f"## {title}", idea, _raw(tiles(shown))]
        if waiting:
            text.append(_raw(f'<p class="nn-waiting">To come: {_listed(waiting)}.</p>'))
    if bare:
        lines = "".join(f"<dt>{escape(t)}</dt><dd>{_listed(w)}</dd>" for t, w in bare)
        text += ["## To come", _raw(f'<dl class="nn-waiting">{lines}</dl>')]
    return "\n\n".join(text) + "\n"


def tiles(rows: Iterable[catalog.Architecture], up: str = "") -> str:
    """Return a picture, a title and an idea for each written chapter, as HTML.

    Args:
        rows: the chapters.
        up: the way from the page to the root of the site, such as `"../"`.
    """
    return f'<ul class="nn-gallery">{"".join(_tile(row, up) for row in rows)}</ul>'


def _tile(row: catalog.Architecture, up: str) -> str:
    doc = f"chapters/{row.family}/{row.name}"
    return (
        f'<li><a href="{up}{doc}.html"><img src="{up}{heroes.place(doc, small=True)}" alt="" '
        f'width="{WIDTH}" height="{HEIGHT}" loading="lazy" decoding="async">'
        f'<span class="nn-tile-title">{escape(row.title)}</span> '
        f'<span class="nn-tile-year">{row.year}</span>'
        f'<span class="nn-tile-idea">{prose(row.idea)}</span></a></li>'
    )


def _listed(rows: Iterable[catalog.Architecture]) -> str:
    return ", ".join(f"{escape(row.title)} ({row.year})" for row in rows)


def _raw(markup: str) -> str:
    return f"```{{raw}} html\n{markup}\n```"
