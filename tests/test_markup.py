"""Tables in Markdown, prose in HTML."""

import torch
from markdown_it import MarkdownIt

from nnlib.markup import prose, table, without_docstrings
from tests.support import refuses


def cells(text):
    """Return what Markdown itself reads: rows of cells."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    words = [token.content for token in tokens if token.type == "inline"]
    width = sum(token.type == "th_open" for token in tokens)
    assert width and len(words) % width == 0
    return [words[at : at + width] for at in range(0, len(words), width)]


def test_table_is_read_as_what_was_given():
    rows = [("a | b", 2), ("`x | y`", 10), ("$\\|w\\|$\nand more", -3)]
    got = cells(table(["what | why", "n"], rows))
    assert got[0] == ["what | why", "n"]
    assert got[1:] == [["a | b", "2"], ["`x | y`", "10"], ["$\\|w\\|$ and more", "−3"]]


def test_numbers_are_written_in_their_form_and_whole_ones_stay_whole():
    rows = {"tanh": [1024, 0.5], "ReLU": [7, torch.tensor(1.25)]}
    assert cells(table(["", "units", "error"], rows, ".2f"))[1:] == [
        ["tanh", "1024", "0.50"], ["ReLU", "7", "1.25"]]  # fmt: skip


def test_a_form_for_each_column():
    rows = [("a", 12345, 0.256)]
    assert cells(table(["", "n", "share"], rows, ("", ",", ".0%")))[1] == ["a", "12,345", "26%"]


def test_columns_of_numbers_stand_at_the_right():
    rule = table(["a", "b", "c", "d"], [("x", 1, 2.5, True), ("y", 3, "–", False)]).splitlines()[1]
    assert rule == "|---|--:|---|---|"


def test_a_table_may_be_empty():
    assert table(["a", "b"], []) == "| a | b |\n|---|---|"


def test_rows_that_do_not_fit_are_refused():
    with refuses(ValueError, "rows[1] has 1 cells, head has 2"):
        table(["a", "b"], [(1, 2), (3,)])
    with refuses(ValueError, "form must be one or 2, got 3"):
        table(["a", "b"], [], ("", "", ""))


def test_prose_keeps_maths_and_escapes_the_rest():
    assert prose("a < $b < c$ *d*") == (
        r'a &lt; <span class="math notranslate nohighlight">\(b &lt; c\)</span> <em>d</em>'
    )


def test_docstrings_are_left_out_of_source():
    source = 'def f():\n    """Say."""\n\n    return "kept"\n'
    assert without_docstrings(source) == 'def f():\n    return "kept"'
