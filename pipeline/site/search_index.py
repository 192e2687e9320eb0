"""Make the index of the search with Pagefind, and lay it into the published site.

The site's folder `search` holds Pagefind's program and index, the words that a misspelt one may
have meant, and the dialog. Nothing of it is loaded before a reader opens the search. An index is
made once for the same records; a build that changed no text links the last one.
"""

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from docutils import nodes

from nnlib import catalog
from pipeline.site.search import RECORDS

ALSO = Path("chapters/search.yaml")  # further words under which a section is looked for
SCRIPTS = {
    f"{name}.js": Path(__file__).with_name(f"search_{name}.js") for name in ("dialog", "find")
}
FOLDER = "search"
_ANCHOR = "~"  # in the name of a file: stands for the # of an address, and before the kind
# Pagefind's own interfaces, which the dialog stands in for, and its program for no language.
_UNUSED = ("*-ui.*", "*-highlight.js", "wasm.unknown.*")
_WORD = re.compile(r"[^\W\d_]\w{2,}")
_TITLE_COUNTS = 50  # a word of a title is meant rather than one of the text


def place(site: Path, work: Path, root: Path) -> None:
    """Lay the index of the records into the site; without records there is no search."""
    file = work / "jb" / "_build" / RECORDS
    if not file.exists():
        return
    known = json.loads(file.read_text("utf8"))
    also = _also(root)
    digest = hashlib.sha256(json.dumps([known, also, version("pagefind_bin")]).encode())
    for file in (Path(__file__), *SCRIPTS.values()):
        digest.update(file.read_bytes())
    kept = work / FOLDER / digest.hexdigest()[:16]
    if not kept.is_dir():
        shutil.rmtree(work / FOLDER, ignore_errors=True)
        partial = kept.with_suffix(".partial")
        partial.mkdir(parents=True)
        make(known, also, partial)
        partial.rename(kept)
    shutil.rmtree(site / FOLDER, ignore_errors=True)  # of a site that is published once more
    shutil.copytree(kept, site / FOLDER, copy_function=_link)


def make(known: dict[str, Any], also: dict[str, str], folder: Path) -> None:
    """Write the index of the records into the folder."""
    with TemporaryDirectory() as sources:
        for place, page, record in _records(known):
            file = Path(sources, f"{place.replace('#', _ANCHOR)}{_ANCHOR}{record['kind']}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_document(page, record, also.get(place, "")), "utf8")
        _pagefind(Path(sources), folder)
    for pattern in _UNUSED:
        for file in folder.glob(pattern):
            file.unlink()
    (folder / "words.json").write_text(json.dumps(words(known, also), ensure_ascii=False), "utf8")
    for name, file in SCRIPTS.items():
        shutil.copyfile(file, folder / name)


def _pagefind(sources: Path, folder: Path) -> None:
    """Run Pagefind's program; its Python service would pause a tenth of a second at each record."""
    from pagefind.service import get_executable

    command = [str(get_executable()), "--site", str(sources), "--output-path", str(folder)]
    command += ["--glob", "**/*", "--force-language", "en", "--include-characters", "_"]
    done = subprocess.run([*command, "--silent"], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"Pagefind stopped with status {done.returncode}:\n{done.stderr}")


def _records(known: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the address within the site, the page's title and the record."""
    for doc, told in known.items():
        for record in told["records"]:
            anchor = f"#{record['id']}" if record["id"] else ""
            yield f"{doc}.html{anchor}", told["title"], record


def _document(page: str, record: dict[str, Any], also: str) -> str:
    """Return what Pagefind reads; it searches each `meta` with a weight of its own."""
    api = record["kind"] == "api"
    told = {"name" if api else "title": record["title"], "page": page, "also": also}
    head = [
        f'<meta data-pagefind-meta="{name}[content]" content="{html.escape(value)}">'
        for name, value in told.items()
        if value
    ]
    weight = 0.6 if api or record["kind"] == "equations" else 1
    body = [
        f'<p data-pagefind-weight="{weight}">{html.escape(piece)}</p>' for piece in record["text"]
    ]
    if record["code"]:
        body += [f'<pre data-pagefind-weight="0.6">{html.escape(record["code"])}</pre>']
    return "\n".join(["<!doctype html><html lang=en>", *head, "<body>", *body, "</body></html>"])


def _also(root: Path) -> dict[str, str]:
    """Return the further words of each address: written ones, and what the catalogue knows."""
    file = root / ALSO
    told = yaml.safe_load(file.read_text("utf8")) if file.exists() else {}
    also = {_address(place): [str(text)] for place, text in told.items()}
    for row in catalog.ARCHITECTURES:
        if row.module:
            place, text = f"chapters/{row.family}/{row.name}", f"{row.people}, {row.label}"
        else:  # planned: the list of its family says so
            section = nodes.make_id(catalog.FAMILIES[row.family][0])
            place, text = f"architectures#{section}", f"{row.title}, {row.label}"
        also.setdefault(_address(place), []).append(text)
    return {place: ", ".join(texts) for place, texts in also.items()}


def _address(place: str) -> str:
    doc, hash_, anchor = place.partition("#")
    return f"{doc}.html{hash_}{anchor}"


def words(known: dict[str, Any], also: dict[str, str]) -> list[str]:
    """Return the book's words, the likeliest first: a misspelt one is held to them."""
    counts: Counter[str] = Counter()
    for place, page, record in _records(known):
        for text in (page, record["title"], also.get(place, "")):
            counts.update(dict.fromkeys(_words(text), _TITLE_COUNTS))
        for text in (*record["text"], record["code"]):
            counts.update(_words(text))
    return sorted(counts, key=lambda word: (-counts[word], word))


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _link(file: str, to: str) -> str:
    """Published files are never written to, so that sites may share them."""
    try:
        os.link(file, to)
        return to
    except OSError:  # a disk without hard links
        return shutil.copy2(file, to)
