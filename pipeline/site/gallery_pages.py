"""The gallery: every chapter by its picture, family by family, in the book's order.

Which pictures there are is known when the chapters have run, so the page holds marks, and
`landing.fill` puts the tiles there.
"""

from collections.abc import Collection, Iterable
from html import escape

from nnlib import catalog
from nnlib.markup import prose
from pipeline.site import heroes, reading_time

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
        names = " ".join(row.name for row in shown)
        text += [f"## {title}", idea, f"<!-- book: tiles {names} -->"]
        if waiting:
            text.append(_raw(f'<p class="nn-waiting">To come: {_listed(waiting)}.</p>'))
    if bare:
        lines = "".join(f"<dt>{escape(t)}</dt><dd>{_listed(w)}</dd>" for t, w in bare)
        text += ["## To come", _raw(f'<dl class="nn-waiting">{lines}</dl>')]
    return "\n\n".join(text) + "\n"


def tiles(
    rows: Iterable[catalog.Architecture], up: str, cards: Collection[str], photos: Collection[str]
) -> str:
    """Return a picture, a title and an idea for each written chapter, as HTML.

    Args:
        rows: the chapters.
        up: the way from the page to the root of the site, such as `"../"`.
        cards: paths of the pictures that there are.
        photos: pages whose picture keeps its colours on a dark page.
    """
    found = "".join(_tile(row, up, cards, photos) for row in rows)
    return f'<ul class="nn-gallery">{found}</ul>'


def _tile(
    row: catalog.Architecture, up: str, cards: Collection[str], photos: Collection[str]
) -> str:
    doc = f"chapters/{row.family}/{row.name}"
    card = heroes.place(doc, small=True)
    picture = (
        f'<img src="{up}{card}" alt="" width="{WIDTH}" height="{HEIGHT}" loading="lazy" '
        'decoding="async">'
    )
    kind = ' class="nn-photo"' if doc in photos else ""
    return (
        f'<li{kind}><a href="{up}{doc}.html">{picture if card in cards else ""}'
        f'<span class="nn-tile-title">{escape(row.title)}</span> '
        f'<span class="nn-tile-year">{row.year}{reading_time.TILE.format(doc)}</span>'
        f'<span class="nn-tile-idea">{prose(row.idea)}</span></a></li>'
    )


def _listed(rows: Iterable[catalog.Architecture]) -> str:
    return ", ".join(f"{escape(row.title)} ({row.year})" for row in rows)


def _raw(markup: str) -> str:
    return f"```{{raw}} html\n{markup}\n```"
