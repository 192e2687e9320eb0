"""Colours as the page shows them."""

import re

import pytest

from nnlib.plot import inks
from nnlib.plot.colors import COLORS
from pipeline import ROOT


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("color", [*COLORS.values(), "#fde725", "#440154", "#abcdef", "#123456"])
def test_words_and_lines_of_any_colour_stand_out_from_the_page(color, mode):
    ground = inks.GROUND[mode]
    assert inks.contrast(inks.word(color).modes[mode], ground) >= inks.WORD
    assert inks.contrast(inks.line(color).modes[mode], ground) >= inks.LINE


@pytest.mark.parametrize("ground", [*COLORS.values(), "#fde725", "#440154", "#ffffff", "#21918c"])
@pytest.mark.parametrize("color", [COLORS["target"], "#ffffff", COLORS["gate"]])
def test_words_can_be_read_on_what_lies_behind_them(color, ground):
    tone = inks.word_on(color, (ground, ground))
    assert min(inks.contrast(mode, ground) for mode in tone.modes) >= inks.WORD


def test_words_keep_their_colour_where_it_can_be_read():
    assert inks.word_on(COLORS["gate"], inks.GROUND) == inks.word(COLORS["gate"])


def test_a_colour_that_passes_in_both_modes_stays():
    assert inks.line("#808488").css == "#808488"
    assert inks.line("#440154").css.startswith("light-dark(#440154,#")


def test_style_sheets_define_the_same_colours():
    sheet = (ROOT / "_static" / "figures.css").read_text("utf8")
    book = (ROOT / "_static" / "book.css").read_text("utf8")
    for kind, known, text in (("line", inks.LINES, sheet), ("ink", inks.WORDS, sheet + book)):
        for name, modes in known.items():
            told = re.findall(rf"--nn-{name}-{kind}: (#\w+);", text)
            assert {tone.lower() for tone in told} == set(modes), (name, kind)
    assert [p.lower() for p in re.findall(r"--nn-paper: (#\w+)", sheet)] == list(inks.GROUND)
