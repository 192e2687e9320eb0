"""A figure as a page shows it: one picture or two, and what a run tells of each."""

import json
import re

import pytest

from nnlib.plot.curves import curves
from nnlib.plot.diagram import Diagram
from nnlib.plot.picture import REPORT, frames, picture
from nnlib.plot.style import subplots


def sizes(markup):
    boxes = re.findall(r'class="nn-(\w+)" viewBox="([^"]+)"', markup)
    return {kind: tuple(map(float, box.split()[2:])) for kind, box in boxes}


def test_a_small_figure_needs_no_second_variant():
    fig, ax = subplots(width=4.6, xlabel="step")
    curves(ax, None, {"loss": [3, 2, 1]})
    assert set(sizes(picture(fig, "small", "x"))) == {"wide"}


def test_a_drawing_that_gets_no_slimmer_scrolls_with_readable_words():
    canvas = Diagram(width=12, height=1.4)
    canvas.chain(*(canvas.box(1 + 2 * at, 0.7, "a long name") for at in range(6)))
    shown = picture(canvas.figure, "chain", "x")
    assert 'class="nn-picture nn-scrolls"' in shown and "nn-narrow" not in shown
    least = float(re.search(r"min-width:(\d+)px", shown)[1])
    natural = float(re.search(r"width:(\d+)px", shown)[1])
    assert least / natural * 11 * 4 / 3 >= 9


def test_another_drawing_may_be_given_for_a_phone():
    canvas, down = Diagram(width=12, height=1.4), Diagram(width=4, height=6, inches=3)
    for drawn in (canvas, down):
        drawn.box(1, 0.7, "name")
    shown = sizes(picture(canvas.figure, "chain", "x", down.figure))
    assert set(shown) == {"wide", "narrow"}


def test_frames_have_narrow_variants_together():
    """One frame is wider than the rest, and all are shown on its canvas."""

    def frame(word):
        fig, axes = subplots(1, 2, margins=(0.1, 0.2, 0.65, 0.9), height=2)
        for ax in axes:
            ax.plot([0, 1])
            ax.set(xlim=(0, 1), ylim=(0, 1))
        axes[1].text(1.05, 0.5, word)
        return fig

    few, many = ["a", "b"], ["a", "a name, wider than others"]
    assert ["nn-narrow" in it for it in frames([frame(w) for w in few], "f", few)] == [False] * 2
    assert ["nn-narrow" in it for it in frames([frame(w) for w in many], "f", few)] == [True] * 2


def test_a_run_is_told_what_lies_on_what(monkeypatch, tmp_path):
    told = tmp_path / "told.jsonl"
    monkeypatch.setenv(REPORT, str(told))
    fig, ax = subplots(width=4.6)
    for word in ("one", "other"):
        ax.text(0.5, 0.5, word)
    picture(fig, "words", "x")
    (line,) = map(json.loads, told.read_text("utf8").splitlines())
    assert line["name"] == "words" and len(line["collisions"]) == 1


@pytest.mark.parametrize("name, alt", [("two words", "x"), ("fine", " ")])
def test_names_that_can_be_no_id_and_empty_words_are_refused(name, alt):
    with pytest.raises(ValueError, match=repr(name if alt == "x" else alt)):
        picture(subplots()[0], name, alt)
