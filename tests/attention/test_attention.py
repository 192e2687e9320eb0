"""Attention against loops, torch's own, automatic differentiation and counted operations."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.attention.attention import (
    AdditiveAttention,
    attend_after,
    attend_before,
    dot_product_attention,
    matmul_flops,
    scaled_dot_product_attention,
)
from tests.blocks.by_loops import DOUBLE, by_loops, general, normal, parts, same
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"query_dim": 4, "key_dim": 6, "hidden_size": 8},
        (torch.randn(2, 3, 4), torch.randn(2, 5, 6), torch.randn(2, 5, 7)),
        {
            "mask": torch.rand(2, 3, 5) < 0.7,
            "key_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        },
    )


def additive(dq=4, dk=6, hidden=8):
    torch.manual_seed(3)
    return AdditiveAttention(dq, dk, hidden).double()


@pytest.mark.equation("attention-additive", "attention-weights", "attention-context")
def test_additive_attention_is_a_small_network_on_each_pair():
    look, (s, h, v) = additive(), parts()
    w2, w1, top = (p.detach() for p in look.parameters())

    def score(query, key):
        hidden = [math.tanh(float(a @ key + b @ query)) for a, b in zip(w1, w2, strict=True)]
        return sum(float(t) * x for t, x in zip(top[0], hidden, strict=True))

    same(look(s, h, v), by_loops(score, s, h, v))


def test_additive_attention_is_luongs_concat():
    look, (s, h, _) = additive(), parts()
    matrix = torch.cat([look.key_proj.weight, look.query_proj.weight], 1)
    for j, i in itertools.product(range(3), range(5)):
        both = torch.cat([h[:, i], s[:, j]], 1)
        wanted = torch.tanh(both @ matrix.T) @ look.score.weight[0]
        torch.testing.assert_close(look.scores(s, h)[:, j, i], wanted)


@pytest.mark.equation("attention-dot")
def test_dot_product_needs_no_weights():
    s, h, v = parts(dq=6)
    same(dot_product_attention(s, h, v), by_loops(torch.dot, s, h, v))
    look = general(6, 6)
    look.weight.data = torch.eye(6, dtype=DOUBLE)
    same(look(s, h, v), dot_product_attention(s, h, v))


@pytest.mark.equation("attention-scaled")
@pytest.mark.parametrize(("t", "s", "d"), [(1, 1, 1), (3, 5, 4), (8, 8, 16), (1, 7, 3)])
def test_scaled_dot_product_is_torchs(t, s, d):
    q, k, v = normal(2, 3, t, d), normal(2, 3, s, d, seed=1), normal(2, 3, s, d, seed=2)
    got = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v))
    scale = d**-0.5
    for b, h in itertools.product(range(2), range(3)):
        own, _ = dot_product_attention(q[b, h][None], k[b, h][None], v[b, h][None], scale=scale)
        torch.testing.assert_close(got[b, h], own[0])
        torch.testing.assert_close(
            got[b, h], torch.softmax(q[b, h] @ k[b, h].T * scale, 1) @ v[b, h]
        )


def test_masks_mean_what_torchs_mean():
    q, k, v = (normal(2, 2, 4, 8, seed=n) for n in range(3))
    seen = normal(2, 1, 4, 4, seed=3) > -0.5
    seen[..., 0] = True
    for mask in (seen, normal(4, 4, seed=4)):
        wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        torch.testing.assert_close(scaled_dot_product_attention(q, k, v, mask), wanted)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    got = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)


def test_causal_queries_stand_at_the_end_where_torch_has_them_at_the_start():
    q, k, v = normal(1, 1, 2, 4), normal(1, 1, 5, 4, seed=1), normal(1, 1, 5, 4, seed=2)
    got = scaled_dot_product_attention(q, k, v, is_causal=True)
    last = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()
    first = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v, attn_mask=last))
    torchs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(torchs, F.scaled_dot_product_attention(q, k, v, attn_mask=first))
    whole = scaled_dot_product_attention(
        torch.cat([normal(1, 1, 3, 4, seed=5), q], 2), k, v, is_causal=True
    )
    torch.testing.assert_close(got, whole[:, :, 3:])  # so a cached decoder needs no special case


@pytest.mark.equation("attention-variance")
def test_variance_of_a_dot_product_is_its_width():
    """Exactly, over all pairs of vectors of ±1 and over all of 0, 3 shifted to mean 0."""
    for signs in ([-1.0, 1.0], [-0.5, -0.5, -0.5, 1.5]):
        for d in (1, 2, 3):
            vectors = torch.tensor(list(itertools.product(signs, repeat=d))).double()
            products = vectors @ vectors.T
            assert abs(products.mean()) < 1e-12
            unit = vectors.var(0, correction=0)[0] ** 2
            torch.testing.assert_close(products.var(correction=0), d * unit)
            scaled = products / math.sqrt(d)
            torch.testing.assert_close(scaled.var(correction=0), unit)


@pytest.mark.parametrize("d", [4, 64, 1024])
def test_unscaled_scores_of_wide_vectors_saturate_softmax(d):
    q, k = normal(200, 1, d), normal(200, 64, d, seed=1)
    sharp, soft = ((q @ k.mT * scale).softmax(-1).amax(-1).mean() for scale in (1, d**-0.5))
    assert soft == pytest.approx(0.11, abs=0.03)
    assert sharp == pytest.approx({4: 0.29, 64: 0.79, 1024: 0.95}[d], abs=0.04)


@pytest.mark.equation("attention-gradient")
def test_slope_of_the_context_in_a_score():
    scores, values = normal(6).requires_grad_(), normal(6, 3, seed=1)
    jacobian = torch.autograd.functional.jacobian(lambda e: e.softmax(0) @ values, scores)
    alpha = scores.softmax(0).detach()
    context = alpha @ values
    torch.testing.assert_close(jacobian.T, alpha[:, None] * (values - context))


@pytest.mark.equation("attention-saturation")
def test_trace_of_the_softmax_jacobian_is_one_less_the_sum_of_squares():
    for scale in (0.0, 1.0, 10.0, 300.0):
        e = scale * normal(9)
        jacobian = torch.autograd.functional.jacobian(lambda e: e.softmax(0), e)
        alpha = e.softmax(0)
        torch.testing.assert_close(jacobian.trace(), 1 - (alpha**2).sum(), rtol=0, atol=1e-12)


@pytest.mark.equation("attention-fixed")
def test_fixed_context_is_the_last_state_of_each_reader():
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True).double()
    x, lengths = normal(3, 6, 3), torch.tensor([4, 6, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    context = torch.cat([*rnn(packed)[1]], -1)
    for row, length in enumerate(lengths):
        alone = rnn(x[row : row + 1, :length])[0][0]
        wanted = torch.cat([alone[-1, :4], alone[0, 4:]])
        torch.testing.assert_close(context[row], wanted)


@pytest.mark.equation("attention-loss")
def test_loss_is_the_surprise_about_each_symbol():
    scores, y = normal(2, 4, 5), torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1]])
    p = scores.softmax(-1)
    surprise = [-math.log(p[n, j, y[n, j]]) for n in range(2) for j in range(4)]
    got = F.cross_entropy(scores.flatten(0, 1), y.flatten())
    assert float(got) == pytest.approx(sum(surprise) / 8)
    whole = [math.prod(p[n, j, y[n, j]].item() for j in range(4)) for n in range(2)]
    assert float(got) == pytest.approx(-sum(math.log(w) for w in whole) / 8)


@pytest.mark.equation("attention-before")
def test_before_looks_with_the_old_state_and_feeds_what_it_saw():
    look, (_, h, _) = additive(), parts()
    torch.manual_seed(5)
    cell = nn.GRUCell(3 + 6, 4).double()
    inputs, state = normal(2, 4, 3, seed=6), normal(2, 4, seed=7)
    states, contexts, weights = attend_before(cell, look, inputs, state, h)
    old = state
    for j in range(4):
        context, alpha = look(old[:, None], h, h)
        same((contexts[:, j], weights[:, j]), (context[:, 0], alpha[:, 0]))
        old = cell(torch.cat([inputs[:, j], context[:, 0]], 1), old)
        torch.testing.assert_close(states[:, j], old)
    assert not torch.allclose(weights[:, 0], look(states[:, :1], h, h)[1][:, 0])


@pytest.mark.equation("attention-after")
def test_after_looks_with_the_new_state_and_so_runs_all_steps_at_once():
    look, (_, h, _) = general(), parts()
    torch.manual_seed(5)
    rnn = nn.GRU(3, 4, batch_first=True).double()
    cell = nn.GRUCell(3, 4).double()
    for own, theirs in zip(cell.parameters(), rnn.parameters(), strict=True):
        own.data = theirs.data
    inputs, state = normal(2, 4, 3, seed=6), normal(2, 4, seed=7)
    mask = torch.ones(2, 1, 5, dtype=torch.bool)
    mask[0, 0, 3:] = False
    states, contexts, weights = attend_after(rnn, look, inputs, state, h, mask)
    for j in range(4):
        state = cell(inputs[:, j], state)
        context, alpha = look(state[:, None], h, h, mask)
        same((states[:, j], contexts[:, j]), (state, context[:, 0]))
        torch.testing.assert_close(weights[:, j], alpha[:, 0])
    assert (weights[0, :, 3:] == 0).all()


@pytest.mark.equation("attention-mask")
@pytest.mark.parametrize("make", [additive, general])
def test_hidden_keys_have_no_weight_and_no_say(make):
    look, (s, h, v) = make(), parts()
    mask = normal(2, 3, 5, seed=9) > -0.3
    mask[..., 0] = True
    context, weights = look(s, h, v, mask)
    assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()
    for n, j in itertools.product(range(2), range(3)):
        keep = mask[n, j]
        alone = look(s[n : n + 1, j : j + 1], h[n : n + 1, keep], v[n : n + 1, keep])
        same((context[n, j], weights[n, j, keep]), (alone[0][0, 0], alone[1][0, 0]))
    added = torch.zeros(2, 3, 5, dtype=DOUBLE).masked_fill(~mask, -math.inf)
    same(look(s, h, v, added), (context, weights))
    padding = torch.tensor([[True] * 5, [True, True, False, False, False]])[:, None]
    _, weights = look(s, h, v, padding)
    assert (weights[1, :, 2:] == 0).all()


@pytest.mark.parametrize("make", [additive, general])
def test_a_query_that_sees_nothing_gets_zero_and_a_finite_gradient(make):
    look, (s, h, v) = make(), parts()
    s.requires_grad_()
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    mask[1, 2] = False
    for hidden in (mask, torch.zeros(2, 3, 5).double().masked_fill(~mask, -math.inf)):
        context, weights = look(s, h, v, hidden)
        assert (context[1, 2] == 0).all() and (weights[1, 2] == 0).all()
        torch.testing.assert_close(weights.sum(-1)[0], torch.ones(3).double())
        slopes = torch.autograd.grad(context.square().sum(), [s, *look.parameters()])
        assert all(torch.isfinite(slope).all() for slope in slopes)
        assert (slopes[0][1, 2] == 0).all()
    q, k = normal(1, 1, 2, 4), normal(1, 1, 3, 4, seed=1)
    blind = torch.tensor([[True] * 3, [False] * 3])
    out = scaled_dot_product_attention(q, k, k, blind)
    assert (out[0, 0, 1] == 0).all() and (out[0, 0, 0] != 0).all()


@pytest.mark.equation("attention-temperature")
def test_temperature_goes_from_the_best_key_to_the_mean_of_all():
    s, h, v = parts(dq=6)
    best = (s @ h.mT).argmax(-1)
    cold, _ = dot_product_attention(s, h, v, scale=1e6)
    picked = torch.stack([v[n, best[n]] for n in range(2)])
    torch.testing.assert_close(cold, picked)
    hot, weights = dot_product_attention(s, h, v, scale=1e-9)
    torch.testing.assert_close(hot, v.mean(1, keepdim=True).expand(-1, 3, -1))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.2))
    _, weights = dot_product_attention(s, h, v, scale=1 / 3)
    powers = (s @ h.mT).exp() ** (1 / 3)
    torch.testing.assert_close(weights, powers / powers.sum(-1, keepdim=True))


@pytest.mark.equation("attention-permutation")
@pytest.mark.parametrize("make", [additive, general])
def test_keys_have_no_order(make):
    look, (s, h, v) = make(), parts()
    context, weights = look(s, h, v)
    for order in (torch.tensor([4, 3, 2, 1, 0]), torch.tensor([2, 0, 1, 4, 3])):
        shuffled = look(s, h[:, order], v[:, order])
        same(shuffled, (context, weights[..., order]))
        assert not torch.allclose(look(s, h, v[:, order])[0], context)
    turned = look(s[:, [2, 0, 1]], h, v)
    same(turned, (context[:, [2, 0, 1]], weights[:, [2, 0, 1]]))
    x = normal(1, 1, 5, 4)
    order = torch.tensor([3, 1, 4, 0, 2])
    mixed = scaled_dot_product_attention(x, x, x)[:, :, order]
    y = x[:, :, order]
    torch.testing.assert_close(scaled_dot_product_attention(y, y, y), mixed)


@pytest.mark.equation("attention-mask")
def test_a_mask_of_keys_hides_padding_from_every_query():
    s, h, v = parts()
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    seen = normal(2, 3, 5, seed=9) > -0.3
    for look in (additive(), general()):
        same(look(s, h, v, key_mask=real), look(s, h, v, real[:, None]))
        same(look(s, h, v, seen, real), look(s, h, v, seen & real[:, None]))
    same(
        dot_product_attention(h, h, v, key_mask=real), dot_product_attention(h, h, v, real[:, None])
    )
    q = normal(2, 3, 4, 8)
    wide = torch.tensor([[True] * 4, [True, True, False, False]])
    torch.testing.assert_close(
        scaled_dot_product_attention(q, q, q, key_mask=wide),
        scaled_dot_product_attention(q, q, q, wide[:, None, None]),
    )


@pytest.mark.equation("attention-local")
def test_a_window_is_a_mask_or_a_factor_on_the_weights():
    s, h, v = parts(b=1, q=1, k=9, dq=6)
    at, width = 3.4, 2.0
    nearness = -((torch.arange(9) - at) ** 2) / (2 * width**2)
    _, weights = dot_product_attention(s, h, v, nearness.double()[None, None])
    plain = dot_product_attention(s, h, v)[1]
    bell = plain * torch.exp(nearness.double())
    torch.testing.assert_close(weights, bell / bell.sum(-1, keepdim=True))


@pytest.mark.equation("attention-cost")
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (16, 40)])
def test_flops_are_the_counted_ones(n, m):
    s, h, v = parts(1, n, m, 6, 6, 7)
    sizes = {"query_dim": 6, "key_dim": 6, "value_dim": 7}
    for form, run in (
        ("additive", additive(6, 6, 8)),
        ("general", general(6, 6)),
        ("dot", dot_product_attention),
    ):
        with FlopCounterMode(display=False) as counter:
            run(s, h, v)
        told = matmul_flops(form, n, m, hidden_size=8 if form == "additive" else None, **sizes)
        assert counter.get_total_flops() == told


@pytest.mark.parametrize("make", [additive, general])
def test_every_weight_gets_a_gradient_and_survives_saving(make):
    look, inputs = make(), parts()
    sum((out * torch.randn_like(out)).sum() for out in look(*inputs)).backward()
    assert all(p.grad.abs().max() > 0 for p in look.parameters())
    twin = type(look)(*([4, 6, 8] if make is additive else [4, 6])).double()
    twin.load_state_dict(look.state_dict())
    same(twin(*inputs), look(*inputs), rtol=0, atol=0)
    single = look.float()(*(part.float() for part in inputs))
    same([out.double() for out in single], twin(*inputs), rtol=1e-4, atol=1e-5)


S, H, V = parts()
LOOK = additive()
CELL, RNN = nn.GRUCell(9, 4).double(), nn.GRU(3, 4, batch_first=True).double()
IN, START = normal(2, 4, 3), normal(2, 4)
Q = normal(1, 2, 3, 4)
SIZES = {"query_dim": 2, "key_dim": 3, "value_dim": 4}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: AdditiveAttention(0, 6, 8), ValueError, "query_dim=0"),
        (lambda: AdditiveAttention(4, 6.0, 8), TypeError, "key_dim=6.0"),
        (lambda: AdditiveAttention(4, 6, -1), ValueError, "hidden_size=-1"),
        (lambda: LOOK(H, H, V), ValueError, "query must have shape (b, q, 4), got (2, 5, 6)"),
        (lambda: LOOK(S, S, V), ValueError, "keys must have shape (2, k, 6)"),
        (lambda: LOOK(S, H[:1], V), ValueError, "keys must have shape (2, k, 6)"),
        (lambda: LOOK(S, H, V[:, :2]), ValueError, "values must have shape (2, 5, dv)"),
        (lambda: LOOK(S[0], H, V), ValueError, "query must have shape"),
        (lambda: LOOK(None, H, V), TypeError, "query must be a torch.Tensor"),
        (lambda: LOOK(S, H, V.long()), TypeError, "values must be floating point"),
        (lambda: dot_product_attention(S, H, V), ValueError, "keys must have shape (2, k, 4)"),
        (lambda: dot_product_attention(H, H, V, scale="1"), TypeError, "scale='1'"),
        (lambda: dot_product_attention(H, H, V, scale=math.inf), ValueError, "scale=inf"),
        (lambda: scaled_dot_product_attention(Q, Q, Q, None, 0.0), TypeError, "positional"),
        (lambda: scaled_dot_product_attention(Q, Q, Q, is_causal=0.0), TypeError, "is_causal=0.0"),
        (lambda: scaled_dot_product_attention(Q[0], Q, Q), ValueError, "q must have shape"),
        (lambda: scaled_dot_product_attention(Q, Q[..., :2], Q), ValueError, "k must have shape"),
        (lambda: scaled_dot_product_attention(Q, Q, Q.float()), TypeError, "float32"),
        (lambda: attend_before(CELL, LOOK, IN, START, H[:1]), ValueError, "keys must have shape"),
        (lambda: attend_before(CELL, LOOK, IN[..., :2], START, H), ValueError, "width 2 + 6"),
        (lambda: attend_before(CELL, LOOK, IN, START[:, :3], H), ValueError, "state must have"),
        (lambda: attend_before(CELL, LOOK, IN, START, H, LOOK(S, H, V)[1] > 0), ValueError, "mask"),
        (lambda: attend_after(RNN, LOOK, IN[..., :2], START, H), ValueError, "inputs must have"),
        (lambda: attend_after(RNN, LOOK, IN, START[:1], H), ValueError, "state must have shape"),
        (lambda: attend_after(nn.GRU(3, 4), LOOK, IN, START, H), ValueError, "batch_first=True"),
        (lambda: matmul_flops("cosine", 1, 1, **SIZES), ValueError, "form='cosine' must be one"),
        (lambda: matmul_flops("dot", 0, 1, **SIZES), ValueError, "queries=0"),
        (lambda: matmul_flops("dot", 1, 1, **SIZES), ValueError, "key_dim=3 must be query_dim=2"),
        (lambda: matmul_flops("additive", 1, 1, **SIZES), ValueError, "hidden_size=None does not"),
        (
            lambda: matmul_flops("dot", 1, 1, hidden_size=2, **SIZES),
            ValueError,
            "hidden_size=2 does",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
