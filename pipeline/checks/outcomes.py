"""The outcome of each equation's tests, kept with the content that it is the outcome of.

A file of tests runs again when it, or a file that it imports in the end, has other content: after
one edited module that is a file or two. `make book` and `make test` share what is kept here, so
that neither runs a test whose outcome is known. A failure is never kept.
"""

import ast
import json
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.checks import equations
from pipeline.execute.dependencies import PACKAGE, Graph, digest

LOCAL = ("tests", "benchmarks", "pipeline")  # the packages beside `nnlib` that tests import from
SHARED = ("tests/conftest.py", "pyproject.toml", "requirements.txt")  # what every test runs under
BY_NAME = ("import_module", "catalog")  # who imports by name may import anything

Outcomes = dict[str, dict[str, str]]  # label → test → outcome


class Known:
    """What is known at the beginning of a run."""

    def __init__(self, report: Path, root: Path = ROOT):
        self.report, self.root = report, root
        self.store = report.with_suffix(".outcomes.json")
        self.stored: dict[str, dict[str, Any]] = _read(self.store)
        self.states = states(root)

    def fresh(self) -> dict[str, set[str]]:
        """Return the tests that need not run, by file."""
        found = {}
        for file, entry in self.stored.items():
            outcomes = [o for tests in entry["outcomes"].values() for o in tests.items()]
            if entry["state"] == self.states.get(file) and "failed" not in dict(outcomes).values():
                found[file] = {test for test, _ in outcomes}
        return found

    def stale(self) -> list[str]:
        """Return the files whose marked tests must run."""
        return sorted(self.states.keys() - self.fresh().keys())

    def record(self, outcomes: Outcomes, *, whole: bool = True) -> None:
        """Keep what ran, and write the report of all.

        Args:
            outcomes: of the tests that ran.
            whole: every marked test of their files ran; else they run again the next time.
        """
        ran: dict[str, Outcomes] = {}
        for label, tests in outcomes.items():
            for test, outcome in tests.items():
                ran.setdefault(test.partition("::")[0], {}).setdefault(label, {})[test] = outcome
        for file, found in ran.items():
            state = self.states.get(file, "") if whole else ""
            self.stored[file] = {"state": state, "outcomes": found}
        self.stored = {file: self.stored[file] for file in sorted(self.stored) if self._is(file)}
        _write(self.store, self.stored)
        joined: Outcomes = {}
        for entry in self.stored.values():
            for label, tests in entry["outcomes"].items():
                joined.setdefault(label, {}).update(tests)
        _write(self.report, equations.report(joined, self.root))

    def _is(self, file: str) -> bool:
        return (self.root / file).is_file()


def states(root: Path = ROOT) -> dict[str, str]:
    """Return a digest of all that the outcome of each file with marked tests depends on."""
    graph = Graph(root)
    # Some tests need a peer, which `make book` does without; their skipping is no verdict.
    installed = sorted(f"{d.name} {d.version}" for d in metadata.distributions())
    everywhere = [platform.python_version(), *installed]
    everywhere.append(str(Path("/dev/nvidia0").exists()))  # some tests run on a GPU alone
    everywhere.append(digest(root, SHARED))
    marked = sorted({mark.file for mark in equations.marks(root)})
    return {
        file: digest(root, reads(root, file, graph), [*everywhere, *absent(root, file)])
        for file in marked
    }


def absent(root: Path, file: str) -> list[str]:
    """Return the peers of a file of tests that are not installed: what skips may run with them."""
    wanted = set(re.findall(r'\bPeer\("(\w+)', (root / file).read_text("utf8")))
    return sorted(name for name in wanted if find_spec(name) is None)


def reads(root: Path, file: str, graph: Graph) -> list[str]:
    """Return the files that a file of tests is made of, itself included."""
    mine: dict[str, str] = {}
    names: set[str] = set()
    waiting = [file]
    while waiting:
        each = waiting.pop()
        if each in mine:
            continue
        mine[each] = (root / each).read_text("utf8")
        for name in _imports(mine[each]):
            top = name.split(".")[0]
            names |= {name} if top == PACKAGE else set()
            if top in LOCAL:
                waiting += _files(root, name)
    if any(word in text for text in mine.values() for word in BY_NAME):
        return sorted({*mine, *_all(root)})
    return sorted({*mine, *graph.of(names)})


def _imports(text: str) -> Iterable[str]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(root: Path, name: str) -> Iterable[str]:
    """Return the file of a module, or of the module that a name is in, with its packages."""
    parts = name.split(".")
    for at in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:at])
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                yield file.relative_to(root).as_posix()


def _all(root: Path) -> Iterable[str]:
    return (f.relative_to(root).as_posix() for f in (root / PACKAGE).rglob("*.py"))


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf8"))
    except (OSError, ValueError):
        return {}


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf8")
