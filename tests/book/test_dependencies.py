"""What a chapter depends on: the files that it imports in the end, and no others."""

import json

import pytest

from pipeline.execute.dependencies import Graph, chapters
from tests.support import write

FILES = {
    "nnlib/__init__.py": "",
    "nnlib/train/__init__.py": "",
    "nnlib/train/loop.py": "from .history import History\n",
    "nnlib/train/history.py": "History = 1\n",
    "nnlib/data/__init__.py": "",
    "nnlib/data/tables.py": "",
    "nnlib/data/iris.csv": "1,2\n",
    "nnlib/data/README.md": "What is here.\n",
    "nnlib/alone.py": "import numpy\n",
    "nnlib/door/__init__.py": "from .often import often\n",
    "nnlib/door/often.py": "from nnlib.alone import x\n",
    "nnlib/door/seldom.py": "seldom = 1\n",
}


@pytest.fixture
def book(tmp_path):
    """A package and one notebook; returns what the notebook's code depends on."""
    for name, text in FILES.items():
        write(tmp_path / name, text)

    def depends(*code):
        notebook = tmp_path / "one.ipynb"
        cells = [{"cell_type": "code", "source": lines.splitlines(True)} for lines in code]
        cells.append({"cell_type": "markdown", "source": ["import nnlib.alone"]})
        notebook.write_text(json.dumps({"cells": cells}))
        return set(Graph(tmp_path).files(notebook))

    return depends


LOOP = {"nnlib/__init__.py"} | {f"nnlib/train/{f}.py" for f in ("__init__", "loop", "history")}


@pytest.mark.parametrize(
    "code",
    [
        "from nnlib.train.loop import fit",
        "import nnlib.train.loop as loop",
        "from nnlib.train import loop",
        "if True:\n    from nnlib.train.loop import (\n        fit,\n    )",
    ],
)
def test_imports_are_followed_to_the_end(book, code):
    assert book(code) == LOOP


def test_data_files_beside_a_module_count_and_notes_do_not(book):
    data = {"nnlib/data/__init__.py", "nnlib/data/tables.py", "nnlib/data/iris.csv"}
    assert book("from nnlib.data import tables") == data | {"nnlib/__init__.py"}


DOOR = {"nnlib/__init__.py", "nnlib/alone.py"}
DOOR |= {f"nnlib/door/{f}.py" for f in ("__init__", "often")}


def test_what_a_package_imports_counts_with_each_of_its_modules(book):
    assert book("from nnlib.door import often") == DOOR
    assert book("from nnlib.door.seldom import seldom") == DOOR | {"nnlib/door/seldom.py"}


def test_a_chapter_without_imports_depends_on_the_package_alone(book):
    assert book("import numpy", "x = 1") == {"nnlib/__init__.py"}


def test_a_cell_that_does_not_parse_hides_no_other(book):
    assert book("%pip install x", "from nnlib.train import loop") == LOOP


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_depends_on_its_own_module_and_on_no_other_family(chapter):
    graph = Graph()
    files = graph.files(graph.root / "chapters" / f"{chapter}.ipynb")
    assert f"nnlib/{chapter}.py" in files or not (graph.root / f"nnlib/{chapter}.py").exists()
    assert "nnlib/notebook/promises.py" in files
    assert all((graph.root / file).is_file() for file in files)
