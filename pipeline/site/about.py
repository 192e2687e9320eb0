"""What pages tell of the book around them: its address and version, and when each was changed.

Staging writes it into one file beside the pages. What stands there is in no page's source, so each
build compares it with the last one's, and the pages that tell it differently are written again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from pipeline import address, project, site_address
from pipeline.site import history

FILE = "about.json"
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
NEWS = 40  # changes that the feed holds


@dataclass(frozen=True)
class About:
    """The book's title and authors, where it is kept and published, and its pages' changes."""

    title: str = ""
    authors: str = ""
    version: str = ""
    repository: str = ""
    branch: str = "main"
    year: str = ""  # of the book, for pages whose own git does not know
    site: str = ""  # where the pages are published, with a slash at the end
    written: list[str] = field(default_factory=list)  # pages whose source is in the repository
    changed: dict[str, str] = field(default_factory=dict)
    news: list[dict[str, Any]] = field(default_factory=list)

    def url(self, doc: str) -> str:
        """Return where a page is published."""
        return f"{self.site}{doc}.html"

    def source(self, doc: str, view: str) -> str:
        """Return where the repository shows the file of a page: `edit`, `blob`, `commits`."""
        return f"{self.repository}/{view}/{self.branch}/{history.source(doc)}"


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", _read)
    app.connect("env-updated", _to_write, priority=910)


def collect(root: Path, docs: Iterable[str]) -> bytes:
    """Return the file that staging writes."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    known, docs = history.commits(root), list(docs)
    about = About(
        title=config.get("title", ""),
        authors=config.get("author", ""),
        version=project(root).get("version", ""),
        repository=address(root),
        branch=config.get("repository", {}).get("branch", "main"),
        year=str(config.get("copyright", "")),
        site=f"{site_address(root)}/",
        written=[doc for doc in docs if (root / history.source(doc)).is_file()],
        changed=history.changed(known, docs),
        news=_news(known, docs),
    )
    return (json.dumps(asdict(about), indent=1, ensure_ascii=False) + "\n").encode()


def _news(known: Iterable[history.Commit], docs: list[str]) -> list[dict[str, Any]]:
    """Return the latest changes of pages, each with the pages that it touched."""
    pages = {history.source(doc): doc for doc in docs}
    found = []
    for commit in known:
        touched = [pages[file] for file in commit.files if file in pages]
        if touched:
            fields = {"name": commit.name, "time": commit.time, "subject": commit.subject}
            found.append(fields | {"pages": touched})
    return found[:NEWS]


def _read(app: Sphinx) -> None:
    file = Path(app.srcdir) / FILE
    app.nn_about = About(**json.loads(file.read_text("utf8"))) if file.is_file() else About()


def of(app: Sphinx) -> About:
    """Return what is known of the book that is being built."""
    return app.nn_about


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages whose date has changed, or all, where what all of them tell has."""
    now = asdict(of(app))
    now.pop("news")
    before = getattr(env, "nn_about", None)
    env.nn_about = now
    if before is None or before | {"changed": {}} != now | {"changed": {}}:
        return sorted(env.found_docs)
    old, new = before["changed"], now["changed"]
    return sorted(doc for doc in env.found_docs if old.get(doc) != new.get(doc))


def day(time: str) -> str:
    """Return a date as readers write it: `28 November 2026`."""
    on = date.fromisoformat(time[:10])
    return f"{on.day} {_MONTHS[on.month - 1]} {on.year}"
