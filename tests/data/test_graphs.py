"""Graphs: held to networkx, and to what is known of them."""

import itertools

import networkx
import pytest
import torch

from nnlib.data import _docstrings
from nnlib.data.graphs import (
    Graph,
    barbell,
    batched,
    block_model,
    edges_of,
    graph_atlas,
    karate,
    library_functions,
    undirected_pairs,
)
from tests.support import refuses


def as_networkx(graph):
    made = networkx.Graph()
    made.add_nodes_from(range(graph.num_nodes))
    made.add_edges_from(graph.edge_index.T.tolist())
    return made


def both_ways(edge_index):
    pairs = set(map(tuple, edge_index.T.tolist()))
    return len(pairs) == edge_index.shape[1] and pairs == {(b, a) for a, b in pairs}


def bare(y=None):
    """Two nodes without edges."""
    none = torch.zeros(2, 0, dtype=torch.int64)
    return Graph(x=torch.ones(2, 2), edge_index=none, y=y, source="", licence="")


@pytest.fixture(scope="module")
def atlas():
    return graph_atlas()


def test_every_set_says_its_source_and_holds_each_edge_in_both_directions(atlas):
    for graph in (karate(), atlas[500], block_model(), barbell(4)):
        assert graph.source and graph.licence
        assert graph.edge_index.dtype == torch.int64 and both_ways(graph.edge_index)
        assert graph.edge_index.is_contiguous() and len(graph.x) == graph.num_nodes


def test_the_club_is_zacharys():
    club = karate()
    assert networkx.utils.edges_equal(as_networkx(club).edges, networkx.karate_club_graph().edges)
    assert club.names[0] == "Mr. Hi" and club.y[0] == 0
    assert club.names[33] == "John A." and club.y[33] == 1
    assert len(club.names) == 34 and club.names[1] == "2"


def test_the_atlas_has_each_connected_graph_once_with_its_triangles_and_diameter(atlas):
    assert len(atlas) == 853
    for graph in atlas[::50]:
        known = as_networkx(graph)
        triangles = sum(networkx.triangles(known).values()) / 3
        assert graph.y.tolist() == [[triangles, networkx.diameter(known)]]
    complete = atlas[-1]
    assert complete.edge_index.shape == (2, 42) and complete.y.tolist() == [[35.0, 1.0]]
    shown = [as_networkx(graph) for graph in atlas[100:120]]
    assert not any(networkx.is_isomorphic(one, two) for one, two in itertools.pairwise(shown))


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)], ids=str)
def test_a_block_model_joins_as_its_chances_say(shares):
    graph = block_model(20, 4, *shares)
    same = graph.y[graph.edge_index[0]] == graph.y[graph.edge_index[1]]
    wanted = 4 * 5 * 4 * shares[0], 20 * 15 * shares[1]
    assert (int(same.sum()), int((~same).sum())) == wanted


def test_a_block_model_has_about_the_edges_that_it_should_and_repeats_itself():
    graph = block_model(400, 4, 0.04, 0.005, seed=3)
    same = graph.y[graph.edge_index[0]] == graph.y[graph.edge_index[1]]
    inside, across = 400 * 99 * 0.04, 400 * 300 * 0.005
    # Pairs are counted twice, so the variance is twice the mean; five standard deviations.
    assert abs(int(same.sum()) - inside) < 5 * (2 * inside) ** 0.5
    assert abs(int((~same).sum()) - across) < 5 * (2 * across) ** 0.5
    assert torch.equal(graph.x, block_model(seed=3).x)
    assert not torch.equal(graph.x, block_model(seed=4).x)
    assert block_model(10, 4).y.bincount().tolist() == [3, 2, 3, 2]


def test_a_barbell_has_its_ends_three_edges_apart_and_a_shortcut_makes_that_one():
    for size in (2, 3, 7):
        known = as_networkx(barbell(size))
        assert known.number_of_edges() == size * (size - 1) + 1
        assert networkx.shortest_path_length(known, 0, 2 * size - 1) == 3
        short = as_networkx(barbell(size, shortcut=True))
        assert networkx.shortest_path_length(short, 0, 2 * size - 1) == 1


def test_a_batch_is_one_graph_in_parts(atlas):
    batch = batched(atlas[:40])
    made = networkx.Graph(batch.edge_index.T.tolist())
    assert networkx.number_connected_components(made) == 40 == batch.num_graphs
    assert batch.y.shape == (40, 2) and batch.batch.tolist() == sorted(batch.batch.tolist())
    assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])
    assert torch.equal(batched([karate(), karate()]).y, torch.cat([karate().y] * 2))
    empty = bare(torch.tensor(1))
    assert batched([empty, empty]).y.tolist() == [1, 1]


def test_edges_of_a_directed_graph_have_one_direction_and_nodes_any_name():
    graph = networkx.DiGraph([("b", "a"), ("a", "a")])
    assert edges_of(graph).tolist() == [[0, 1], [1, 1]]
    assert edges_of(networkx.empty_graph(3)).shape == (2, 0)


def test_bad_arguments_are_refused_by_name():
    with refuses(ValueError, "num_nodes=8 must be one of"):
        graph_atlas(8)
    with refuses(ValueError, "p_in=1.5 must be a finite number ≥ 0 and ≤ 1"):
        block_model(p_in=1.5)
    with refuses(ValueError, "size=1 must be an integer ≥ 2"):
        barbell(1)
    with refuses(TypeError, "shortcut=1 must be True or False"):
        barbell(3, shortcut=1)
    with refuses(TypeError, "graphs must be one Graph or more"):
        batched([])
    with refuses(ValueError, "equally many features, got [2, 34]"):
        batched([karate(), barbell(2)])
    with refuses(ValueError, "graphs must all have a target y, or none"):
        batched([bare(), barbell(2)])
    with refuses(TypeError, "graph must be one of networkx, got list"):
        edges_of([(0, 1)])


# ------------------------------------------------------------------------- functions of libraries
@pytest.fixture(scope="module")
def functions():
    return library_functions()


def test_functions_are_many_and_mostly_refer_to_their_own_subject(functions):
    """Bounds, not numbers: another version of numpy or scipy has other functions."""
    nodes, edges = functions.num_nodes, functions.edge_index
    assert 800 < nodes < 5000
    assert nodes < edges.shape[1] < 20 * nodes
    assert functions.y.bincount(minlength=11).min() >= 15
    assert functions.x.unique().tolist() == [0, 1]
    assert 300 < functions.x.shape[1] < 5000
    assert len(set(functions.names)) == len(functions.names) == nodes
    source, target = edges
    assert 0.7 < (functions.y[source] == functions.y[target]).double().mean() < 1
    pairs = zip(*edges.tolist(), strict=True)
    assert torch.equal(undirected_pairs(pairs), edges)  # each once, both ways, in order
    assert (source != target).all()
    assert torch.isin(torch.arange(nodes), edges).all()


def test_a_function_stands_where_it_is_found_and_is_linked_to_what_it_names(functions):
    at = {name: number for number, name in enumerate(functions.names)}
    links = set(map(tuple, functions.edge_index.T.tolist()))
    assert functions.classes[functions.y[at["scipy.fft.dct"]]] == "Fourier transforms"
    assert functions.classes[functions.y[at["numpy.ma.average"]]] == "masked arrays"
    assert (at["scipy.fft.dct"], at["scipy.fft.idct"]) in links
    assert (at["numpy.argsort"], at["numpy.sort"]) in links


def test_words_are_those_of_enough_docstrings(functions):
    counts = functions.x.sum(0)
    assert counts.min() >= 20
    assert counts.max() <= 0.3 * functions.num_nodes
    fewer = library_functions(min_documents=60)
    assert fewer.x.shape[1] < functions.x.shape[1]
    assert torch.equal(fewer.edge_index, functions.edge_index)


def test_sections_and_references_of_a_docstring_are_told_apart():
    text = "Sort.\n\nParameters\n----------\na : array\n\nSee Also\n--------\nargsort : Find.\n"
    parts = dict(_docstrings.sections(text))
    assert list(parts) == ["", "Parameters", "See Also"]
    assert "array" in parts["Parameters"]
    assert list(_docstrings.references(parts["See Also"])) == ["argsort"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("dct, idct : Cosines.", ["dct", "idct"]),
        ("numpy.fft : The module.", ["numpy.fft"]),
        (":func:`~scipy.fft.dct`", ["scipy.fft.dct"]),
        ("    indented text, with commas", []),
        ("not a name at all : text", []),
        ("", []),
    ],
)  # fmt: skip
def test_names_in_see_also(line, names):
    assert list(_docstrings.references(line)) == names


def test_a_name_is_looked_for_nearby_first():
    known = {"scipy.fft.fft": 0, "numpy.fft.fft": 1, "numpy.sort": 2}
    assert _docstrings.resolved("fft", "scipy.fft", known) == 0
    assert _docstrings.resolved("fft.fft", "numpy.ma", known) == 1
    assert _docstrings.resolved("np.sort", "scipy.fft", known) == 2
    assert _docstrings.resolved("nowhere", "scipy.fft", known) is None
