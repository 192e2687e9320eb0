"""The page of all architectures: the family tree, then every one of them, family by family."""

from html import escape

from nnlib import catalog
from nnlib.markup import prose
from pipeline.site import family_tree as tree


def page() -> str:
    """Return the page in MyST."""
    rows, written = catalog.ARCHITECTURES, catalog.written()
    svg = tree.draw(rows, lambda row: f"chapters/{row.family}/{row.name}.html")
    text = [
        "# Architectures",
        f"{len(written)} of {len(rows)} chapters are written; the others are planned, and stand "
        "here because a family tree with gaps would mislead.\n"
        "The same chapters by their pictures: the [gallery](gallery.md); in an order to read them: "
        "[ways through the book](ways.md).",
        "## Family tree",
        "Time runs to the right, with more room for the years in which more was found.\n"
        "A curve leads from an architecture to each that grew from it.\n"
        "Filled circles are written chapters and lead there; open ones are planned.",
        _raw(svg),
        "## Family by family",
        "In the costs, $n$ counts weights, $L$ layers and $d$ features, unless the chapter says "
        "otherwise.",
    ]
    for family, (title, idea) in catalog.FAMILIES.items():
        entries = "".join(map(_entry, catalog.members(family)))
        text += [f"### {title}", idea, _raw(f'<ul class="nn-entries">{entries}</ul>')]
    return "\n\n".join(text) + "\n"


def _entry(row: catalog.Architecture) -> str:
    """Return one architecture: what it is, when and by whom, and what it costs if that is known."""
    title, later = escape(row.title), '<span class="nn-later">planned</span>'
    if row.module:
        title = f'<a href="chapters/{row.family}/{row.name}.html">{title}</a>'
        later = ""
    costs = {"Parameters": row.parameters, "Training": row.train_cost, "Use": row.use_cost}
    lines = "".join(f"<dt>{key}</dt><dd>{prose(told)}</dd>" for key, told in costs.items() if told)
    fold = f"<details><summary>What it costs</summary><dl>{lines}</dl></details>" if lines else ""
    kind = "written" if row.module else "planned"
    return (
        f'<li class="nn-{kind}"><p class="nn-entry-title">{title} '
        f'<span class="nn-entry-year">{row.year}</span>{later}</p>'
        f'<p class="nn-entry-idea">{prose(row.idea)}</p>'
        f'<p class="nn-entry-people">{escape(row.people)}</p>{fold}</li>'
    )


def _raw(markup: str) -> str:
    return f"```{{raw}} html\n{markup}\n```"
