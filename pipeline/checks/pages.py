"""What each page of the built site costs its reader, as two tables: `make pages`.

The first has every page: requests, kilobytes, nodes, first paint, jumps, stops for the keyboard.
The second has the chapters: code, figures, equations, length. Bytes, pixels and counts are exact;
seconds are this machine's. All of it is kept in `_build/pages.json`, with which a later run can be
compared.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pipeline import ROOT
from pipeline.checks import page_tables
from pipeline.checks.measuring import measure
from pipeline.site.browser import browsing, served, why_not
from pipeline.site.toc import toc_pages

REPORT = Path("_build/pages.json")
Pages = dict[str, dict[str, Any]]


def every_page(site: Path, root: Path = ROOT) -> list[str]:
    """Return the pages of a site, those of the table of contents first; none that forwards."""
    paths = [path for path in sorted(site.rglob("*.html")) if not _forwards(path)]
    found = [path.relative_to(site).as_posix() for path in paths]
    found = [name for name in found if name.split("/")[0] not in ("_static", "vendor")]
    order = {f"{doc}.html": at for at, doc in enumerate(toc_pages(root))}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name))


def _forwards(page: Path) -> bool:
    """Whether a page only sends its reader on, as the site's `index.html` does."""
    with page.open("rb") as file:
        return b'http-equiv="refresh"' in file.read(512).lower()


def is_chapter(page: str, root: Path = ROOT) -> bool:
    return (root / page).with_suffix(".ipynb").exists()


def measured(site: Path, names: list[str], workers: int, root: Path = ROOT) -> Pages:
    """Open every page in a browser, several browsers side by side; return what was measured."""
    queue: SimpleQueue[str] = SimpleQueue()
    # The heaviest first, so that no browser is left with them at the end.
    for name in sorted(names, key=lambda name: -(site / name).stat().st_size):
        queue.put(name)

    def work(address: str) -> Pages:
        found = {}
        with browsing() as browser:
            for name in _taken(queue):
                found[name] = _patiently(browser, address, name, is_chapter(name, root))
                print(".", end="", file=sys.stderr, flush=True)
        return found

    with served(site) as address, ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(work, address) for _ in range(min(workers, len(names)))]
        known = {name: seen for part in parts for name, seen in part.result().items()}
    print(file=sys.stderr)
    return {name: known[name] for name in names}


def _patiently(browser: Any, address: str, name: str, chapter: bool) -> dict[str, Any]:
    """Measure a page; a browser that starves on a busy machine gets a second chance."""
    from playwright.sync_api import Error

    try:
        return measure(browser, address, name, chapter)
    except Error as error:
        print(f"\n{name}: once more, after {str(error).splitlines()[0]}", file=sys.stderr)
        return measure(browser, address, name, chapter)


def _taken(queue: "SimpleQueue[str]") -> Iterator[str]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.checks.pages", description=__doc__)
    parser.add_argument("pages", nargs="*", help="pages of the site; all, if none is named")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html", metavar="FOLDER")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="show before → after")
    parser.add_argument("--report", type=Path, metavar="JSON", help=f"else {REPORT}, of all pages")
    parser.add_argument("-n", type=int, default=2, dest="workers", help="browsers side by side")
    chosen = parser.parse_args(arguments)
    site = chosen.site.resolve()
    if reason := why_not(site):
        print(f"pages: {reason}", file=sys.stderr)
        return 1
    names = chosen.pages or every_page(site)
    if lost := [name for name in names if not (site / name).is_file()]:
        print(f"pages: the site has no {', '.join(lost)}", file=sys.stderr)
        return 1
    begin = time.monotonic()
    found = measured(site, names, chosen.workers)
    report = chosen.report or (None if chosen.pages else ROOT / REPORT)
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        # A name cut short may end in half of a letter, which ASCII alone can hold.
        report.write_text(json.dumps(found, indent=1) + "\n", "utf8")
    before = json.loads(chosen.compare.read_text("utf8")) if chosen.compare else {}
    print(page_tables.tables(found, before))
    print(f"{len(names)} pages, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
