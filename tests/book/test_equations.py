"""Every displayed equation has a label, every label a test, and every test a label that exists."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from pipeline import ROOT
from pipeline.checks import equations as truth

CHAPTERS = sorted({equation.chapter for equation in truth.equations()})


@cache
def problems():
    return truth.problems()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_displayed_equation_has_a_label_and_a_test(chapter):
    told = [line for line in problems() if line.startswith(f"chapters/{chapter}.md:")]
    assert not told, "\n".join(told)


def test_every_marked_test_names_an_equation_that_exists():
    told = [line for line in problems() if line.startswith("tests/")]
    assert not told, "\n".join(told)


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("$$\na = b\n$$ (mlp-a)", [("mlp-a", 1)]),
        ("one\n\n$$a = b$$ (mlp-a)\n\n$$c$$\n", [("mlp-a", 3), ("", 5)]),
        ("costs $5 and \\$\\$ more, $a$ inline", []),
        ("```python\n$$a$$\n```\n", []),
        ("```{code-cell} ipython3\nx = '$$a$$'\n```\n$$a$$ (mlp-a)", [("mlp-a", 4)]),
        (":::{admonition} Question 1\n$$a$$ (mlp-a)\n:::\n", [("mlp-a", 2)]),
        ("````{note}\n```python\n$$a$$\n```\n$$a$$\n````\n", [("", 5)]),
        ("```{math}\n:label: mlp-a\na = b\n```\n", [("mlp-a", 1)]),
        ("```{math}\na = b\n```\n", [("", 1)]),
        ("\\begin{align}\na &= b\n\\end{align}\n", [("", 1)]),
        ("$$\n\\begin{aligned}a &= b\\end{aligned}\n$$ (mlp-a)\n", [("mlp-a", 1)]),
    ],
)
def test_displayed_equations_are_found(page, wanted):
    assert [(label, line) for label, line, _ in truth.displayed(page)] == wanted


@pytest.mark.parametrize("page", ["$$\na =\n  b\n$$ (x)", "```{math}\n:label: x\na = b\n```"])
def test_the_maths_of_an_equation_is_kept(page):
    assert next(truth.displayed(page))[2] == "a = b"


PAGE = "# Name\n\n$$a = b$$ (name-a)\n\n$$c = d$$ (name-c)\n"
GREEN = '@pytest.mark.equation("name-a", "name-c")\ndef test_both():\n    pass\n'
RED = '@pytest.mark.equation("name-c")\ndef test_c():\n    assert 1 == 2\n'


@pytest.fixture
def scratch(tmp_path):
    """A book of one chapter with its own copy of the machinery."""
    root = Path(ROOT)
    for folder in ("tests", "chapters/family"):
        (tmp_path / folder).mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "pipeline", tmp_path / "pipeline", ignore=ignored)
    shutil.copy(root / "tests" / "conftest.py", tmp_path / "tests")
    settings = "[pytest]\npythonpath = .\nmarkers =\n    equation\n    gpu\n"
    (tmp_path / "pytest.ini").write_text(settings)
    return tmp_path


def _write(root, page, tests):
    (root / "chapters" / "family" / "name.md").write_text(page)
    (root / "tests" / "test_name.py").write_text(f"import pytest\n\n\n{tests}\n")


def _run(root, module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("page", "tests", "told"),
    [
        (PAGE + "\n$$e$$\n", GREEN, "chapters/family/name.md:7: a displayed equation has no label"),
        (PAGE + "\n$$e$$ (name-e)\n", GREEN, "no test is marked with equation name-e"),
        (PAGE + "\n$$e$$ (other-e)\n", GREEN, "label other-e must begin with name-"),
        (PAGE + "\n$$e$$ (name-a)\n", GREEN, "label name-a stands already at"),
        (PAGE, GREEN.replace("name-c", "name-x"), "test_both names the equation name-x, which no"),
        (PAGE, GREEN.replace('"name-a"', "str(1)"), "test_both must be string literals"),
        (PAGE, "def test_broken(:\n", "tests/test_name.py:4: SyntaxError"),
    ],
    ids=["unlabelled", "untested", "prefix", "twice", "unknown", "literal", "syntax"],
)
def test_each_gap_is_named_with_its_file(scratch, page, tests, told):
    _write(scratch, page, tests)
    assert any(told in line for line in truth.problems(scratch))


def test_full_coverage_ends_with_the_total(scratch):
    _write(scratch, PAGE, GREEN)
    ran = _run(scratch, "pipeline.checks.equations")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "2 of 2 labelled equations tested (100 %)"
    entry = json.loads((scratch / "_build" / "truth.json").read_text())["name-a"]
    assert entry == {
        "chapter": "family/name",
        "tests": [{"id": "tests/test_name.py::test_both", "outcome": "passed"}],
    }


def test_nothing_left_to_run_is_no_failure(scratch):
    _write(scratch, PAGE, GREEN)
    assert _run(scratch, "pipeline.checks.equations").returncode == 0
    uncollected = GREEN.replace("test_both", "both")
    (scratch / "tests" / "test_none.py").write_text(f"import pytest\n\n\n{uncollected}\n")
    ran = _run(scratch, "pipeline.checks.equations")
    assert "no tests ran" in ran.stdout or "deselected" in ran.stdout, ran.stdout
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "2 of 2 labelled equations tested (100 %)"


def test_a_red_or_skipped_test_fails_the_table_but_not_the_report_for_the_book(scratch):
    skipped = '@pytest.mark.equation("name-e")\ndef test_e():\n    pytest.skip("no")\n'
    _write(scratch, PAGE + "\n$$e$$ (name-e)\n", f"{GREEN}\n\n{RED}\n\n{skipped}")
    ran = _run(scratch, "pipeline.checks.equations")
    assert ran.returncode == 1
    assert "equation name-c: tests/test_name.py::test_c failed" in ran.stdout
    assert "equation name-e: every test of it was skipped" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 of 3 labelled equations tested (33 %)"

    ran = _run(scratch, "pipeline.checks.equations", "--report", "_build/other.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = json.loads((scratch / "_build" / "other.json").read_text())
    assert {label: truth.holds(entry) for label, entry in written.items()} == {
        "name-a": True,
        "name-c": False,
        "name-e": False,
    }


def test_two_workers_write_one_report(scratch):
    _write(scratch, PAGE, GREEN)
    ran = _run(scratch, "pytest", "-q", "-n", "2", "--truth-report", "truth.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = json.loads((scratch / "truth.json").read_text())
    assert all(truth.holds(entry) for entry in written.values())
