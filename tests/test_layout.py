"""One name in three rooms: `chapters/f/x.md`, `nnlib/f/x.py`, `tests/f/test_x.py`."""

import ast
import re

import pytest
import yaml

from nnlib import catalog
from pipeline import ROOT

# Operations stand in nnlib/kernels one a file, whether or not a chapter is about them.
FAMILIES = [family for family in catalog.FAMILIES if family != "kernels"]


def stems(folder, pattern, *, strip=""):
    found = (ROOT / folder).glob(pattern)
    return {file.stem.removeprefix(strip) for file in found if file.stem[0] not in "_."}


ASKS_FOR_AN_EXTRA = (
    r"from (importlib import import_module|nnlib\.distribution import extra)$|with extra\("
)


def rooms(family):
    """Return where each name of a family was found."""
    return {
        "nnlib": stems(f"nnlib/{family}", "*.py"),
        "tests": stems(f"tests/{family}", "test_*.py", strip="test_"),
        "chapters": stems(f"chapters/{family}", "*.md") - {"index"},
        "notebooks": stems(f"chapters/{family}", "*.ipynb"),
    }


PATHS = {
    "nnlib": "nnlib/{family}/{name}.py",
    "tests": "tests/{family}/test_{name}.py",
    "chapters": "chapters/{family}/{name}.md",
    "notebooks": "chapters/{family}/{name}.ipynb (run `make sync`)",
}
NAMES = sorted(
    {(family, name) for family in FAMILIES for names in rooms(family).values() for name in names}
    | {(row.family, row.name) for row in catalog.written() if row.family in FAMILIES}
)


@pytest.mark.parametrize(("family", "name"), NAMES, ids=str)
def test_a_name_stands_in_every_room(family, name):
    where = rooms(family)
    missing = [
        path.format(family=family, name=name)
        for room, path in PATHS.items()
        if name not in where[room]
    ]
    if f"chapters/{family}/{name}" not in toc_files():
        missing.append(f"the line `- file: chapters/{family}/{name}` in _toc.yml")
    if (family, name) not in {(row.family, row.name) for row in catalog.written()}:
        missing.append(f"a row for {name} with module= and cls= in nnlib/catalog.py")
    assert not missing, f"{family}/{name} lacks\n" + "\n".join(missing)


def toc_files(node=None):
    """Return every page that _toc.yml names."""
    if node is None:
        node = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    if isinstance(node, list):
        return {file for part in node for file in toc_files(part)}
    if not isinstance(node, dict):
        return set()
    parts = [part for part in node.values() if isinstance(part, list)]
    own = {node["file"]} if "file" in node else set()
    return own | toc_files(parts)


MODULES = sorted(
    file.relative_to(ROOT / "nnlib")
    for file in (ROOT / "nnlib").rglob("*.py")
    if file.stem[0] != "_"
)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.as_posix())
def test_a_module_has_a_test_file_at_the_same_place(module):
    """Parts that begin with an underscore are tested with the module that they are part of."""
    test = ROOT / "tests" / module.parent / f"test_{module.name}"
    assert test.is_file(), f"nnlib/{module.as_posix()} lacks {test.relative_to(ROOT)}"


ACROSS = {
    "kernels": {
        "inductor": "all operations, compiled in one process",
        "registration": "all operations, as torch has them registered",
        "flash_attention": "the chapter about nnlib/kernels/attention.py",
        "parallel_scan": "the chapter about nnlib/kernels/linear_scan.py and linear_attention.py",
        "quantized_matmul": "the chapter about nnlib/kernels/int8_matmul.py and nf4_matmul.py",
    },
    "train": {
        "processes": "a run on two processes",
        "shapes": "runs that are no plain training",
    },
}
"""Tests of no module alone, by what they are about."""


@pytest.mark.parametrize("folder", sorted({module.parent.as_posix() for module in MODULES} - {"."}))
def test_a_test_file_has_a_module_at_the_same_place(folder):
    tested = stems(f"tests/{folder}", "test_*.py", strip="test_")
    parts = {file.stem.lstrip("_") for file in (ROOT / "nnlib" / folder).glob("*.py")}
    strange = tested - parts
    assert strange == set(ACROSS.get(folder, ())), f"tests/{folder}: {sorted(strange)}"


@pytest.mark.parametrize("room", ["nnlib", "tests", "chapters"])
def test_every_folder_has_content(room):
    folders = [f for f in (ROOT / room).rglob("*") if f.is_dir() and f.name != "__pycache__"]
    empty = [
        folder.relative_to(ROOT).as_posix()
        for folder in folders
        if ".ipynb_checkpoints" not in folder.parts
        and not [f for f in folder.rglob("*") if f.is_file() and f.name != "__init__.py"]
    ]
    assert not empty


def test_every_family_with_a_chapter_has_a_first_page():
    lost = [
        family
        for family in catalog.FAMILIES
        if (ROOT / "chapters" / family).is_dir()
        and not (ROOT / "chapters" / family / "index.md").is_file()
    ]
    assert not lost, f"chapters/<family>/index.md is missing for {lost}"


def test_every_folder_of_chapters_is_a_family():
    folders = {f.name for f in (ROOT / "chapters").iterdir() if f.is_dir() and f.name[0] != "."}
    assert folders <= set(catalog.FAMILIES)


DOORS = {"live", "notebook"}  # packages whose every chapter needs most of what they re-export
PACKAGES = [f for f in (ROOT / "nnlib").rglob("__init__.py") if f.parent.name not in DOORS]


@pytest.mark.parametrize("file", sorted(PACKAGES), ids=lambda f: f.parent.name)
def test_a_package_re_exports_nothing(file):
    """A chapter's dependencies are the files it imports, so packages must not pull others in."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert body and isinstance(body[0], ast.Expr), f"{file} needs a docstring"
    heavy = [ast.unparse(node) for node in body[1:] if not isinstance(node, ast.Assign)]
    heavy = [line for line in heavy if not re.match(ASKS_FOR_AN_EXTRA, line)]
    assert not heavy, f"{file} must hold a docstring alone, it has {heavy}"
