"""When each page of the book was last changed, and what was changed: what git knows of it.

One call of git for the whole book. A folder without git, or whose history was cut off when it was
fetched, tells nothing, since what it would tell is wrong.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ELSEWHERE = {"changes": "CHANGELOG.md"}  # a page that is made of a file at another place
_FORMAT = "%x1e%H%x1f%ct%x1f%s"


@dataclass(frozen=True)
class Commit:
    """One change: who it is to git, when it was made, what it says, which pages it touched."""

    name: str
    time: str
    subject: str
    files: tuple[str, ...]


def source(doc: str) -> str:
    """Return the file that a page is written in, below the repository."""
    return ELSEWHERE.get(doc, f"{doc}.md")


def commits(root: Path) -> list[Commit]:
    """Return the changes of Markdown files, newest first; none where git does not know them all."""
    if _git(root, "rev-parse", "--is-shallow-repository").strip() != "false":
        return []
    log = _git(
        root, "-c", "core.quotepath=off", "log", "--relative", "--name-only",
        f"--format={_FORMAT}", "--", "*.md",
    )  # fmt: skip
    return [_commit(entry) for entry in log.split("\x1e")[1:]]


def _commit(entry: str) -> Commit:
    head, _, files = entry.partition("\n")
    name, seconds, subject = head.split("\x1f", 2)
    time = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Commit(name, time, subject, tuple(filter(None, files.split("\n"))))


def _git(root: Path, *arguments: str) -> str:
    """Return what git says, or nothing where it is missing or knows no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, encoding="utf8", check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout


def changed(known: Iterable[Commit], docs: Iterable[str]) -> dict[str, str]:
    """Return when each page was last changed, of those that git knows."""
    latest: dict[str, str] = {}
    for commit in known:
        for file in commit.files:
            latest.setdefault(file, commit.time)
    return {doc: latest[source(doc)] for doc in docs if source(doc) in latest}
