"""Which files of `nnlib` a chapter runs: its imports and theirs, read without importing anything.

Imports made by name at run time (`importlib`, `catalog.load`) are not seen. Data files beside an
imported module count as part of it.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import grimp

from pipeline import ROOT

PACKAGE = "nnlib"


def chapters(root: Path = ROOT) -> list[str]:
    """Return every executable chapter as `family/name`."""
    found = (root / "chapters").glob("*/*.ipynb")
    return sorted(f"{file.parent.name}/{file.stem}" for file in found if file.stem[0] != ".")


def is_executable(page: Path) -> bool:
    """Tell a chapter's text from a plain page: its header names jupytext."""
    head = page.read_text("utf8").split("\n---", 1)[0]
    return head.startswith("---") and "\njupytext:" in head


def missing_halves(root: Path = ROOT) -> list[str]:
    """Return one sentence for each chapter that lacks its .md or its .ipynb."""
    lost = []
    for page in sorted((root / "chapters").glob("*/*.md")):
        if not page.with_suffix(".ipynb").exists() and is_executable(page):
            lost.append(_lost(root, page, page.with_suffix(".ipynb")))
    for chapter in chapters(root):
        notebook = root / "chapters" / f"{chapter}.ipynb"
        if not notebook.with_suffix(".md").exists():
            lost.append(_lost(root, notebook, notebook.with_suffix(".md")))
    return lost


def _lost(root: Path, here: Path, missing: Path) -> str:
    return f"{missing.relative_to(root)} is missing beside {here.name}; `make sync` writes it"


class Graph:
    """The import graph of the package at `root`."""

    def __init__(self, root: Path = ROOT):
        self.root = root

    @cached_property
    def graph(self) -> grimp.ImportGraph:
        # The package at `root`, whatever is installed or has been imported from elsewhere.
        loaded = sys.modules.pop(PACKAGE, None)
        sys.path.insert(0, str(self.root))
        try:
            return grimp.build_graph(PACKAGE, cache_dir=None)
        finally:
            sys.path.remove(str(self.root))
            if loaded:
                sys.modules[PACKAGE] = loaded

    def files(self, notebook: Path) -> list[str]:
        """Return the paths, relative to the root, of what the notebook imports in the end."""
        return self.of(imported(code_cells(notebook)))

    def of(self, names: Iterable[str]) -> list[str]:
        """Return the paths of what the named modules, and modules of functions, import."""
        if not (self.root / PACKAGE).is_dir():
            return []
        modules, ahead = {PACKAGE}, self._known(names)
        while ahead:
            module = ahead.pop()
            modules.add(module)
            # Python runs the packages that a module lies in before it.
            package = {module.rpartition(".")[0]} - {""}
            ahead |= (package | self.graph.find_modules_directly_imported_by(module)) - modules
        return sorted({file for module in modules for file in self._files(module)})

    def _known(self, names: Iterable[str]) -> set[str]:
        known = self.graph.modules
        found = set()
        for name in names:
            while name and name not in known:  # the last part may be a function
                name = name.rpartition(".")[0]
            found |= {name} if name else set()
        return found

    def _files(self, module: str) -> Iterator[str]:
        base = self.root.joinpath(*module.split("."))
        if base.with_suffix(".py").exists():
            yield base.with_suffix(".py").relative_to(self.root).as_posix()
        elif base.is_dir():
            for file in base.iterdir():
                data = file.is_file() and file.suffix not in (".py", ".pyc", ".md")
                if file.name == "__init__.py" or (data and file.name[0] != "."):
                    yield file.relative_to(self.root).as_posix()


def digest(root: Path, files: Iterable[str], words: Iterable[str] = ()) -> str:
    """Return a digest of the content of files, by path; a missing one has none."""
    found = hashlib.sha256("\n".join(words).encode())
    for name in files:
        file = root / name
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        found.update(f"{name} {content}\n".encode())
    return found.hexdigest()


def code_cells(notebook: Path) -> list[str]:
    """Return the sources of the code cells."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def imported(sources: Iterable[str]) -> Iterator[str]:
    """Yield every dotted name that the sources import from the package."""
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # the run will say so, with the cell
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if _ours(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and _ours(node.module):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours(name: str) -> bool:
    return name.split(".")[0] == PACKAGE
