"""The whole book as one PDF, printed by Chromium from the site: `python -m pipeline.forms.pdf`.

The pages of the site become one document (pdf.js), styled for paper (pdf.css). It is printed twice,
because the page numbers within the text are known only after the first time. Whatever goes wrong,
the last good PDF stands.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pikepdf
import yaml

from pipeline import ROOT, book, site_address
from pipeline.execute import presets
from pipeline.execute.parameters import BadParameter
from pipeline.forms import downloads as forms
from pipeline.site import SiteError
from pipeline.site.publishing import publish
from pipeline.site.toc import matching

OLDEST = 131  # the Chromium that learned to print CSS's page numbers
SHELL = """<!doctype html>
<html lang="en" data-theme="light" data-mode="light"><meta charset="utf-8"><title>book</title>
<body><div class="bd-main"><div class="bd-content"><div class="bd-article-container">
<article class="bd-article"></article></div></div></div><style>{style}</style></body></html>"""


class PdfError(RuntimeError):
    """The PDF could not be made."""


@dataclass
class Entry:
    """A line of the table of contents."""

    doc: str
    level: int
    part: str


def build(root: Path = ROOT, preset: str = "") -> dict[str, Any]:
    """Print the site where it has changed since the last PDF, and link it; return its record.

    Raises:
        PdfError: there is no site or no browser, or a link or an equation is lost.
    """
    work = presets.folder(preset, root)
    if not (work / "html" / "index.html").is_file():
        raise PdfError("there is no site yet; `make book` builds it")
    of = forms.fingerprint(work, root)
    target = work / forms.FOLDER / forms.PDF
    site = (work / "html").resolve()
    if not target.is_file() or forms.recorded(work).get("of") != of:
        content, count = _printed(site, entries(root), front(root))
        forms.write(target, content)
        # In this order: a run killed in between leaves a PDF that is called an earlier one.
        forms.write(target.with_name(forms.RECORD), json.dumps({"pages": count, "of": of}).encode())
        publish(site, work, root)
    elif not (site / forms.FOLDER / forms.PDF).is_file():
        publish(site, work, root)
    return forms.recorded(work)


def entries(root: Path) -> list[Entry]:
    """Return the pages of `_toc.yml` in order, each with its depth and its part."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    found = [Entry(toc["root"], 1, "")]

    def walk(items: list[dict[str, Any]], level: int, part: str) -> None:
        for item in items:
            docs = [item["file"]] if "file" in item else matching(root, item["glob"])
            known = {entry.doc for entry in found}
            found.extend(Entry(doc, level, part) for doc in docs if doc not in known)
            walk(item.get("sections", []), level + 1, part)

    for part in toc.get("parts", [toc]):
        walk(part.get("chapters", []), 1, part.get("caption", ""))
    return found


def front(root: Path) -> dict[str, Any]:
    """Return what stands on the first page."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    home = site_address(root)
    state = _commit(root)
    link = f'<a href="{home}">{home.removeprefix("https://")}</a>'
    return {
        "title": config["title"],
        "author": config["author"],
        "logo": "_static/logo.svg",
        "lines": [
            "One chapter for each architecture. Every chapter runs, "
            "and every claim in it is checked each time it does.",
            f"by {config['author']}",
            f"{state}The book with its sliders and its notebooks is at {link}.",
            "Text: CC BY 4.0. Code: MIT.",
        ],
    }


def _commit(root: Path) -> str:
    command = ["git", "log", "-1", "--format=Printed from commit %h of %cs. "]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.strip("\n")
    except OSError:  # there is no git here
        return ""


def _printed(site: Path, listed: list[Entry], cover: dict[str, Any]) -> tuple[bytes, int]:
    """Return the PDF and its number of pages."""
    from pipeline.site.browser import Visit, browsing, served, why_not

    if reason := why_not(site):
        raise PdfError(reason)
    here = Path(__file__).parent
    shell = SHELL.format(style=(here / "pdf.css").read_text("utf8"))
    with served(site) as home, browsing() as browser:
        if int(browser.version.split(".")[0]) < OLDEST:
            raise PdfError(f"Chromium {browser.version} is too old; {OLDEST} or newer is needed")
        visit = Visit(browser, home, width=900, height=1200)
        tab, page = visit.page, f"{home}book.html"
        tab.set_default_timeout(0)  # a long book takes its time
        tab.emulate_media(media="screen")  # or the theme's rules for printing one page would hold
        visit.context.route(page, lambda r: r.fulfill(body=shell, content_type="text/html"))
        tab.goto(page)
        tab.add_script_tag(content=(here / "pdf.js").read_text("utf8"))
        arguments = [home, [asdict(entry) for entry in listed], cover]
        lost = tab.evaluate("([home, entries, cover]) => nnPdf(home, entries, cover)", arguments)
        lost += visit.complaints + visit.failed
        lost += [f"{url} was asked for" for url in visit.foreign]
        if lost:
            raise PdfError("the pages do not make one document:\n  " + "\n  ".join(lost))
        return _numbered(tab, cover)


def _numbered(tab: Any, cover: dict[str, Any]) -> tuple[bytes, int]:
    """Print, write the page numbers into the text, and print again until they are right."""
    known: dict[str, int] = {}
    for attempt in range(4):
        draft = attempt == 0  # pictures keep their place, but are not drawn
        wanted = tab.evaluate(
            """([known, draft]) => {
              document.documentElement.classList.toggle("nn-draft", draft);
              return [...document.querySelectorAll(".nn-sheet")].map((place) => {
                place.textContent = known[place.dataset.of] ?? "000";
                return place.dataset.of;
              });
            }""",
            [known, draft],
        )
        content = tab.pdf(
            prefer_css_page_size=True, print_background=True, outline=not draft, tagged=not draft
        )
        content, numbers, count = _finished(content, set(wanted), cover)
        if numbers == known and not draft:
            return content, count
        known = numbers
    raise PdfError("the page numbers did not settle")


def _finished(
    content: bytes, wanted: set[str], cover: dict[str, Any]
) -> tuple[bytes, dict[str, int], int]:
    """Return the PDF, smaller; the page of each wanted id; how many pages there are."""
    with pikepdf.open(io.BytesIO(content)) as pdf:
        at = {page.objgen: number for number, page in enumerate(pdf.pages, 1)}
        places = {name[1:]: at[place[0].objgen] for name, place in pdf.Root.Dests.items()}
        if lost := wanted - set(places):
            raise PdfError(f"the contents lead nowhere: {', '.join(sorted(lost)[:5])}")
        with pdf.open_outline() as outline:
            for item in outline.root:
                item.is_closed = True
        pdf.Root.PageMode = pikepdf.Name.UseOutlines
        pdf.docinfo["/Title"], pdf.docinfo["/Author"] = cover["title"], cover["author"]
        pdf.docinfo["/Creator"] = "pipeline/forms/pdf.py"
        held = io.BytesIO()
        # Half of what Chromium writes are the small objects of the tags, which pack well.
        pdf.save(held, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return held.getvalue(), {name: places[name] for name in wanted}, len(at)


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the site as one PDF, and link it there.")
    parser.add_argument("--preset", default="", help="the preset that the chapters ran with")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    args = parser.parse_args()
    root = args.root.resolve()
    begin = time.monotonic()
    try:
        if args.preset:
            presets.load(args.preset, root)
        with book.locked(root / "_build" / ".lock"):
            print("… PDF", flush=True)
            record = build(root, args.preset)
    except (PdfError, SiteError, BadParameter) as error:
        print(f"✗ no new PDF: {error}", flush=True)
        return 1
    made = presets.folder(args.preset, root) / forms.FOLDER / forms.PDF
    told = f"{record['pages']} pages, {forms.megabytes(made)}, {time.monotonic() - begin:.1f} s"
    print(f"pdf: {made.relative_to(root)}, {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
