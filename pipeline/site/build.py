"""Stage the book, build it, publish it by one swap of a symlink: `python -m pipeline.site.build`.

    executed notebooks + pages + config -> _build/src -> _build/jb -> _build/sites/<stamp>
                                                            _build/html -> sites/<stamp>

A build that warns or fails leaves `_build/html` on the last good site. With `--preset NAME` all of
it happens in `_build/presets/NAME`.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT, address, site_address
from pipeline.execute import presets
from pipeline.forms import downloads as forms
from pipeline.forms import notebooks_zip as bundle
from pipeline.site import about, landing, live, notebooks, search_index, sliders

PAGES = Path("_build/pages")  # generated pages
# What shapes every page but stands in no page: a change of it makes Sphinx read the whole book.
GLOBAL = (
    *sorted(f"pipeline/site/{file.name}" for file in Path(__file__).parent.glob("*.py")),
    "requirements.txt",
)
_WARNED = re.compile(r"^(?P<file>[^:\n]+?)(?::docstring of [^:]+)?(?::\d+)?: (?:WARNING|ERROR)")
_FRAME = re.compile(
    r"Running Jupyter-Book|(Source|Output) Folder:|(Config|Output) Path:|=+$|Building "
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class SiteError(RuntimeError):
    """The site could not be built; the last good one still stands."""


def build(root: Path = ROOT, preset: str = "") -> Path:
    """Build and publish the site of the executed chapters; return its folder.

    Raises:
        SiteError: a page is missing, or the build failed or warned.
    """
    work = presets.folder(preset, root)
    html = render(root, work)
    bundle.build(root, work)
    return publish(html, work, root)


def render(root: Path, work: Path, *, others_as_stored: bool = False) -> Path:
    """Let Sphinx write the pages; return their folder, which the next build goes on from.

    Args:
        root: the repository.
        work: the folder of this book in `_build`.
        others_as_stored: take a chapter that was not executed as it stands in the repository.
    """
    source, jb = work / "src", work / "jb"
    docs = toc_pages(root)
    stage(root, docs, source, work / "executed", root if others_as_stored else None)
    _forget_what_is_stale(root, jb)
    unfinished = jb / "unfinished"
    unfinished.touch()
    try:
        _jupyter_book(root, source, jb)
    except SiteError:
        if _read_again_what_warned(jb, source):
            unfinished.unlink()
        raise
    unfinished.unlink()
    return jb / "_build" / "html"


def toc_pages(root: Path = ROOT) -> list[str]:
    """Return every page that `_toc.yml` names, in order, without suffix."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    found.append(re.sub(r"\.(md|ipynb)$", "", value))
                elif key == "glob":
                    found.extend(doc for doc in matching(root, value) if doc not in found)
                else:
                    walk(value)

    walk(yaml.safe_load((root / "_toc.yml").read_text("utf8")))
    return found


def contents(root: Path) -> bytes:
    """Return `_toc.yml` with the pages of each `glob` entry, which Sphinx would sort by name."""
    text = (root / "_toc.yml").read_text("utf8")
    named = set(re.findall(r"file: *(\S+)", text))

    def spelt(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: spelt(value) for key, value in node.items()}
        if not isinstance(node, list):
            return node
        found: list[Any] = []
        for item in node:
            if isinstance(item, dict) and set(item) == {"glob"}:
                docs = matching(root, item["glob"])
                found += [{"file": doc} for doc in docs if doc not in named]
                named.update(docs)
            else:
                found.append(spelt(item))
        return found

    told = spelt(yaml.safe_load(text))
    return yaml.safe_dump(told, allow_unicode=True, sort_keys=False).encode()


def matching(root: Path, pattern: str) -> list[str]:
    """Return the written and generated pages of a `glob` entry, in the order of the families."""
    from nnlib.catalog import FAMILIES  # late: tests let nnlib be watched before it is imported

    order = [*FAMILIES]
    folders = (root, root / PAGES)
    files = ((folder, file) for folder in folders for file in folder.glob(f"{pattern}.md"))
    docs = {file.relative_to(folder).with_suffix("").as_posix() for folder, file in files}

    def place(doc: str) -> tuple[int, str]:
        name = doc.rpartition("/")[2]
        return order.index(name) if name in order else len(order), doc

    return sorted(docs, key=place)


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
        published = notebooks.publish(ran, source.with_name("published"), _code(root).digest())
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
    for name, content in wanted.items():
        if name.endswith(".md") and landing.MARK in content:
            text = content.decode("utf8")
            filled = landing.fill(text, name.removesuffix(".md"), root, wanted, photos)
            wanted[name] = filled.encode()


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


def _code(root: Path) -> Any:
    """Return the digest, so far, of what makes pages."""
    digest = hashlib.sha256()
    for name in GLOBAL:
        file = root / name
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest


def _forget_what_is_stale(root: Path, jb: Path) -> None:
    """Drop all of Sphinx's memory where it would lie; `incremental` says what is written again.

    After a killed build everything is read again, since Sphinx would not repeat the warnings of
    pages that it has read.
    """
    digest = _code(root)
    digest.update(config(root))
    for name in bibliographies(root):
        digest.update((root / name).read_bytes())
    record = jb / "digest.txt"
    known = record.read_text("utf8") if record.exists() else ""
    if known != digest.hexdigest() or (jb / "unfinished").exists():
        shutil.rmtree(jb, ignore_errors=True)
    jb.mkdir(parents=True, exist_ok=True)
    (jb / "_build" / "finished").unlink(missing_ok=True)
    record.write_text(digest.hexdigest(), "utf8")


def _read_again_what_warned(jb: Path, source: Path) -> bool:
    """After a build with warnings, let the next one read those pages again, and only those.

    Returns:
        Whether that is enough: the build went to its end, and each warning names its page.
    """
    log = (jb / "build.log").read_text("utf8")
    lines = [line for line in log.splitlines() if re.search(r": (WARNING|ERROR)\b", line)]
    files = [found["file"] if (found := _WARNED.match(line)) else "" for line in lines]
    if not lines or not (jb / "_build" / "finished").exists():
        return False
    doctrees = jb / "_build" / ".doctrees"
    for file in map(Path, files):
        if file.is_relative_to(source) and file.suffix in (".md", ".ipynb"):
            pages = [doctrees / file.relative_to(source).with_suffix(".doctree")]
        elif file.suffix == ".py":  # a docstring: it stands in the reference
            pages = [*(doctrees / "api").glob("*.doctree")]
        else:
            return False
        for page in pages:
            page.unlink(missing_ok=True)
    return True


def _jupyter_book(root: Path, source: Path, jb: Path) -> None:
    call = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", call, "build", str(source)]
    command += ["--path-output", str(jb), "-W", "--keep-going", "-q"]
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # Sphinx's extensions and autodoc import `pipeline` and `nnlib` from the repository itself.
    env = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    log = _COLOUR.sub("", done.stdout)
    (jb / "build.log").write_text(log, "utf8")
    if done.returncode == 0:
        return
    raise SiteError(
        f"jupyter-book stopped with status {done.returncode}; "
        f"its log is {(jb / 'build.log').relative_to(root)}\n"
        + _told(log.replace(f"{source}/", ""))
    )


def _told(log: str) -> str:
    """Return what Sphinx said, without jupyter-book's frame around it."""
    lines = [line for line in log.splitlines() if not _FRAME.match(line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


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


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the site from executed chapters.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    parser.add_argument("--preset", default="", help="the preset that the chapters ran with")
    args = parser.parse_args()
    root = args.root.resolve()
    shown = presets.folder(args.preset, root).relative_to(root) / "html"
    begin = time.monotonic()
    try:
        site = build(root, args.preset)
    except SiteError as error:
        print(f"\nsite not built: {error}", file=sys.stderr)
        if (root / shown).exists():
            print(f"{shown} still shows the last good site", file=sys.stderr)
        return 1
    pages = len(list(site.rglob("*.html")))
    print(f"site: {pages} pages in {shown}, {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
