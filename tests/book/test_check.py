"""`make check` takes every step that proves a chapter, and ends with one sentence."""

import os
import shutil

import pytest

from pipeline import ROOT
from pipeline.checks import one_chapter
from pipeline.checks.one_chapter import Chapter, Found, Step
from tests.book.scratch import HEADER

SLIP = "wi" + "ch"  # so that this file has no slip itself
STEPS = ["style", "equations", "tests", "run", "outputs", "page", "browser"]


class Fake:
    """A chapter whose steps find what they are told to."""

    def __init__(self, **wrong):
        for name in STEPS:
            setattr(self, name, self._step(name, wrong.get(name)))

    def _step(self, name, wrong):
        def step():
            return Found([wrong] if wrong else [], "as it should be")

        step.__name__ = name
        return step


@pytest.mark.parametrize(
    ("wrong", "left_out"),
    [
        ({}, set()),
        ({"style": "a long line", "tests": "1 failed"}, set()),
        ({"run": "cell 3 raised"}, {"outputs", "page", "browser"}),
        ({"page": "a broken link"}, {"browser"}),
    ],
)
def test_a_fault_stops_only_what_has_nothing_left_to_look_at(wrong, left_out):
    told = []
    steps = one_chapter.prove(Fake(**wrong), told.append)
    assert {step.name for step in steps} == set(STEPS) - left_out
    assert {step.name: step.problems[0] for step in steps if step.problems} == wrong
    assert sorted(told) == sorted(steps)


@pytest.mark.parametrize("problem", ["", "chapters/sequence/lstm.md: a long line"])
def test_it_ends_with_one_sentence(problem, monkeypatch, capsys):
    step = Step("style", [problem] if problem else [], "4 files", 0.7)
    monkeypatch.setattr(one_chapter, "prove", lambda chapter, tell: [tell(step) or step])
    assert one_chapter.main(["sequence/lstm"]) == bool(problem)
    told = capsys.readouterr().out.splitlines()
    assert told[-2].split() == ["✗" if problem else "✓", "style", "0.7", "s", "4", "files"]
    if problem:
        assert told[0] == problem
        assert told[-1].startswith("sequence/lstm is not in order, ")
        assert told[-1].endswith(": see style above.")
    else:
        assert told[-1].startswith("sequence/lstm is in order, ")


def test_a_misspelt_chapter_is_named_with_near_matches(capsys):
    assert one_chapter.main(["sequence/lsmt"]) == 1
    told = capsys.readouterr().out
    assert "there is no chapter 'sequence/lsmt'" in told and "sequence/lstm" in told


@pytest.fixture
def book(tmp_path):
    """A chapter with its module and its test, in order."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = f"{HEADER}\n# One\n\n```{{code-cell}} ipython3\nprint(1)\n```\n"
    for name, text in {
        "chapters/tiny/one.md": page,
        "nnlib/tiny/one.py": '"""A module."""\n',
        "tests/tiny/test_one.py": '"""Its test."""\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    pair(tmp_path)
    return tmp_path


def pair(root):
    import jupytext

    page = root / "chapters/tiny/one.md"
    jupytext.write(jupytext.read(page), page.with_suffix(".ipynb"))


def test_a_chapter_in_order_has_no_fault_of_style(book):
    assert Chapter("tiny/one", book).style() == Found([], "4 files")


def test_each_fault_of_style_is_named(book):
    (book / "nnlib/tiny/one.py").write_text('"""A module."""\nimport os\n\nx  =  1\n')
    (book / "tests/tiny/test_one.py").write_text(f'"""Its test, {SLIP} is misspelt."""\n')
    (book / "chapters/tiny/one.md").write_text(
        (book / "chapters/tiny/one.md").read_text().replace("print(1)", "print(2)")
    )
    told = "\n".join(Chapter("tiny/one", book).style().problems)
    for fault in (
        "F401",
        "nnlib/tiny/one.py:2:1",  # where its form is another
        f"{SLIP} ==> which",
        ".md and .ipynb differ in the source of cell 2",
    ):
        assert fault in told, told


def test_a_run_of_the_same_content_is_not_repeated(book, monkeypatch):
    ran = []
    record = {"cpu_seconds": 1.0, "broken": ["loss at most 1"]}
    monkeypatch.setattr(one_chapter.run_chapter, "run", lambda *_, **__: ran.append(1) or record)
    chapter = Chapter("tiny/one", book)
    monkeypatch.setattr(one_chapter.run_chapter, "is_fresh", lambda *_: False)
    assert chapter.run() == Found(["did not hold: loss at most 1"], "1.0 s of CPU")
    monkeypatch.setattr(one_chapter.run_chapter, "is_fresh", lambda *_: True)
    assert chapter.run().problems == [] and len(ran) == 1


def test_whether_a_run_is_fresh_is_asked_of_contents_not_of_times(book):
    from pipeline.execute import run_chapter

    (book / "nnlib/__init__.py").touch()
    (book / "nnlib/tiny/__init__.py").touch()
    before = dict(os.environ)
    record = run_chapter.run("tiny/one", root=book)
    assert dict(os.environ) == before, "a run must not leave this process with another environment"
    assert record["state"] and run_chapter.is_fresh("tiny/one", book)
    (book / "chapters/tiny/one.ipynb").touch()
    assert run_chapter.is_fresh("tiny/one", book)
    (book / "nnlib/__init__.py").write_text("x = 1\n")
    assert not run_chapter.is_fresh("tiny/one", book)
