"""A chapter stays small: 20 CPU-seconds and 30 seconds at its defaults."""

import json

import pytest

from pipeline import times
from pipeline.dependencies import chapters


@pytest.mark.parametrize("chapter", chapters(times.ROOT))
def test_a_chapter_is_within_its_budget(chapter):
    if chapter not in {record["chapter"] for record in times.records()}:
        pytest.skip("`make book` has not executed this chapter")
    assert not [line for line in times.over() if line.startswith(f"{chapter} ")]


@pytest.fixture
def book(tmp_path):
    """A book of two executed chapters, one of them too slow, and the record of a third, gone."""
    for name, cpu, wall in (("slow", 21.0, 31.0), ("fast", 2.0, 3.0), ("gone", 1.0, 1.0)):
        record = tmp_path / "_build" / "executed" / "chapters" / "tiny" / f"{name}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        content = {"chapter": f"tiny/{name}", "cpu_seconds": cpu, "wall_seconds": wall}
        record.write_text(json.dumps(content))
        notebook = tmp_path / "chapters" / "tiny" / f"{name}.ipynb"
        notebook.parent.mkdir(parents=True, exist_ok=True)
        if name != "gone":
            notebook.touch()
    return tmp_path


def test_a_slow_chapter_is_named_with_both_times(book):
    assert times.over(book) == [
        "tiny/slow took 21.0 CPU-seconds, 20 are allowed",
        "tiny/slow took 31.0 seconds, 30 are allowed",
    ]


def test_the_table_has_every_chapter_and_the_total(book):
    lines = times.table(book).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["tiny/fast", "2.0", "3.0"],
        ["tiny/slow", "21.0", "31.0"],
        ["total", "23.0", "34.0"],
    ]
    assert "over budget: tiny/slow" in lines[4]


def test_a_book_that_never_ran_says_so(tmp_path):
    assert times.table(tmp_path) == "no chapter has been executed"


def test_a_chapter_that_seems_slow_is_timed_again_alone(book, monkeypatch, capsys):
    def alone(chapter, *, root, into):
        return {"chapter": chapter, "cpu_seconds": 12.0, "wall_seconds": 14.0}

    monkeypatch.setattr("pipeline.run_chapter.run", alone)
    monkeypatch.setattr(times, "slowness", lambda: 1.0)
    times.settle(book)
    assert capsys.readouterr().out == "tiny/slow: 21.0 s of CPU beside others, 12.0 alone\n"
    assert times.over(book) == []


@pytest.mark.parametrize(("slowness", "late"), [(1.0, True), (1.5, True), (2.5, False)])
def test_seconds_of_a_slow_machine_count_for_less(book, monkeypatch, slowness, late):
    def alone(chapter, *, root, into):
        return {"chapter": chapter, "cpu_seconds": 40.0, "wall_seconds": 50.0}

    monkeypatch.setattr("pipeline.run_chapter.run", alone)
    monkeypatch.setattr(times, "slowness", lambda: slowness)
    times.settle(book)
    assert bool(times.over(book)) == late


def test_the_yardstick_never_tightens_the_budget():
    assert times.slowness() >= 1.0
