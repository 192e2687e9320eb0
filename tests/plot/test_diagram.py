"""Boxes, arrows, ways around."""

import re

from matplotlib.colors import to_hex

from nnlib.plot.diagram import Diagram
from nnlib.plot.style import COLORS
from nnlib.plot.svg import inline_svg
from tests.support import refuses


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


def test_a_chain_has_an_arrow_for_each_gap():
    canvas = Diagram(9, 2)
    nodes = [canvas.circle(x, 1) for x in (1, 4, 7)]
    before = len(canvas.axes.patches)
    canvas.chain(*nodes, kind="state")
    arrows = canvas.axes.patches[before:]
    assert len(arrows) == 2
    assert {to_hex(arrow.get_edgecolor()) for arrow in arrows} == {COLORS["state"].lower()}


def test_a_route_ends_with_a_head_at_its_last_point():
    canvas = Diagram(4, 4)
    canvas.route((1, 1), (3, 1), (3, 3), kind="gate")
    (line,) = canvas.axes.lines
    assert line.get_xydata().tolist() == [[1, 1], [3, 1]]
    (head,) = canvas.axes.texts
    assert head.xyann == (3, 1) and head.xy == (3, 3)


def test_the_words_of_a_repeated_block_stand_inside_its_frame():
    canvas = Diagram(14, 8)
    canvas.repeat(7, 4, 12, 6, "main memory")
    canvas.figure.draw_without_rendering()
    (words,) = canvas.axes.texts
    frame, box = canvas.axes.patches[-1].get_window_extent(), words.get_window_extent()
    clear = 3 * canvas.figure.dpi / 72
    assert box.x1 < frame.x1 - clear and box.y1 < frame.y1 - clear


def test_a_box_with_a_link_is_one_link_by_its_words_and_can_be_clicked_all_over():
    canvas = Diagram(6, 2)
    canvas.box(1, 1, "plain")
    canvas.box(4, 1, "RMSNorm", link="../foundations/regularization.html#rmsnorm")
    markup = inline_svg(canvas.figure, "map", "A map.")
    links = re.findall(r"<a ([^>]*)>(.*?)</a>", markup)
    assert len(links) == 2
    assert all('href="../foundations/regularization.html#rmsnorm"' in told for told, _ in links)
    (shape, drawn), (words, written) = links
    assert drawn.startswith("<path") and 'tabindex="-1" aria-hidden="true"' in shape
    assert "RMSNorm</text>" in written and "hidden" not in words
    # what is one image to a reader's voice holds no links
    assert 'role="group"' in markup
    bare = Diagram(6, 2)
    bare.box(1, 1, "plain")
    assert 'role="img"' in inline_svg(bare.figure, "map", "A map.")
