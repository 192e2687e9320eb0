"""Stage the book, build it, publish it by one swap of a symlink: `python -m pipeline.site.build`.

    executed notebooks + pages + config -> _build/src -> _build/jb -> _build/sites/<stamp>
                                                            _build/html -> sites/<stamp>

A build that warns or fails leaves `_build/html` on the last good site. With `--preset NAME` all of
it happens in `_build/presets/NAME`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pipeline import ROOT
from pipeline.execute import presets
from pipeline.forms import notebooks_zip as bundle
from pipeline.site import SiteError, staging
from pipeline.site.publishing import publish
from pipeline.site.toc import toc_pages

_WARNED = re.compile(r"^(?P<file>[^:\n]+?)(?::docstring of [^:]+)?(?::\d+)?: (?:WARNING|ERROR)")
_FRAME = re.compile(
    r"Running Jupyter-Book|(Source|Output) Folder:|(Config|Output) Path:|=+$|Building "
)
JOBS = min(os.cpu_count() or 1, 8)  # each has the whole book in mind: half a gigabyte
# Its command has no option for Sphinx's processes, which read and write pages side by side. The
# documents stay to the end: to look for unused objects among them at Python's own rate took a
# fifth of the time, and saved 0.4 of 2.2 GB.
_CALL = """
import gc
from functools import partial
from jupyter_book import sphinx
sphinx.build_sphinx = partial(sphinx.build_sphinx, jobs={jobs})
from jupyter_book.cli.main import main
gc.set_threshold(500_000, 1_000, 1_000)
main()
"""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
    staging.stage(root, docs, source, work / "executed", root if others_as_stored else None)
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


def _forget_what_is_stale(root: Path, jb: Path) -> None:
    """Drop all of Sphinx's memory where it would lie; `incremental` says what is written again.

    After a killed build everything is read again, since Sphinx would not repeat the warnings of
    pages that it has read.
    """
    digest = staging.code(root)
    digest.update(staging.config(root))
    for name in staging.bibliographies(root):
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
    command = [sys.executable, "-c", _CALL.format(jobs=JOBS), "build", str(source)]
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
