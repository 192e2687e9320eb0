"""Message passing against PyTorch Geometric, dense loops, networkx and brute force."""

import itertools

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.data.graphs import Graph, barbell, batched, edges_of, graph_atlas, karate
from nnlib.graph import _aggregate
from nnlib.graph.message_passing import (
    GIN,
    Comparison,
    GINELayer,
    GINLayer,
    GraphSAGE,
    MessagePassing,
    MPNNLayer,
    SAGELayer,
    add_self_loops,
    add_weighted_self_loops,
    aggregate,
    check_edges,
    coalesce,
    degrees,
    pna,
    readout,
    sample_neighbours,
    softmax_over_neighbours,
    undirected,
    wl_colors,
    wl_test,
)
from tests.support import Example, Peer, refuses

pyg = Peer("torch_geometric.nn")
utils = Peer("torch_geometric.utils")
DOUBLE = torch.float64
AGGREGATIONS = ("sum", "mean", "max")
every_way = pytest.mark.parametrize("how", AGGREGATIONS)


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    edges = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    batch = torch.tensor([0, 0, 0, 1, 1])
    return Example(
        {"in_features": 3, "hidden_size": 5, "out_features": 2, "num_layers": 2,
         "aggr": "sum", "how": "mean", "train_eps": True},
        (torch.randn(5, 3), edges, batch),
        {"num_graphs": 2},
    )  # fmt: skip


# Duplicate edges, loops (one of them twice), a node without neighbours, one that only sends.
EDGES = torch.tensor([[0, 1, 2, 2, 2, 3, 3, 1, 4, 4, 6, 0], [1, 0, 1, 1, 0, 3, 3, 2, 0, 2, 0, 4]])
NODES = 7


def features(n=NODES, d=4, seed=0, dtype=DOUBLE):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(*sizes, dtype=DOUBLE):
    torch.manual_seed(sum(sizes))
    maps = [nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*[p for m in maps for p in (m, nn.ReLU())][:-1])


def layers(dtype=DOUBLE):
    torch.manual_seed(0)
    return {
        "plain": MessagePassing("mean"),
        "SAGE": SAGELayer(4, 5, dtype=dtype),
        "SAGE, pool": SAGELayer(4, 5, "max", True, project=True, dtype=dtype),
        "GIN": GINLayer(network(4, 6, 5, dtype=dtype), 0.3, dtype=dtype),
        "MPNN": MPNNLayer(4, 5, 6, dtype=dtype),
    }


LAYERS = tuple(layers())


def by_loop(layer, x, edges, edge_attr=None):
    """Message, aggregate, update: one node after the other, one edge after the other."""
    rows = []
    for i in range(len(x)):
        arrived = []
        for e, (j, to) in enumerate(edges.T.tolist()):
            if to == i:
                attr = None if edge_attr is None else edge_attr[e][None]
                arrived.append(layer.message(x[i][None], x[j][None], attr)[0])
        if not arrived:
            width = layer.message(x[:1], x[:1], None if edge_attr is None else edge_attr[:1])
            rows.append(torch.zeros_like(width[0]))
            continue
        stacked = torch.stack(arrived)
        how = {"sum": stacked.sum(0), "mean": stacked.mean(0), "max": stacked.amax(0)}
        rows.append(how[layer.aggr])
    return layer.update(x, torch.stack(rows))


# --------------------------------------------------------------------------------- the framework
@pytest.mark.equation("message-passing-layer")
@pytest.mark.equation("message-passing-message")
@pytest.mark.equation("message-passing-update")
@pytest.mark.equation("message-passing-mpnn")
@every_way
def test_a_layer_is_the_loop_over_nodes_and_edges(how):
    torch.manual_seed(0)
    layer = MPNNLayer(4, 5, 6, edge_features=3, aggr=how, dtype=DOUBLE)
    x, attr = features(), features(EDGES.shape[1], 3)
    torch.testing.assert_close(layer(x, EDGES, attr), by_loop(layer, x, EDGES, attr))
    read = torch.cat([x[EDGES[1, :1]], x[EDGES[0, :1]], attr[:1]], 1)  # receiver, sender, edge
    first, _, last = layer.sender
    wanted = (read @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    got = layer.message(x[EDGES[1, :1]], x[EDGES[0, :1]], attr[:1])
    torch.testing.assert_close(got, wanted)
    both = torch.cat([x[:1], wanted], 1)  # a node, and what it received
    first, _, last = layer.updater
    wanted_ = (both @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    torch.testing.assert_close(layer.update(x[:1], wanted), wanted_)


@pytest.mark.equation("message-passing-matrix")
def test_the_sum_of_features_is_a_product_with_the_adjacency_matrix():
    x, adjacency = features(), torch.zeros(NODES, NODES, dtype=DOUBLE)
    for j, i in EDGES.T.tolist():
        adjacency[i, j] += 1
    torch.testing.assert_close(MessagePassing("sum")(x, EDGES), adjacency @ x)


def graphs(draw):
    n = draw(st.integers(1, 9))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=25))
    order = draw(st.permutations(range(n)))
    return n, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T, torch.tensor(order)


@pytest.mark.equation("message-passing-equivariance")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", LAYERS)
def test_a_renumbered_graph_gives_the_same_answer_renumbered(name, data):
    n, edges, order = graphs(data.draw)
    layer, x = layers()[name], features(n)
    place = order.argsort()  # node order[k] becomes node k
    got = layer(x[order], place[edges[:, torch.randperm(edges.shape[1])]])
    torch.testing.assert_close(got, layer(x, edges)[order])


@pytest.mark.equation("message-passing-invariance")
@pytest.mark.parametrize("how", AGGREGATIONS)
def test_a_read_out_does_not_know_the_order(how):
    torch.manual_seed(0)
    model = GIN(4, 6, 2, 2, how=how, dtype=DOUBLE)
    order = torch.randperm(NODES)
    got = model(features()[order], order.argsort()[EDGES])
    torch.testing.assert_close(got, model(features(), EDGES))


@pytest.mark.parametrize("name", LAYERS)
def test_graphs_in_a_batch_do_not_see_each_other(
    name,
):
    layer = layers()[name]
    both = torch.cat([EDGES, EDGES.flip(0) + NODES], 1)
    x, y = features(), features(seed=1)
    wanted = torch.cat([layer(x, EDGES), layer(y, EDGES.flip(0))])
    torch.testing.assert_close(layer(torch.cat([x, y]), both), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name):
    layer = layers()[name]
    x = features(seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, EDGES), (x,))


@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_without_edges_and_one_without_nodes_have_answers(name):
    layer, none = layers()[name], torch.zeros(2, 0, dtype=torch.int64)
    alone = layer(features(), none)
    assert torch.isfinite(alone).all() and len(alone) == NODES
    assert len(layer(features(0), none)) == 0


# ----------------------------------------------------------------------------------- aggregation
@pytest.mark.equation("message-passing-aggregate")
@every_way
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_messages_are_aggregated_as_in_a_loop(how, shape):
    torch.manual_seed(0)
    messages, index = torch.randn(12, *shape, dtype=DOUBLE), EDGES[1]
    got = aggregate(messages, index, NODES, how)
    for i in range(NODES):
        mine = messages[index == i]
        empty = torch.zeros(shape, dtype=DOUBLE)
        wanted = {"sum": mine.sum(0), "mean": mine.mean(0)}.get(how)
        wanted = mine.amax(0) if how == "max" and len(mine) else wanted
        torch.testing.assert_close(got[i], wanted if len(mine) else empty)
    messages.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: aggregate(m, index, NODES, how), (messages,))


@every_way
def test_the_fast_forms_for_large_graphs_are_the_plain_ones(how, monkeypatch):
    """Sorted maxima and sparse products, with isolated nodes, duplicates and ties."""
    torch.manual_seed(0)
    edges = torch.randint(50, (2, 300))
    edges[1] = edges[1] % 40  # ten nodes without neighbours
    x = torch.randint(-3, 3, (50, 5)).double().requires_grad_()
    weight = torch.randn(50, 5, dtype=DOUBLE)
    layer, told = MessagePassing(how), []
    for small in (0, 10**9):
        monkeypatch.setattr(_aggregate, "SMALL", small)
        y = layer(x, edges)
        z = aggregate(x[edges[0]], edges[1], 50, how)
        told.append((y, z, *torch.autograd.grad((y * z * weight).sum(), x)))
    torch.testing.assert_close(told[0], told[1])
    monkeypatch.setattr(_aggregate, "SMALL", 0)
    x = torch.randn(50, 5, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, edges).square(), (x,), fast_mode=True)


def test_a_weighted_sum_has_both_forms_and_a_gradient_for_its_weights(monkeypatch):
    x, weight = features(), features(EDGES.shape[1], 1, seed=5)[:, 0].requires_grad_()
    wanted = torch.zeros_like(x)
    for w, (j, i) in zip(weight, EDGES.T.tolist(), strict=True):
        wanted = wanted.index_add(0, torch.tensor([i]), (w * x[j])[None])
    for small in (0, 10**9):
        monkeypatch.setattr(_aggregate, "SMALL", small)
        torch.testing.assert_close(_aggregate.neighbour_sum(x, EDGES, weight), wanted)
        got = _aggregate.neighbour_sum(x, EDGES, weight.detach())
        torch.testing.assert_close(got, wanted.detach())
    assert torch.autograd.gradcheck(lambda w: _aggregate.neighbour_sum(x, EDGES, w), (weight,))


def test_equal_maxima_share_the_gradient():
    tied = torch.tensor([2.0, 2.0, 1.0], requires_grad=True)
    aggregate(tied, torch.tensor([0, 0, 0]), 1, "max").backward(torch.ones(1))
    assert tied.grad.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("scale", [1.0, 1e4], ids=str)
def test_softmax_over_neighbours_is_a_softmax_for_each_node_at_any_scale(scale):
    scores = scale * features(EDGES.shape[1], 2, seed=2)
    got = softmax_over_neighbours(scores, EDGES[1], NODES)
    for i in range(NODES):
        mine = EDGES[1] == i
        torch.testing.assert_close(got[mine], scores[mine].softmax(0))
    some = features(EDGES.shape[1], 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: softmax_over_neighbours(s, EDGES[1], NODES), (some,))
    empty = softmax_over_neighbours(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 3)
    assert empty.shape == (0, 2)


@pytest.mark.equation("message-passing-pna")
def test_pna_is_twelve_views_and_pytorch_geometrics():
    messages, index, delta = features(12, 3, seed=4), EDGES[1], 0.9
    got = pna(messages, index, NODES, delta).unflatten(1, (3, 4, 3))
    for i in (0, 1, 2, 3):
        mine = messages[index == i]
        spread = mine.var(0, unbiased=False).clamp(min=1e-5).sqrt()
        spread = torch.where(spread > 0.0032, spread, 0.0)
        views = torch.stack([mine.mean(0), mine.amax(0), mine.amin(0), spread])
        scale = torch.log(torch.tensor(len(mine) + 1.0, dtype=DOUBLE)) / delta
        wanted = torch.stack([views, views * scale, views / scale])
        torch.testing.assert_close(got[i], wanted)
    peer = pyg.aggr.DegreeScalerAggregation(
        ["mean", "max", "min", "std"], ["identity", "amplification", "attenuation"],
        deg=torch.tensor([0, 3, 4]),
    )  # fmt: skip
    peer = peer.double()
    close = pna(messages, index, NODES, float(peer.avg_deg_log))
    torch.testing.assert_close(close, peer(messages, index, dim_size=NODES))


# --------------------------------------------------------------------------------------- edges
def test_self_loops_are_added_once_as_pytorch_geometric_does():
    remaining, _ = utils.add_remaining_self_loops(EDGES, num_nodes=NODES)
    assert torch.equal(add_self_loops(EDGES, NODES), remaining)
    weight = features(EDGES.shape[1], 1)[:, 0]
    wanted = utils.add_remaining_self_loops(EDGES, weight, 1.0, NODES)
    got = add_weighted_self_loops(EDGES, weight, NODES)
    assert torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[1])
    again = add_self_loops(add_self_loops(EDGES, NODES), NODES)
    assert torch.equal(again, add_self_loops(EDGES, NODES))


def test_degrees_count_and_duplicates_go():
    assert degrees(EDGES[1], NODES).tolist() == [4, 3, 2, 2, 1, 0, 0]
    assert torch.equal(coalesce(EDGES), utils.coalesce(EDGES))
    assert torch.equal(undirected(EDGES), utils.to_undirected(EDGES))


BAD_EDGES = {
    "a list": ([[0], [1]], TypeError, "edge_index must be a torch.Tensor, got list"),
    "32 bits": (EDGES.int(), TypeError, "edge_index must be of int64, got torch.int32"),
    "numbers": (EDGES.double(), TypeError, "edge_index must hold integers"),
    "a column": (EDGES[0], ValueError, "edge_index must have shape (2, e)"),
    "a node too many": (EDGES + 1, ValueError, "edge_index names node 7, but nodes are 0 … 6"),
    "a negative node": (EDGES - 1, ValueError, "edge_index names node -1, but nodes are 0 … 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_EDGES)
def test_bad_edges_are_refused_by_name(name):
    edges, error, message = BAD_EDGES[name]
    with refuses(error, message):
        check_edges(edges, NODES)
    with refuses(error, message):
        SAGELayer(4, 5)(features(dtype=torch.float32), edges)


def test_edges_without_nodes_are_refused():
    with refuses(ValueError, "edge_index names node 6, but there are no nodes"):
        check_edges(EDGES, 0)


# ------------------------------------------------- GraphSAGE and GIN, and their peer's weights
SAGES = {
    "as it comes": {},
    "max": {"aggr": "max"},
    "sum": {"aggr": "sum"},
    "normalised": {"normalize": True},
    "without itself": {"root_weight": False},
    "projected": {"aggr": "max", "project": True, "bias": False},
}


def both_ways(mine, peer, *inputs, tolerance=1e-12):
    """Weights go from the peer to us and back; outputs and all gradients are the same."""
    for one, other in ((mine, peer), (peer, mine)):
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        other.load_state_dict(one.state_dict())
        assert list(one.state_dict()) == list(other.state_dict())
        told = []
        for layer in (mine, peer):
            x = inputs[0].clone().requires_grad_()
            y = layer(x, *inputs[1:])
            grads = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
            told.append((y, *grads))
        torch.testing.assert_close(told[0], told[1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", SAGES)
def test_sage_is_pytorch_geometrics_with_its_weights_both_ways(name):
    mine, peer = SAGELayer(4, 5, **SAGES[name]), pyg.SAGEConv(4, 5, **SAGES[name])
    both_ways(mine.double(), peer.double(), features(), EDGES, tolerance=1e-10)
    single = SAGELayer(4, 5, **SAGES[name])
    single.load_state_dict(peer.state_dict())
    x = features(dtype=torch.float32)
    torch.testing.assert_close(single(x, EDGES), peer.float()(x, EDGES), rtol=0, atol=1e-5)


@pytest.mark.equation("message-passing-sage")
@pytest.mark.equation("message-passing-normalize")
def test_sage_is_its_formula_and_one_matrix_on_both_side_by_side():
    torch.manual_seed(0)
    layer, x = SAGELayer(4, 5, normalize=True, dtype=DOUBLE), features()
    joint = torch.cat([layer.lin_r.weight, layer.lin_l.weight], 1)  # the paper's one matrix
    for i, got in enumerate(layer(x, EDGES)):
        near = x[EDGES[0, EDGES[1] == i]]
        mean = near.mean(0) if len(near) else torch.zeros(4, dtype=DOUBLE)
        wanted = layer.lin_r.weight @ x[i] + layer.lin_l.weight @ mean + layer.lin_l.bias
        torch.testing.assert_close(joint @ torch.cat([x[i], mean]) + layer.lin_l.bias, wanted)
        torch.testing.assert_close(got, wanted / wanted.norm())
    silent = SAGELayer(4, 5, normalize=True, bias=False, dtype=DOUBLE)
    assert not silent(torch.zeros(NODES, 4, dtype=DOUBLE), EDGES).any()


@pytest.mark.parametrize("eps", [{}, {"eps": 0.4}, {"eps": 0.4, "train_eps": True}], ids=str)
def test_gin_is_pytorch_geometrics_with_its_weights_both_ways(eps):
    mine = GINLayer(network(4, 6, 5), **eps, dtype=DOUBLE)
    peer = pyg.GINConv(network(4, 6, 5), **eps).double()
    both_ways(mine, peer, features(), EDGES, tolerance=1e-9)


@pytest.mark.equation("message-passing-gin")
def test_gin_is_its_formula():
    layer, x = GINLayer(network(4, 6, 5), eps=0.4, dtype=DOUBLE), features()
    for i, got in enumerate(layer(x, EDGES)):
        total = 1.4 * x[i] + x[EDGES[0, EDGES[1] == i]].sum(0)
        torch.testing.assert_close(got, layer.nn(total))


@pytest.mark.equation("message-passing-gine")
@pytest.mark.parametrize("train_eps", [False, True], ids=str)
def test_gin_with_edges_is_pytorch_geometrics_and_the_loop(train_eps):
    attr = features(EDGES.shape[1], 3, seed=6)
    mine = GINELayer(network(4, 6, 5), 4, 3, 0.2, train_eps, dtype=DOUBLE)
    peer = pyg.GINEConv(network(4, 6, 5), 0.2, train_eps, edge_dim=3).double()
    both_ways(mine, peer, features(), EDGES, attr, tolerance=1e-9)
    x, sent = features(), attr @ mine.lin.weight.T + mine.lin.bias
    arrived = [F.relu(x[EDGES[0]] + sent)[EDGES[1] == i].sum(0) for i in range(NODES)]
    wanted = mine.nn((1 + mine.eps) * x + torch.stack(arrived))
    torch.testing.assert_close(mine(x, EDGES, attr), wanted)


@pytest.mark.parametrize("aggr", ["mean", "max"])
def test_a_stack_of_sage_is_pytorch_geometrics_model(aggr):
    torch.manual_seed(0)
    mine = GraphSAGE(4, 6, 3, 3, aggr)
    peer = pyg.GraphSAGE(4, 6, 3, 3, aggr=aggr)
    both_ways(mine.double().eval(), peer.double().eval(), features(), EDGES, tolerance=1e-9)


# -------------------------------------------------------------------------------------- read-out
@pytest.mark.equation("message-passing-readout")
@every_way
def test_a_read_out_is_pytorch_geometrics_and_a_loop(how):
    batch = torch.tensor([0, 0, 2, 2, 2, 3, 0])
    peer = {"sum": "global_add_pool", "mean": "global_mean_pool", "max": "global_max_pool"}[how]
    got = readout(features(), batch, 5, how)
    torch.testing.assert_close(got, getattr(pyg, peer)(features(), batch, 5))
    mine = features()[batch == 2]
    loop = {"sum": mine.sum(0), "mean": mine.mean(0), "max": mine.amax(0)}[how]
    torch.testing.assert_close(got[2], loop)
    assert not got[1].any() and readout(features(), batch, how=how).shape == (4, 4)
    whole = getattr(pyg, peer)(features(), None)
    torch.testing.assert_close(readout(features(), how=how), whole.reshape(1, -1))
    assert readout(features(0), how=how).shape == (1, 4)


@pytest.mark.equation("message-passing-jumping")
def test_gin_reads_out_every_layer_the_input_among_them():
    torch.manual_seed(0)
    model, batch = GIN(4, 6, 2, 2, dtype=DOUBLE), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    h, edges = features(), torch.tensor([[0, 1, 4, 5], [1, 2, 3, 6]])
    blocks = model.head.weight.split([4, 6, 6], 1)
    wanted = model.head.bias.expand(2, 2)
    for block, conv in zip(blocks, [*model.convs, None], strict=True):
        wanted = wanted + torch.stack([h[:3].sum(0), h[3:].sum(0)]) @ block.T
        h = F.relu(conv(h, edges)) if conv is not None else h
    torch.testing.assert_close(model(features(), edges, batch), wanted)


def test_bad_arguments_are_refused_by_name():
    x = features(dtype=torch.float32)
    with refuses(ValueError, "aggr='median' must be one of ['sum', 'mean', 'max']"):
        SAGELayer(4, 5, "median")
    with refuses(ValueError, "x must have shape (n, 4), got (7, 3)"):
        SAGELayer(4, 5)(x[:, :3], EDGES)
    with refuses(TypeError, "mlp=None must be a module or a function"):
        GINLayer(None)
    with refuses(ValueError, "edge_attr must be given"):
        MPNNLayer(4, 5, 6, edge_features=2)(x, EDGES)
    with refuses(ValueError, "edge_attr must have shape (12, 2), got (12, 4)"):
        MPNNLayer(4, 5, 6, edge_features=2)(x, EDGES, features(12, 4, dtype=torch.float32))
    with refuses(ValueError, "batch must be 0 … 1 (num_graphs), got 0 … 4"):
        readout(x, torch.tensor([0, 0, 1, 1, 4, 1, 1]), 2)
    with refuses(ValueError, "index must be 0 … 6 (num_nodes), got 0 … 9"):
        aggregate(x, torch.tensor([0, 0, 0, 1, 1, 1, 9]), NODES)
    with refuses(ValueError, "how='prod' must be one of"):
        aggregate(x, torch.zeros(7, dtype=torch.int64), NODES, "prod")
    with refuses(ValueError, "delta=0.0 must be a finite number > 0"):
        pna(x, torch.zeros(7, dtype=torch.int64), NODES, 0.0)


# ------------------------------------------------------------------------------ colour refinement
@pytest.mark.filterwarnings("ignore:The hashes produced")
@pytest.mark.equation("message-passing-wl")
@pytest.mark.parametrize("seed", range(5))
def test_colours_are_networkxs_hashes_round_by_round(seed):
    graph = networkx.gnm_random_graph(14, 18, seed=seed)
    told = wl_colors(edges_of(graph), 14, rounds=4)
    hashes = networkx.weisfeiler_lehman_subgraph_hashes(graph, iterations=4)
    for at in range(1, 5):
        known = [hashes[node][at - 1] for node in graph]
        mine = told[at].tolist()
        pairs = set(zip(mine, known, strict=True))
        assert len(pairs) == len(set(mine)) == len(set(known))


def test_colours_settle_and_begin_with_those_that_were_given():
    path = edges_of(networkx.path_graph(7))
    told = wl_colors(path, 7)
    last = told[-1].tolist()
    assert last == last[::-1] and len(set(last)) == 4  # as far as the mirror allows
    assert torch.equal(wl_colors(path, 7, rounds=9)[len(told) - 1].unique(), told[-1].unique())
    marked = wl_colors(path, 7, colors=torch.tensor([5, 0, 0, 0, 0, 0, 0]))
    assert len(set(marked[-1].tolist())) == 7  # one end is marked: every node differs
    assert wl_colors(path, 7, rounds=0).tolist() == [[0] * 7]
    assert wl_colors(torch.zeros(2, 0, dtype=torch.int64), 0).shape == (1, 0)


def pair(one, other):
    return (edges_of(one), edges_of(other), (len(one), len(other)))


HEXAGON = networkx.cycle_graph(6)
TRIANGLES = networkx.disjoint_union(networkx.cycle_graph(3), networkx.cycle_graph(3))


def test_wl_tells_a_path_from_a_star_and_not_a_hexagon_from_two_triangles():
    assert wl_test(*pair(networkx.path_graph(4), networkx.star_graph(3))) == Comparison(True, 1)
    assert wl_test(*pair(HEXAGON, TRIANGLES)) == Comparison(False, 0)
    assert wl_test(*pair(HEXAGON, networkx.cycle_graph(7))).differ
    shuffled = networkx.relabel_nodes(networkx.path_graph(6), dict(enumerate([3, 1, 5, 0, 2, 4])))
    sorted_ = networkx.Graph()
    sorted_.add_nodes_from(range(6))
    sorted_.add_edges_from(shuffled.edges)
    assert not wl_test(*pair(networkx.path_graph(6), sorted_)).differ


def test_wl_tells_apart_only_graphs_that_differ():
    small = [as_networkx(graph) for graph in graph_atlas(5)]
    for one, other in itertools.combinations(small, 2):  # all of them differ
        if not wl_test(*pair(one, other)).differ:
            degrees_ = [sorted(d for _, d in g.degree) for g in (one, other)]
            assert degrees_[0] == degrees_[1]
    seven = graph_atlas()[::40]
    for graph in seven:
        order = torch.randperm(7)
        assert not wl_test(graph.edge_index, order[graph.edge_index], (7, 7)).differ


def as_networkx(graph: Graph):
    made = networkx.Graph()
    made.add_nodes_from(range(graph.num_nodes))
    made.add_edges_from(graph.edge_index.T.tolist())
    return made


def test_a_gin_tells_apart_what_wl_does_and_nothing_else():
    """Random weights, every pair of graphs of five nodes, and the hexagon."""
    torch.manual_seed(0)
    model = GIN(1, 16, 4, 4, dtype=DOUBLE)
    every = [*graph_atlas(5)]
    told = [model(graph.x.double(), graph.edge_index) for graph in every]
    for (a, one), (b, other) in itertools.combinations(enumerate(told), 2):
        found = wl_test(every[a].edge_index, every[b].edge_index, (5, 5)).differ
        assert ((one - other).abs().max() > 1e-9) == found
    ones = torch.ones(6, 1, dtype=DOUBLE)
    pairs = [model(ones, edges_of(graph)) for graph in (HEXAGON, TRIANGLES)]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-12)


@pytest.mark.equation("message-passing-triangles")
def test_a_power_of_the_adjacency_matrix_counts_what_wl_cannot():
    for graph, wanted in ((HEXAGON, 0), (TRIANGLES, 2), (networkx.complete_graph(5), 10)):
        adjacency = torch.from_numpy(networkx.to_numpy_array(graph))
        assert adjacency.matrix_power(3).trace() / 6 == wanted
        assert sum(networkx.triangles(graph).values()) / 3 == wanted


# --------------------------------------------------------------------------------------- influence
@pytest.mark.equation("message-passing-influence")
def test_influence_is_bounded_by_the_power_of_the_normalised_matrix():
    """Three layers of slope at most 1 on the barbell, whose ends are three edges apart."""
    graph = barbell(4)
    n = graph.num_nodes
    adjacency = torch.zeros(n, n, dtype=DOUBLE)
    adjacency[graph.edge_index[1], graph.edge_index[0]] = 1
    mean = adjacency / adjacency.sum(1, keepdim=True)
    own, near = torch.randn(2, 3, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))

    def three(x):
        for _ in range(3):
            x = torch.tanh(x @ own.T + MessagePassing("mean")(x, graph.edge_index) @ near.T)
        return x

    x = features(n, 3)
    jacobian = torch.autograd.functional.jacobian(three, x)  # n d n d
    got = torch.linalg.matrix_norm(jacobian.permute(0, 2, 1, 3), 2)
    a, b = (torch.linalg.matrix_norm(w, 2) for w in (own, near))
    bound = torch.linalg.matrix_power(a * torch.eye(n, dtype=DOUBLE) + b * mean, 3)
    assert (got <= bound + 1e-12).all() and got[0, -1] > 0
    # The bridge is crossed once: one term of the power is left.
    torch.testing.assert_close(bound[-1, 0], b**3 * torch.linalg.matrix_power(mean, 3)[-1, 0])


# ---------------------------------------------------------------------------------------- sampling
def test_a_full_sample_gives_what_the_whole_graph_gives():
    club = karate()
    torch.manual_seed(0)
    model = GraphSAGE(34, 8, 2, 2, dtype=DOUBLE)
    wanted = model(club.x.double(), club.edge_index)
    for nodes in (torch.tensor([5]), torch.tensor([33, 0, 11])):
        part = sample_neighbours(club.edge_index, 34, nodes, [-1, -1])
        got = model(club.x.double()[part.nodes], part.edge_index)
        torch.testing.assert_close(got[: len(nodes)], wanted[nodes])
        assert torch.equal(part.nodes[: len(nodes)], nodes)


def test_samples_are_small_from_the_graph_without_replacement_and_fair():
    star = torch.stack([torch.arange(1, 11), torch.zeros(10, dtype=torch.int64)])
    draw, seen = torch.Generator().manual_seed(0), torch.zeros(11)
    for _ in range(500):
        part = sample_neighbours(star, 11, torch.tensor([0]), [3], draw)
        assert len(part.nodes) == 4 and part.edge_index[1].tolist() == [0, 0, 0]
        seen[part.nodes[1:]] += 1
    # 150 each on average, variance 500 · 0.3 · 0.7 = 105: five standard deviations
    assert (seen[1:] - 150).abs().max() < 5 * 105**0.5
    club = karate()
    part = sample_neighbours(club.edge_index, 34, torch.tensor([0, 33]), [4, 2], draw)
    edges = set(map(tuple, club.edge_index.T.tolist()))
    assert {tuple(e) for e in part.nodes[part.edge_index].T.tolist()} <= edges
    assert len(part.nodes.unique()) == len(part.nodes)
    assert degrees(part.edge_index[1], len(part.nodes)).max() <= 4 + 2


def test_bad_samples_are_refused_by_name():
    with refuses(ValueError, "nodes must name each node once"):
        sample_neighbours(EDGES, NODES, torch.tensor([1, 1]), [2])
    with refuses(TypeError, "sizes=5 must be one number a layer"):
        sample_neighbours(EDGES, NODES, torch.tensor([1]), 5)
    with refuses(ValueError, "sizes[1]=-2 must be an integer ≥ -1"):
        sample_neighbours(EDGES, NODES, torch.tensor([1]), [2, -2])


# -------------------------------------------------------------------------------------- objectives
@pytest.mark.equation("message-passing-loss")
def test_a_loss_over_a_few_nodes_reaches_all_their_neighbourhood():
    club, few = karate(), torch.tensor([0, 33])
    torch.manual_seed(0)
    model = GraphSAGE(34, 8, 2, 1, dtype=DOUBLE)
    x = club.x.double().requires_grad_()
    scores = model(x, club.edge_index)
    by_hand = -sum(scores[i].log_softmax(0)[club.y[i]] for i in few) / 2
    loss = F.cross_entropy(scores[few], club.y[few])
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    reached = set(x.grad.abs().sum(1).nonzero().flatten().tolist())
    graph = networkx.karate_club_graph()
    assert reached == {0, 33, *graph.neighbors(0), *graph.neighbors(33)}


def test_a_batch_of_graphs_is_answered_graph_by_graph():
    torch.manual_seed(0)
    atlas, model = graph_atlas(5), GIN(1, 6, 2, 2, dtype=DOUBLE)
    batch = batched(atlas)
    got = model(batch.x.double(), batch.edge_index, batch.batch, batch.num_graphs)
    alone = torch.cat([model(graph.x.double(), graph.edge_index) for graph in atlas])
    torch.testing.assert_close(got, alone)
