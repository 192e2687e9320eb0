"""The fonts that stand in until the book's have come are as wide and as high as they are."""

import re
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

from pipeline import ROOT
from pipeline.site import stylesheet

FONTS = ROOT / "_extra" / "vendor" / "fonts"
SYSTEM = Path("/usr/share/fonts/truetype/liberation")
# Letters of English text, as often as they come in a thousand.
OFTEN = {
    " ": 183, "e": 103, "t": 75, "a": 65, "o": 62, "n": 57, "i": 57, "s": 53, "h": 50, "r": 50,
    "l": 33, "d": 33, "u": 23, "c": 22, "m": 20, "f": 20, "w": 17, "g": 16, "p": 15, "y": 14,
    "b": 13, "v": 8, "k": 6, ".": 10, ",": 10, "x": 1, "j": 1, "q": 1, "z": 1,
}  # fmt: skip
PAIRS = {
    ("Near Source Serif", "normal", 400): ("source-serif-4-latin-wght-normal", "Serif-Regular"),
    ("Near Source Serif", "normal", 600): ("source-serif-4-latin-wght-normal", "Serif-Bold"),
    ("Near Source Serif", "italic", 400): ("source-serif-4-latin-wght-italic", "Serif-Italic"),
    ("Near Source Sans", "normal", 400): ("source-sans-3-latin-wght-normal", "Sans-Regular"),
    ("Near Source Sans", "normal", 650): ("source-sans-3-latin-wght-normal", "Sans-Bold"),
    ("Near Source Code", "normal", 400): ("source-code-pro-latin-wght-normal", "Mono-Regular"),
}


def measured(file, weight=None):
    """Return a font's mean width, ascent and descent, as shares of its size."""
    font = TTFont(file)
    if weight and "fvar" in font:
        axes = {axis.axisTag: axis.defaultValue for axis in font["fvar"].axes}
        font = instantiateVariableFont(font, axes | {"wght": weight})
    unit, names, widths = font["head"].unitsPerEm, font.getBestCmap(), font["hmtx"]
    width = sum(count * widths[names[ord(letter)]][0] for letter, count in OFTEN.items())
    head = font["hhea"]
    return width / sum(OFTEN.values()) / unit, head.ascent / unit, -head.descent / unit


def stand_ins():
    """Return what fonts.css says of each font of the reader's machine."""
    found = {}
    for head, body in stylesheet.rules((ROOT / "_static" / "fonts.css").read_text("utf8")):
        rule = dict(re.findall(r"([\w-]+):\s*([^;]+);?", body))
        if head == "@font-face" and "size-adjust" in rule:
            name = rule["font-family"].strip('"'), rule["font-style"]
            low, high = map(int, rule["font-weight"].split())
            found[*name, low, high] = rule
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_a_font_that_stands_in_takes_the_same_room(name):
    ours, theirs = PAIRS[name]
    if not FONTS.is_dir() or not SYSTEM.is_dir():
        pytest.skip("the fonts are not here")
    family, style, weight = name
    rule = next(
        rule
        for (one, how, low, high), rule in stand_ins().items()
        if (one, how) == (family, style) and low <= weight <= high
    )
    width, ascent, descent = measured(FONTS / f"{ours}.woff2", weight)
    scale = width / measured(SYSTEM / f"Liberation{theirs}.ttf")[0]
    wanted = {
        "size-adjust": scale,
        "ascent-override": ascent / scale,
        "descent-override": descent / scale,
        "line-gap-override": 0,
    }
    for told, value in wanted.items():
        assert float(rule[told].rstrip("%")) == pytest.approx(100 * value, abs=0.6), told


def test_every_stand_in_is_part_of_a_list_of_fonts():
    book = (ROOT / "_static" / "book.css").read_text("utf8")
    assert all(f'"{family}"' in book for family, *_ in stand_ins())
