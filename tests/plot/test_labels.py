"""Names at lines' ends that move apart, levels to compare with, arrows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlib.plot.labels import arrow, end_label, reference, spread
from nnlib.plot.style import subplots


def heights(fig, ax):
    """Return where the names of the lines stand, in points, from the bottom up."""
    fig.canvas.draw()
    return sorted(
        (text.get_window_extent().y0 + text.get_window_extent().y1) / 2 * 72 / fig.dpi
        for text in ax.texts
    )


def ends(*levels, dy=0.0, x=1.0):
    fig, ax = subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for at, level in enumerate(levels):
        end_label(ax, x, level, f"line {at}", "learned", dy=dy)
    return fig, ax


def test_names_at_one_place_move_apart_evenly():
    together, alone = heights(*ends(0.5, 0.5)), heights(*ends(0.5))
    assert np.diff(together) == pytest.approx([12.5], abs=0.1)
    assert np.mean(together) == pytest.approx(alone[0], abs=0.6)


def test_names_that_have_room_stay():
    assert heights(*ends(0.2, 0.8)) == pytest.approx(
        [heights(*ends(0.2))[0], heights(*ends(0.8))[0]], abs=1e-6
    )


def test_a_figure_makes_room_for_the_names_outside_of_it():
    fig, ax = ends(0.5)
    end_label(ax, 1, 0.9, "a name that is rather long", "state")
    reference(ax, 0.1, "a level that is known", side="end")
    fig.canvas.draw()
    for text in ax.texts:
        box = text.get_window_extent()
        assert text.get_tightbbox().x1 == pytest.approx(box.x1) and box.x1 <= fig.bbox.x1


def test_words_on_a_yellow_line_are_written_in_ink():
    _, ax = ends()
    reference(ax, 0.5, "look here", color="highlight")
    assert ax.lines[0].get_color() == "highlight" and ax.texts[0].get_color() == "ink"


def test_the_order_of_the_lines_is_that_of_their_names():
    fig, ax = ends(0.52, 0.5, 0.51)
    fig.canvas.draw()
    places = [text.get_window_extent().y0 for text in ax.texts]
    assert places[1] < places[2] < places[0]


def test_names_of_two_lines_of_text_get_the_room_of_two():
    fig, ax = subplots()
    for word in ("one", "a\nb"):
        end_label(ax, 0.5, 0.5, word, "state")
    assert np.diff(heights(fig, ax))[0] == pytest.approx(18.75, abs=0.6)


def test_names_at_other_places_do_not_mind_each_other():
    fig, ax = ends(0.5)
    end_label(ax, 0.1, 0.5, "elsewhere", "state")
    assert np.ptp(heights(fig, ax)) < 1


def test_names_part_on_logarithmic_axes_that_are_set_later():
    fig, ax = subplots()
    for level in (1e3, 1.1e3):
        end_label(ax, 1, level, "x", "gate")
    ax.set(yscale="log", ylim=(1, 1e9))
    assert np.diff(heights(fig, ax))[0] == pytest.approx(12.5, abs=0.1)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=7), st.floats(0, 9))
def test_spread_keeps_gaps_and_moves_the_least(wishes, gap):
    wishes = np.sort(np.array(wishes))
    moved = spread(wishes, np.full(len(wishes) - 1, gap))
    assert (np.diff(moved) >= gap - 1e-9).all()
    assert moved.mean() == pytest.approx(wishes.mean(), abs=1e-9)
    if (np.diff(wishes) >= gap).all():
        assert moved == pytest.approx(wishes, abs=1e-9)


def test_a_reference_is_a_dashed_grey_line_with_its_name_above():
    fig, ax = subplots()
    ax.set(ylim=(0, 1))
    reference(ax, 0.25, "always one half")
    (line,), (name,) = ax.lines, ax.texts
    assert list(line.get_ydata()) == [0.25, 0.25] and line.get_linestyle() == "--"
    assert line.get_color() == name.get_color() == "baseline"
    fig.canvas.draw()
    box, level = name.get_window_extent(), ax.transData.transform((0, 0.25))[1]
    assert box.y0 > level and box.x1 == pytest.approx(ax.bbox.x1, abs=1.5)


def test_the_name_of_a_reference_goes_below_and_to_the_left():
    fig, ax = subplots()
    ax.set(ylim=(0, 1))
    reference(ax, 0.25, "guessing", side="left", below=True)
    fig.canvas.draw()
    box, level = ax.texts[0].get_window_extent(), ax.transData.transform((0, 0.25))[1]
    assert box.y1 < level + 1
    assert 2 < box.x0 - ax.bbox.x0 < 8  # beside the axis, not on it


def test_a_reference_at_the_end_is_a_name_among_the_lines():
    fig, ax = ends(0.25)
    reference(ax, 0.25, "guessing", side="end")
    assert np.diff(heights(fig, ax)) == pytest.approx([12.5], abs=0.1)
    assert ax.texts[1].get_window_extent().x0 > ax.bbox.x1


def test_an_upright_reference_has_its_name_at_the_top_beside_it():
    fig, ax = subplots()
    ax.set(xlim=(0, 1))
    reference(ax, 0.5, "here", axis="x", side="left")
    fig.canvas.draw()
    box, level = ax.texts[0].get_window_extent(), ax.transData.transform((0.5, 0))[0]
    assert list(ax.lines[0].get_xdata()) == [0.5, 0.5]
    assert box.x1 < level and box.y1 == pytest.approx(ax.bbox.y1, abs=3)


def test_a_reference_without_a_name_is_a_line_alone():
    _, ax = subplots()
    reference(ax, 1.0)
    assert len(ax.lines) == 1 and not ax.texts


def test_an_arrow_has_its_head_at_the_end():
    _, ax = subplots()
    arrow(ax, (0.1, 0.2), (0.7, 0.9), color="gate")
    assert ax.texts[0].xy == (0.7, 0.9) and ax.texts[0].xyann == (0.1, 0.2)


def test_names_find_room_on_logarithmic_axes():
    figure, (left, right) = subplots(1, 2)
    left.plot([1, 2], [10, 1000])
    left.set_yscale("log")
    end_label(left, 2, 1000, "a name that is rather long", "state")
    figure.draw_without_rendering()
    name = left.texts[0].get_window_extent()
    assert name.x1 < right.get_position().x0 * figure.bbox.width
