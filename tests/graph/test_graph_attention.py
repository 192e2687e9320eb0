"""Graph attention, held to PyTorch Geometric, dense loops, finite differences and networkx."""

import math

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.attention.attention import AdditiveAttention
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.data.graphs import barbell, batched, edges_of, graph_atlas, karate
from nnlib.graph import _edge_passes as passes
from nnlib.graph._aggregate import aggregate, softmax_over_neighbours
from nnlib.graph._edges import add_self_loops
from nnlib.graph.graph_attention import (
    GAT,
    DistanceBias,
    GATLayer,
    GATv2Layer,
    GPSLayer,
    GraphTransformer,
    Packing,
    flip_signs,
    laplacian_positions,
    node_loss,
    random_walk_positions,
    shortest_paths,
    spread_of_nodes,
)
from nnlib.kernels.attention import attention
from tests.support import Example, Peer, refuses

peer = Peer("torch_geometric.nn")
PEERS = {"GATConv": GATLayer, "GATv2Conv": GATv2Layer}
LAYERS = [pytest.param(layer, id=layer.__name__) for layer in PEERS.values()]


def example():
    """What the contract runs: see `tests/test_contract.py`."""
    edges = torch.tensor([[0, 1, 2, 2, 3, 4], [1, 0, 0, 3, 3, 2]])
    sizes = {"in_features": 3, "hidden_size": 4, "num_classes": 5, "num_heads": 2, "dropout": 0.1}
    return Example(sizes, (torch.randn(6, 3), edges))


def drawn(nodes=9, edges=30, seed=0, features=5, dtype=torch.float64):
    """A graph with loops, with edges that stand twice, and with a node that has none."""
    g = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes - 1, (2, edges), generator=g)
    pairs[:, 1], pairs[:, 2] = pairs[:, 0], pairs[0, 2]
    return torch.randn(nodes, features, generator=g, dtype=dtype), pairs


def complete(nodes):
    """Every node looks at every node, itself among them."""
    return torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).T


def randomly(module, seed=0):
    """Draw every number of a module anew, biases too."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=g, dtype=value.dtype))
    return module


def dense(layer, x, edges, features=None):
    """Return output and weights of a layer with one head, node by node, edge by edge."""
    n, c = len(x), layer.out_features
    out, weights = torch.zeros(n, c, dtype=x.dtype), torch.zeros(edges.shape[1], dtype=x.dtype)
    for i in range(n):
        arriving = [e for e in range(edges.shape[1]) if edges[1, e] == i]
        scores, sent = [], []
        for e in arriving:
            j = int(edges[0, e])
            if isinstance(layer, GATLayer):
                a = torch.cat([layer.att_dst[0, 0], layer.att_src[0, 0]])
                w = layer.lin.weight
                pair = torch.cat([w @ x[i], w @ x[j]])
                score = a @ pair
                if features is not None:
                    score = score + layer.att_edge[0, 0] @ (layer.lin_edge.weight @ features[e])
                scores.append(F.leaky_relu(score, layer.negative_slope))
                sent.append(w @ x[j])
            else:
                key = layer.lin_l.weight @ x[j] + layer.lin_l.bias
                met = layer.lin_r.weight @ x[i] + layer.lin_r.bias + key
                if features is not None:
                    met = met + layer.lin_edge.weight @ features[e]
                scores.append(layer.att[0, 0] @ F.leaky_relu(met, layer.negative_slope))
                sent.append(key)
        if arriving:
            exps = [math.exp(score.item()) for score in scores]
            for e, value, exp in zip(arriving, sent, exps, strict=True):
                weights[e] = exp / sum(exps)
                out[i] += weights[e] * value
    return out + layer.bias, weights


# ------------------------------------------------------------------------------- the two layers
@pytest.mark.equation("graph-attention-score")
@pytest.mark.equation("graph-attention-weights")
@pytest.mark.equation("graph-attention-output")
@pytest.mark.equation("graph-attention-edges")
@pytest.mark.equation("graph-attention-dynamic")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("edge_dim", [None, 3], ids=["plain", "edges"])
def test_a_layer_is_what_a_loop_over_nodes_and_edges_says(layer, edge_dim):
    x, edges = drawn()
    features = None if edge_dim is None else torch.randn(edges.shape[1], 3).double()
    made = randomly(layer(5, 4, edge_dim=edge_dim, self_loops=False).double())
    out, (same, weights) = made.with_weights(x, edges, features)
    assert torch.equal(same, edges)
    wanted, wanted_weights = dense(made, x, edges, features)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(weights[:, 0], wanted_weights)
    torch.testing.assert_close(out[-1], made.bias)  # nobody is looked at there


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"heads": 3}, {"heads": 3, "concat": False}, {"heads": 2, "edge_dim": 3},
     {"heads": 2, "bias": False, "negative_slope": 0.1},
     {"heads": 2, "residual": True, "edge_dim": 1}, {"heads": 2, "add_self_loops": False},
     {"share_weights": True, "heads": 2}],
    ids=lambda options: "-".join(options) or "plain",
)  # fmt: skip
def test_weights_go_to_pytorch_geometric_and_back(name, options):
    if name == "GATConv" and "share_weights" in options:
        options = {"heads": 2, "dropout": 0.3}
    theirs = randomly(getattr(peer, name)(5, 4, **options).double(), seed=1)
    renamed = {"heads": "num_heads", "add_self_loops": "self_loops"}
    ours = PEERS[name](5, 4, **{renamed.get(k, k): v for k, v in options.items()}).double()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(randomly(ours, seed=2).state_dict())
    x, edges = drawn()
    more = (
        [torch.randn(edges.shape[1], options["edge_dim"]).double()] if "edge_dim" in options else []
    )
    for mode in (False, True):  # in training, the same numbers are drawn
        ours.train(mode), theirs.train(mode)
        torch.manual_seed(3)
        out, (looped, weights) = ours.with_weights(x, edges, *more)
        torch.manual_seed(3)
        wanted, (theirs_looped, theirs_weights) = theirs(
            x, edges, *more, return_attention_weights=True
        )
        torch.testing.assert_close(out, wanted)
        assert torch.equal(looped, theirs_looped)
        torch.testing.assert_close(weights, theirs_weights)
    out.square().sum().backward()
    wanted.square().sum().backward()
    for key, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, theirs.get_parameter(key).grad, msg=key)


@pytest.mark.parametrize("name", PEERS)
def test_first_weights_are_drawn_as_the_peer_draws_them(name):
    ours, theirs = PEERS[name](50, 40, 3), getattr(peer, name)(50, 40, 3)
    for key, value in ours.named_parameters():
        other = theirs.get_parameter(key)
        if key == "bias":
            assert not value.any() and not other.any()
        else:  # uniform: the bounds agree, and so does the spread
            assert abs(value.abs().max() / other.abs().max() - 1) < 0.15, key
            assert abs(value.std() / other.std() - 1) < 0.25, key


@pytest.mark.equation("graph-attention-split")
def test_the_score_is_a_sum_of_two_numbers_that_nodes_have():
    x, edges = drawn()
    layer = randomly(GATLayer(5, 4, self_loops=False).double())
    a = torch.cat([layer.att_dst, layer.att_src], -1)[0, 0]
    z = x @ layer.lin.weight.T
    whole = torch.cat([z[edges[1]], z[edges[0]]], -1) @ a
    split = (z @ layer.att_dst[0, 0])[edges[1]] + (z @ layer.att_src[0, 0])[edges[0]]
    torch.testing.assert_close(whole, split)
    weights = softmax_over_neighbours(F.leaky_relu(split, 0.2), edges[1], len(x))
    torch.testing.assert_close(layer.with_weights(x, edges)[1][1][:, 0], weights)


@pytest.mark.equation("graph-attention-concat")
@pytest.mark.equation("graph-attention-mean")
@pytest.mark.parametrize("layer", LAYERS)
def test_heads_are_layers_side_by_side_or_their_mean(layer):
    x, edges = drawn()
    both = randomly(layer(5, 4, 3, bias=False).double())
    mean = layer(5, 4, 3, bias=False, concat=False).double()
    mean.load_state_dict(both.state_dict())
    alone = []
    for head in range(3):
        one = layer(5, 4, bias=False).double()
        part = {k: v[:, head : head + 1] if v.ndim == 3 else v[4 * head : 4 * head + 4]
                for k, v in both.state_dict().items()}  # fmt: skip
        one.load_state_dict(part)
        alone.append(one(x, edges))
    torch.testing.assert_close(both(x, edges), torch.cat(alone, 1))
    torch.testing.assert_close(mean(x, edges), sum(alone) / 3)


@pytest.mark.equation("graph-attention-static")
@given(seed=st.integers(0, 10**6), heads=st.integers(1, 3), slope=st.floats(0.01, 1))
@settings(max_examples=25, deadline=None)
def test_gat_ranks_keys_alike_for_all_queries(seed, heads, slope):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(7, 5, generator=g, dtype=torch.float64)
    layer = randomly(GATLayer(5, 4, heads, negative_slope=slope).double(), seed)
    weights = layer.with_weights(x, complete(7))[1][1]
    edges = layer.with_weights(x, complete(7))[1][0]
    table = torch.zeros(7, 7, heads, dtype=torch.float64)
    table[edges[1], edges[0]] = weights
    ranks = table.argsort(1)
    assert (ranks == ranks[:1]).all()
    by_key = (layer.lin(x).view(7, heads, 4) * layer.att_src).sum(-1)
    assert torch.equal(ranks[0], by_key.argsort(0))


def test_gatv2_ranks_keys_by_who_asks_and_can_pick_any_key_for_any_query():
    """One-hot nodes, and a network of LeakyReLUs that answers one query, one key each."""
    n, wanted = 5, [3, 1, 4, 0, 2]
    layer = GATv2Layer(n, n * n, bias=True, self_loops=False).double()
    with torch.no_grad():
        for value in layer.parameters():
            value.zero_()
        for unit in range(n * n):  # unit (q, k) is large only where query q meets key k
            query, key = divmod(unit, n)
            layer.lin_r.weight[unit, query] = layer.lin_l.weight[unit, key] = 1
            layer.lin_r.bias[unit] = -1.5
            layer.att[0, 0, unit] = 40.0 * (wanted[query] == key)
    x = torch.eye(n, dtype=torch.float64)
    edges = complete(n)
    weights = torch.zeros(n, n, dtype=torch.float64)
    weights[edges[1], edges[0]] = layer.with_weights(x, edges)[1][1][:, 0]
    assert weights.argmax(1).tolist() == wanted
    assert weights.max(1).values.min() > 0.99


@pytest.mark.parametrize("layer", LAYERS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_renumbering_nodes_and_edges_renumbers_the_answer(layer, seed):
    x, edges = drawn(seed=seed)
    g = torch.Generator().manual_seed(seed)
    nodes = torch.randperm(len(x), generator=g)
    order = torch.randperm(edges.shape[1], generator=g)
    made = randomly(layer(5, 4, 2).double())
    moved = made(x[nodes], nodes.argsort()[edges[:, order]])
    torch.testing.assert_close(moved, made(x, edges)[nodes])


@pytest.mark.equation("graph-attention-gradient")
def test_the_gradient_of_a_score_is_its_weight_times_what_it_gains():
    _, edges = drawn()
    values, upstream = torch.randn(2, 9, 4, dtype=torch.float64)
    scores = torch.randn(edges.shape[1], dtype=torch.float64, requires_grad=True)
    weights = softmax_over_neighbours(scores, edges[1], 9)
    out = aggregate(weights[:, None] * values[edges[0]], edges[1], 9)
    (slope,) = torch.autograd.grad((out * upstream).sum(), scores)
    gains = (upstream[edges[1]] * (values[edges[0]] - out[edges[1]])).sum(-1)
    torch.testing.assert_close(slope, weights * gains)


@pytest.mark.equation("graph-attention-range")
@pytest.mark.parametrize("layer", LAYERS)
def test_attention_never_leaves_the_range_of_its_values(layer):
    x, edges = drawn()
    made = randomly(layer(5, 4, bias=False).double())
    values = (made.lin if layer is GATLayer else made.lin_l)(x)
    out = made(x, edges)
    assert (out <= values.amax(0) + 1e-12).all() and (out >= values.amin(0) - 1e-12).all()


@pytest.mark.equation("graph-attention-loss")
def test_the_loss_is_the_mean_log_loss_of_labelled_nodes():
    x, edges = drawn(dtype=torch.float32)
    classes, labelled = torch.tensor([0, 1, 2, 0, 1, 2, 9, 9, 9]), torch.tensor([0, 4, 5])
    model = GAT(5, 4, 3, num_heads=2).eval()
    p = model(x, edges).detach().double().softmax(-1)
    wanted = -sum(math.log(p[i, classes[i]]) for i in labelled.tolist()) / 3
    assert node_loss(model, x, edges, classes, labelled).item() == pytest.approx(wanted, abs=1e-6)


def test_the_network_is_its_layers_with_elu_and_dropout_of_what_goes_in():
    x, edges = drawn(dtype=torch.float32)
    model = GAT(5, 4, 3, num_heads=2, num_layers=3, output_heads=2, layer=GATv2Layer, dropout=0.5)
    first, second, last = model.layers
    assert last(torch.zeros(9, 8), edges).shape == (9, 3)
    model.eval()
    hidden = F.elu(second(F.elu(first(x, edges)), edges))
    torch.testing.assert_close(model(x, edges), last(hidden, edges))
    model.train()
    torch.manual_seed(0)
    noisy = model(x, edges)
    torch.manual_seed(0)
    for layer in (first, second):
        x = F.elu(layer(F.dropout(x, 0.5), edges))
    torch.testing.assert_close(noisy, last(F.dropout(x, 0.5), edges))


# --------------------------------------------------------------------------- what has no neighbours
@pytest.mark.parametrize("layer", LAYERS)
def test_no_edges_and_no_nodes_have_defined_answers(layer):
    made = randomly(layer(5, 4, 2))
    none = torch.zeros(2, 0, dtype=torch.int64)
    x = torch.randn(3, 5)
    values = (made.lin if layer is GATLayer else made.lin_l)(x)
    torch.testing.assert_close(made(x, none), values + made.bias)  # each looks at itself alone
    assert made(x[:0], none).shape == (0, 8)
    bare = layer(5, 4, 2, self_loops=False)
    torch.testing.assert_close(bare(x, none), bare.bias.expand(3, 8))
    bare(x, none).sum().backward()


@pytest.mark.parametrize("layer", LAYERS)
def test_loops_are_not_doubled_but_an_edge_that_stands_twice_counts_twice(layer):
    x, _ = drawn(3)
    made = randomly(layer(5, 4).double())
    once, twice = torch.tensor([[0], [1]]), torch.tensor([[0, 0], [1, 1]])
    looped = torch.tensor([[0, 1, 1], [1, 1, 1]])
    torch.testing.assert_close(made(x, once), made(x, looped))
    assert not torch.allclose(made(x, once)[1], made(x, twice)[1])


@pytest.mark.parametrize("layer", LAYERS)
def test_huge_scores_overflow_nowhere(layer):
    made = randomly(layer(5, 4))
    x, edges = drawn(dtype=torch.float32)
    out = made(1e18 * x, edges)
    assert out.isfinite().all()


# --------------------------------------------------------------------------------- the fast passes
@pytest.mark.parametrize("heads", [1, 3])
def test_passes_in_pieces_equal_their_plain_twins(heads, monkeypatch):
    monkeypatch.setattr(passes, "LITTLE", 0)
    monkeypatch.setattr(passes, "PIECE", 64)  # many pieces, the last one short
    _, edges = drawn(edges=53)
    g = torch.Generator().manual_seed(1)
    keys, queries = torch.randn(2, 9, heads, 4, generator=g, dtype=torch.float64).unbind()
    att = torch.randn(heads, 4, generator=g, dtype=torch.float64)
    weights = torch.randn(53, heads, generator=g, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (keys, queries, att, weights)]

    def answers(scores, total):
        made = scores(keys, queries, att, *edges, 0.2), total(keys, weights, *edges)
        grads = torch.autograd.grad(sum((t * t.cos()).sum() for t in made), inputs)
        return [*made, *grads]

    fast = answers(passes.pair_scores, passes.weighted_sum)
    plain = answers(passes.pair_scores_plain, passes.weighted_sum_plain)
    torch.testing.assert_close(fast, plain)
    assert torch.autograd.gradcheck(
        lambda k, q, a: passes.pair_scores(k, q, a, *edges, 0.2), (keys, queries, att)
    )


# ------------------------------------------------------------- transformers, dense and on graphs
@pytest.mark.equation("graph-attention-dot")
def test_a_transformer_is_attention_over_the_edges_of_the_complete_graph():
    n, e, h = 6, 8, 2
    whole = MultiHeadAttention(e, h).double()
    x = torch.randn(n, e, dtype=torch.float64)
    q, k, v = whole._project(x[None], None)
    source, target = complete(n)
    q, k, v = (part[0].transpose(0, 1) for part in (q, k, v))  # n h d
    scores = (q[target] * k[source]).sum(-1) / math.sqrt(e // h)
    weights = softmax_over_neighbours(scores, target, n)
    out = whole.out_proj(aggregate(weights[..., None] * v[source], target, n).flatten(1))
    torch.testing.assert_close(out, whole(x[None])[0])


def test_gatv2_on_the_complete_graph_is_additive_attention_but_for_its_nonlinearity():
    x, n = torch.randn(6, 5, dtype=torch.float64), 6
    theirs = AdditiveAttention(5, 5, 4).double()
    ours = GATv2Layer(5, 4, self_loops=False).double()
    with torch.no_grad():
        for value in ours.parameters():
            value.zero_()
        ours.lin_l.weight.copy_(theirs.key_proj.weight)
        ours.lin_r.weight.copy_(theirs.query_proj.weight)
        ours.att.copy_(theirs.score.weight[None])
    source, target = complete(n)
    pairs = ours.lin_l(x)[source] + ours.lin_r(x)[target]
    weights = softmax_over_neighbours(pairs.tanh() @ ours.att[0, 0], target, n)
    keys = ours.lin_l(x)[None]
    context, dense_weights = theirs(x[None], x[None], keys)
    torch.testing.assert_close(weights, dense_weights[0, target, source])
    torch.testing.assert_close(aggregate(weights[:, None] * keys[0][source], target, n), context[0])


@pytest.mark.equation("graph-attention-embedding")
def test_the_transformer_begins_with_features_and_positions_summed():
    model = GraphTransformer(3, 2, embed_dim=8, num_heads=2, num_positions=4).double()
    x, p = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    hidden = (x @ model.embed.weight.T + model.embed.bias + p @ model.embed_positions.weight.T)[
        None
    ]
    for layer in model.layers:
        hidden = layer(hidden)
    torch.testing.assert_close(model(x, p), model.head(model.norm(hidden[0])))


def test_a_batch_of_graphs_is_answered_as_each_alone():
    model = GraphTransformer(1, 2, embed_dim=8, num_heads=2, num_positions=3).eval()
    graphs = [*graph_atlas(4)[:3], *graph_atlas(6)[:2], *graph_atlas(2)]
    many = batched([type(g)(x=g.x, edge_index=g.edge_index, source="", licence="") for g in graphs])
    rows = laplacian_positions(many.edge_index, len(many.x), 3, many.batch)
    together = model(many.x, rows, many.batch)
    alone = [model(g.x, laplacian_positions(g.edge_index, g.num_nodes, 3)) for g in graphs]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    gps = GPSLayer(GATv2Layer(1, 1), 1).eval()
    alone = [gps(g.x, g.edge_index) for g in graphs]
    torch.testing.assert_close(gps(many.x, many.edge_index, many.batch), torch.cat(alone))


def test_without_positions_edges_are_not_seen_and_a_mask_of_them_is():
    model = GraphTransformer(3, 2, embed_dim=8, num_heads=2)
    x, edges = drawn(features=3, dtype=torch.float32)
    joined = Packing(None, 9).adjacency(add_self_loops(edges, 9))
    near = model(x, mask=joined[:, None])
    assert not torch.allclose(near, model(x))
    other = joined.clone()
    other[0, 2], other[0, 2, 2] = False, True
    moved = (model(x, mask=other[:, None]) != near).any(1)
    assert moved[2] and not moved[8]  # node 8 is alone, whatever others look at


@pytest.mark.equation("graph-attention-distance")
def test_distances_are_added_to_the_scores():
    bias = DistanceBias(2, 3).double()
    assert not bias.table.weight.any()
    randomly(bias)
    edges = edges_of(networkx.path_graph(6))
    lengths = shortest_paths(edges, 6, most=3)
    q, k, v = torch.randn(3, 1, 2, 6, 4, dtype=torch.float64).unbind()
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / 2
    for i in range(6):
        for j in range(6):
            scores[0, :, i, j] += bias.table.weight[min(abs(i - j), 4)]
    torch.testing.assert_close(attention(q, k, v, mask=bias(lengths)), scores.softmax(-1) @ v)


@pytest.mark.equation("graph-attention-gps")
@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
def test_gps_is_the_peers(training):
    theirs = peer.GPSConv(8, peer.GATv2Conv(8, 4, 2), heads=2).double()
    ours = GPSLayer(GATv2Layer(8, 4, 2), 8, 2).double()
    given = {k.replace(".module.", "."): v for k, v in randomly(theirs).state_dict().items()}
    ours.load_state_dict(given)
    x, edges = drawn(features=8)
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    edges = edges[:, batch[edges[0]] == batch[edges[1]]]
    ours.train(training), theirs.train(training)
    torch.testing.assert_close(ours(x, edges, batch), theirs(x, edges, batch))


# --------------------------------------------------------------------------------------- positions
def some_graphs():
    made = [networkx.karate_club_graph(), networkx.path_graph(5), networkx.cycle_graph(6)]
    made.append(networkx.disjoint_union(networkx.path_graph(3), networkx.empty_graph(2)))
    return [pytest.param(g, id=f"{len(g)}-{g.number_of_edges()}") for g in made]


@pytest.mark.equation("graph-attention-laplacian")
@pytest.mark.equation("graph-attention-positions")
@pytest.mark.parametrize("graph", some_graphs())
def test_laplacian_positions_are_the_eigenvectors_that_networkx_says(graph):
    n, k = len(graph), 3
    wanted = networkx.normalized_laplacian_matrix(graph, weight=None).toarray()
    wanted = torch.tensor(wanted)
    got = laplacian_positions(edges_of(graph), n, k).double()
    values = torch.linalg.eigvalsh(wanted)[1 : k + 1]
    torch.testing.assert_close(wanted @ got, got * values, atol=1e-6, rtol=0)
    torch.testing.assert_close(got.T @ got, torch.eye(k).double(), atol=1e-6, rtol=0)
    loops = torch.cat([edges_of(graph), torch.zeros(2, 1, dtype=torch.int64)], 1)
    assert torch.equal(laplacian_positions(loops, n, k).double(), got)


@pytest.mark.equation("graph-attention-smooth")
def test_an_eigenvalue_is_how_much_neighbours_differ():
    club = karate()
    graph = networkx.karate_club_graph()
    u = laplacian_positions(club.edge_index, 34, 5).double()
    degree = torch.tensor([d for _, d in graph.degree()], dtype=torch.float64)
    scaled = u / degree.sqrt()[:, None]
    energy = sum((scaled[i] - scaled[j]) ** 2 for i, j in graph.edges)
    matrix = networkx.normalized_laplacian_matrix(graph, weight=None).toarray()
    values = torch.linalg.eigvalsh(torch.tensor(matrix))[1:6]
    torch.testing.assert_close(energy, values, atol=1e-6, rtol=0)


def test_columns_that_a_small_graph_lacks_are_zero_and_padding_changes_nothing():
    many = batched([barbell(3), barbell(2)])
    edges = torch.cat([many.edge_index, torch.tensor([[10, 11], [11, 10]])], 1)
    batch = torch.cat([many.batch, torch.tensor([2, 2])])
    rows = laplacian_positions(edges, 12, 7, batch)
    assert not rows[:6, 5:].any() and rows[:6, :5].any(0).all()
    assert not rows[10:, 1:].any() and rows[10:, 0].all()
    alone = laplacian_positions(barbell(3).edge_index, 6, 7)
    matrix = rows[:6] @ rows[:6].T  # bases may differ where eigenvalues coincide
    torch.testing.assert_close(matrix, alone @ alone.T, atol=1e-6, rtol=1e-5)


@pytest.mark.equation("graph-attention-signs")
def test_flipped_signs_are_as_good_and_each_graph_and_column_has_its_own():
    many = batched([karate()] * 20)
    rows = laplacian_positions(many.edge_index, 680, 4, many.batch)
    flipped = flip_signs(rows, many.batch, torch.Generator().manual_seed(0))
    signs = (flipped / rows).view(20, 34, 4)[:, 0]
    assert torch.equal(flipped.view(20, 34, 4), rows.view(20, 34, 4) * signs[:, None])
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and 20 < (signs > 0).sum() < 60
    one, other = rows[:34].double(), flipped[:34].double()
    matrix = networkx.normalized_laplacian_matrix(networkx.karate_club_graph(), weight=None)
    matrix = torch.tensor(matrix.toarray())
    for u in (one, other):  # both solve the same equation
        torch.testing.assert_close(matrix @ u, u * (u * (matrix @ u)).sum(0), atol=1e-6, rtol=0)


@pytest.mark.equation("graph-attention-random-walk")
@pytest.mark.parametrize("graph", some_graphs())
def test_walks_come_back_as_often_as_counting_them_says(graph):
    n = len(graph)
    got = random_walk_positions(edges_of(graph), n, 4)
    for start in graph:  # follow every walk
        mass, back = {start: 1.0}, []
        for _ in range(4):
            there = dict.fromkeys(graph, 0.0)
            for at, chance in mass.items():
                for to in graph[at]:
                    there[to] += chance / graph.degree(at)
            mass = there
            back.append(mass[start])
        at = list(graph).index(start)
        torch.testing.assert_close(got[at], torch.tensor(back), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("graph", some_graphs())
def test_shortest_paths_are_networkxs(graph):
    n, told = len(graph), dict(networkx.all_pairs_shortest_path_length(graph))
    got = shortest_paths(edges_of(graph), n, most=3)[0]
    for a, i in enumerate(graph):
        for b, j in enumerate(graph):
            assert got[a, b] == min(told[i].get(j, 4), 4)


def test_paths_follow_the_direction_and_batches_are_padded_with_the_farthest():
    edges, batch = torch.tensor([[0, 1, 3], [1, 2, 4]]), torch.tensor([0, 0, 0, 1, 1])
    got = shortest_paths(edges, 5, most=2, batch=batch)
    assert got[0].tolist() == [[0, 3, 3], [1, 0, 3], [2, 1, 0]]
    assert got[1].tolist() == [[0, 3, 3], [1, 0, 3], [3, 3, 3]]


@pytest.mark.equation("graph-attention-spread")
def test_spread_is_zero_when_all_are_alike_and_does_not_know_the_scale():
    x = torch.randn(6, 3)
    assert spread_of_nodes(torch.ones(4, 2)) == 0 == spread_of_nodes(torch.zeros(4, 2))
    torch.testing.assert_close(spread_of_nodes(x), spread_of_nodes(1e-3 * x))
    assert spread_of_nodes(x - x.mean(0)).item() == pytest.approx(1)


# --------------------------------------------------------------------------------------- bad input
def test_bad_input_is_refused_by_name():
    x, edges = torch.randn(4, 5), torch.tensor([[0, 1], [1, 2]])
    layer = GATLayer(5, 4)
    with refuses(ValueError, "edge_index names node 7"):
        layer(x, torch.tensor([[0, 7], [1, 2]]))
    with refuses(TypeError, "edge_index must be of int64"):
        layer(x, edges.int())
    with refuses(ValueError, "x must have shape (n, 5)"):
        layer(torch.randn(4, 3), edges)
    with refuses(ValueError, "edge_features with edge_dim=None: they were given"):
        layer(x, edges, torch.randn(2, 3))
    with refuses(ValueError, "edge_features with edge_dim=3: none were given"):
        GATv2Layer(5, 4, edge_dim=3)(x, edges)
    with refuses(ValueError, "edge_features must have shape (2, 3)"):
        GATv2Layer(5, 4, edge_dim=3)(x, edges, torch.randn(1, 3))
    with refuses(ValueError, "num_heads=0"):
        GATLayer(5, 4, 0)
    with refuses(ValueError, "dropout=1.5"):
        GATv2Layer(5, 4, dropout=1.5)
    with refuses(ValueError, "must be GATLayer or GATv2Layer"):
        GAT(5, 4, 3, layer=nn.Linear)
    with refuses(ValueError, "labelled must be 0 … 3"):
        node_loss(GAT(5, 4, 3), x, edges, torch.zeros(4, dtype=torch.int64), torch.tensor([4]))
    with refuses(ValueError, "edge_index must hold each edge in both directions"):
        laplacian_positions(edges, 4, 2)
    both = torch.cat([edges, edges.flip(0)], 1)
    with refuses(ValueError, "edge_index joins nodes [0, 1] of two different graphs"):
        random_walk_positions(both, 4, 2, torch.tensor([0, 1, 1, 1]))
    with refuses(ValueError, "batch must be sorted"):
        flip_signs(torch.ones(3, 2), torch.tensor([1, 0, 0]))
    with refuses(ValueError, "positions with num_positions=2: none were given"):
        GraphTransformer(5, 2, num_positions=2)(x)
    with refuses(ValueError, "lengths must be 0 … 3 (most + 2)"):
        DistanceBias(2, 2)(torch.full((1, 2, 2), 4))
    with refuses(TypeError, "local must be a torch.nn.Module"):
        GPSLayer(torch.relu, 4)
