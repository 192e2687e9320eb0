"""The book's other forms, a PDF and a zip, beside its pages, and links that tell what is there.

A text says `[one PDF]{.nn-form-pdf}` in an item of a list. Whenever a site is published, that
becomes a link with the file's size, or, where there is no such file, the item is hidden.
"""

import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.execute.run_chapter import publish

FOLDER = "forms"  # in `_build`, and in a site
PDF = "executable-encyclopedia.pdf"
ZIP = "executable-encyclopedia.zip"
RECORD = "pdf.json"  # what the PDF holds, and of which state of the book
# As Sphinx writes the mark, and as it stands in a site that was published before.
_MARK = re.compile(
    r'<span class="nn-form-(pdf|zip)"(?: hidden="hidden")?>'
    r"(?:<a [^>]*>)?([^<]+)(?:</a>)?(?: <small>.*?</small>)?</span>",
    re.S,
)
# What the PDF is made by, beside the pages themselves.
_MAKERS = (
    "pipeline/forms/pdf.py",
    "pipeline/forms/pdf.js",
    "pipeline/forms/pdf.css",
    "pipeline/site/sphinx_nnlib.py",
)


def place(site: Path, work: Path, root: Path) -> None:
    """Copy the forms that there are into a site, and let its pages link them."""
    here = work / FOLDER
    shutil.rmtree(site / FOLDER, ignore_errors=True)
    for name in (PDF, ZIP):
        if (here / name).is_file():
            (site / FOLDER).mkdir(exist_ok=True)
            shutil.copy(here / name, site / FOLDER / name)
    for page in site.rglob("*.html"):
        text = page.read_text("utf8")
        if "nn-form-" in text:
            up = "../" * len(page.relative_to(site).parent.parts)
            link = partial(_link, up=up, work=work, root=root)
            # Another file: the previous site may share this one.
            write(page, _MARK.sub(link, text).encode())


def _link(found: re.Match[str], *, up: str, work: Path, root: Path) -> str:
    form, words = found.groups()
    file = work / FOLDER / {"pdf": PDF, "zip": ZIP}[form]
    if not file.is_file():  # `_static/landing.css` hides the item with it
        return f'<span class="nn-form-{form}" hidden="hidden">{words}</span>'
    told = [megabytes(file)]
    if form == "pdf":
        record = recorded(work)
        told[:0] = [f"{record['pages']} pages"] if "pages" in record else []
        if record.get("of") != fingerprint(work, root):
            told.append("of an earlier state of this book; <code>make pdf</code> renews it")
    words = f'<a href="{up}{FOLDER}/{file.name}">{words}</a>'
    return f'<span class="nn-form-{form}">{words} <small>({", ".join(told)})</small></span>'


def fingerprint(work: Path, root: Path) -> str:
    """Return a digest of all that shapes the pages, to tell an old PDF from a new one."""
    source = work / "src"
    # `_extra` holds pinned files of others, and much of them.
    files = [f for f in source.rglob("*") if f.is_file() and "_extra" not in f.parts]
    files += [*(root / "nnlib").rglob("*.py"), *(root / name for name in _MAKERS)]
    digest = hashlib.sha256()
    for file in sorted(filter(Path.is_file, files)):
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def recorded(work: Path) -> dict[str, Any]:
    """Return what is known of the PDF: its number of pages, and which book it is `of`."""
    file = work / FOLDER / RECORD
    return json.loads(file.read_text("utf8")) if file.is_file() else {}


def write(target: Path, content: bytes) -> None:
    """Write in one step: until then, and where nothing changed, the last good file stands."""
    if not (target.is_file() and target.read_bytes() == content):
        publish(content, target)


def megabytes(file: Path) -> str:
    """Return a file's size in words."""
    return f"{file.stat().st_size / 1e6:.1f} MB"
