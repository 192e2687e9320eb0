"""Bars with their numbers, named rows, histograms."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from nnlib.plot.bars import bars, histogram, named_rows
from nnlib.plot.style import COLORS, subplots
from tests.support import refuses


def test_bars_lie_with_the_first_on_top_and_their_numbers_beside_them():
    fig, ax = subplots()
    bars(ax, {"counting": 0.41, "network": 0.87}, text="{:.0%}")
    fig.canvas.draw()
    assert [bar.get_width() for bar in ax.patches] == [0.41, 0.87]
    assert ax.patches[0].get_window_extent().y0 > ax.patches[1].get_window_extent().y0
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["counting", "network"]
    assert [text.get_text().strip() for text in ax.texts] == ["41%", "87%"]
    _, other = subplots()
    bars(other, {"a": 2.0}, text=lambda value: f"{value / 2:g} times")
    assert other.texts[0].get_text() == " 1 times"


def test_bars_can_stand_and_each_have_a_colour():
    _, ax = subplots()
    bars(ax, {1: 4.7, 2: 3.5}, upright=True, colors=("baseline", "learned"), text=None)
    assert [bar.get_height() for bar in ax.patches] == [4.7, 3.5]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == [
        COLORS["baseline"].lower(), COLORS["learned"].lower()]  # fmt: skip
    assert not ax.texts and [t.get_text() for t in ax.get_xticklabels()] == ["1", "2"]


def test_groups_share_the_room_of_one_bar():
    _, ax = subplots()
    bars(ax, {"ReLU": (3, 1), "tanh": (5, 2)}, colors=("learned", "input"), text=None)
    spans = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
    assert spans[0][1] <= spans[1][0] and spans[1][1] < spans[2][0]
    assert spans[0][0] > -0.36 and spans[1][1] < 0.36
    assert to_hex(ax.patches[2].get_facecolor()) == COLORS["learned"].lower()


def test_bars_that_do_not_fit_are_refused():
    _, ax = subplots()
    with refuses(ValueError, "values must be groups of one size, got [1, 2]"):
        bars(ax, {"a": 1, "b": (1, 2)})
    with refuses(ValueError, "colors must be one or 2, got 1"):
        bars(ax, {"a": 1, "b": 2}, colors=("learned",))


def test_named_rows_count_from_the_top():
    _, ax = subplots()
    named_rows(ax, ["first", "second", "third"])
    assert ax.get_ylim() == (2.5, -0.5) and list(ax.get_yticks()) == [0, 1, 2]


def test_histogram_draws_shares_of_all_values():
    _, ax = subplots()
    shares = histogram(ax, np.array([[0.1, 0.2], [0.9, 7.0]]), [0.0, 0.5, 1.0], log=True)
    assert shares == pytest.approx([0.5, 0.25])
    assert ax.get_yscale() == "log" and ax.get_ylim() == (1e-5, 1.5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0.01 %", "1 %", "100 %"]
