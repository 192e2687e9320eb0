"""The files beside the pages: site map, robots, feed of changes, the page for lost readers."""

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from sphinx.application import Sphinx

from pipeline.site import about, not_found

BEGIN = "2026-01-01T00:00:00Z"  # of a feed without entries, which git has to tell


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _write)


def sitemap(told: about.About, docs: list[str]) -> str:
    """Return the list of pages for search engines, with the day of their last change."""
    entries = []
    for doc in docs:
        changed = told.changed.get(doc, "")
        day = f"<lastmod>{changed[:10]}</lastmod>" if changed else ""
        entries.append(f"  <url><loc>{escape(told.url(doc))}</loc>{day}</url>\n")
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        + "".join(entries)
        + "</urlset>\n"
    )


def robots(told: about.About) -> str:
    """Return what crawlers may read: all but listings of code, which the repository holds."""
    closed = "Disallow: /_modules/\nDisallow: /_sources/\n"
    return f"User-agent: *\n{closed}\nSitemap: {told.site}sitemap.xml\n"


def feed(told: about.About, titles: dict[str, str]) -> str:
    """Return the changes of pages as an Atom feed, newest first."""
    latest = told.news[0]["time"] if told.news else BEGIN
    address = f"{told.site}feed.xml"
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en">',
        f"  <title>{escape(told.title)}: changes</title>",
        f"  <id>{escape(address)}</id>",
        f'  <link rel="self" href={quoteattr(address)}/>',
        f"  <link href={quoteattr(told.site)}/>",
        f"  <updated>{latest}</updated>",
        f"  <author><name>{escape(told.authors)}</name></author>",
    ]
    for change in told.news:
        lines += _entry(told, change, titles)
    return "\n".join([*lines, "</feed>", ""])


def _entry(told: about.About, change: dict, titles: dict[str, str]) -> list[str]:
    pages = change["pages"]
    named = [titles.get(page, page) for page in pages]
    shown = named[0] if len(named) == 1 else f"{len(named)} pages"
    commit = f"{told.repository}/commit/{change['name']}"
    return [
        "  <entry>",
        f"    <title>{escape(shown)}: {escape(_told(change['subject']))}</title>",
        f"    <id>{escape(commit)}</id>",
        f"    <updated>{change['time']}</updated>",
        f"    <link href={quoteattr(told.url(pages[0]) if len(pages) == 1 else commit)}/>",
        f"    <summary>{escape('Changed: ' + ', '.join(named))}</summary>",
        "  </entry>",
    ]


def _told(subject: str) -> str:
    """Return what a change says, without the file that it begins with: `sequence/lstm: …`."""
    head, colon, rest = subject.partition(": ")
    return rest if colon and " " not in head else subject


def _write(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    told = about.of(app)
    docs = sorted(app.env.found_docs)
    titles = {doc: app.env.titles[doc].astext() for doc in docs}
    for name, text in {
        "sitemap.xml": sitemap(told, docs),
        "robots.txt": robots(told),
        "feed.xml": feed(told, titles),
        "404.html": not_found.page(told, _families(app)),
    }.items():
        _write_if_new(Path(app.outdir) / name, text)


def _families(app: Sphinx) -> list[tuple[str, str]]:
    """Return the first pages of the book's families, as its contents have them."""
    order = [doc for doc in app.env.external_site_map if doc.count("/") == 2]
    return [
        (app.env.titles[doc].astext(), doc)
        for doc in order
        if doc.startswith("chapters/") and doc.endswith("/index") and doc in app.env.titles
    ]


def _write_if_new(file: Path, text: str) -> None:
    """Leave a file that is as it should be, and its time, alone."""
    if not file.is_file() or file.read_text("utf8") != text:
        file.write_text(text, "utf8")
