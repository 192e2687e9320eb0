"""Build the book against the newest releases, and name the package that broke a chapter.

    python -m pipeline.checks.freshness                        everything at its newest
    python -m pipeline.checks.freshness --keep torch==2.13.0   but for this

In `_build/freshness`: an environment without pins, a copy of the project that is built with it, and
`index.html` and `status.json`, which tell how each chapter fared. The book itself is not touched.

For a chapter that fails there and runs with the pins, the newer packages are laid over the pinned
ones, the first k of them, and k is halved until one package makes the difference.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from pipeline import ROOT, project
from pipeline.execute import run_chapter
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter

LEAVE = {"_build", "_extra", ".git", ".venv", ".cache", ".snakemake", "__pycache__"}


@dataclass
class Status:
    """How one chapter, or the site, fared with the newest releases.

    Args:
        name: `family/name`, or "site".
        works: whether it ran to its end with every promise kept.
        seconds: of CPU time.
        error: what went wrong, in a line.
        culprit: the newer package that makes the difference, with its versions.
    """

    name: str
    works: bool
    seconds: float = 0.0
    error: str = ""
    culprit: str = ""


def requirements(root: Path, keep: Sequence[str] = ()) -> list[str]:
    """Return what the library and the book ask for, without pins, but for what is kept.

    Raises:
        BadParameter: something to keep is not of the form name==version, or not one of the pins.
    """
    told = project(root)
    wanted = list(told["dependencies"])
    for extra in ("train", "data", "plot", "notebook", "book"):
        wanted += told["optional-dependencies"][extra]
    wanted = [line for line in wanted if not line.startswith(told["name"])]
    lines = (root / "requirements.txt").read_text("utf8").splitlines()
    pinned = {_plain(line.split("==")[0]) for line in lines if "==" in line}
    for pin in keep:
        if not re.fullmatch(r"[\w.\-]+==[\w.+!]+", pin):
            raise BadParameter(f"KEEP has {pin!r}; it takes name==version, such as torch==2.13.0")
        name = _plain(pin.split("==")[0])
        if name not in pinned:
            near = difflib.get_close_matches(name, pinned, n=1)
            told = f"; did you mean {near[0]}?" if near else ""
            raise BadParameter(f"KEEP has {name!r}, which the book does not use{told}")
    return [*wanted, *keep]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def install(root: Path, keep: Sequence[str], folder: Path) -> Path:
    """Make an environment of the newest releases; return its Python.

    Raises:
        RuntimeError: pip found no set of them, or could not fetch it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements(root, keep)], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"pip could not install the newest releases:\n{done.stderr.strip()}")
    return python


def copy(root: Path, folder: Path) -> None:
    """Copy the project, without what was made from it; downloads are shared."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root, folder, ignore=lambda _, names: LEAVE & set(names))
    (root / ".cache").mkdir(exist_ok=True)
    (folder / ".cache").symlink_to(root / ".cache")


def build(python: Path, book: Path) -> Iterator[Status]:
    """Build the copy with an environment; yield how each chapter and the site fared."""
    env = os.environ | {"PYTHONPATH": str(book)}
    log = book.parent / "book.log"
    with log.open("w", encoding="utf8") as told:
        done = subprocess.run(
            [str(python), "-m", "pipeline.book"], cwd=book, env=env, stdout=told, stderr=told
        )
    said = log.read_text("utf8", "replace")
    for chapter in chapters(book):
        notebook = book / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"
        if run_chapter.intact(notebook):
            record = json.loads(notebook.with_suffix(".json").read_text("utf8"))
            yield Status(chapter, True, record["cpu_seconds"])
        else:
            yield Status(chapter, False, error=_error(chapter, said))
    ran = all((book / f"_build/executed/chapters/{c}.ipynb").exists() for c in chapters(book))
    why = "" if not done.returncode else "chapters failed" if not ran else _last(said)
    yield Status("site", not done.returncode, error=why)


def _error(chapter: str, said: str) -> str:
    """Return the error of a chapter from what `make book` said: the line after its name."""
    lines = said.splitlines()
    for at, line in enumerate(lines):
        if re.search(rf"✗ {re.escape(chapter)} failed", line):
            return lines[at + 1].strip() if at + 1 < len(lines) else line
    return "it did not run"


def _last(said: str) -> str:
    wrong = [line for line in said.splitlines() if re.search(r"WARNING|ERROR|Error", line)]
    return wrong[-1].strip() if wrong else "see book.log"


def newer(pinned: Path, fresh: Path) -> dict[str, tuple[str, str]]:
    """Return name -> versions of the packages that differ between two site-packages."""
    old, new = (
        {_plain(d.name): d.version for d in metadata.distributions(path=[str(p)])}
        for p in (pinned, fresh)
    )
    differ = {n: (old.get(n, ""), v) for n, v in sorted(new.items()) if old.get(n) != v}
    return {name: pair for name, pair in differ.items() if name not in ("pip", "setuptools")}


def overlay(packages: Sequence[str], fresh: Path, folder: Path) -> Path:
    """Make a folder with these packages of the fresh environment, as links."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for found in metadata.distributions(path=[str(fresh)]):
        if _plain(found.name) in packages:
            for top in {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if (fresh / top).exists() and not (folder / top).exists():
                    (folder / top).symlink_to(fresh / top)
    return folder


def culprit(packages: Sequence[str], breaks: Callable[[Sequence[str]], bool]) -> str:
    """Return the package whose addition makes `breaks` true, by halving; "" if all do not.

    Args:
        packages: in a fixed order.
        breaks: whether a run with the first k packages fails as the run with all does.
    """
    if not packages or not breaks(packages):
        return ""
    low, high = 0, len(packages)  # the first `low` do not break it, the first `high` do
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if breaks(packages[:middle]) else (middle, high)
    return packages[high - 1]


def blame(root: Path, status: Status, fresh: Path, work: Path) -> str:
    """Return which newer package broke a chapter, in words."""
    pinned = Path(metadata.distribution("papermill").locate_file("")).resolve()
    changed = newer(pinned, fresh)

    def error(packages: Sequence[str]) -> str:
        folder = overlay(packages, fresh, work / "overlay")
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(folder)])}
        command = [sys.executable, "-m", "pipeline.execute.run_chapter", status.name]
        command += ["--root", str(root), "--into", str(work / "trial")]
        done = subprocess.run(command, cwd=root, env=env, text=True, capture_output=True)
        return _error(status.name, done.stdout) if done.returncode else ""

    if error([]):
        return "none: it fails with the pins too"
    # What the error names is tried first, so that it is found when several are to blame.
    order = sorted(changed, key=lambda name: (name.replace("-", "_") not in status.error, name))
    found = culprit(order, lambda packages: error(packages) == status.error)
    if not found:
        return "not found: it takes more than one package"
    old, new = changed[found]
    return f"{found} {old or '(new)'} → {new}"


def page(statuses: Sequence[Status], versions: dict[str, tuple[str, str]], when: str) -> str:
    """Return the status page."""
    import html

    rows = "\n".join(
        f'<tr class="{"works" if s.works else "fails"}"><td>{html.escape(s.name)}</td>'
        f"<td>{'works' if s.works else 'fails'}</td><td>{f'{s.seconds:.1f}' if s.seconds else ''}"
        f"</td><td>{html.escape(s.culprit)}</td><td>{html.escape(s.error)}</td></tr>"
        for s in statuses
    )
    news = "\n".join(
        f"<tr><td>{html.escape(name)}</td><td>{old}</td><td>{new}</td></tr>"
        for name, (old, new) in versions.items()
    )
    good = sum(s.works for s in statuses)
    return PAGE.format(rows=rows, news=news, when=when, good=good, all=len(statuses))


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Does it run with today's releases?</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; margin-block: 1rem; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; }}
.works td:nth-child(2) {{ color: #1a7f37; }} .fails td:nth-child(2) {{ color: #cf222e; }}
@media (prefers-color-scheme: dark) {{
  .works td:nth-child(2) {{ color: #4ac26b; }} .fails td:nth-child(2) {{ color: #ff7b72; }}
}}
</style>
<h1>Does it run with today's releases?</h1>
<p>The published book is built with pinned packages.
This page says how its chapters fare, unchanged, with the newest ones: <b>{good} of {all}</b> work.
Last tried {when}.</p>
<div><table>
<tr><th>chapter</th><th></th><th>CPU s</th><th>broken by</th><th>error</th></tr>
{rows}
</table></div>
<details><summary>Packages that differ from the pins</summary><div><table>
<tr><th>package</th><th>pinned</th><th>newest</th></tr>
{news}
</table></div></details>
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the book against the newest releases.")
    parser.add_argument("--keep", default="", help="packages to hold: 'torch==2.13.0 numpy==2.4.6'")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    args = parser.parse_args()
    root, keep = args.root.resolve(), args.keep.split()
    work = root / "_build" / "freshness"
    try:
        requirements(root, keep)
        print("installing the newest releases …", flush=True)
        python = install(root, keep, work / "venv")
    except (BadParameter, RuntimeError) as error:
        print(f"✗ {error}")
        return 1
    copy(root, work / "book")
    print("building the book with them …", flush=True)
    statuses = list(build(python, work / "book"))
    fresh = next((work / "venv" / "lib").glob("python*/site-packages"))
    for status in statuses:
        if not status.works and status.name != "site":
            print(f"looking for what broke {status.name} …", flush=True)
            status.culprit = blame(root, status, fresh, work)
    pinned = Path(metadata.distribution("papermill").locate_file("")).resolve()
    versions, when = newer(pinned, fresh), time.strftime("%Y-%m-%d")
    content = {"date": when, "statuses": [asdict(s) for s in statuses], "packages": versions}
    run_chapter.publish(
        json.dumps(content, indent=1, ensure_ascii=False).encode(), work / "status.json"
    )
    run_chapter.publish(page(statuses, versions, when).encode(), work / "index.html")
    for status in statuses:
        told = status.culprit and f"  broken by {status.culprit}"
        print(f"{'✓' if status.works else '✗'} {status.name}{told}  {status.error}".rstrip())
    print(
        f"{(work / 'index.html').relative_to(root)}: {len(versions)} packages newer than the pins"
    )
    return 0 if all(status.works for status in statuses) else 1


if __name__ == "__main__":
    sys.exit(main())
