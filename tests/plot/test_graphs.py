"""Drawings of graphs: what is drawn, where, and in which colours."""

import numpy as np
from matplotlib.colors import to_hex, to_rgba

from nnlib.plot.graphs import circle, draw_graph, layout
from nnlib.plot.style import COLORS, subplots

PATH = [[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]]  # 0 – 1 – 2, with a loop at 2


def test_each_pair_is_one_line_between_its_places_and_loops_are_none():
    _, ax = subplots()
    places = circle(3)
    draw_graph(ax, PATH, places, widths=[1, 3, 2, 1, 9])
    lines = ax.collections[0]
    wanted = [[places[0], places[1]], [places[1], places[2]]]
    np.testing.assert_allclose(lines.get_segments(), wanted)
    assert list(lines.get_linewidths()) == [3.0, 2.0]


def test_nodes_take_meanings_or_numbers():
    _, ax = subplots()
    dots = draw_graph(ax, PATH, circle(3), colors=["input", "learned", "state"])
    assert [to_hex(c) for c in dots.get_facecolor()] == [
        COLORS[name].lower() for name in ("input", "learned", "state")
    ]
    dots = draw_graph(ax, PATH, circle(3), values=[0, 1, 2], limits=(0, 4))
    assert dots.get_clim() == (0, 4) and dots.get_array().tolist() == [0, 1, 2]
    assert draw_graph(ax, PATH, circle(3), values=[3, 5, 4]).get_clim() == (3, 5)


def test_names_stand_on_all_nodes_or_on_some():
    _, ax = subplots()
    draw_graph(ax, PATH, circle(3), names="abc")
    draw_graph(ax, PATH, circle(3), names={2: "last"})
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "last"]
    np.testing.assert_allclose(ax.texts[-1].xy, circle(3)[2])


def test_a_graph_without_edges_or_nodes_is_drawn_too():
    _, ax = subplots()
    assert len(draw_graph(ax, np.zeros((2, 0)), circle(2)).get_offsets()) == 2
    assert len(draw_graph(ax, np.zeros((2, 0)), circle(0)).get_offsets()) == 0
    assert to_rgba("input") == to_rgba(COLORS["input"])


def test_a_layout_repeats_itself_and_keeps_neighbours_near():
    two = [[0, 1, 2, 3], [1, 0, 3, 2]]
    places = layout(two, 4, seed=1)
    assert np.array_equal(places, layout(two, 4, seed=1))
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    assert apart[0, 1] < apart[0, 2] and apart[2, 3] < apart[1, 3]
    assert np.abs(places).max() <= 1 + 1e-9
    row = layout([[0, 1, 2, 3], [1, 2, 3, 4]], 5)
    assert np.ptp(row[:, 0]) > 2 * np.ptp(row[:, 1])  # as wide as can be
    assert layout(np.zeros((2, 0)), 1).shape == (1, 2) and len(layout(np.zeros((2, 0)), 0)) == 0
