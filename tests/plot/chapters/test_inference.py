"""Rows of a timeline and blocks of a pool: who stands where."""

import numpy as np
from matplotlib.colors import to_rgba

from nnlib.plot.chapters.inference import pool, spans, timeline
from nnlib.plot.style import subplots

STEPS = [
    [("A", "read"), ("B", "read")],
    [("A", "write"), ("B", "write")],
    [("B", "write"), ("C", "read")],
    [("B", "padding"), ("C", "write")],
]


def test_a_new_request_takes_the_row_that_has_become_free():
    assert spans(STEPS) == [
        (0, 0, 1, "A", "read"), (0, 1, 2, "A", "write"), (0, 2, 3, "C", "read"),
        (0, 3, 4, "C", "write"), (1, 0, 1, "B", "read"), (1, 1, 3, "B", "write"),
        (1, 3, 4, "B", "padding"),
    ]  # fmt: skip


def test_no_two_spans_overlap_and_none_is_lost():
    rng = np.random.default_rng(0)
    steps = [
        [(n, "write") for n in sorted(rng.choice(list("ABCDEF"), 3, False))] for _ in range(40)
    ]
    seen = np.zeros((6, 40), int)
    for row, start, end, *_ in spans(steps):
        seen[row, start:end] += 1
    assert seen.max() == 1
    assert (seen.sum(0) == 3).all()


def test_each_request_is_named_once_and_drawn_as_long_as_it_takes():
    _, ax = subplots()
    drawn = timeline(ax, STEPS)
    assert sorted(text.get_text() for text in ax.texts) == ["A", "B", "C"]
    widths = [patch.get_width() + 0.12 for patch in ax.patches]
    assert np.allclose(widths, [end - start for _, start, end, *_ in drawn])
    assert ax.get_xlim() == (0, 4)


def test_a_block_shows_whose_it_is_and_how_full():
    _, ax = subplots()
    colors = {"A": "input", "B": "learned"}
    pool(ax, [(["A"], 3), (["A", "B"], 4), ([], 0)], 4, colors)
    faces = [patch.get_facecolor() for patch in ax.patches]
    assert [text.get_text() for text in ax.texts] == ["0: A", "1: A and B", "2: free"]
    blue, red = to_rgba(("input", 0.55)), to_rgba(("learned", 0.55))
    assert faces[:3] == [blue] * 3
    assert faces[3] == (0, 0, 0, 0)
    assert faces[4:8] == [blue, red, blue, red]
    assert faces[8:] == [(0, 0, 0, 0)] * 4
