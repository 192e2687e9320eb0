"""Figures as inline SVG, diagrams, curves and maps."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib import pyplot as plt

from nnlib.plot import style
from nnlib.plot.curves import curves, growth
from nnlib.plot.diagram import Diagram
from nnlib.plot.maps import decision, matrix
from nnlib.plot.style import COLORS, subplots
from nnlib.plot.svg import inline_svg, share_glyphs
from tests.support import refuses


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def picture():
    fig, ax = subplots()
    ax.plot([0.0, 1.0], [0.0, 1.0], color=COLORS["learned"])
    ax.scatter([0.5], [0.25], color=COLORS["target"])
    ax.set(title="A line", xlabel="$x_1$")
    return fig


def test_inline_svg_takes_the_ink_of_the_page():
    svg = inline_svg(picture(), "line", "A rising line")
    assert "currentColor" in svg and style.INK not in svg
    assert COLORS["learned"].lower() in svg.lower()
    assert "<style" not in svg and "<?xml" not in svg and "<metadata" not in svg


def test_inline_svg_is_well_formed_and_says_what_it_shows():
    root = ET.fromstring(inline_svg(picture(), "line", 'A "line" & more'))
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'A "line" & more'
    assert "max-width:100%" in root.attrib["style"]


def test_inline_svg_is_equal_from_run_to_run():
    assert inline_svg(picture(), "line", "x") == inline_svg(picture(), "line", "x")


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
    assert len(letters) + sum(map(len, frames)) < 0.8 * sum(map(len, alone))


@pytest.mark.parametrize("name", ["", "1a", "a b", "ä", "a_b"])
def test_name_of_a_picture_is_checked(name):
    with refuses(ValueError, f"name={name!r} must be letters"):
        inline_svg(picture(), name, "x")


def test_picture_without_words_is_refused():
    with refuses(ValueError, "alt=' ' must describe"):
        inline_svg(picture(), "line", " ")


@pytest.mark.parametrize("theme", ["#ffffff", "#14181d"])
@pytest.mark.parametrize("meaning", ["input", "learned", "state", "gate", "baseline"])
def test_meaning_colours_stand_out_on_both_grounds(meaning, theme):
    def luminance(color):
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted([luminance(COLORS[meaning]), luminance(theme)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 2.5  # lines and marks; words take the ink


def test_arrow_joins_the_outlines_of_two_boxes():
    canvas = Diagram(6, 2)
    left, right = canvas.box(1, 1, "a", kind="input"), canvas.box(4, 1, "b", kind="learned")
    assert left.toward(right.x, right.y) == (1.8, 1.0)
    assert right.toward(left.x, left.y) == (3.2, 1.0)
    assert left.toward(left.x, left.y) == (1, 1)
    before = len(canvas.axes.patches)
    canvas.arrow(left, right, "b d")
    assert len(canvas.axes.patches) == before + 1
    assert canvas.axes.texts[-1].get_text() == "b d"


def test_diagram_names_bad_arguments():
    with refuses(ValueError, "width=0 must be greater than 0"):
        Diagram(0, 1)
    with refuses(ValueError, "kind='inputs' must be one of"):
        Diagram(2, 2).box(1, 1, "x", kind="inputs")


def test_curves_are_named_at_their_ends_and_baselines_dashed():
    _, ax = subplots()
    curves(ax, [0, 1], {"model": [1.0, 0.5], "baseline": [0.9, 0.9]}, dashed=("baseline",))
    assert [text.get_text() for text in ax.texts] == ["model", "baseline"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    with refuses(ValueError, "series['short'] has 1 values, x has 2"):
        curves(ax, [0, 1], {"short": [1.0]})


def test_growth_fits_the_power():
    _, ax = subplots()
    sizes = [10, 100, 1000]
    growth(ax, sizes, {"square": [n**2 for n in sizes], "line": sizes})
    assert [text.get_text() for text in ax.texts] == ["square ∝ n^2.0", "line ∝ n^1.0"]


def test_signed_matrix_has_zero_in_the_middle():
    _, ax = subplots()
    image = matrix(ax, np.array([[-1.0, 0.5]]), signed=True)
    assert image.get_clim() == (-1.0, 1.0)
    with refuses(ValueError, "values must be a matrix, got shape (3,)"):
        matrix(ax, np.ones(3))


def test_decision_colours_the_positive_side_red():
    _, ax = subplots()
    image = decision(ax, lambda p: p[:, 0], (-1, 1), (-1, 1), resolution=8)
    assert image.get_array()[:, 0].max() < 0 < image.get_array()[:, -1].min()
