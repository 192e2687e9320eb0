"""A chapter is two files that must agree: `.md`, which people edit, and `.ipynb`, which runs.

`python -m pipeline.checks.pairing check` names what differs; `sync` pairs all chapters from the
newer file and refreshes the outputs that nbval compares. Only cells tagged
`nbval-check-output` store outputs, with execution_count 1: without a count nbval fails them,
without outputs it compares nothing and stays silent.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from pipeline import ROOT
from pipeline.checks import bootstrap
from pipeline.execute import run_chapter
from pipeline.execute.dependencies import Graph, chapters, is_executable, missing_halves

CHECKED = "nbval-check-output"


def disagreements(root: Path, chapter: str) -> list[str]:
    """Return how the text and the notebook of one chapter differ, cell by cell."""
    text, notebook = (_cells(root / "chapters" / f"{chapter}.{kind}") for kind in ("md", "ipynb"))
    for at, (a, b) in enumerate(zip(text, notebook, strict=False), 1):
        for what in ("kind", "source", "tags"):
            if a[what] != b[what]:
                return [
                    f"chapters/{chapter}: .md and .ipynb differ in the {what} of cell {at}: "
                    f"{_short(a[what])} against {_short(b[what])}; `make sync` keeps the newer file"
                ]
    if len(text) != len(notebook):
        counts = f"{len(text)} and {len(notebook)} cells"
        return [f"chapters/{chapter}: .md and .ipynb have {counts}; `make sync` keeps the newer"]
    return []


def _cells(file: Path) -> list[dict[str, Any]]:
    return [
        {
            "kind": cell.cell_type,
            "source": cell.source.strip(),
            "tags": sorted(cell.metadata.get("tags", [])),
        }
        for cell in jupytext.read(file).cells
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def check(root: Path = ROOT) -> list[str]:
    """Return every missing half and every disagreement."""
    problems = missing_halves(root)
    for chapter in chapters(root):
        if (root / "chapters" / f"{chapter}.md").exists():
            problems += disagreements(root, chapter)
    return problems


def stored_output_problems(root: Path, chapter: str) -> list[str]:
    """Return where a stored notebook breaks the rule of this module's first paragraph."""
    problems = []
    for at, cell in enumerate(_read(root, chapter).cells, 1):
        if cell.cell_type != "code":
            continue
        where = f"chapters/{chapter}.ipynb cell {at}"
        if CHECKED in cell.metadata.get("tags", []):
            if not cell.outputs or cell.execution_count is None:
                problems.append(f"{where} is tagged {CHECKED} but stores no outputs: `make sync`")
            elif any(output.output_type != "stream" for output in cell.outputs):
                problems.append(f"{where} is tagged {CHECKED} and must print text only")
        elif cell.outputs or cell.execution_count is not None:
            problems.append(f"{where} stores outputs without the tag {CHECKED}: `make sync`")
    return problems


def stored_against_run(root: Path, chapter: str) -> tuple[int, list[str]]:
    """Compare the stored outputs with those of the last run, both as text.

    Returns:
        How many cells are compared, and a sentence for each that printed something else.
    """
    executed = root / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"
    pairs = zip(_read(root, chapter).cells, nbformat.read(executed, 4).cells, strict=True)
    checked = [
        (at, _printed(stored), _printed(ran))
        for at, (stored, ran) in enumerate(pairs, 1)
        if CHECKED in stored.metadata.get("tags", [])
    ]
    wrong = [
        f"chapters/{chapter}.ipynb cell {at} stores {_short(old)}, the run printed {_short(new)}; "
        "`make sync` keeps what it printed"
        for at, old, new in checked
        if old != new
    ]
    return len(checked), wrong


def _printed(cell: nbformat.NotebookNode) -> str:
    return "".join(o["text"] for o in cell.outputs if o["output_type"] == "stream")


def sync(root: Path, only: list[str] | None = None) -> list[str]:
    """Pair the chapters, then refresh their reference outputs; return what went wrong."""
    folder = root / "chapters"
    halves = [f for f in folder.glob("*/*.md") if is_executable(f)]
    halves += [f for f in folder.glob("*/*.ipynb") if not f.with_suffix(".md").exists()]
    halves = sorted(f for f in halves if not only or _name(root, f) in only)
    if halves:
        command = [sys.executable, "-m", "jupytext", "--sync", "--quiet", *map(str, halves)]
        subprocess.run(command, cwd=root, check=True, stdin=subprocess.DEVNULL)
    problems, graph = [], Graph(root)
    for half in halves:
        chapter = _name(root, half)
        if bootstrap.write(root, chapter):
            print(f"✓ {chapter}: first cell written anew", flush=True)
        try:
            refresh(root, chapter, graph)
        except run_chapter.ChapterError as error:
            problems.append(str(error))
    return problems


def refresh(root: Path, chapter: str, graph: Graph) -> bool:
    """Make the stored outputs those of a run at the defaults; return whether they changed."""
    executed = root / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"
    if not run_chapter.is_fresh(chapter, root, graph):
        print(f"… {chapter}", flush=True)
        run_chapter.run(chapter, root=root)
    stored = _read(root, chapter)
    before = nbformat.writes(stored)
    for cell, ran in zip(stored.cells, nbformat.read(executed, 4).cells, strict=True):
        if cell.cell_type != "code":
            continue
        is_checked = CHECKED in cell.metadata.get("tags", [])
        cell.outputs = ran.outputs if is_checked else []
        cell.execution_count = 1 if is_checked else None
    stored.metadata.pop("widgets", None)
    stored.metadata.pop("language_info", None)
    after = nbformat.writes(stored)
    if after != before:
        target = root / "chapters" / f"{chapter}.ipynb"
        target.write_text(after.rstrip("\n") + "\n", "utf8")
        for product in (executed, executed.with_suffix(".json")):
            os.utime(product)  # outputs are no input: the run is as fresh as the file
        print(f"✓ {chapter}: stored outputs refreshed", flush=True)
    return after != before


def _read(root: Path, chapter: str) -> nbformat.NotebookNode:
    return nbformat.read(root / "chapters" / f"{chapter}.ipynb", 4)


def _name(root: Path, file: Path) -> str:
    return file.relative_to(root / "chapters").with_suffix("").as_posix()


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare or pair the files of the chapters.")
    parser.add_argument("action", choices=["check", "sync"])
    parser.add_argument("chapters", nargs="*", help="family/name; all when none is given")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    args = parser.parse_args()
    root = args.root.resolve()
    for chapter in args.chapters:
        try:
            if not (root / "chapters" / f"{chapter}.md").is_file():  # its notebook may be to come
                run_chapter.find(chapter, root)
        except run_chapter.ChapterError as error:
            parser.exit(1, f"✗ {error}\n")
    problems = check(root) if args.action == "check" else sync(root, args.chapters)
    for problem in problems:
        print(f"✗ {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
