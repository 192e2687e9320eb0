"""Which equation of the book is verified by which test, and whether that test is green.

Every displayed equation of a chapter carries a label; `@pytest.mark.equation("label")` marks a test
that verifies it against something independent. This module reads both sides without running
anything; `python -m pipeline.checks.equations` also runs the tests and prints the
table. `tests/conftest.py` writes the report.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import ROOT

REPORT = Path("_build/truth.json")

_NO_TESTS = 5  # what pytest ends with where every outcome was known, or none is to be had

_FENCE = re.compile(r"^\s*(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>\S*)")
_DOLLARS = re.compile(r"(?<!\\)\$\$(?P<body>.+?)\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?", re.DOTALL)
_BARE = re.compile(r"^\s*\\(?:begin\{(?:equation|align|gather|multline|eqnarray)\*?\}|\[)", re.M)
_OPTION = re.compile(r"^\s*:label:\s*(?P<label>\S+)\s*$", re.M)


class Equation(NamedTuple):
    """A displayed equation: its label ("" when it has none), where it stands, its LaTeX."""

    label: str
    chapter: str
    file: str
    line: int
    maths: str


class Mark(NamedTuple):
    """A label that a test names ("" when it is no string literal), the test, file and line."""

    label: str
    test: str
    file: str
    line: int


def prefix(chapter: str) -> str:
    """Return what the labels of a chapter begin with: `dynamics/neural_ode` gives `neural-ode-`."""
    return chapter.rsplit("/", 1)[-1].replace("_", "-") + "-"


def equations(root: Path = ROOT) -> list[Equation]:
    """Return every displayed equation of the chapters, in the order of the files."""
    found = []
    for path in sorted((root / "chapters").rglob("*.md")):
        chapter = path.relative_to(root / "chapters").with_suffix("").as_posix()
        file = path.relative_to(root).as_posix()
        for label, line, maths in displayed(path.read_text(encoding="utf-8")):
            found.append(Equation(label, chapter, file, line, maths))
    return found


def displayed(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield label, line number and LaTeX of each displayed equation in a page of MyST."""
    prose, blocks = _split(text)
    found = [
        (m["label"] or "", _line(prose, m.start()), " ".join(m["body"].split()))
        for m in _DOLLARS.finditer(prose)
    ]
    without = _DOLLARS.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), prose)
    found += [("", _line(without, m.end()), "") for m in _BARE.finditer(without)]
    for body, line in blocks:
        option = _OPTION.search(body)
        maths = " ".join(re.sub(r"^\s*:\w+:.*$", "", body, flags=re.M).split())
        found.append((option["label"] if option else "", line, maths))
    yield from sorted(found, key=lambda each: each[1])


def _split(text: str) -> tuple[str, list[tuple[str, int]]]:
    """Blank out what is code; return the prose and the bodies of `{math}` directives.

    Admonitions and other directives are prose: their content is read as MyST.
    """
    prose: list[str] = []
    blocks: list[tuple[str, int]] = []
    open_fences: list[tuple[str, str]] = []
    body: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        hidden = bool(open_fences) and open_fences[-1][1] != "prose"
        if match and open_fences and _closes(match, open_fences[-1][0]):
            if open_fences.pop()[1] == "math":
                blocks.append(("\n".join(body), start))
            prose.append("")
        elif match and not hidden:
            kind = _kind(match["fence"], match["info"])
            open_fences.append((match["fence"], kind))
            body, start = [], number
            prose.append("")
        else:
            body.append(line)
            prose.append("" if hidden else line)
    return "\n".join(prose), blocks


def _closes(match: re.Match[str], fence: str) -> bool:
    mark = match["fence"]
    return not match["info"] and mark[0] == fence[0] and len(mark) >= len(fence)


def _kind(fence: str, info: str) -> str:
    if info == "{math}":
        return "math"
    if fence[0] != ":" and (not info.startswith("{") or info.startswith("{code")):
        return "code"
    return "prose"


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def marks(root: Path = ROOT) -> list[Mark]:
    """Return every label that `pytest.mark.equation` names in the tests."""
    found = []
    for file, tree in _test_files(root):
        for node, owner in _walk(tree, "") if isinstance(tree, ast.AST) else ():
            if not _is_equation_mark(node):
                continue
            for argument in [*node.args, *(k.value for k in node.keywords)] or [node]:
                value = argument.value if isinstance(argument, ast.Constant) else None
                label = value if isinstance(value, str) else ""
                found.append(Mark(label, owner, file, node.lineno))
    return found


def _test_files(root: Path) -> Iterator[tuple[str, ast.Module | SyntaxError]]:
    for path in sorted((root / "tests").rglob("*.py")):
        file = path.relative_to(root).as_posix()
        try:
            yield file, ast.parse(path.read_text(encoding="utf-8"), filename=file)
        except SyntaxError as error:
            yield file, error


def _walk(node: ast.AST, owner: str) -> Iterator[tuple[ast.AST, str]]:
    """Walk a tree; each node comes with the name of the function whose mark it could be."""
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = child.name if inside else owner
        yield child, name
        yield from _walk(child, name)


def _is_equation_mark(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="equation", value=ast.Attribute(attr="mark"))):
            return True
    return False


def problems(root: Path = ROOT) -> list[str]:
    """Return what breaks the two-way coverage, one line each, naming the file."""
    stated = equations(root)
    named = marks(root)
    told = []
    seen: dict[str, Equation] = {}
    tested = {mark.label for mark in named}
    for eq in stated:
        at = f"{eq.file}:{eq.line}"
        if not eq.label:
            told.append(f"{at}: a displayed equation has no label")
            continue
        if not eq.label.startswith(prefix(eq.chapter)):
            told.append(f"{at}: label {eq.label} must begin with {prefix(eq.chapter)}")
        if eq.label in seen:
            other = seen[eq.label]
            told.append(f"{at}: label {eq.label} stands already at {other.file}:{other.line}")
        elif eq.label not in tested:
            told.append(f"{at}: no test is marked with equation {eq.label}")
        seen.setdefault(eq.label, eq)
    for mark in named:
        at = f"{mark.file}:{mark.line}"
        if not mark.label:
            told.append(f"{at}: the labels of {mark.test} must be string literals")
        elif mark.label not in seen:
            told.append(f"{at}: {mark.test} names the equation {mark.label}, which no chapter has")
    for file, tree in _test_files(root):
        if isinstance(tree, SyntaxError):
            told.append(f"{file}:{tree.lineno}: SyntaxError: {tree.msg}")
    return told


def report(outcomes: dict[str, dict[str, str]], root: Path = ROOT) -> dict[str, dict]:
    """Join labels and test outcomes (label → test id → outcome) into what `truth.json` holds."""
    joined = {eq.label: {"chapter": eq.chapter, "tests": []} for eq in equations(root) if eq.label}
    for label, tests in outcomes.items():
        entry = joined.setdefault(label, {"chapter": "", "tests": []})
        entry["tests"] = [{"id": test, "outcome": tests[test]} for test in sorted(tests)]
    return joined


def holds(entry: dict | None) -> bool:
    """Whether an equation is verified: a test of it passed and none failed."""
    outcomes = {test["outcome"] for test in (entry or {"tests": []})["tests"]}
    return "passed" in outcomes and "failed" not in outcomes


def known(path: Path) -> dict[str, dict]:
    """Return a report as it was last written; nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run(path: Path, root: Path = ROOT, labels: set[str] | None = None, quiet: bool = False) -> int:
    """Run the marked tests whose outcome is not known, write the report; return pytest's status.

    Args:
        path: where the report stands.
        root: the repository.
        labels: of these equations alone.
        quiet: let pytest speak only if a test fails.
    """
    from pipeline.checks.outcomes import Known  # which imports this module

    before = Known(path, root)
    of = {mark.file for mark in marks(root) if labels is None or mark.label in labels}
    files = [file for file in before.stale() if file in of]
    if not files:
        before.record({})
        return 0
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-m", "equation"]
    command += ["--continue-on-collection-errors", f"--truth-report={path}", *files]
    done = subprocess.run(command, cwd=root, check=False, capture_output=quiet, text=True)
    if done.returncode == _NO_TESTS:
        return 0
    if quiet and done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode


def table(truth: dict[str, dict]) -> str:
    """Return the coverage as text: a row a chapter, and the total in the last line."""
    chapters: dict[str, list[dict]] = {}
    for label, entry in truth.items():
        if entry["chapter"]:
            chapters.setdefault(entry["chapter"], []).append({"label": label, **entry})
    width = max([len(name) for name in chapters] + [len("chapter")])
    lines = [f"{'chapter':<{width}}  equations  tests  tested"]
    for name in sorted(chapters):
        rows = chapters[name]
        tests = {test["id"] for row in rows for test in row["tests"]}
        good = sum(map(holds, rows))
        mark = "✓" if good == len(rows) else "✗"
        lines.append(f"{name:<{width}}  {len(rows):>9}  {len(tests):>5}  {mark} {good}")
    total = sum(map(len, chapters.values()))
    good = sum(holds(row) for rows in chapters.values() for row in rows)
    share = 100 * good // total if total else 100
    lines.append(f"{good} of {total} labelled equations tested ({share} %)")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.checks.equations", description=__doc__
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="PATH",
        help="only run the tests and write the report; red tests are in it and do not fail this",
    )
    chosen = parser.parse_args(arguments)
    path = (ROOT / (chosen.report or REPORT)).resolve()
    status = run(path)
    if not path.exists():
        print(f"the marked tests did not run: pytest ended with status {status}", file=sys.stderr)
        return 1
    if chosen.report:
        return 0
    truth = json.loads(path.read_text())
    told = problems()
    for label, entry in sorted(truth.items()):
        red = [test["id"] for test in entry["tests"] if test["outcome"] == "failed"]
        told += [f"equation {label}: {test} failed" for test in red]
        if entry["chapter"] and entry["tests"] and not red and not holds(entry):
            told.append(f"equation {label}: every test of it was skipped")
    if status and not told:
        told.append(f"pytest ended with status {status}; its output is above")
    print()
    for line in told:
        print(f"✗ {line}")
    print(table(truth))
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
