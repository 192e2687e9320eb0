"""Figures as inline SVG."""

import re
import xml.etree.ElementTree as ET

import pytest

from nnlib.plot import style
from nnlib.plot.style import COLORS, subplots
from nnlib.plot.svg import inline_svg, share_glyphs
from tests.support import refuses


def picture():
    fig, ax = subplots()
    ax.plot([0.0, 1.0], [0.0, 1.0], color=COLORS["learned"])
    ax.scatter([0.5], [0.25], color=COLORS["target"])
    ax.set(title="A line", xlabel="$x_1$")
    return fig


def test_inline_svg_takes_the_ink_of_the_page():
    svg = inline_svg(picture(), "line", "A rising line")
    assert "currentColor" in svg and style.INK not in svg
    assert "var(--nn-learned-line,#" in svg
    assert "<style" not in svg and "<?xml" not in svg and "<metadata" not in svg


def test_inline_svg_is_well_formed_and_says_what_it_shows():
    root = ET.fromstring(inline_svg(picture(), "line", 'A "line" & more'))
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'A "line" & more'
    assert "max-width:100%" in root.attrib["style"]


def test_inline_svg_is_equal_from_run_to_run():
    assert inline_svg(picture(), "line", "x") == inline_svg(picture(), "line", "x")


def test_positions_are_shortened_and_numbers_that_are_read_are_not():
    figure, ax = subplots()
    ax.set(xticks=[0.975], xticklabels=["0.975"], title="at 0.00125")
    svg = inline_svg(figure, "decimals", "A tick")
    words = [text.text for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"0.975", "at 0.00125"} <= set(words)
    markup = re.sub(r">[^<]+<|(?:scale|matrix)\([^)]*\)", "", svg)
    assert re.findall(r"\d+\.\d{3,}", markup) == []


def test_two_pictures_of_a_page_share_no_id():
    def ids(name):
        root = ET.fromstring(inline_svg(picture(), name, "x"))
        return {node.attrib["id"] for node in root.iter() if "id" in node.attrib}

    assert ids("first") and not ids("first") & ids("second")


def test_every_reference_of_a_picture_leads_somewhere():
    svg = inline_svg(picture(), "line", "x")
    root = ET.fromstring(svg)
    ids = {node.attrib["id"] for node in root.iter() if "id" in node.attrib}
    links = {v[1:] for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")}
    assert links and links <= ids
    assert all(part.split(")")[0] in ids for part in svg.split("url(#")[1:])


def test_frames_share_their_letters_and_miss_none():
    alone = [inline_svg(picture(), f"walk-{at}", "x") for at in range(3)]
    letters, frames = share_glyphs(alone, "walk")
    nodes = [node for part in (letters, *frames) for node in ET.fromstring(part).iter()]
    ids = [node.attrib["id"] for node in nodes if "id" in node.attrib]
    links = {v[1:] for node in nodes for k, v in node.attrib.items() if k.endswith("href")}
    assert links <= set(ids) and len(ids) == len(set(ids))
    assert len(letters) + sum(map(len, frames)) < sum(map(len, alone))


@pytest.mark.parametrize("name", ["", "1a", "a b", "ä", "a_b"])
def test_name_of_a_picture_is_checked(name):
    with refuses(ValueError, f"name={name!r} must be letters"):
        inline_svg(picture(), name, "x")


def test_picture_without_words_is_refused():
    with refuses(ValueError, "alt=' ' must describe"):
        inline_svg(picture(), "line", " ")
