"""Words and colours as they stand in the SVG, and what the drawing remembers."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from nnlib.plot import inks
from nnlib.plot.style import bare, subplots
from nnlib.plot.svg import draw, inline_svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(figure):
    return list(ET.fromstring(inline_svg(figure, "words", "x")).iter(f"{SVG}text"))


def test_words_are_text_in_the_font_of_the_page():
    fig, ax = subplots(title="The bound explodes")
    bare(ax).text(0.5, 0.5, "  two  words")
    svg = inline_svg(fig, "words", "x")
    assert "Source Sans 3" in ET.fromstring(svg).attrib["style"]
    title, label = sorted(texts(fig), key=lambda node: node.text)
    assert title.text == "The bound explodes" and title.attrib["font-weight"] == "600"
    assert label.text == "two\u00a0 words"
    assert float(title.attrib["textLength"]) > float(label.attrib["textLength"]) > 20


def test_words_of_one_width_a_letter_take_the_page_s_face_for_code():
    fig, ax = subplots()
    bare(ax).text(0.5, 0.5, "code", family="monospace", color="gate")
    (word,) = texts(fig)
    assert word.attrib["style"].endswith(";font-family:var(--nn-mono,monospace)")
    assert word.attrib["style"].startswith("fill:var(--nn-gate-ink")


def test_spaces_at_the_beginning_shift_words_and_lie_on_nothing():
    fig, ax = subplots(xlim=(0, 1))
    bare(ax).text(0, 0.5, "one")
    ax.text(0, 0.5, "        two")
    one, two = sorted(texts(fig), key=lambda node: node.text)
    assert float(two.attrib["x"]) > float(one.attrib["x"]) + 15
    assert draw(fig, "words").collisions == []


def test_formulas_are_outlines_that_tell_their_size():
    fig, ax = subplots()
    bare(ax).text(0.5, 0.5, "$h_t$", fontsize=13)
    root = ET.fromstring(inline_svg(fig, "words", "x"))
    (maths,) = [node for node in root.iter() if node.get("class") == "nn-maths"]
    assert maths.attrib["font-size"] == "13" and not list(root.iter(f"{SVG}text"))


def test_colours_with_a_meaning_are_variables_of_the_page():
    fig, ax = subplots()
    bare(ax).plot([0, 1], color="gate")
    ax.text(0.5, 0.1, "word", color="gate")
    svg = inline_svg(fig, "words", "x")
    assert f"stroke:var(--nn-gate-line,{inks.LINES['gate'][0]})" in svg
    assert f"fill:var(--nn-gate-ink,{inks.WORDS['gate'][0]})" in svg
    assert "#AA3377" not in svg.replace("--nn-gate-line,#aa3377", "").upper()


def test_colours_of_a_map_stay_as_they_are():
    fig, ax = subplots()
    bare(ax).pcolormesh(np.arange(4.0).reshape(2, 2))
    assert "fill:#fde725" in inline_svg(fig, "words", "x")


@pytest.mark.parametrize("color", ["gate", "learned", "#111111", "highlight"])
def test_words_on_a_filled_box_can_be_read_in_both_modes(color):
    fig, ax = subplots()
    bare(ax).add_patch(Rectangle((0, 0), 1, 1, facecolor=color))
    ax.text(0.5, 0.5, "word", ha="center", color="ink")
    drawing = draw(fig, "words")
    (word,) = drawing.record.words
    grounds = drawing.record.grounds(*word.corners.mean(axis=0))
    tone = inks.word_on("#1b1f24", [grounds])
    assert grounds == inks.line(to_hex(color)).modes
    assert all(inks.contrast(*pair) >= inks.WORD for pair in zip(tone.modes, grounds, strict=True))
    (text,) = texts(fig)
    assert tone.css in f"{text.get('fill')} {text.get('style')}"


def cased(draw_line):
    """Return the markup of a red square with a line upon it."""
    fig, ax = subplots()
    bare(ax).add_patch(Rectangle((0, 0), 1, 1, facecolor="learned"))
    draw_line(ax)
    return inline_svg(fig, "cased", "x")


def test_a_line_on_a_patch_of_its_own_brightness_is_set_off():
    svg = cased(lambda ax: ax.plot([0.1, 0.9], [0.5, 0.5], color="baseline", linewidth=2))
    (casing,) = re.findall(r'<g class="nn-casing"><path ([^>]*)/></g>', svg)
    assert "stroke-width:4" in casing
    assert f"light-dark({inks.GROUND[0]},{inks.GROUND[1]})" in casing


@pytest.mark.parametrize(
    "draw_line",
    [
        lambda ax: ax.plot([2, 3], [0.5, 0.5], color="baseline"),  # on the page
        lambda ax: ax.plot([0.1, 0.9], [0.5, 0.5], color="baseline", alpha=0.5),  # faint
        lambda ax: ax.grid(alpha=1),
    ],
    ids=["beside", "faint", "grid"],
)
def test_other_lines_are_not(draw_line):
    assert "nn-casing" not in cased(draw_line)


def test_axes_are_named_as_such():
    fig, ax = subplots()
    ax.plot([0, 1])
    ax.grid()
    svg = inline_svg(fig, "axes", "x")
    assert svg.count('<g class="nn-axis">') == 2 + 2  # what has ticks, and the lines at the edges


def test_pixels_have_their_opacity_once():
    fig, ax = subplots()
    bare(ax).imshow([[0.0, 1.0]], cmap="gray", alpha=0.5, interpolation="bilinear")
    (image,) = [area for area in draw(fig, "half").record.areas if area.image]
    middle = image.box[:2] + (image.box[2:] - image.box[:2]) / 2
    assert image.at(*middle)[1] == pytest.approx(0.5, abs=0.01)


def test_words_on_the_cells_of_an_image_can_be_read():
    fig, ax = subplots()
    bare(ax).imshow([[0.0, 1.0]], cmap="viridis")
    ax.text(0, 0, "dark", ha="center")
    ax.text(1, 0, "light", ha="center")
    dark, light = sorted(texts(fig), key=lambda node: node.text)
    on = {node.text: node.get("fill") for node in (dark, light)}
    assert on == {"dark": "#ffffff", "light": "#000000"}


def test_the_picture_is_as_large_as_what_it_shows():
    fig, ax = subplots(width=4, height=2, margins=(0.2, 0.2, 0.9, 0.9))
    ax.text(1.4, 0.5, "far to the right")
    left, top, right, bottom = draw(fig, "words").box
    assert right > 4 * 72 + 40 and 0 < left < 60 and 0 < top < bottom <= 150
