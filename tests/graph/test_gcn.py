"""GCN against PyTorch Geometric, dense matrices, eigenvectors, and what was worked by hand."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.data.graphs import karate
from nnlib.graph._adjacency import MANY
from nnlib.graph.gcn import (
    APPNP,
    GCN,
    GCNII,
    SGC,
    ChebLayer,
    GCNIILayer,
    GCNLayer,
    NormalizedAdjacency,
    chebyshev_filter,
    correct_and_smooth,
    dirichlet_energy,
    drop_edges,
    graph_fourier,
    homophily,
    label_propagation,
    laplacian,
)
from tests.support import Example, Peer, refuses

geometric = Peer("torch_geometric.nn")
models = Peer("torch_geometric.nn.models")
TIGHT = {"rtol": 1e-9, "atol": 1e-10}
SQUARE = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    edges = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    return Example(
        {"in_features": 3, "hidden_size": 8, "num_classes": 4},
        (torch.randn(5, 3), edges, torch.rand(6)),
    )


def random_graph(seed=0, nodes=12, edges=40, features=5):
    """Draw any list of edges: loops, doubles, nodes without any, one direction only."""
    draw = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes - 2, (2, edges), generator=draw)
    edge_index[:, 0] = edge_index[0, 0]  # a loop
    edge_index[:, 1] = edge_index[:, 2]  # a double
    x = torch.randn(nodes, features, generator=draw, dtype=torch.float64)
    weight = torch.rand(edges, generator=draw, dtype=torch.float64)
    return x, edge_index, weight


def undirected_graph(seed=0, nodes=12, chance=0.3):
    """Draw edges in both directions, without loops; the last node has none."""
    draw = torch.Generator().manual_seed(seed)
    upper = (torch.rand(nodes, nodes, generator=draw) < chance).triu(1)
    upper[:, -1] = False
    return (upper | upper.T).nonzero().T


def adjacency(edge_index, nodes, weight=None):
    """The matrix A, written edge by edge: a row for each target."""
    A = torch.zeros(nodes, nodes, dtype=torch.float64)
    for at, (source, target) in enumerate(edge_index.T.tolist()):
        A[target, source] += 1 if weight is None else weight[at]
    return A


def dense(edge_index, nodes):
    """The propagation matrix as its definition has it, of edges without loops."""
    A = adjacency(edge_index, nodes) + torch.eye(nodes, dtype=torch.float64)
    root = torch.diag(A.sum(1) ** -0.5)
    return root @ A @ root


# --------------------------------------------------------------------------- the matrix by itself
@pytest.mark.equation("gcn-normalized", "gcn-loops")
@pytest.mark.parametrize("seed", range(4))
def test_the_matrix_is_its_definition(seed):
    edges = undirected_graph(seed)
    S = NormalizedAdjacency(edges, 12, dtype=torch.float64)
    torch.testing.assert_close(S.dense(), dense(edges, 12), **TIGHT)


@pytest.mark.equation("gcn-node")
def test_a_node_gets_the_sum_of_neighbours_over_roots_of_degrees():
    edges = undirected_graph(1)
    x = torch.randn(12, 3, dtype=torch.float64)
    got = NormalizedAdjacency(edges, 12, dtype=torch.float64) @ x
    near = {i: [i] for i in range(12)}
    for source, target in edges.T.tolist():
        near[target].append(source)
    for i in range(12):
        wanted = sum(x[j] / math.sqrt(len(near[i]) * len(near[j])) for j in near[i])
        torch.testing.assert_close(got[i], wanted, **TIGHT)


@pytest.mark.equation("gcn-pencil")
def test_the_example_for_a_pencil():
    star = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])
    S = NormalizedAdjacency(star, 4)
    off = 1 / math.sqrt(8)
    wanted = [[1 / 4, off, off, off], [off, 1 / 2, 0, 0], [off, 0, 1 / 2, 0], [off, 0, 0, 1 / 2]]
    torch.testing.assert_close(S.dense(), torch.tensor(wanted))
    sums = S.dense().sum(1).tolist()
    assert [round(value, 2) for value in sums] == [1.31, 0.85, 0.85, 0.85]
    told = (S @ torch.tensor([2.0, 4.0, 0.0, 0.0])).tolist()
    assert [round(value, 2) for value in told] == [1.91, 2.71, 0.71, 0.71]


@pytest.mark.equation("gcn-sums")
def test_rows_do_not_sum_to_one_where_degrees_differ():
    edges = undirected_graph(3)
    sums = NormalizedAdjacency(edges, 12, dtype=torch.float64).dense().sum(1)
    degree = adjacency(edges, 12).sum(1) + 1
    near = adjacency(edges, 12) + torch.eye(12, dtype=torch.float64)
    by_hand = torch.stack(
        [sum(near[i, j] * (degree[i] * degree[j]) ** -0.5 for j in range(12)) for i in range(12)]
    )
    torch.testing.assert_close(sums, by_hand, **TIGHT)
    assert sums.min() < 0.95
    assert sums.max() > 1.1
    ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
    even = NormalizedAdjacency(torch.cat([ring, ring.flip(0)], 1), 6).dense().sum(1)
    torch.testing.assert_close(even, torch.ones(6))  # equal degrees: then they do


@pytest.mark.equation("gcn-spectrum")
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.2, 0.6, 1.0]))
def test_eigenvalues_lie_above_minus_one_and_reach_one(seed, chance):
    edges = undirected_graph(seed, 9, chance)
    values = torch.linalg.eigvalsh(NormalizedAdjacency(edges, 9, dtype=torch.float64).dense())
    assert values[0] > -1 + 1e-6
    assert abs(values[-1] - 1) < 1e-9


@pytest.mark.equation("gcn-quadratic")
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_quadratic_form_is_a_sum_of_squares_over_edges(sign):
    edges = undirected_graph(5)
    S, x = dense(edges, 12), torch.randn(12, dtype=torch.float64)
    degree = adjacency(edges, 12).sum(1) + 1
    total = 0.0
    pairs = edges.T.tolist() + [[i, i] for i in range(12)]
    for i, j in pairs:
        total += (x[i] / degree[i].sqrt() + sign * x[j] / degree[j].sqrt()) ** 2 / 2
    form = x @ (torch.eye(12, dtype=torch.float64) + sign * S) @ x
    torch.testing.assert_close(form, total, **TIGHT)


@pytest.mark.equation("gcn-fixed")
def test_roots_of_degrees_stay_what_they_are():
    edges = undirected_graph(2)
    root = (adjacency(edges, 12).sum(1) + 1).sqrt()
    S = NormalizedAdjacency(edges, 12, dtype=torch.float64)
    torch.testing.assert_close(S @ root, root, **TIGHT)


@pytest.mark.equation("gcn-limit")
def test_many_averagings_leave_one_number_a_part_of_the_graph():
    club = karate()
    S = NormalizedAdjacency(club.edge_index, 34, dtype=torch.float64)
    x = torch.randn(34, 4, dtype=torch.float64)
    many = torch.linalg.matrix_power(dense(club.edge_index, 34), 2000) @ x
    root = (adjacency(club.edge_index, 34).sum(1) + 1).sqrt()
    unit = root / root.norm()
    torch.testing.assert_close(many, unit[:, None] * (unit @ x), rtol=0, atol=1e-9)
    one_by_one = x
    for _ in range(500):
        one_by_one = S @ one_by_one
    torch.testing.assert_close(one_by_one, many, rtol=0, atol=1e-6)


@pytest.mark.equation("gcn-rate")
def test_what_fades_last_fades_with_the_second_eigenvalue():
    club = karate()
    values, vectors = torch.linalg.eigh(dense(club.edge_index, 34))
    second = values[:-1].abs().max()
    x = torch.randn(34, dtype=torch.float64)
    limit = vectors[:, -1] * (vectors[:, -1] @ x)
    far = x - limit
    for k in range(1, 30):
        x = dense(club.edge_index, 34) @ x
        assert (x - limit).norm() <= second**k * far.norm() + 1e-12


# -------------------------------------------------------------------------- PyTorch Geometric's
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", [{}, {"improved": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("sizes", [(5, 3), (5, 9)], ids=str)
def test_weights_go_both_ways_and_answers_are_equal(sizes, options, weighted, cached):
    x, edges, weight = random_graph()
    weight = weight if weighted else None
    theirs = geometric.GCNConv(*sizes, cached=cached, **options).double()
    ours = GCNLayer(*sizes, cached=cached, dtype=torch.float64, **options)
    if ours.bias is not None:
        nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    told = weight  # without weights, PyTorch Geometric 2.8 forgets that loops weigh 2
    if weight is None and options.get("improved"):
        told = torch.ones(edges.shape[1], dtype=torch.float64)
    for _ in range(2):  # the second time out of the cache
        torch.testing.assert_close(ours(x, edges, weight), theirs(x, edges, told), **TIGHT)
    nn.init.normal_(ours.lin.weight)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x, edges, weight), theirs(x, edges, told), **TIGHT)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"self_loops": False}, {"add_self_loops": False}), ({"normalize": False},) * 2],
    ids=["no loops", "not normalised"],
)
def test_without_loops_and_without_normalising(ours, theirs):
    x, edges, weight = random_graph(3)
    peer = geometric.GCNConv(5, 4, **theirs).double()
    mine = GCNLayer(5, 4, dtype=torch.float64, **ours)
    mine.load_state_dict(peer.state_dict())
    torch.testing.assert_close(mine(x, edges, weight), peer(x, edges, weight), **TIGHT)


@pytest.mark.parametrize("cached", [False, True])
def test_gradients_are_those_of_the_peer(cached):
    x, edges, weight = random_graph(1)
    peer = geometric.GCNConv(5, 4).double()
    mine = GCNLayer(5, 4, dtype=torch.float64, cached=cached)
    mine.load_state_dict(peer.state_dict())
    grads = []
    for layer in (mine, peer):
        given = x.clone().requires_grad_(), weight.clone().requires_grad_(not cached)
        out = layer(given[0], edges, given[1])
        wanted = [given[0], layer.lin.weight, *([] if cached else [given[1]])]
        grads.append(torch.autograd.grad(out.sin().sum(), wanted))
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, **TIGHT)


@pytest.mark.equation("gcn-two-layers")
@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_the_whole_network_loads_the_peers_and_is_its_formula(num_layers):
    x, edges, weight = random_graph(2)
    peer = models.GCN(5, 6, num_layers, 3).double().eval()
    mine = GCN(5, 6, 3, num_layers, dtype=torch.float64).eval()
    mine.load_state_dict(peer.state_dict())
    torch.testing.assert_close(mine(x, edges, weight), peer(x, edges, edge_weight=weight), **TIGHT)
    if num_layers == 2:
        edges = undirected_graph(4)
        S, (one, two) = dense(edges, 12), mine.convs
        hidden = (S @ x @ one.lin.weight.T + one.bias).relu()
        formula = (S @ hidden @ two.lin.weight.T + two.bias).softmax(1)
        torch.testing.assert_close(mine(x, edges).softmax(1), formula, **TIGHT)


@pytest.mark.equation("gcn-chebnet")
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("largest", [2.0, 1.6])
def test_chebnet_is_the_peers(size, largest):
    edges, x = undirected_graph(6), random_graph()[0]
    edges = torch.cat([edges, torch.full((2, 1), 3)], 1)  # and a loop, which both leave out
    peer = geometric.ChebConv(5, 4, size).double()
    mine = ChebLayer(5, 4, size, largest=largest, dtype=torch.float64)
    mine.load_state_dict(peer.state_dict())
    wanted = peer(x, edges, lambda_max=torch.tensor(largest, dtype=torch.float64))
    torch.testing.assert_close(mine(x, edges), wanted, **TIGHT)


@pytest.mark.equation("gcn-gcnii")
def test_gcnii_is_the_peers():
    x, edges, weight = random_graph(4)
    first = torch.randn_like(x)
    peer = geometric.GCN2Conv(5, alpha=0.2, theta=0.7, layer=3).double()
    mine = GCNIILayer(5, 0.2, math.log(0.7 / 3 + 1), dtype=torch.float64)
    mine.load_state_dict(peer.state_dict())
    wanted = peer(x, first, edges, weight)
    torch.testing.assert_close(mine(x, first, edges, weight), wanted, **TIGHT)


@pytest.mark.equation("gcn-sgc")
@pytest.mark.parametrize("k", [1, 3])
def test_sgc_is_the_peers_and_a_power(k):
    x, edges, weight = random_graph(5)
    peer = geometric.SGConv(5, 3, K=k).double()
    mine = SGC(5, 3, k, dtype=torch.float64)
    mine.load_state_dict(peer.state_dict())
    torch.testing.assert_close(mine(x, edges, weight), peer(x, edges, weight), **TIGHT)
    edges = undirected_graph(1)
    power = torch.linalg.matrix_power(dense(edges, 12), k)
    torch.testing.assert_close(mine(x, edges), mine.lin(power @ x), **TIGHT)


@pytest.mark.equation("gcn-appnp", "gcn-pagerank")
def test_appnp_is_the_peers_and_converges_to_personalised_pagerank():
    x, edges, weight = random_graph(6)
    mine = APPNP(5, 8, 3, k=7, alpha=0.2, dtype=torch.float64).eval()
    wanted = geometric.APPNP(7, 0.2)(mine.mlp(x), edges, weight)
    torch.testing.assert_close(mine(x, edges, weight), wanted, **TIGHT)
    edges, long = undirected_graph(2), copy.deepcopy(mine)
    long.k = 200
    spread = torch.eye(12, dtype=torch.float64) - 0.8 * dense(edges, 12)
    limit = 0.2 * torch.linalg.inv(spread) @ mine.mlp(x)
    torch.testing.assert_close(long(x, edges), limit, rtol=0, atol=1e-9)


@pytest.mark.equation("gcn-label-propagation")
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_label_propagation_is_the_peers(steps):
    club, known = karate(), torch.tensor([0, 33, 5])
    got = label_propagation(club.y, known, club.edge_index, 2, alpha=0.7, steps=steps)
    peer = models.LabelPropagation(steps, 0.7)
    torch.testing.assert_close(got, peer(club.y, club.edge_index, known))


@pytest.mark.equation("gcn-correct", "gcn-smooth")
def test_correct_and_smooth_is_the_peers():
    club, known = karate(), torch.tensor([0, 33, 5, 12, 30])
    answers = torch.rand(34, 2).softmax(1)
    got = correct_and_smooth(
        answers, club.y, known, club.edge_index, correct_alpha=0.9, smooth_alpha=0.7, steps=9
    )
    peer = models.CorrectAndSmooth(9, 0.9, 9, 0.7)
    middle = peer.correct(answers, club.y[known], known, club.edge_index)
    torch.testing.assert_close(got, peer.smooth(middle, club.y[known], known, club.edge_index))


# ------------------------------------------------------------------------------------ one layer
@pytest.mark.equation("gcn-layer", "gcn-forward")
@pytest.mark.parametrize("sizes", [(5, 3), (5, 9)], ids=str)
def test_a_layer_is_its_formula_in_dense_matrices(sizes):
    edges, x = undirected_graph(7), random_graph()[0]
    layer = GCNLayer(*sizes, dtype=torch.float64)
    nn.init.normal_(layer.bias)
    S = dense(edges, 12)
    wanted = S @ x @ layer.lin.weight.T + layer.bias
    torch.testing.assert_close(layer(x, edges), wanted, **TIGHT)


@pytest.mark.equation("gcn-equivariance")
@settings(deadline=None, max_examples=30)
@given(st.permutations(list(range(12))), st.integers(0, 100))
def test_other_numbers_for_the_nodes_give_the_same_answers(order, seed):
    x, edges, weight = random_graph(seed)
    model = GCN(5, 6, 3, dtype=torch.float64).eval()
    order = torch.tensor(order)
    where = order.argsort()  # where each old node stands now
    moved = model(x[order], where[edges], weight)
    torch.testing.assert_close(moved, model(x, edges, weight)[order], **TIGHT)


def test_a_node_sees_as_many_edges_far_as_there_are_layers():
    path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    model = GCN(2, 4, 3, num_layers=2, dtype=torch.float64).eval()
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    for node in range(5):
        (seen,) = torch.autograd.grad(model(x, path)[node].sum(), x)
        near = [i for i in range(5) if node - 2 <= i <= node]
        assert all(not seen[i].any() for i in range(5) if i not in near)


@pytest.mark.equation("gcn-loss", "gcn-gradient", "gcn-backward")
def test_the_gradients_are_those_of_the_text():
    edges, x = undirected_graph(8), random_graph(1)[0]
    S, known = dense(edges, 12), torch.tensor([0, 3, 5, 7])
    y = torch.randint(3, (12,))
    W = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    x = x.requires_grad_()
    logits = S @ x @ W.T
    by_hand = -sum(logits[i].log_softmax(0)[y[i]] for i in known.tolist()) / len(known)
    loss = F.cross_entropy(logits[known], y[known])
    torch.testing.assert_close(loss, by_hand, **TIGHT)
    by_W, by_x, delta = torch.autograd.grad(loss, [W, x, logits])
    torch.testing.assert_close(by_W, delta.T @ S @ x, **TIGHT)
    torch.testing.assert_close(by_x, S.T @ delta @ W, **TIGHT)
    unlabelled = [i for i in range(12) if i not in known.tolist()]
    assert not delta[unlabelled].any()  # no label, no error of its own


# ------------------------------------------------------------------------------------- spectra
@pytest.mark.equation("gcn-laplacian")
@pytest.mark.parametrize("seed", range(3))
def test_the_laplacian_is_networkx_s(seed):
    networkx = pytest.importorskip("networkx")
    edges = undirected_graph(seed)
    graph = networkx.Graph()
    graph.add_nodes_from(range(12))
    graph.add_edges_from(edges.T.tolist())
    wanted = networkx.normalized_laplacian_matrix(graph, range(12)).toarray()
    alone = torch.tensor([degree == 0 for _, degree in sorted(graph.degree)])
    assert alone.any()
    wanted = torch.from_numpy(wanted) + torch.diag(alone.double())  # theirs is 0 there
    torch.testing.assert_close(laplacian(edges, 12).double(), wanted, rtol=0, atol=1e-6)
    frequencies, _ = graph_fourier(laplacian(edges, 12))
    assert frequencies[0] > -1e-5
    assert frequencies[-1] < 2 + 1e-5
    parts = networkx.number_connected_components(graph) - int(alone.sum())
    assert int((frequencies < 1e-5).sum()) == parts


@pytest.mark.equation("gcn-fourier")
def test_a_signal_is_the_sum_of_its_waves_and_keeps_its_length():
    L = laplacian(undirected_graph(3), 12).double()
    frequencies, waves = graph_fourier(L)
    x = torch.randn(12, dtype=torch.float64)
    told = waves.T @ x
    torch.testing.assert_close(waves @ told, x, **TIGHT)
    torch.testing.assert_close(told.norm(), x.norm(), **TIGHT)
    torch.testing.assert_close(x @ L @ x, (frequencies * told**2).sum(), **TIGHT)
    ring = torch.stack([torch.arange(8), (torch.arange(8) + 1) % 8])
    found, _ = graph_fourier(laplacian(torch.cat([ring, ring.flip(0)], 1), 8))
    known = sorted(1 - math.cos(2 * math.pi * k / 8) for k in range(8))
    torch.testing.assert_close(found, torch.tensor(known), rtol=0, atol=1e-5)


@pytest.mark.equation("gcn-filter", "gcn-chebyshev", "gcn-recurrence")
@pytest.mark.parametrize("largest", [2.0, 1.7])
def test_a_chebyshev_filter_multiplies_frequencies_as_numpy_says(largest):
    edges, coefficients = undirected_graph(9), [0.3, -0.5, 0.2, 0.7]
    frequencies, waves = graph_fourier(laplacian(edges, 12).double())
    x = torch.randn(12, 2, dtype=torch.float64)
    at = 2 * frequencies.numpy() / largest - 1
    response = torch.from_numpy(np.polynomial.chebyshev.chebval(at, coefficients))
    wanted = waves @ (response[:, None] * (waves.T @ x))
    got = chebyshev_filter(x, edges, coefficients, largest=largest)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.equation("gcn-first-order", "gcn-one-parameter")
def test_gcn_before_its_loops_is_the_chebyshev_filter_of_first_order():
    edges, x = undirected_graph(10), torch.randn(12, 2, dtype=torch.float64)
    A = adjacency(edges, 12)
    root = torch.diag(torch.where(A.sum(1) > 0, A.sum(1) ** -0.5, 0))
    plain = root @ A @ root
    eye = torch.eye(12, dtype=torch.float64)
    a, b = 0.7, -0.4
    got = chebyshev_filter(x, edges, [a, b])
    torch.testing.assert_close(got, a * x + b * (eye - plain - eye) @ x, **TIGHT)
    one = chebyshev_filter(x, edges, [a, -a])
    torch.testing.assert_close(one, a * (eye + plain) @ x, **TIGHT)
    values = torch.linalg.eigvalsh(eye + plain)
    assert abs(values.max() - 2) < 1e-9  # which is why it is not applied as it is


@pytest.mark.equation("gcn-response")
@pytest.mark.parametrize("k", [1, 3])
def test_k_layers_multiply_each_frequency_by_a_power(k):
    edges, x = undirected_graph(11), torch.randn(12, dtype=torch.float64)
    eye = torch.eye(12, dtype=torch.float64)
    frequencies, waves = torch.linalg.eigh(eye - dense(edges, 12))
    S, smooth = NormalizedAdjacency(edges, 12, dtype=torch.float64), x
    for _ in range(k):
        smooth = S @ smooth
    torch.testing.assert_close(waves.T @ smooth, (1 - frequencies) ** k * (waves.T @ x), **TIGHT)


@pytest.mark.equation("gcn-energy")
def test_energy_is_the_sum_over_edges_and_falls_with_every_averaging():
    edges, x = undirected_graph(12), torch.randn(12, 3, dtype=torch.float64)
    S = NormalizedAdjacency(edges, 12, dtype=torch.float64)
    degree = adjacency(edges, 12).sum(1) + 1
    total = 0.0
    for i, j in edges.T.tolist():
        total += (x[i] / degree[i].sqrt() - x[j] / degree[j].sqrt()).square().sum() / 2
    torch.testing.assert_close(dirichlet_energy(x, S), total / x.square().sum(), **TIGHT)
    energies = []
    for _ in range(12):
        energies.append(dirichlet_energy(x, S).item())
        x = S @ (S @ x)
    assert all(after < before for before, after in itertools.pairwise(energies))
    assert dirichlet_energy(torch.zeros(12, 1, dtype=torch.float64), S) == 0


@pytest.mark.equation("gcn-grid")
def test_on_a_torus_it_is_a_convolution_with_one_weight_for_all_five():
    side = 5
    at = torch.arange(side * side).view(side, side)
    steps = [at.roll(1, 0), at.roll(-1, 0), at.roll(1, 1), at.roll(-1, 1)]
    edges = torch.cat([torch.stack([to.flatten(), at.flatten()]) for to in steps], 1)
    image = torch.randn(1, 1, side, side)
    cross = torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]]) / 5
    wanted = F.conv2d(F.pad(image, (1, 1, 1, 1), "circular"), cross)
    got = NormalizedAdjacency(edges, side * side) @ image.view(-1, 1)
    torch.testing.assert_close(got.view_as(wanted), wanted)


@pytest.mark.equation("gcn-homophily")
def test_homophily_counts_edges_within_classes():
    club = karate()
    same = sum(club.y[i] == club.y[j] for i, j in club.edge_index.T.tolist())
    looped = torch.cat([club.edge_index, torch.tensor([[3], [3]])], 1)
    assert homophily(looped, club.y) == pytest.approx(int(same) / 156)


@pytest.mark.equation("gcn-neighbour-mean")
def test_the_mean_over_a_class_mixed_neighbourhood():
    torch.manual_seed(0)
    share, degree, count = 0.8, 9, 4000
    means = torch.tensor([1.0, -1.0], dtype=torch.float64)
    own = (torch.rand(count, degree) < share).double()
    drawn = own * means[0] + (1 - own) * means[1]
    drawn += torch.randn(count, degree, dtype=torch.float64)
    found = drawn.mean(1)
    wanted = share * means[0] + (1 - share) * means[1]
    assert abs(found.mean() - wanted) < 5 * found.std() / count**0.5
    spread = (1 + 4 * share * (1 - share)) / degree  # noise, and the neighbours' classes
    assert abs(found.var() / spread - 1) < 5 * (2 / count) ** 0.5


@pytest.mark.equation("gcn-cost")
def test_the_cost_grows_with_edges_and_not_with_pairs_of_nodes():
    from torch.utils.flop_counter import FlopCounterMode

    x, layer = torch.randn(50, 8), GCNLayer(8, 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x[:12], undirected_graph(1))
    assert counter.get_total_flops() == 2 * 12 * 8 * 4  # the map; sums over edges come on top
    S = NormalizedAdjacency(undirected_graph(1), 12)
    assert S.weight.numel() == undirected_graph(1).shape[1]  # no n × n


# ------------------------------------------------------------------------------- fast and slow
@pytest.mark.parametrize("graph", ["undirected", "directed"])
def test_the_sorted_matrix_multiplies_as_the_plain_one_does(graph):
    x, edges, weight = random_graph(8)
    if graph == "undirected":
        edges, weight = undirected_graph(8), None
    plain = NormalizedAdjacency(edges, 12, weight, dtype=torch.float64)
    fast = copy.copy(plain).prepared()
    assert fast._matrices is not None
    assert (fast._matrices[0] is fast._matrices[1]) == (graph == "undirected")
    torch.testing.assert_close(fast @ x, plain @ x, **TIGHT)
    torch.testing.assert_close(fast @ x, plain.dense() @ x, **TIGHT)
    torch.autograd.gradcheck(lambda x: fast @ x, x.requires_grad_())
    torch.autograd.gradgradcheck(lambda x: (fast @ x).sin(), x)


def test_a_cached_layer_notices_another_graph_and_a_changed_one():
    x, edges, weight = random_graph(9)
    kept, fresh = (GCNLayer(5, 4, cached=c, dtype=torch.float64) for c in (True, False))
    kept.load_state_dict(fresh.state_dict())
    other = random_graph(10)[1]
    for graph, w in [(edges, weight), (other, weight), (other, None), (edges, None)]:
        for _ in range(2):
            torch.testing.assert_close(kept(x, graph, w), fresh(x, graph, w), **TIGHT)
    edges[:, 5] = torch.tensor([7, 8])  # in place
    torch.testing.assert_close(kept(x, edges), fresh(x, edges), **TIGHT)
    first = kept.adjacency(x, edges)
    assert kept.adjacency(x, edges) is first  # and is not made twice
    assert fresh.adjacency(x, edges) is not fresh.adjacency(x, edges)


def test_a_large_graph_is_sorted_and_gives_the_same():
    draw = torch.Generator().manual_seed(0)
    edges = torch.randint(500, (2, MANY), generator=draw)
    x = torch.randn(500, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    layer = GCNLayer(5, 4, dtype=torch.float64)
    assert layer.adjacency(x, edges)._matrices is not None
    assert layer.adjacency(x, edges[:, 1:])._matrices is None
    plain = NormalizedAdjacency(edges, 500, dtype=torch.float64)
    grads = [torch.autograd.grad(layer(x, e).sin().sum(), x)[0] for e in (edges, plain)]
    torch.testing.assert_close(*grads, **TIGHT)


def test_layers_share_a_matrix_that_was_made_before():
    x, edges, weight = random_graph(11)
    model = GCN(5, 6, 3, num_layers=3, dtype=torch.float64).eval()
    made = NormalizedAdjacency(edges, 12, weight)
    torch.testing.assert_close(model(x, made), model(x, edges, weight), **TIGHT)
    with refuses(ValueError, "edge_weight must be None: edge_index holds weights already"):
        model(x, made, weight)


def test_weights_of_edges_can_be_learned_even_where_no_degree_is_left():
    x, edges, _ = random_graph(12)
    weight = torch.zeros(edges.shape[1], dtype=torch.float64, requires_grad=True)
    layer = GCNLayer(5, 3, self_loops=False, dtype=torch.float64)
    (grad,) = torch.autograd.grad(layer(x, edges, weight).sum(), weight)
    assert torch.isfinite(grad).all()
    assert not layer(x, edges, weight.detach()).sub(layer.bias).any()  # nothing comes in


# ---------------------------------------------------------------------------------- what is odd
@pytest.mark.parametrize("cached", [False, True])
def test_no_edges_isolated_nodes_and_no_nodes(cached):
    layer = GCNLayer(3, 2, cached=cached)
    none = torch.empty(2, 0, dtype=torch.int64)
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x, none), layer.lin(x) + layer.bias)
    assert layer(x[:0], none).shape == (0, 2)


def test_a_loop_given_twice_counts_once_and_keeps_its_weight():
    edges = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1]])
    once = NormalizedAdjacency(edges[:, :3], 2).dense()
    torch.testing.assert_close(NormalizedAdjacency(edges, 2).dense(), once)
    torch.testing.assert_close(NormalizedAdjacency(edges[:, :2], 2).dense(), once)
    weighted = NormalizedAdjacency(edges[:, :3], 2, torch.tensor([1.0, 1.0, 3.0])).dense()
    torch.testing.assert_close(weighted, torch.tensor([[0.5, 8**-0.5], [8**-0.5, 0.75]]))


def test_a_double_edge_counts_twice():
    twice = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]])
    heavy = NormalizedAdjacency(twice[:, 1:3], 2, torch.tensor([2.0, 2.0])).dense()
    torch.testing.assert_close(NormalizedAdjacency(twice, 2).dense(), heavy)


def test_drop_edges_takes_both_directions_and_the_share_asked_for():
    edges = undirected_graph(1, 60, 0.5)
    kept = drop_edges(edges, 0.3, generator=torch.Generator().manual_seed(0))
    pairs = set(map(tuple, kept.T.tolist()))
    assert all((j, i) in pairs for i, j in pairs)
    assert pairs < set(map(tuple, edges.T.tolist()))
    wanted, count = 0.7, edges.shape[1] / 2
    assert abs(kept.shape[1] / edges.shape[1] - wanted) < 5 * (0.21 / count) ** 0.5


def test_gcnii_with_everything_drawn_back_ignores_the_edges():
    x, edges, _ = random_graph(13)
    model = GCNII(5, 8, 3, num_layers=4, alpha=1.0, dtype=torch.float64).eval()
    none = edges[:, :0]
    torch.testing.assert_close(model(x, edges), model(x, none), **TIGHT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, e: GCNLayer(4, 2)(x, e), "x must have shape"),
        (lambda x, e: GCNLayer(3, 2)(x, e + 9), "edge_index names node"),
        (lambda x, e: GCNLayer(3, 2)(x, e, -torch.ones(4)), "edge_weight must be 0 or more"),
        (lambda x, e: GCNLayer(3, 2)(x, e, torch.ones(3)), "edge_weight"),
        (lambda x, e: GCNLayer(3, 2)(x, e, torch.full((4,), math.nan)), "edge_weight"),
        (lambda x, e: NormalizedAdjacency(e, 5) @ x[:3], "x must have a row for each of 5"),
        (lambda x, e: chebyshev_filter(x, e, []), "coefficients must hold one number"),
        (lambda x, e: graph_fourier(torch.ones(2, 2).triu()), "matrix must be symmetric"),
        (lambda x, e: homophily(e[:, :0], torch.zeros(5).long()), "edge_index must hold an edge"),
        (lambda x, e: label_propagation(e[0], torch.tensor([7]), e, 2), "labelled"),
        (lambda x, e: label_propagation(torch.tensor([3] * 5), torch.tensor([1]), e, 2), "classes"),
        (lambda x, e: GCNIILayer(3)(x, x[:, :2], e), "first must have shape"),
        (lambda x, e: drop_edges(e, 1.5), "p=1.5"),
        (lambda x, e: GCN(3, 4, 2, num_layers=0), "num_layers=0"),
    ],
    ids=[
        "features", "node", "negative", "few weights", "nan", "rows", "no coefficients",
        "asymmetric", "no edges", "labelled", "class", "first", "p", "layers",
    ],
)  # fmt: skip
def test_bad_input_is_named(make, message):
    with refuses(ValueError, message):
        make(torch.randn(5, 3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))


def test_a_graph_that_is_none_is_named():
    with refuses(TypeError, "adjacency must be a NormalizedAdjacency, got Tensor"):
        dirichlet_energy(torch.randn(3, 1), torch.eye(3))
    with refuses(TypeError, "edge_index must be of int64"):
        GCNLayer(3, 2)(torch.randn(3, 3), torch.zeros(2, 1, dtype=torch.int32))
