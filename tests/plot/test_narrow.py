"""A figure on a phone."""

import json
import re

import numpy as np
import pytest

from nnlib.plot import narrow as phone
from nnlib.plot.maps import matrix
from nnlib.plot.picture import REPORT, picture
from nnlib.plot.style import bare, subplots
from nnlib.plot.svg import draw


def panels(count=2, **options):
    fig, axes = subplots(1, count, title="A finding", xlabel="step", **options)
    for ax in axes:
        ax.plot([0, 1, 4])
    axes[0].set_ylabel("loss")
    return fig, axes


def sizes(markup):
    boxes = re.findall(r'class="nn-(\w+)" viewBox="([^"]+)"', markup)
    return {kind: tuple(map(float, box.split()[2:])) for kind, box in boxes}


def test_panels_of_a_row_stand_below_one_another():
    fig, (left, right) = panels()
    shown = sizes(picture(fig, "two", "x"))
    assert shown["narrow"][0] < 0.8 * shown["wide"][0]
    assert shown["narrow"][1] > 1.6 * shown["wide"][1]
    assert left.get_position().y0 > right.get_position().y1


def test_words_of_both_variants_are_large_enough(monkeypatch, tmp_path):
    told = tmp_path / "told.jsonl"
    monkeypatch.setenv(REPORT, str(told))
    fig, axes = panels(3)
    axes[1].set_title("a title too long for the panel that it stands over by far")
    picture(fig, "three", "x")
    wide, slim = map(json.loads, told.read_text("utf8").splitlines())
    assert (wide["variant"], slim["variant"]) == ("wide", "narrow")
    assert wide["smallest"] < phone.READABLE <= slim["smallest"]
    assert slim["collisions"] == []


def test_three_small_panels_take_two_columns_and_the_last_the_whole_row():
    fig, axes = panels(3)
    assert phone.restack(fig, 5.0)
    fig.canvas.draw()
    first, second, third = (ax.get_position() for ax in axes)
    assert first.y0 == pytest.approx(second.y0, abs=0.02) and third.y1 < first.y0
    assert third.width > 1.5 * first.width


def test_two_rows_of_three_panels_become_three_rows_of_two():
    fig, axes = subplots(2, 3, height=4.2, sharex=True, sharey="row", xticks=[])
    for row, name in zip(axes, "ab", strict=True):
        row[0].set_ylabel(name)
        for ax in row:
            ax.plot([0, 1, 4])
    assert phone.restack(fig, 5.0)
    fig.canvas.draw()
    places = [[ax.get_position() for ax in row] for row in axes]
    for first, second in zip(*places, strict=True):
        assert first.y0 == pytest.approx(second.y0, abs=0.02) and first.x1 < second.x0
    assert places[0][0].y0 > places[0][1].y1 and places[0][1].y0 > places[0][2].y1
    assert [[ax.get_ylabel() for ax in row] for row in axes] == [["a"] * 3, ["b"] * 3]


def test_labels_that_a_neighbour_had_are_shown_again():
    fig, (left, right) = panels(sharey=True)
    assert phone.restack(fig, 5.0)
    fig.canvas.draw()
    assert right.get_ylabel() == left.get_ylabel() == "loss"
    assert any(label.get_visible() and label.get_text() for label in right.get_yticklabels())


def test_twins_and_colour_bars_stay_with_their_panel():
    fig, (left, right) = panels()
    twin = left.twinx()
    matrix(right, [[1.0, 2.0], [0.0, 1.0]], bar="value")
    bar = fig.axes[-1]
    assert phone.restack(fig, 5.0)
    fig.canvas.draw()
    assert twin.get_position().bounds == pytest.approx(left.get_position().bounds)
    assert bar.get_position().x0 > right.get_position().x0
    assert bar.get_position().y1 < left.get_position().y0


def test_small_pictures_keep_their_grid():
    fig, axes = subplots(2, 6, height=2.6)
    for ax in axes.flat:
        bare(ax).imshow(np.eye(4))
        ax.set_title("7")
    assert phone.restack(fig, 5.0)
    fig.canvas.draw()
    assert axes[0, 0].get_position().y0 == pytest.approx(axes[0, 5].get_position().y0)


def test_a_title_that_is_too_long_breaks_into_lines():
    fig, ax = subplots(width=4, title="A finding that takes more words than fit over the picture")
    draw(fig, "title")
    assert phone.fit(fig) and not phone.fit(fig)
    assert ax.get_title(loc="left").count("\n") == 1
    right = max(words.corners[:, 0].max() for words in draw(fig, "title").record.words)
    assert right <= 4 * 72


def test_formulas_do_not_break():
    fig, ax = subplots(width=3)
    ax.set_title("the norm $\\| a + b + c \\|$ of a long vector is this", loc="left")
    draw(fig, "title")
    assert phone.fit(fig)
    assert "$\\| a + b + c \\|$" in ax.get_title(loc="left")
