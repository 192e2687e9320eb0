"""Publish what was built by one swap of a symlink: `_build/html` -> `_build/sites/<stamp>`."""

import os
import shutil
import time
from pathlib import Path

from pipeline import ROOT
from pipeline.forms import downloads as forms
from pipeline.site import SiteError, search_index


def publish(html: Path, work: Path, root: Path = ROOT) -> Path:
    """Copy the pages aside, add the other forms and the search, and point `_build/html` there.

    That is one step: readers see the old site or the new one.

    Raises:
        SiteError: `_build/html` is a real folder, or the build left no index.html.
    """
    link, sites = work / "html", work / "sites"
    if link.exists() and not link.is_symlink():
        raise SiteError(f"{link} must be a symlink that this command makes; move that folder away")
    if not (html / "index.html").is_file():
        raise SiteError(f"the build left no {html / 'index.html'}")
    previous = link.resolve() if link.is_symlink() else None
    sites.mkdir(parents=True, exist_ok=True)
    seconds, rest = divmod(time.time_ns(), 10**9)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(seconds))}-{rest:09d}"
    site = sites / stamp
    partial = sites / f".{stamp}.partial"
    _copy(html, partial, previous)
    forms.place(partial, work, root)
    search_index.place(partial, work, root)
    (partial / ".nojekyll").touch()  # GitHub Pages would hide folders that begin with `_`
    partial.rename(site)
    fresh = work / ".html.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("sites") / stamp)
    os.replace(fresh, link)
    for old in sites.iterdir():
        if old not in (site, previous):
            shutil.rmtree(old, ignore_errors=True)
    return site


def _copy(html: Path, target: Path, previous: Path | None) -> None:
    """Copy the pages; those that the previous site has already cost no room and no time.

    Published files are never written to, so that two sites may share them. Sphinx does write to
    its own, which is why those are copied.
    """

    def copy(file: str, to: str) -> str:
        old = previous and Path(previous, Path(file).relative_to(html))
        if old and old.is_file() and _same(Path(file), old):
            try:
                os.link(old, to)
                return to
            except OSError:
                pass  # a disk without hard links
        return shutil.copy2(file, to)

    ignored = shutil.ignore_patterns(".buildinfo*")
    shutil.copytree(html, target, ignore=ignored, copy_function=copy)


def _same(one: Path, other: Path) -> bool:
    a, b = one.stat(), other.stat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)
