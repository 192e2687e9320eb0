"""Words on words and under lines."""

import pytest
from matplotlib.patches import Rectangle

from nnlib.plot.collisions import collisions
from nnlib.plot.labels import arrow
from nnlib.plot.style import subplots
from nnlib.plot.svg import draw


@pytest.fixture
def ax():
    return subplots(xlim=(0, 1), ylim=(0, 1))[1]


def found(ax):
    return collisions(draw(ax.figure, "x").record)


def test_nothing_collides_in_a_plain_figure(ax):
    ax.plot([0, 1], [0, 1])
    ax.set(title="A title", xlabel="step", ylabel="loss")
    ax.grid(True)
    ax.text(0.1, 0.9, "far from the line")
    assert found(ax) == []


def test_words_on_words(ax):
    ax.text(0.5, 0.5, "one word")
    ax.text(0.52, 0.51, "another")
    assert found(ax) == ["'another' lies on 'one word'"]


def test_words_that_run_into_the_next_of_their_line(ax):
    ax.text(0.5, 0.5, "one", ha="right")
    ax.text(0.499, 0.5, "two")
    assert found(ax) == ["'two' lies on 'one'"]


@pytest.mark.parametrize(
    "cross",
    [
        lambda ax: ax.plot([0, 1], [0.5, 0.55]),
        lambda ax: ax.axvline(0.5),
        lambda ax: arrow(ax, (0.1, 0.52), (0.9, 0.52)),
        lambda ax: ax.plot(0.5, 0.52, "o", markersize=8),
        lambda ax: ax.scatter([0.45, 0.9], [0.52, 0.9]),
    ],
    ids=["line", "level", "arrow", "marker", "points"],
)
def test_a_line_or_a_marker_through_words(ax, cross):
    cross(ax)
    ax.text(0.5, 0.5, "a label here", ha="center")
    assert found(ax) == ["a line runs through 'a label here'"]


def test_an_opaque_ground_hides_a_line_that_was_drawn_before(ax):
    ax.plot([0, 1], [0.5, 0.55])
    ax.text(0.5, 0.5, "label", ha="center", bbox={"facecolor": "white", "linewidth": 0})
    assert found(ax) == []


def test_a_box_around_words_is_no_line_through_them_unless_they_overflow(ax):
    ax.add_patch(Rectangle((0.3, 0.4), 0.4, 0.2, facecolor="none", edgecolor="state"))
    fits = ax.text(0.5, 0.5, "fits", ha="center", va="center")
    assert found(ax) == []
    fits.set_text("is far too long for such a small box, and so runs over its edge")
    assert len(found(ax)) == 1


def test_what_lies_outside_the_axes_is_not_drawn_and_does_not_collide(ax):
    ax.plot([-1, 0.5], [-0.2, -0.2])
    ax.set_xlabel("step")
    assert found(ax) == []
