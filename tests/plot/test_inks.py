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
    tone = inks.word_on(color, [(ground, ground)])
    assert min(inks.contrast(mode, ground) for mode in tone.modes) >= inks.WORD


def test_words_keep_their_colour_where_it_can_be_read():
    assert inks.word_on(COLORS["gate"], [inks.GROUND]) == inks.word(COLORS["gate"])


@pytest.mark.parametrize("ground", [*COLORS.values(), "#fde725", "#440154", "#ffffff", "#21918c"])
@pytest.mark.parametrize("color", ["#ffffff", "#000000", "#21918c", *COLORS.values()])
def test_a_line_stands_out_from_its_ground_or_from_its_casing(color, ground):
    told = inks.casing(color, [((ground, ground),) * 2] * 9)
    edges = re.findall(r"[(,]([^,)]+)", told) or ["transparent"] * 2
    for ink, edge in zip(inks.line(color).modes, edges, strict=True):
        assert (edge == "transparent") == (inks.contrast(ink, ground) >= inks.LINE)
        assert inks.contrast(ink, ground if edge == "transparent" else edge) >= inks.LINE


def test_a_line_is_cased_where_a_third_of_it_needs_that_on_both_sides():
    page, red = (inks.GROUND,) * 2, (inks.line(COLORS["learned"]).modes,) * 2
    assert inks.casing(COLORS["learned"], []) == ""
    assert inks.casing(COLORS["learned"], [page] * 6 + [red] * 3) == ""
    assert inks.casing(COLORS["learned"], [page] * 5 + [red] * 4) != ""
    assert inks.casing(COLORS["learned"], [(page[0], red[0])] * 9) == ""


def test_a_colour_that_passes_in_both_modes_stays():
    assert inks.line("#808488").css == "#808488"
    assert inks.line("#440154").css.startswith("light-dark(#440154,#")


def test_style_sheets_define_the_same_colours():
    sheet = (ROOT / "_static" / "book.css").read_text("utf8")
    for kind, known in (("line", inks.LINES), ("ink", inks.WORDS)):
        for name, modes in known.items():
            told = re.findall(rf"--nn-{name}-{kind}: (#\w+);", sheet)
            assert tuple(tone.lower() for tone in told) == modes, (name, kind)
