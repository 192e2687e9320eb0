"""What a page's head tells search engines and those who share a link to it.

A description, the title and the hero picture for previews, and where the feed is. The canonical
address is Sphinx's own, from `html_baseurl`.
"""

import re
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from pipeline.site import about, heroes
from pipeline.site.reading_time import in_a_cell

_LONGEST = 300  # characters of a description; search engines cut theirs shorter
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.S)


def setup(app: Sphinx) -> None:
    app.connect("env-updated", _to_write, priority=920)
    app.connect("html-page-context", _fill)


def description(doctree: nodes.document) -> str:
    """Return the idea of a chapter, which its first paragraph is, or a page's first sentence."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if not text or in_a_cell(paragraph):
            continue
        idea = len(paragraph) == 1 and isinstance(paragraph[0], nodes.strong)
        first = _SENTENCE.match(text)
        return _short(text if idea or not first else first[0])
    return ""


def _short(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return text[: text.rindex(" ", 0, _LONGEST)].rstrip(",;: ") + " …"


def hero(folder: Path, doc: str) -> str:
    """Return the path of a page's picture, where it has one."""
    name = heroes.place(doc)
    return name if (folder / name).is_file() else ""


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that have a picture now and had none, or the other way round."""
    now = {doc: found for doc in env.found_docs if (found := hero(Path(app.srcdir), doc))}
    before = getattr(env, "nn_heroes", {})
    env.nn_heroes = now
    return sorted(doc for doc in env.found_docs if before.get(doc) != now.get(doc))


def _fill(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None or page not in app.env.found_docs:
        return
    told = about.of(app)
    picture = hero(Path(app.srcdir), page)
    chapter = context.get("sourcename", "").endswith(".ipynb")
    title = unescape(re.sub("<[^>]+>", "", context.get("title", "")))
    tags = [("name", "description", description(doctree))]
    tags += [
        ("property", "og:title", title),
        ("property", "og:type", "article" if chapter else "website"),
        ("property", "og:url", context.get("pageurl") or ""),
        ("property", "og:site_name", told.title),
        ("property", "og:description", description(doctree)),
        ("name", "twitter:card", "summary_large_image" if picture else "summary"),
    ]
    if picture:
        tags.append(("property", "og:image", told.site + picture))
        of = f"The picture that stands for {title}" if chapter else "Pictures of four chapters"
        tags.append(("property", "og:image:alt", of))
    if chapter and page in told.changed:
        tags.append(("property", "article:modified_time", told.changed[page]))
    lines = [
        f'<meta {kind}="{name}" content="{escape(text)}">' for kind, name, text in tags if text
    ]
    feed = context["pathto"]("feed.xml", 1)
    lines.append(
        f'<link rel="alternate" type="application/atom+xml" title="What changed" href="{feed}">'
    )
    context["metatags"] = "\n    ".join([context.get("metatags", ""), *lines])
