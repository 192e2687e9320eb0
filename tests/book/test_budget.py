"""`make times` holds chapters to 20 CPU-seconds and 30 seconds; here no clock is asked."""

import json

import pytest

from pipeline.checks import times, yardstick


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
    assert len(lines) == 4  # whose machine is slow is not told so whenever the book is built


def test_a_book_that_never_ran_says_so(tmp_path):
    assert times.table(tmp_path) == "no chapter has been executed"


@pytest.mark.parametrize(("slowness", "late"), [(1.0, True), (1.6, False)])
def test_the_command_names_who_is_late_and_fails(book, monkeypatch, capsys, slowness, late):
    monkeypatch.setattr(times, "_alone", lambda root, chapter: times._read(root, chapter))
    monkeypatch.setattr(times, "slowness", lambda: slowness)
    assert times.main(book) == late
    told = capsys.readouterr().out.splitlines()
    named = "over budget: tiny/slow took 21.0 CPU-seconds, 20 are allowed" in told
    assert named == late == (not told[-1].startswith("every chapter"))


def settled(book, monkeypatch, slowness, cpu, wall):
    """Settle the book on a machine of this slowness, where a run alone takes so long."""
    ran = []

    def alone(chapter, *, root, into):
        ran.append(chapter)
        return {"chapter": chapter, "cpu_seconds": cpu, "wall_seconds": wall}

    monkeypatch.setattr("pipeline.execute.run_chapter.run", alone)
    monkeypatch.setattr(times, "slowness", lambda: slowness)
    times.settle(book)
    return ran


def test_a_chapter_that_seems_slow_is_timed_again_alone(book, monkeypatch, capsys):
    assert settled(book, monkeypatch, 1.0, 12.0, 14.0) == ["tiny/slow"]
    assert "tiny/slow: 21.0 s of CPU beside others, 12.0 alone" in capsys.readouterr().out
    assert times.over(book) == []


@pytest.mark.parametrize(("slowness", "late"), [(1.03, True), (1.04, True), (1.06, False)])
def test_seconds_of_a_slow_machine_count_for_less(book, monkeypatch, slowness, late):
    ran = settled(book, monkeypatch, slowness, 22.0, 20.0)
    # 21 and 31 seconds are within the budget of a machine that is 1.05 times as slow.
    assert bool(times.over(book)) == late and ran == ["tiny/slow"] * late


def test_a_chapter_that_is_slow_by_itself_stays_late(book, monkeypatch):
    settled(book, monkeypatch, 1.5, 31.0, 20.0)
    assert times.over(book) == []  # 21 seconds were enough
    record = book / "_build/executed/chapters/tiny/slow.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"cpu_seconds": 32.0}))
    settled(book, monkeypatch, 1.5, 31.0, 20.0)
    assert times.over(book) == ["tiny/slow took 31.0 CPU-seconds, 30 are allowed"]


def test_a_budget_that_holds_needs_no_yardstick(book, monkeypatch):
    monkeypatch.setattr(times, "over", lambda root: [])
    monkeypatch.setattr(times, "slowness", lambda: pytest.fail("nothing was late"))
    times.settle(book)


def test_the_yardstick_never_tightens_the_budget(monkeypatch):
    taken = iter([0.0, 0.1, 0.1, 0.2, 0.2, 200.2, 200.2, 300.2])
    monkeypatch.setattr(yardstick, "_children", lambda: next(taken))
    monkeypatch.setattr(yardstick.subprocess, "run", lambda *_, **__: None)
    assert yardstick.slowness() == 1.0
    assert yardstick.slowness() == pytest.approx(100 / yardstick.SECONDS)


def test_the_yardstick_does_what_chapters_do():
    yardstick.work(steps=2, figures=1)
