"""Named lines, costs, logarithmic axes."""

import pytest
import torch

from nnlib.plot.curves import curves, growth, log_ticks
from nnlib.plot.style import COLORS, subplots
from tests.support import refuses


def drawn(*arguments, **options):
    _, ax = subplots()
    return curves(ax, *arguments, **options)


def names(ax):
    return [text.get_text() for text in ax.texts]


def test_curves_are_named_at_their_ends_and_baselines_dashed():
    ax = drawn([0, 1], {"model": [1.0, 0.5], "baseline": [0.9, 0.9]}, dashed=("baseline",))
    assert names(ax) == ["model", "baseline"]
    assert [text.xy for text in ax.texts] == [(1, 0.5), (1, 0.9)]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert ax.lines[1].get_color() == ax.texts[1].get_color() == "baseline"


def test_curves_take_colours_by_name_or_in_order():
    lines = {"a": [0, 1], "b": [1, 0]}
    by_name = drawn([0, 1], lines, colors={"b": "gate"})
    in_order = drawn([0, 1], lines, colors=("state", "gate"))
    assert [line.get_color() for line in by_name.lines] == [COLORS["learned"], "gate"]
    assert [line.get_color() for line in in_order.lines] == ["state", "gate"]
    assert {line.get_color() for line in drawn([0, 1], lines, colors="input").lines} == {"input"}


def test_curves_without_an_abscissa_count_their_values():
    ax = drawn(None, {"a": [5, 6, 7], "b": torch.zeros(2)})
    assert [list(line.get_xdata()) for line in ax.lines] == [[0, 1, 2], [0, 1]]


def test_style_goes_to_every_line_and_shift_to_one_name():
    lines = {"a": [0, 1], "b": [1, 9]}
    ax = drawn([0, 1], lines, shift={"b": (3, -4)}, marker="s", linewidth=0.5)
    assert {(line.get_marker(), line.get_linewidth()) for line in ax.lines} == {("s", 0.5)}
    assert [text.wish for text in ax.texts] == [(5, 0), (8, -4)]


def test_labels_can_be_left_out():
    assert names(drawn([0, 1], {"a": [0, 1]}, labels=False)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "series['short'] has 1 values, x has 2"),
        ({"shift": {"shrt": 1}}, "shift names ['shrt'], the lines are ['short']"),
        ({"dashed": ("shrt",)}, "dashed names ['shrt'], the lines are ['short']"),
    ],
)
def test_what_names_no_line_is_refused(options, message):
    with refuses(ValueError, message):
        drawn([0, 1], {"short": [1.0]}, **options)


def test_growth_fits_the_power():
    _, ax = subplots()
    sizes = [10, 100, 1000]
    growth(ax, sizes, {"square": [n**2 for n in sizes], "line": sizes})
    assert [text.get_text() for text in ax.texts] == ["square ∝ n^2.0", "line ∝ n^1.0"]


def test_growth_keeps_a_lines_own_colour_and_dashes():
    _, ax = subplots()
    cost = {"loop": [2, 4], "fused": [1, 2], "old": [3, 5]}
    growth(ax, [1, 2], cost, colors={"loop": "state"}, dashed=("old",), powers=False)
    assert names(ax) == ["loop", "fused", "old"]
    assert ax.lines[0].get_color() == "state" and ax.lines[2].get_linestyle() == "--"


def test_log_ticks_stand_at_the_values_and_nowhere_else():
    _, ax = subplots()
    ax.plot([3, 70], [1, 2])
    log_ticks(ax, [4, 16, 64], "{:g} KB")
    assert ax.get_xscale() == "log" and ax.get_yscale() == "linear"
    assert list(ax.get_xticks()) == [4, 16, 64] and not len(ax.get_xticks(minor=True))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["4 KB", "16 KB", "64 KB"]


def test_log_ticks_within_leave_the_view_as_it_is():
    _, ax = subplots()
    ax.plot([0, 1], [3, 700])
    log_ticks(ax, [1, 10, 100, 1000], axis="y", within=True)
    assert list(ax.get_yticks()) == [10, 100]
    assert ax.get_ylim()[0] > 1 and ax.get_ylim()[1] < 1000
