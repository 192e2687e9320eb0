"""Put all that Sphinx reads into one folder: executed notebooks, pages, settings, style."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT, address, site_address
from pipeline.site import SiteError, about, heroes, landing, live, notebooks, sliders
from pipeline.site.toc import PAGES, contents

# What shapes every page but stands in no page: a change of it makes Sphinx read the whole book.
GLOBAL = (
    *sorted(f"pipeline/site/{file.name}" for file in Path(__file__).parent.glob("*.py")),
    "requirements.txt",
)


def stage(
    root: Path,
    docs: Iterable[str],
    source: Path,
    executed: Path | None = None,
    stored: Path | None = None,
) -> None:
    """Make `source` hold exactly what Sphinx needs, at repository paths; touch only what changed.

    Raises:
        SiteError: pages of the table of contents are nowhere to be found, or show a widget.
    """
    wanted: dict[str, bytes] = {}
    docs, lost, ran = list(docs), [], dict[str, bytes]()
    for doc in docs:
        page = page_source(root, doc, executed)
        if page is None and stored and (stored / f"{doc}.ipynb").exists():
            page = stored / f"{doc}.ipynb"
        if page is None:
            lost.append(doc)
            continue
        content = page.read_bytes()
        if page.suffix == ".ipynb":
            ran[doc] = content
        else:
            wanted[doc + page.suffix] = content
    if lost:
        raise SiteError(
            "_toc.yml names pages that do not exist: " + ", ".join(lost) + "\n"
            "looked for _build/executed/<page>.ipynb where <page>.ipynb exists, "
            "else for <page>.md and _build/pages/<page>.md"
        )
    try:
        published = notebooks.publish(ran, source.with_name("published"), code(root).digest())
    except (live.LiveError, sliders.WidgetError) as error:
        raise SiteError(str(error)) from None
    for made in published.values():
        wanted |= made.files
    _fill_marks(wanted, root, {doc for doc, made in published.items() if made.photo})
    wanted["_config.yml"] = config(root)
    wanted[about.FILE] = about.collect(root, docs)
    wanted["_toc.yml"] = contents(root)
    for name in bibliographies(root):
        wanted[name] = (root / name).read_bytes()
    folders = [(root / name, name) for name in ("_static", "_extra")]
    for folder, prefix in [*folders, (root / PAGES, "")]:
        for file in folder.rglob("*"):
            if file.is_file() and (prefix or file.suffix not in (".md", ".ipynb")):
                wanted[str(Path(prefix) / file.relative_to(folder))] = file.read_bytes()
    _mirror(wanted, source)


def config(root: Path) -> bytes:
    """Return `_config.yml` with what stands elsewhere: addresses, the files of references."""
    told = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    told.setdefault("repository", {})["url"] = address(root)
    told.setdefault("html", {})["baseurl"] = f"{site_address(root)}/"
    told["bibtex_bibfiles"] = bibliographies(root)
    return yaml.safe_dump(told, allow_unicode=True, sort_keys=False).encode()


def bibliographies(root: Path = ROOT) -> list[str]:
    """Return the files of references: those that families share, and those of each family."""
    found = [root / "references.bib", *sorted((root / "chapters").glob("*/references.bib"))]
    return [file.relative_to(root).as_posix() for file in found if file.is_file()]


def page_source(root: Path, doc: str, executed: Path | None = None) -> Path | None:
    """Return the file that becomes the page: executed notebook, written page, generated page."""
    if (root / f"{doc}.ipynb").exists():
        page = (executed or root / "_build" / "executed") / f"{doc}.ipynb"
        return page if page.exists() else None
    written, generated = root / f"{doc}.md", root / PAGES / f"{doc}.md"
    return next((file for file in (written, generated) if file.exists()), None)


def _fill_marks(wanted: dict[str, bytes], root: Path, photos: set[str]) -> None:
    """Put into the first page and the gallery what they show of the others."""
    marked = [name for name, text in wanted.items() if name[-3:] == ".md" and landing.MARK in text]
    for name in marked:
        text, doc = wanted[name].decode("utf8"), name.removesuffix(".md")
        wanted[name] = landing.fill(text, doc, root, wanted, photos).encode()
        if card := landing.card(text, wanted):
            wanted[heroes.place(doc)] = card


def _mirror(wanted: dict[str, bytes], folder: Path) -> None:
    """Sphinx rereads what is newer than its last build, so equal files keep their time."""
    for name, content in wanted.items():
        file = folder / name
        if file.is_file() and file.read_bytes() == content:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder).as_posix() not in wanted:
            file.unlink()


def code(root: Path) -> Any:
    """Return the digest, so far, of what makes pages."""
    digest = hashlib.sha256()
    for name in GLOBAL:
        file = root / name
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest
