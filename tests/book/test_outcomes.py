"""A test of an equation runs again when something that it imports has changed, and only then."""

import json
import shutil
import subprocess
import sys

import pytest

from pipeline import ROOT
from pipeline.checks import equations
from pipeline.checks.outcomes import absent, reads
from pipeline.execute.dependencies import Graph
from tests.support import Peer, write

SETTINGS = """\
[pytest]
pythonpath = .
testpaths = tests
markers =
    equation
    gpu
"""
# Each test writes down that it ran.
TEST = """\
import pytest
{imports}

@pytest.mark.equation("name-{label}")
@pytest.mark.parametrize("case", [1, 2])
def test_{label}(case):
    with open("ran.txt", "a") as ran:
        ran.write("{label}")
    assert {what}


def test_beside_it():
    with open("ran.txt", "a") as ran:
        ran.write("_")
"""


@pytest.fixture
def book(tmp_path):
    """A book of two equations, each of a module of its own."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=ignored)
    for name, text in {
        "pytest.ini": SETTINGS,
        "nnlib/__init__.py": "",
        "nnlib/one.py": "VALUE = 1\n",
        "nnlib/two.py": "from nnlib.deep import VALUE\n",
        "nnlib/deep.py": "VALUE = 2\n",
        "chapters/family/name.md": "# Name\n\n$$a$$ (name-a)\n\n$$b$$ (name-b)\n",
        "tests/__init__.py": "",
        "tests/test_a.py": TEST.format(imports="from nnlib import one", label="a", what="one"),
        "tests/test_b.py": TEST.format(imports="from nnlib import two", label="b", what="two"),
    }.items():
        write(tmp_path / name, text)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    return tmp_path


def ran(book, *command):
    """Run a command; return which tests it ran."""
    (book / "ran.txt").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=book, capture_output=True, text=True, check=False
    )
    assert (book / "_build/truth.json").exists(), done.stdout + done.stderr
    return "".join(sorted((book / "ran.txt").read_text()))


REPORT = ("pipeline.checks.equations", "--report", "_build/truth.json")
ALL = ("pytest", "-q", "--truth-report=_build/truth.json")


def verified(book):
    truth = json.loads((book / "_build/truth.json").read_text())
    return {label: equations.holds(entry) for label, entry in truth.items()}


def test_an_edit_reruns_the_tests_that_import_it_in_the_end(book):
    assert ran(book, *REPORT) == "aabb"
    assert ran(book, *REPORT) == ""
    (book / "nnlib/deep.py").write_text("VALUE = 3\n")
    assert ran(book, *REPORT) == "bb"
    (book / "tests/test_a.py").touch()
    assert ran(book, *REPORT) == ""
    assert verified(book) == {"name-a": True, "name-b": True}


def test_what_the_book_has_run_the_whole_suite_does_not_run_again(book):
    assert ran(book, *REPORT) == "aabb"
    (book / "nnlib/one.py").write_text("VALUE = 9\n")
    assert ran(book, *ALL, "-n", "2") == "__aa"  # each worker leaves out the same tests
    assert ran(book, *REPORT) == ""
    assert verified(book) == {"name-a": True, "name-b": True}


def test_a_failure_runs_again_until_it_is_mended(book):
    (book / "nnlib/one.py").write_text("raise OSError('on purpose')\n")
    assert ran(book, *REPORT) == "bb"
    (book / "nnlib/one.py").write_text("VALUE = 1\n")
    assert ran(book, *REPORT) == "aa"
    (book / "tests/test_b.py").write_text(TEST.format(imports="", label="b", what="0"))
    assert ran(book, *REPORT) == ran(book, *REPORT) == "bb"
    assert verified(book) == {"name-a": True, "name-b": False}


def test_a_part_of_a_file_is_not_taken_for_the_whole(book):
    assert ran(book, *ALL, "-k", "test_a and 1") == "a"
    assert ran(book, *REPORT) == "aabb"


def test_a_test_that_imports_by_name_depends_on_the_whole_library():
    files = reads(ROOT, "tests/test_contract.py", Graph(ROOT))
    assert {f.relative_to(ROOT).as_posix() for f in (ROOT / "nnlib").rglob("*.py")} <= set(files)


def test_what_a_missing_peer_left_out_runs_once_it_is_there(tmp_path, monkeypatch):
    """`make book` does without the peers, whose tests are skipped; `make test` installs them."""
    (tmp_path / "tests").mkdir()
    file = tmp_path / "tests" / "test_a.py"
    file.write_text('theirs = Peer("library.inner")\nours = Peer("json")\n')
    assert absent(tmp_path, "tests/test_a.py") == ["library"]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "__init__.py").touch()
    assert absent(tmp_path, "tests/test_a.py") == []


def test_a_missing_peer_leaves_out_the_tests_that_use_it_and_no_other():
    """pytest asks whatever a file holds for `__wrapped__`: a skip there would skip the file."""
    assert not hasattr(Peer("library"), "__wrapped__")
    with pytest.raises(pytest.skip.Exception, match="there is no library; `make test` installs"):
        _ = Peer("library.inner").Schedule
