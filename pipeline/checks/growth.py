"""What the book costs when all its chapters are written: `python -m pipeline.checks.growth`.

In a copy of the repository, each planned chapter of the catalogue becomes a clone of a written one:
its text, its run, its module, with labels of its own. So pages are as large as real ones, and no
chapter has to run. Then the site, the pairs and the tests of the chapters are timed, and `make
book` with nothing changed and with one module changed, whose chapter does run. Seconds of CPU say
more than those of the clock on a busy machine; `make book` has the machine's cores for them.
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from nnlib import catalog
from pipeline import ROOT
from pipeline import new_chapter as new
from pipeline.checks.equations import displayed, prefix
from pipeline.execute.dependencies import Graph, chapters
from pipeline.execute.run_chapter import intact
from pipeline.execute.run_chapter import publish as write

TESTS = ["template", "pairs", "equations", "outputs"]


def copy(root: Path, target: Path) -> None:
    """Copy what git knows, with the runs of the chapters and the browser files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    for name in ("_extra/vendor", "_build/executed", ".cache"):
        if (root / name).exists():
            shutil.copytree(root / name, target / name)


def grow(root: Path, count: int) -> list[str]:
    """Write `count` planned chapters, each a clone of a written one; return their names."""
    planned = [row for row in catalog.ARCHITECTURES if not row.module][:count]
    donors = [c for c in chapters(root) if intact(_executed(root, c))]
    if not donors:
        raise SystemExit("no chapter has been executed: run `make book` first")
    made = []
    for row, donor in zip(planned, itertools.cycle(donors), strict=False):
        chapter = f"{row.family}/{row.name}"
        if (root / "chapters" / f"{chapter}.md").exists():
            continue
        clone(root, donor, chapter)
        made.append(chapter)
    _list(root, made)
    return made


def clone(root: Path, donor: str, chapter: str) -> None:
    """Write a chapter as another one is, under labels and links of its own."""
    family, name = chapter.split("/")
    text = (root / "chapters" / f"{donor}.md").read_text("utf8")
    labels = {label for label, _, _ in displayed(text) if label}
    labels |= set(re.findall(r"^\(([\w-]+)\)=$", text, re.M))
    pattern = re.compile(r"(?<=[(`#])(" + "|".join(map(re.escape, sorted(labels))) + r")(?=[)`])")

    def renamed(content: str) -> str:
        content = pattern.sub(rf"{prefix(name)}\1", content) if labels else content
        content = re.sub(r"\]\((\w+)\.md", rf"](../{donor.split('/')[0]}/\1.md", content)
        return content.replace(f"nnlib.{donor.replace('/', '.')}", f"nnlib.{family}.{name}")

    for folder, kind in (("chapters", "md"), ("chapters", "ipynb"), ("_build", "ipynb")):
        base = root / "_build" / "executed" / "chapters" if folder == "_build" else root / folder
        content = (base / f"{donor}.{kind}").read_text("utf8")
        write(renamed(content).encode(), base / f"{chapter}.{kind}")
    record = json.loads(_executed(root, donor).with_suffix(".json").read_text("utf8"))
    record |= {"chapter": chapter, "sha256": _sha(_executed(root, chapter))}
    write(json.dumps(record).encode(), _executed(root, chapter).with_suffix(".json"))
    module = root / "nnlib" / f"{donor}.py"
    if module.exists():
        write(module.read_bytes(), root / "nnlib" / f"{chapter}.py")
        package = root / "nnlib" / family / "__init__.py"
        if not package.exists():
            write(b'"""A family."""\n', package)
    index = root / "chapters" / family / "index.md"
    if not index.exists():
        title, idea = catalog.FAMILIES[family]
        template = (new.TEMPLATES / "index.md").read_text("utf8")
        words = {"family_title": title, "family_idea": idea, "family": family}
        for key, value in words.items():
            template = template.replace(f"<<{key}>>", value)
        write(template.encode(), index)


def _list(root: Path, made: list[str]) -> None:
    """Put the chapters into the table of contents."""
    file = root / "_toc.yml"
    toc = yaml.safe_load(file.read_text("utf8"))
    parts = next(part["chapters"] for part in toc["parts"] if part["caption"] == "Architectures")
    for chapter in made:
        index = f"chapters/{chapter.split('/')[0]}/index"
        entry = next((each for each in parts if each["file"] == index), None)
        if entry is None:
            entry = {"file": index, "sections": []}
            parts.append(entry)
        entry["sections"].append({"file": f"chapters/{chapter}"})
    file.write_text(yaml.safe_dump(toc, sort_keys=False), "utf8")


def _executed(root: Path, chapter: str) -> Path:
    return root / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def lonely(root: Path) -> str:
    """Return a module that exactly one chapter imports, to be edited."""
    graph = Graph(root)
    of = {c: set(graph.files(root / "chapters" / f"{c}.ipynb")) for c in chapters(root)}
    for chapter in reversed(chapters(ROOT)):
        module = f"nnlib/{chapter}.py"
        if [c for c in of if module in of[c]] == [chapter]:
            return module
    raise SystemExit("every module is imported by several chapters")


def timed(what: str, act: Callable[[], None]) -> None:
    """Do something; print what it took."""
    begin, before = time.monotonic(), _children()
    act()
    wall, cpu = time.monotonic() - begin, _children() - before
    print(f"{what:<44}{cpu:7.1f}{wall:7.1f}", flush=True)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(root: Path) -> None:
    """Print the table."""
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # A status of 1 from pytest is no matter here: clones say what their donors say.
    env = os.environ | {"PYTHONPATH": paths}

    def python(*command: str, may_fail: bool = False) -> Callable[[], None]:
        def act() -> None:
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=root, env=env, capture_output=True, text=True
            )
            if done.returncode and not may_fail:
                raise SystemExit(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}")

        return act

    def append(file: Path, text: str) -> None:
        with file.open("a", encoding="utf8") as opened:
            opened.write(text)

    print(f"{len(chapters(root))} chapters{'':<33}CPU s wall s")
    build, book = ("pipeline.site.build",), ("pipeline.book",)
    timed("generated pages", python("pipeline.site.generated_pages"))
    timed("site from nothing", python(*build))
    timed("site, nothing changed", python(*build))
    append(root / "chapters" / "glossary.md", "\nOne more sentence.\n")
    timed("site, one text changed", python(*build))
    timed("pairs", python("pipeline.checks.pairing", "check"))
    truth = ("pipeline.checks.equations", "--report", "_build/truth.json")
    timed("tests of equations, once", python(*truth))
    files = [f"tests/book/test_{name}.py" for name in TESTS]
    timed("tests of chapters", python("pytest", "-q", *files, may_fail=True))
    python("snakemake", "--cores", "1", "--nolock", "--touch", "book")()
    python(*book)()
    timed("make book, nothing changed", python(*book))
    module = lonely(root)
    append(root / module, "# edited\n")
    timed(f"make book, {module} changed", python(*book))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time the book at its full size, in a copy.")
    parser.add_argument("--chapters", type=int, default=51, help="how many are added")
    parser.add_argument("--folder", type=Path, help="where the copy is made, and stays")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nn-growth-") as temporary:
        root = (args.folder or Path(temporary)).resolve()
        copy(ROOT, root)
        grow(root, args.chapters)
        measure(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
