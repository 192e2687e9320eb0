"""Titles, margins, axes."""

import pytest

from nnlib.plot.style import bare, subplots
from tests.support import refuses


def test_title_stands_over_the_panel_or_over_all_of_them_in_one_look():
    one, ax = subplots(title="One")
    many, axes = subplots(1, 2, title="Many")
    assert ax.get_title(loc="left") == "One" and one.get_suptitle() == ""
    assert many.get_suptitle() == "Many" and axes[0].get_title(loc="left") == ""
    looks = [(t.get_size(), t.get_weight(), t.get_ha()) for t in (ax._left_title, many._suptitle)]
    assert looks[0] == looks[1] == (12, "bold", "left")


def test_options_of_axes_are_set_on_every_panel_and_the_others_on_the_figure():
    _, axes = subplots(2, 1, sharex=True, height_ratios=(3, 1), xscale="log", ylabel="loss")
    assert [ax.get_ylabel() for ax in axes] == ["loss", "loss"]
    assert axes[0].get_shared_x_axes().joined(*axes) and axes[1].get_xscale() == "log"


def test_limits_with_an_open_end_must_wait_for_the_drawing():
    with refuses(ValueError, "ylim=(0, None) has an open end: set it after drawing"):
        subplots(ylim=(0, None))


def test_margins_hold_the_panels_still():
    places = []
    for word in ("1", "a much longer label"):
        fig, ax = subplots(margins=(0.2, 0.1, 0.9, 0.8))
        ax.set(ylabel=word, yticks=[0], yticklabels=[word])
        fig.canvas.draw()
        places.append(ax.get_position().bounds)
    assert places[0] == places[1] == pytest.approx((0.2, 0.1, 0.7, 0.7))


def test_bare_axes_say_nothing():
    _, ax = subplots()
    assert bare(ax) is ax
    assert not len(ax.get_xticks()) and not any(s.get_visible() for s in ax.spines.values())
