"""What stored notebooks hold: outputs where nbval compares them, and nowhere else."""

import nbformat
import pytest

from pipeline import ROOT
from pipeline.checks import pairing as pairs
from pipeline.execute import run_chapter
from pipeline.execute.dependencies import chapters

CHAPTERS = chapters(ROOT)
STDOUT = {"output_type": "stream", "name": "stdout", "text": "✓ equal\n"}
TAGGED = {"tags": [pairs.CHECKED]}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_only_checked_cells_store_outputs(chapter):
    assert pairs.stored_output_problems(ROOT, chapter) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_book_printed_what_is_stored(chapter):
    executed = ROOT / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"
    if not executed.exists():
        pytest.skip("`make book` has not executed this chapter")
    checked, wrong = pairs.stored_against_run(ROOT, chapter)
    assert checked and wrong == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_ends_with_a_verdict_that_is_checked(chapter):
    cells = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", 4).cells
    last = [cell for cell in cells if cell.cell_type == "code"][-1]
    assert "verdict()" in last.source and pairs.CHECKED in last.metadata.get("tags", [])


def write(root, *, into="", **cell):
    """Store a notebook of one code cell."""
    file = root / into / "chapters" / "tiny" / "one.ipynb"
    file.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", **cell)]), file)


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ({}, ""),
        ({"metadata": TAGGED, "outputs": [STDOUT], "execution_count": 1}, ""),
        ({"metadata": TAGGED}, "stores no outputs"),
        ({"metadata": TAGGED, "outputs": [STDOUT]}, "stores no outputs"),
        ({"metadata": TAGGED, "execution_count": 1}, "stores no outputs"),
        ({"outputs": [STDOUT], "execution_count": 1}, "without the tag"),
        ({"outputs": [STDOUT]}, "without the tag"),
        ({"execution_count": 1}, "without the tag"),
        (
            {
                "metadata": TAGGED,
                "execution_count": 1,
                "outputs": [{"output_type": "display_data", "data": {}, "metadata": {}}],
            },
            "text only",
        ),
    ],
)
def test_the_policy_closes_each_trap(tmp_path, cell, wrong):
    cell = {"outputs": [nbformat.from_dict(o) for o in cell.pop("outputs", [])], **cell}
    write(tmp_path, **cell)
    problems = pairs.stored_output_problems(tmp_path, "tiny/one")
    assert len(problems) == bool(wrong)
    assert not wrong or (wrong in problems[0] and "cell 1" in problems[0])


@pytest.mark.parametrize("printed", ["✓ equal\n", "✗ not equal\n"])
def test_a_run_that_printed_something_else_is_told(tmp_path, printed):
    for into, text in (("", "✓ equal\n"), ("_build/executed", printed)):
        output = nbformat.from_dict(STDOUT | {"text": text})
        write(tmp_path, into=into, metadata=TAGGED, outputs=[output], execution_count=1)
    checked, wrong = pairs.stored_against_run(tmp_path, "tiny/one")
    assert checked == 1 and len(wrong) == (printed != "✓ equal\n")
    assert not wrong or "cell 1 stores '✓ equal\\n', the run printed" in wrong[0]


def test_promises_are_read_from_what_a_run_printed():
    text = "✓ accuracy at least 0.97 (baseline 0.96)\n✗ loss at most 0.1: got 0.3\n✓ equal\n"
    text += "✗ did not hold: loss at most 0.1: got 0.3\n✗ 1 checks and 1 bands held, 1 did not\n"
    notebook = {"cells": [{"outputs": [STDOUT | {"text": text}]}, {"cell_type": "markdown"}]}
    bands, broken = run_chapter.promises(notebook)
    assert bands == ["✓ accuracy at least 0.97 (baseline 0.96)", "✗ loss at most 0.1: got 0.3"]
    assert broken == ["loss at most 0.1: got 0.3"]
