"""What the landing page and the gallery show of the book itself: filled in when it is staged.

The pages hold marks such as `<!-- book: state -->` on lines of their own. Each
is replaced by what is made from the catalogue, from the tests, from git, or from a chapter that has
run: its slider is the chapter's own, so the page has something to move and no code of its own.
"""

import json
import re
import subprocess
from collections.abc import Callable, Collection, Mapping
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import yaml

from nnlib import catalog
from pipeline import address, site_address
from pipeline.checks import equations
from pipeline.execute import compare
from pipeline.site import gallery_pages, heroes, ways_pages

MARK = b"<!-- book: "
_MARK = re.compile(r"^<!-- book: (?P<what>\w+)(?P<rest>[^>]*?) -->$", re.M)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip


def fill(
    text: str, doc: str, root: Path, staged: Mapping[str, bytes], photos: Collection[str] = ()
) -> str:
    """Return a page with its marks filled in.

    Args:
        text: the page in MyST.
        doc: its path without suffix.
        root: the repository.
        staged: the files of the site that are staged so far: notebooks, and pictures of heroes.
        photos: pages whose hero is a photograph.
    """
    up = "../" * doc.count("/")
    makers: Mapping[str, Callable[[list[str]], str]] = {
        "state": lambda words: state(root, up),
        "ways": lambda words: ways_pages.short(up),
        "tiles": lambda words: gallery_pages.tiles(map(catalog.get, words), up, staged, photos),
        "comparison": lambda words: compare.table(*words, root=root),
        "contribute": lambda words: contribute(root),
        "slider": lambda words: slider(
            staged.get(f"{words[0]}.ipynb"), words[1], f"{up}{words[0]}.html"
        ),
    }

    def made(found: re.Match[str]) -> str:
        made = makers[found["what"]](found["rest"].split())
        return f"```{{raw}} html\n{made}\n```" if made.startswith("<") else made

    return _MARK.sub(made, text)


def card(text: str, staged: Mapping[str, bytes]) -> bytes | None:
    """Return the picture by which previews of links show a page with tiles: four of its chapters.

    Args:
        text: the page in MyST, with its marks.
        staged: as for `fill`.
    """
    marks = (found["rest"].split() for found in _MARK.finditer(text) if found["what"] == "tiles")
    rows = [catalog.get(name) for names in marks for name in names]
    places = [heroes.place(f"chapters/{row.family}/{row.name}", small=True) for row in rows]
    cards = [staged[place] for place in places if place in staged]
    return heroes.together(cards[:: len(cards) // 4][:4]) if len(cards) >= 4 else None


def state(root: Path, up: str = "") -> str:
    """Return how far the book has come: chapters, equations, the day of the last change."""
    rows, written = catalog.ARCHITECTURES, catalog.written()
    facts = [f'<a href="{up}architectures.html">{len(written)} of {len(rows)} chapters</a> written']
    report = root / equations.REPORT
    if report.exists():
        known = json.loads(report.read_text("utf8")).values()
        count = sum(map(equations.holds, known))
        facts.append(f'<a href="{up}truth.html">{count} equations</a> verified by tests')
    if day := changed(root):
        facts.append(f"last changed on {day}")
    return f'<p class="nn-state">{" · ".join(facts)}</p>'


def contribute(root: Path) -> str:
    """Return how to cite the book, correct it and add to it, and under which licences."""
    told = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    home, title = address(root), told["title"]
    entry = "\n".join(
        [
            "@book{executable-encyclopedia,",
            f"  author = {{{{{told['author'][0].upper()}{told['author'][1:]}}}}},",
            f"  title  = {{{title}}},",
            f"  year   = {{{told['copyright']}}},",
            f"  url    = {{{site_address(root)}/}}",
            "}",
        ]
    )
    return f"""\
**Cite** the book as below, or a chapter as its own page says at its end.

```bibtex
{entry}
```

**Correct:** if you find an error, [open an issue]({home}/issues/new), best with the number or the
source that shows it; the end of each page has a link that fills in where you are.

**Contribute:** [CONTRIBUTING.md]({home}/blob/main/CONTRIBUTING.md) leads through a new chapter in
five steps.

The code is under the [MIT licence]({home}/blob/main/LICENSE), and the text under
[CC BY 4.0]({home}/blob/main/LICENSE-TEXT)."""


def changed(root: Path) -> str:
    """Return the day of the last commit, or nothing where there is no git."""
    command = ["git", "log", "-1", "--format=%cs"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
    if not told:
        return ""
    on = date.fromisoformat(told)
    return f"{on.day} {_MONTHS[on.month - 1]} {on.year}"


def slider(notebook: bytes | None, name: str, page: str) -> str:
    """Return the markup of a chapter's slider, with a link to where it stands."""
    markup = _figure(json.loads(notebook), name) if notebook else ""
    if not markup:
        return ""
    more = f' <a href="{escape(page)}#figure-{name}">Where it comes from</a>'
    markup = markup.replace("</figcaption>", f"{more}</figcaption>").replace("\n", " ")
    return f'<div class="nn-to-move">{markup}</div>'


def _figure(notebook: dict[str, Any], name: str) -> str:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            markup = "".join(output.get("data", {}).get("text/html", ""))
            if f'id="figure-{name}"' in markup:
                start = markup.index("<figure")
                return markup[start : markup.rindex("</figure>") + len("</figure>")]
    return ""
