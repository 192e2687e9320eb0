"""The drawing of a layered network: places, colours, sizes, refusals."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from nnlib.plot.chapters.backpropagation import network_columns, network_edges, network_units
from nnlib.plot.style import COLORS, MUTED, subplots
from nnlib.plot.svg import inline_svg


@pytest.fixture
def drawn():
    figure, ax = subplots()
    return figure, ax, network_columns(ax, [3, 5, 1])


def test_units_of_a_layer_stand_in_a_column_from_the_top(drawn):
    _, _, columns = drawn
    assert [len(column) for column in columns] == [3, 5, 1]
    for column in columns:
        assert len(set(column[:, 0])) == 1
        assert (np.diff(column[:, 1]) < 0).all()
        assert abs(column[:, 1].mean()) < 1e-12


def test_sign_is_the_colour_size_the_width_and_every_edge_is_drawn(drawn):
    _, ax, columns = drawn
    first, second = np.zeros((5, 3)), np.full((1, 5), np.nan)
    first[0, 0], first[1, 1], first[2, 2] = 1.0, -1.0, 0.01
    network_edges(ax, columns, [first, second])
    groups = {}
    for patch in ax.patches:
        assert isinstance(patch, PathPatch)
        color = to_hex(patch.get_edgecolor()).lower()
        groups.setdefault(color, []).append((patch.get_linewidth(), len(patch.get_path().vertices)))
    red, blue = (COLORS[name].lower() for name in ("learned", "input"))
    assert sorted(n for _, n in groups[red]) == [2, 2] and len(groups[blue]) == 1
    assert max(groups[red])[0] == groups[blue][0][0] > min(groups[red])[0]
    assert groups[MUTED.lower()] == [(0.35, 2 * (3 * 5 + 5 - 3))]


def test_a_unit_without_a_value_is_an_empty_ring(drawn):
    _, ax, columns = drawn
    network_units(ax, columns[0], [1.0, float("nan"), -0.1], color=["learned", "state", "input"])
    on, off = (c for c in ax.collections if isinstance(c, PathCollection))
    assert len(on.get_offsets()) == 2 and len(off.get_offsets()) == 1
    assert on.get_facecolor()[0, 3] > on.get_facecolor()[1, 3]
    assert len(off.get_facecolor()) == 0


def test_a_graph_of_hundreds_of_edges_stays_small():
    figure, ax = subplots()
    columns = network_columns(ax, [13, 16, 3])
    rng = np.random.default_rng(0)
    network_edges(ax, columns, [rng.normal(size=(16, 13)), rng.normal(size=(3, 16))])
    assert len(inline_svg(figure, "graph", "a graph")) < 20_000


@pytest.mark.parametrize("sizes", [[3], [3, 0]])
def test_too_few_units_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes="):
        network_columns(subplots()[1], sizes)


def test_values_that_do_not_fit_are_refused(drawn):
    _, ax, columns = drawn
    with pytest.raises(ValueError, match=r"values\[0\] must have shape \(5, 3\)"):
        network_edges(ax, columns, [np.zeros((3, 5)), np.zeros((1, 5))])
    with pytest.raises(ValueError, match="limit=0"):
        network_edges(ax, columns, [np.zeros((5, 3)), np.zeros((1, 5))], limit=0)
