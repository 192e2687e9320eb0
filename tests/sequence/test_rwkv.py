"""RWKV against transformers' RWKV-4, sums written out, automatic derivatives and loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.sequence.rwkv import (
    RWKV,
    ChannelMixing,
    RWKVBlock,
    RWKVState,
    TimeMixing,
    WKVState,
    delta_step,
    delta_wkv,
    matrix_step,
    matrix_wkv,
    token_shift,
    transition,
    wkv,
    wkv_reference,
    wkv_step,
    wkv_weights,
    wkv_with_state,
)
from nnlib.train.metrics import parameter_count
from tests import writing_support
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")
DOUBLE = torch.float64


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"vocab_size": 11, "embed_dim": 8, "num_layers": 2},
        (torch.randint(11, (3, 7)),),
    )


def normal(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=DOUBLE)


def same(got, wanted, atol=1e-12, rtol=0.0):
    got = torch.as_tensor(got)
    wanted = torch.as_tensor(wanted, dtype=got.dtype)
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def drawn(b=2, t=7, c=3, seed=0, scale=1.0):
    """Rates w, bonuses u, keys and values in float64."""
    w = normal(c, seed=seed).exp()
    return (
        w,
        normal(c, seed=seed + 1),
        normal(b, t, c, seed=seed + 2, scale=scale),
        normal(b, t, c, seed=seed + 3),
    )


def written_out(w, u, k, v):
    """The sum of the paper, term by term, for one sequence and one channel, in plain Python."""
    means = []
    for t in range(len(k)):
        weights = [math.exp(-(t - 1 - i) * w + k[i]) for i in range(t)] + [math.exp(u + k[t])]
        means.append(sum(p * x for p, x in zip(weights, v, strict=False)) / sum(weights))
    return means


# ------------------------------------------------------------------------------------- wkv
@pytest.mark.equation("rwkv-wkv")
@settings(max_examples=15, deadline=None)
@given(b=st.integers(1, 3), t=st.integers(1, 19), c=st.integers(1, 4), seed=st.integers(0, 999))
def test_wkv_is_the_quotient_of_two_sums(b, t, c, seed):
    w, u, k, v = drawn(b, t, c, seed)
    wanted = torch.empty_like(v)
    for row in range(b):
        for at in range(c):
            sums = written_out(
                w[at].item(), u[at].item(), k[row, :, at].tolist(), v[row, :, at].tolist()
            )
            wanted[row, :, at] = torch.tensor(sums, dtype=DOUBLE)
    same(wkv(w, u, k, v), wanted)
    same(wkv_reference(w, u, k, v), wanted)


@pytest.mark.equation("rwkv-recurrence")
def test_a_naive_recurrence_in_numpy_gives_the_same():
    w, u, k, v = (x.numpy() for x in drawn(t=12))
    a = b = np.zeros((2, 3))
    for t in range(12):
        now = np.exp(u + k[:, t])
        y = (a + now * v[:, t]) / (b + now)
        same(wkv(*map(torch.from_numpy, (w, u, k, v)))[:, t], y)
        a = np.exp(-w) * a + np.exp(k[:, t]) * v[:, t]
        b = np.exp(-w) * b + np.exp(k[:, t])
    state = wkv_with_state(*map(torch.from_numpy, (w, u, k, v)))[1]
    same(state.a * state.m.exp(), a)
    same(state.b * state.m.exp(), b)


@pytest.mark.equation("rwkv-stable")
def test_the_exponent_is_the_largest_decayed_key_and_all_else_stays_small():
    w, u, k, v = drawn(t=40, scale=60.0)
    state = None
    for t in range(40):
        whole = wkv_with_state(w, u, k[:, : t + 1], v[:, : t + 1])[1]
        state = wkv_step(w, u, k[:, t], v[:, t], state)[1]
        back = torch.arange(t, -1, -1, dtype=DOUBLE)[:, None]
        same(whole.m, (k[:, : t + 1] - back * w).amax(1), atol=1e-10)
        for got, wanted in zip(state, whole, strict=True):
            same(got, wanted, atol=1e-10)
        assert (whole.b >= 1 - 1e-12).all()  # up to rounding
        assert (whole.b <= t + 1 + 1e-12).all()


@pytest.mark.parametrize(("size", "atol"), [(100.0, 3e-5), (1000.0, 3e-4), (1e30, 1e-5)])
def test_keys_of_any_size_give_finite_means_where_exponentials_overflow(size, atol):
    """The tolerance: an exponent of that size is rounded by some 10⁻⁷ of it."""
    w, u, k, v = (x.float() for x in drawn(t=30))
    k = k.sign() * size
    assert not torch.isfinite(k.exp()).all()
    y = wkv(w, u, k, v)
    assert torch.isfinite(y).all()
    low, high = (getattr(v, f"cum{m}")(1).values for m in ("min", "max"))
    assert ((y >= low - 1e-5) & (y <= high + 1e-5)).all()
    exact = wkv(*(x.double() for x in (w, u, k, v)))
    same(y.double(), exact, atol=atol)
    same(wkv_reference(w, u, k, v).double(), exact, atol=atol)


def test_all_at_once_and_step_by_step_agree_in_float64_and_over_2000_steps_in_float32():
    w, u, k, v = drawn(2, 300, 5)
    same(wkv(w, u, k, v), wkv_reference(w, u, k, v), atol=1e-10)
    w, u, k, v = (x.float() for x in drawn(1, 2000, 64, scale=3.0))
    w = torch.logspace(-4, 1, 64)
    same(wkv(w, u, k, v), wkv_reference(w, u, k, v), atol=1e-4)


@pytest.mark.parametrize("steps", [2, 3, 16, 17, 63, 200])
def test_gradients_of_all_arguments_are_those_of_the_loop(steps):
    given_ = [x.requires_grad_() for x in drawn(2, steps, 3)]
    weight = normal(2, steps, 3, seed=9)
    fast, slow = (
        torch.autograd.grad((form(*given_) * weight).sum(), given_) for form in (wkv, wkv_reference)
    )
    for name, got, wanted in zip("wukv", fast, slow, strict=True):
        assert torch.isfinite(got).all(), name
        same(got, wanted, atol=1e-10)


def test_gradcheck_through_the_state_too():
    w, u, k, v = drawn(1, 5, 2)
    state = wkv_with_state(w, u, *drawn(1, 4, 2, seed=5)[2:])[1]
    assert torch.autograd.gradcheck(
        lambda w, u, k, v, a, b: wkv_with_state(w, u, k, v, WKVState(a, b, state.m))[0],
        [x.clone().requires_grad_() for x in (w, u, k, v, state.a, state.b)],
    )


@pytest.mark.equation("rwkv-attention", "rwkv-aft")
def test_it_is_the_attention_free_transformer_with_a_bias_for_each_distance():
    w, u, k, v = drawn(2, 9, 3)
    weights = wkv_weights(w, u, k)
    same(weights.sum(2), torch.ones(2, 9, 3))
    same((weights * v[:, None]).sum(2), wkv(w, u, k, v))
    bias = torch.empty(9, 9, 3, dtype=DOUBLE)
    for t in range(9):
        for i in range(9):
            bias[t, i] = -math.inf if i > t else u if i == t else -(t - 1 - i) * w
    top = torch.einsum("tic,bic->btc", bias.exp(), k.exp() * v)
    same(wkv(w, u, k, v), top / torch.einsum("tic,bic->btc", bias.exp(), k.exp()))


@pytest.mark.equation("rwkv-linear-attention")
def test_without_decay_one_channel_is_linear_attention_whose_query_cancels():
    _, _, k, v = drawn(1, 8, 1)
    query = normal(8, 1, seed=7).exp()
    features = k[0].exp()
    scores = (query @ features.T).tril()
    wanted = scores @ v[0] / scores.sum(1, keepdim=True)
    zero = torch.zeros(1, dtype=DOUBLE)
    same(wkv(zero, zero, k, v)[0], wanted)


@pytest.mark.equation("rwkv-gradient")
def test_gradients_of_a_mean_are_weights_and_weighted_deviations():
    w, u, k, v = drawn(1, 6, 1)
    p = wkv_weights(w, u, k)[0, -1, :, 0]
    k, v = k.requires_grad_(), v.requires_grad_()
    last = wkv(w, u, k, v)[0, -1, 0]
    by_k, by_v = torch.autograd.grad(last, (k, v))
    same(by_v[0, :, 0], p)
    same(by_k[0, :, 0], p * (v[0, :, 0] - last).detach())


@pytest.mark.equation("rwkv-half-life")
@pytest.mark.parametrize("half", [1.0, 5.0, 40.0])
def test_a_weight_is_halved_after_its_half_life(half):
    w = torch.tensor([math.log(2) / half], dtype=DOUBLE)
    steps = int(half) + 2
    k = torch.zeros(1, steps, 1, dtype=DOUBLE)
    p = wkv_weights(w, torch.zeros(1, dtype=DOUBLE), k)[0, -1, :, 0]
    same(p[0] / p[int(half)], 0.5)  # the one before last weighs 1, this one stands `half` further


@pytest.mark.equation("rwkv-pencil")
def test_the_worked_example():
    k = torch.tensor([math.log(2), 0.0, 0.0], dtype=DOUBLE).view(1, 3, 1)
    v = torch.tensor([1.0, 4.0, 0.0], dtype=DOUBLE).view(1, 3, 1)
    w, u = (torch.tensor([x], dtype=DOUBLE) for x in (math.log(2), 0.0))
    same(wkv(w, u, k, v).flatten(), [1.0, 2.0, 5 / 3])
    state = wkv_with_state(w, u, k[:, :2], v[:, :2])[1]
    same((state.a * state.m.exp()).item(), 5.0)
    same((state.b * state.m.exp()).item(), 2.0)


def test_a_state_carries_on_wherever_a_sequence_is_cut():
    w, u, k, v = drawn(2, 11, 3)
    whole, end = wkv_with_state(w, u, k, v)
    for cut in range(12):
        first, state = wkv_with_state(w, u, k[:, :cut], v[:, :cut])
        rest, after = wkv_with_state(w, u, k[:, cut:], v[:, cut:], state)
        same(torch.cat([first, rest], 1), whole)
        for got, wanted in zip(after, end, strict=True):
            same(got, wanted)


def test_no_step_gives_no_mean_and_one_step_its_value():
    w, u, k, v = drawn(2, 1, 3)
    assert wkv(w, u, k[:, :0], v[:, :0]).shape == (2, 0, 3)
    same(wkv(w, u, k, v), v)
    assert wkv_with_state(w, u, k[:, :0], v[:, :0])[1].b.max() == 0


def test_extreme_rates_forget_at_once_or_never():
    _, u, k, v = drawn(1, 9, 2)
    y = wkv(torch.tensor([1e30, 0.0], dtype=DOUBLE), u, k, v)
    p = torch.stack([k[0, :-1, 0], u[0] + k[0, 1:, 0]]).softmax(0)
    same(y[0, 1:, 0], p[0] * v[0, :-1, 0] + p[1] * v[0, 1:, 0])
    heavy = k[0, :, 1].exp()
    past, mass = (heavy * v[0, :, 1])[:-1].sum(), heavy[:-1].sum()
    now = (u[1] + k[0, -1, 1]).exp()
    same(y[0, -1, 1], (past + now * v[0, -1, 1]) / (mass + now))


def test_half_precision_keeps_its_state_in_float32():
    w, u, k, v = (x.float() for x in drawn(1, 300, 4))
    y, state = wkv_with_state(w, u, k.bfloat16(), v.bfloat16())
    assert y.dtype == torch.bfloat16
    assert {part.dtype for part in state} == {torch.float32}
    same(y.float(), wkv(w, u, k.bfloat16().float(), v.bfloat16().float()), atol=2e-2)


def test_a_model_of_half_precision_begins_like_one_of_full_precision():
    torch.manual_seed(0)
    half = RWKV(20, 16, 2, dtype=torch.bfloat16)
    torch.manual_seed(0)
    full = RWKV(20, 16, 2)
    its = full.state_dict()
    for name, weight in half.state_dict().items():
        assert weight.dtype == torch.bfloat16, name
        torch.testing.assert_close(weight.float(), its[name], atol=1e-3, rtol=1e-2, msg=name)
    assert half(torch.arange(6)[None]).dtype == torch.bfloat16


def test_training_walks_over_time_in_no_python_loop(monkeypatch):
    """One call of the scan for each layer, however long the sequence."""
    from nnlib.sequence import _rwkv_wkv, rwkv

    calls = []
    scan = _rwkv_wkv.linear_scan
    monkeypatch.setattr(_rwkv_wkv, "linear_scan", lambda *a: calls.append(1) or scan(*a))
    monkeypatch.setattr(_rwkv_wkv, "one_step", None)
    monkeypatch.setattr(rwkv, "one_step", None)
    RWKV(5, 8, 3)(torch.randint(5, (2, 50)))
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"w": torch.tensor([1.0, -0.5, 1.0])}, ValueError, "w must be ≥ 0"),
        ({"w": torch.tensor([1.0, math.nan, 1.0])}, ValueError, "w must be ≥ 0"),
        ({"w": torch.ones(2)}, ValueError, "w must have shape (3), got (2,)"),
        ({"u": torch.ones(3, 1)}, ValueError, "u must have shape (3), got (3, 1)"),
        ({"k": torch.ones(2, 3)}, ValueError, "k must have shape (b, t, c), got (2, 3)"),
        ({"v": torch.ones(2, 5, 4)}, ValueError, "v must have shape (2, 4, 3), got (2, 5, 4)"),
        ({"v": torch.ones(2, 4, 3, dtype=torch.int64)}, TypeError, "v must be floating point"),
        ({"k": 3}, TypeError, "k must be a torch.Tensor, got int"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_input_is_named(change, error, told):
    row, rows = torch.ones(3), torch.ones(2, 4, 3)
    good = {"w": row, "u": row, "k": rows, "v": rows}
    for form in (wkv, wkv_with_state):
        with refuses(error, told):
            form(**(good | change))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_state_of_another_batch_or_width_is_named(batch):
    w, u, k, v = drawn(2, 4, 3)
    strange = wkv_with_state(w, u, *drawn(batch, 4, 3)[2:])[1]
    with refuses(ValueError, f"state.a must have shape (2, 3), got ({batch}, 3)"):
        wkv_with_state(w, u, k, v, strange)
    with refuses(ValueError, f"state.a must have shape (2, 3), got ({batch}, 3)"):
        wkv_step(w, u, k[:, 0], v[:, 0], strange)
    with refuses(TypeError, "state must be a WKVState, got Tensor"):
        wkv_with_state(w, u, k, v, strange.a)


# ------------------------------------------------------------------------------------- the model
SHAPES = [(40, 16, 2), (23, 24, 3)]


def theirs(shape, **options):
    """Return an RWKV of transformers with random weights, its norms and mixtures included."""
    vocab_size, e, depth = shape
    torch.manual_seed(1)
    config = transformers.RwkvConfig(
        vocab_size=vocab_size, hidden_size=e, num_hidden_layers=depth, context_length=64, **options
    )
    model = transformers.RwkvForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def numbers(shape, length, rows=3, seed=2):
    return torch.randint(shape[0], (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("how", ["instance", "folder"])
def test_logits_are_those_of_transformers(shape, how, tmp_path):
    other, ids = theirs(shape), numbers(shape, 30)
    if how == "folder":
        other.save_pretrained(tmp_path)
    model = RWKV.from_hugging_face(other if how == "instance" else tmp_path)
    assert not model.training
    same(model(ids), other(ids).logits.detach(), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"attention_hidden_size": 20, "intermediate_size": 36},
        {"layer_norm_epsilon": 1e-2},
        {"rescale_every": 0},
    ],
    ids=str,
)
def test_options_of_transformers_are_kept(options):
    other, ids = theirs(SHAPES[0], **options), numbers(SHAPES[0], 12)
    if "attention_hidden_size" in options:  # their states are of the stream's width: no cache
        wanted = other(ids, use_cache=False).logits
    else:
        wanted = other(ids).logits
    same(RWKV.from_hugging_face(other)(ids), wanted.detach(), atol=1e-5)


@pytest.mark.parametrize("first", ["fresh", "used"])
def test_what_they_halve_every_few_layers_is_undone(first):
    """In evaluation they divide weights by 2 every few layers; an instance then holds those."""
    shape = (17, 8, 5)
    halving, plain = (theirs(shape, rescale_every=every) for every in (2, 0))
    ids = numbers(shape, 9)
    wanted = plain(ids).logits.detach()
    if first == "used":
        same(halving(ids).logits.detach(), wanted, atol=1e-3)  # but for ε in their last norm
        assert halving.rwkv.layers_are_rescaled
    model = RWKV.from_hugging_face(halving)
    same(model(ids), wanted, atol=1e-5)
    theirs_now = halving.rwkv.blocks[4].attention.output.weight
    same(model.layers[4].time_mixing.output.weight, theirs_now * (4 if first == "used" else 1))


def test_states_continue_as_those_of_transformers():
    other, ids = theirs(SHAPES[1]), numbers(SHAPES[1], 20)
    model = RWKV.from_hugging_face(other)
    told = other(ids[:, :12], use_cache=True)
    logits, state = model.with_state(ids[:, :12])
    order = (state.channel, state.time, state.a, state.b, state.m)  # theirs, b e l
    for got, wanted in zip(order, told.state, strict=True):
        same(got.permute(1, 2, 0), wanted.detach(), atol=1e-4, rtol=1e-5)
    wanted = other(ids[:, 12:], state=told.state, use_cache=True).logits
    same(model(ids[:, 12:], state), wanted.detach(), atol=1e-4)
    whole = model(ids)
    same(torch.cat([logits, model(ids[:, 12:], state)], 1), whole, atol=1e-5)


def test_token_by_token_they_say_the_same_of_one_text():
    """Of one: they add `b e` to `b 1 e`, which mixes up the texts of a batch."""
    other, ids = theirs(SHAPES[0]), numbers(SHAPES[0], 12, rows=1)
    model = RWKV.from_hugging_face(other)
    mine, their_state = model.with_state(ids[:, :4])[1], other(ids[:, :4], use_cache=True).state
    for t in range(4, 12):
        logits, mine = model.step(ids[:, t], mine)
        told = other(ids[:, t : t + 1], state=their_state, use_cache=True)
        their_state = told.state
        same(logits, told.logits[:, 0].detach(), atol=1e-5)


def test_what_they_can_and_we_cannot_is_refused():
    with refuses(ValueError, "tie_word_embeddings=True, it must be False"):
        RWKV.from_hugging_face(theirs(SHAPES[0], tie_word_embeddings=True))
    with refuses(ValueError, "missing: head.weight"):
        RWKV.from_hugging_face(without_head())
    with refuses(TypeError, "model_or_path must be a transformers model"):
        RWKV.from_hugging_face(nn.Linear(2, 2))


def without_head():
    return theirs(SHAPES[0]).rwkv


def tiny(vocab_size=7, embed_dim=6, num_layers=2, **options):
    """A model in float64 whose weights make a difference."""
    torch.manual_seed(0)
    model = RWKV(vocab_size, embed_dim, num_layers, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.equation(
    "rwkv-mix", "rwkv-projections", "rwkv-output", "rwkv-channel", "rwkv-block", "rwkv-decay"
)
def test_a_block_is_its_equations_in_numpy():
    block = tiny(hidden_size=5, dim_feedforward=9).layers[1]
    x = normal(1, 8, 6)
    zeros = [torch.zeros(1, 6).double()] * 2
    state = RWKVState(*zeros, *wkv_with_state(*drawn(1, 1, 5))[1])
    state = RWKVState(*zeros, state.a * 0, state.b * 0, torch.full_like(state.m, -1e38))
    got = block(x, state)[0][0].detach()
    W = {name: p.detach().numpy() for name, p in block.named_parameters()}

    def norm(x, which):
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return (x - x.mean(-1, keepdims=True)) / spread * W[f"{which}.weight"] + W[f"{which}.bias"]

    def mixed(x, mu):
        before = np.vstack([np.zeros((1, 6)), x[:-1]])
        return mu * x + (1 - mu) * before

    def projected(x, part, name):
        return mixed(x, W[f"{part}.mix_{name}"]) @ W[f"{part}.{name}.weight"].T

    x = x[0].numpy()
    seen = norm(x, "norm1")
    r, k, v = (projected(seen, "time_mixing", n) for n in ("receptance", "key", "value"))
    w, u = np.exp(W["time_mixing.log_decay"]), W["time_mixing.bonus"]
    mean = np.stack([written_out(w[c], u[c], k[:, c], v[:, c]) for c in range(5)], 1)
    x = x + (sigmoid(r) * mean) @ W["time_mixing.output.weight"].T
    seen = norm(x, "norm2")
    r, k = (projected(seen, "channel_mixing", n) for n in ("receptance", "key"))
    x = x + sigmoid(r) * (np.maximum(k, 0) ** 2 @ W["channel_mixing.value.weight"].T)
    same(got, x, atol=1e-10)


def test_step_by_step_and_all_at_once_are_one_model():
    writing_support.reads_step_by_step(tiny(), torch.randint(7, (3, 25)), atol=1e-10)


def test_no_token_sees_a_later_one():
    ids = torch.randint(7, (1, 12))
    writing_support.sees_nothing_of_the_future(tiny(), ids, atol=1e-12)


def test_what_is_written_is_what_the_whole_text_would_have_given():
    writing_support.writes_what_it_would_read(tiny(), torch.randint(7, (2, 4)))


@pytest.mark.equation("rwkv-state")
def test_the_state_is_five_vectors_a_layer_however_much_was_read():
    model = tiny(embed_dim=6, num_layers=3)
    sizes = [
        sum(part[:, 0].numel() for part in model.with_state(torch.randint(7, (1, t)))[1])
        for t in (1, 10, 300)
    ]
    assert sizes == [5 * 6 * 3] * 3


PUBLISHED = {  # Table 2 of the paper: layers, width, millions of parameters, MFLOP a token
    "169M": (12, 768, 169.3),
    "430M": (24, 1024, 430.4),
    "1.5B": (24, 2048, 1515),
    "3B": (32, 2560, 2985),
    "7B": (32, 4096, 7393),
    "14B": (40, 5120, 14150),
}


@pytest.mark.equation("rwkv-parameters")
@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_of_the_paper(name):
    L, d, millions = PUBLISHED[name]
    with torch.device("meta"):
        counted = parameter_count(RWKV(50277, d, L))
    assert counted == 2 * 50277 * d + 13 * d**2 * L + d * (11 * L + 4)
    assert float(f"{counted / 1e6:.4g}") == millions


@pytest.mark.equation("rwkv-flops")
def test_products_of_a_token_are_counted():
    model = RWKV(31, 16, 3)
    state = model.step(torch.tensor([1]))[1]
    with FlopCounterMode(display=False) as counter:
        model.step(torch.tensor([1]), state)
    assert counter.get_total_flops() == 2 * (31 * 16 + 13 * 16**2 * 3)


@pytest.mark.equation("rwkv-decay-start", "rwkv-mix-start")
def test_a_fresh_model_remembers_longer_in_later_layers():
    model = RWKV(7, 6, 4, hidden_size=9)
    for number, layer in enumerate(model.layers):
        time, channel = layer.time_mixing, layer.channel_mixing
        for i in range(9):
            wanted = -5 + 8 * (i / 8) ** (0.7 + 1.3 * number / 3)
            assert time.log_decay[i].item() == pytest.approx(wanted, abs=1e-5)
            zigzag = 0.5 * ((i + 1) % 3 - 1)
            assert time.bonus[i].item() == pytest.approx(math.log(0.3) + zigzag, abs=1e-5)
        for i in range(6):
            mu = (i / 6) ** (1 - number / 4)
            for mix in (time.mix_key, channel.mix_key, channel.mix_receptance):
                assert mix[i].item() == pytest.approx(mu, abs=1e-5)
            assert time.mix_value[i].item() == pytest.approx(mu + 0.1 * number, abs=1e-5)
            assert time.mix_receptance[i].item() == pytest.approx(mu**0.5, abs=1e-5)
    rates = [layer.time_mixing.decay.median().item() for layer in model.layers]
    assert rates == sorted(rates, reverse=True)


def test_one_layer_and_one_channel_can_be_begun():
    model = RWKV(3, 1, 1)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.equation("rwkv-loss")
def test_the_loss_is_the_mean_of_minus_log_p_of_each_next_token():
    model, ids = tiny(), torch.randint(7, (2, 9))
    logits = model(ids[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    total, state = 0.0, None
    for t in range(8):  # token by token
        one, state = model.step(ids[:, t], state)
        p = one.exp() / one.exp().sum(-1, keepdim=True)
        total -= p[torch.arange(2), ids[:, t + 1]].log().sum().item()
    assert loss.item() == pytest.approx(total / 16, abs=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda m: m(torch.zeros(2, 0, dtype=torch.int64)), ValueError, "ids must not be empty"),
        (lambda m: m(torch.tensor([[7]])), ValueError, "ids must be 0 … 6"),
        (lambda m: m.step(torch.tensor([[1]])), ValueError, "ids must have shape (b)"),
        (lambda m: m.step(torch.tensor([1]), m.new_state(2)), ValueError, "state.time must have"),
        (lambda m: m(torch.tensor([[1]]), (1, 2)), TypeError, "state must be an RWKVState"),
        (lambda m: m.generate(torch.tensor([[1]]), 0), ValueError, "max_new_tokens=0"),
        (lambda m: m.generate(torch.tensor([[1]]), 2, -1.0), ValueError, "temperature=-1.0"),
        (lambda m: m.new_state(0), ValueError, "batch=0"),
        (lambda m: RWKV(7, 6, 2, hidden_size=0), ValueError, "hidden_size=0"),
        (lambda m: RWKV(7, 6, 2, layer_norm_eps=0.0), ValueError, "layer_norm_eps=0.0"),
        (lambda m: TimeMixing(4, 4, 2, 2), ValueError, "layer=2 must be below num_layers=2"),
    ],
)
def test_bad_use_of_the_model_is_named(call, error, told):
    model = tiny()
    with refuses(error, told):
        call(model)


# ------------------------------------------------------------------- versions 5, 6 and 7
def heads(t=9, k=4, v=3, seed=0, b=2):
    """r, k, v and decays of a head, in float64."""
    return (
        normal(b, t, k, seed=seed),
        normal(b, t, k, seed=seed + 1),
        normal(b, t, v, seed=seed + 2),
        normal(b, t, k, seed=seed + 3).sigmoid(),
    )


@pytest.mark.equation("rwkv-matrix", "rwkv-matrix-parallel")
@settings(max_examples=10, deadline=None)
@given(t=st.integers(1, 12), k=st.integers(1, 4), v=st.integers(1, 4), seed=st.integers(0, 999))
def test_matrix_states_step_by_step_all_at_once_and_in_numpy(t, k, v, seed):
    r, key, value, w = heads(t, k, v, seed)
    u = normal(k, seed=seed + 4)
    state = torch.zeros(2, k, v, dtype=DOUBLE)
    walk, S = [], np.zeros((k, v))
    for n in range(t):
        y, state = matrix_step(r[:, n], key[:, n], value[:, n], w[:, n], u.expand(2, k), state)
        walk.append(y)
        outer = np.outer(key[0, n], value[0, n])
        same(y[0], r[0, n].numpy() @ (S + np.diag(u) @ outer))
        S = np.diag(w[0, n]) @ S + outer
        same(state[0], S)
    same(matrix_wkv(r, key, value, w, u.expand(2, k)), torch.stack(walk, 1), atol=1e-10)


def test_a_matrix_of_one_row_is_the_numerator_of_version_4():
    w, u, k, v = drawn(1, 10, 1)
    one = torch.ones(1, 10, 1, dtype=DOUBLE)
    decays = (-w).exp().expand(1, 10, 1)
    above = matrix_wkv(one, k.exp(), v, decays, u.exp().expand(1, 1))
    below = matrix_wkv(one, k.exp(), torch.ones_like(v), decays, u.exp().expand(1, 1))
    same(above / below, wkv(w, u, k, v))


@pytest.mark.equation("rwkv-delta", "rwkv-compose")
@settings(max_examples=10, deadline=None)
@given(t=st.integers(1, 13), k=st.integers(1, 4), v=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_delta_rule_step_by_step_all_at_once_and_in_numpy(t, k, v, seed):
    r, key, value, w = heads(t, k, v, seed)
    removal, a = normal(2, t, k, seed=seed + 5), normal(2, t, k, seed=seed + 6).sigmoid()
    state = torch.zeros(2, v, k, dtype=DOUBLE)
    walk, S = [], np.zeros((v, k))
    for n in range(t):
        y, state = delta_step(
            r[:, n], key[:, n], value[:, n], w[:, n], removal[:, n], a[:, n], state
        )
        walk.append(y)
        unit = removal[0, n].numpy() / np.linalg.norm(removal[0, n])
        S = S @ (np.diag(w[0, n]) - np.outer(unit, a[0, n].numpy() * unit))
        S = S + np.outer(value[0, n], key[0, n])
        same(state[0], S, atol=1e-11)
        same(y[0], S @ r[0, n].numpy(), atol=1e-11)
    same(delta_wkv(r, key, value, w, removal, a), torch.stack(walk, 1), atol=1e-10)


def test_without_removal_the_delta_rule_is_version_6_seen_from_after_the_step():
    r, k, v, w = heads()
    none = torch.zeros_like(k)
    later = delta_wkv(r, k, v, w, k, none)
    state = torch.zeros(2, 4, 3, dtype=DOUBLE)
    for n in range(9):
        state = matrix_step(r[:, n], k[:, n], v[:, n], w[:, n], none[:, n], state)[1]
        same(later[:, n], torch.einsum("bk,bkv->bv", r[:, n], state))


@pytest.mark.equation("rwkv-descent")
def test_the_delta_rule_is_a_step_down_a_squared_error():
    """With w = 1, the key as removal key, and the value scaled by the same rate."""
    S = normal(3, 4).requires_grad_()
    key, v, rate = F.normalize(normal(4, seed=1), dim=0), normal(3, seed=2), 0.3
    loss = 0.5 * (S @ key - v).square().sum()
    (gradient,) = torch.autograd.grad(loss, S)
    ones = torch.ones(4, dtype=DOUBLE)
    after = delta_step(ones, rate * key, v, ones, key, rate * ones, S.detach())[1]
    same(after, (S - rate * gradient).detach())


@pytest.mark.equation("rwkv-swap")
@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_a_reflection_exchanges_two_entries(pair):
    i, j = pair
    key = torch.zeros(3, dtype=DOUBLE)
    key[i], key[j] = 1.0, -1.0
    ones = torch.ones(3, dtype=DOUBLE)
    turn = transition(ones, key, 2 * ones)
    swapped = torch.eye(3, dtype=DOUBLE)
    swapped[[i, j]] = swapped[[j, i]]
    same(turn, swapped, atol=1e-15)
    assert torch.linalg.eigvalsh(turn).min().item() == pytest.approx(-1)
    assert torch.linalg.eigvalsh(transition(ones, key, ones)).min().item() == pytest.approx(0)


def test_gradients_of_the_later_versions_are_those_of_their_loops():
    r, k, v, w = (x.requires_grad_() for x in heads(6))
    u, removal, a = (normal(2, 4, seed=7), normal(2, 6, 4, seed=8), normal(2, 6, 4).sigmoid())
    state = torch.zeros(2, 4, 3, dtype=DOUBLE)
    walk = []
    for n in range(6):
        y, state = matrix_step(r[:, n], k[:, n], v[:, n], w[:, n], u, state)
        walk.append(y)
    forms = torch.stack(walk, 1), matrix_wkv(r, k, v, w, u)
    grads = [torch.autograd.grad(y.square().sum(), (r, k, v, w)) for y in forms]
    for got, wanted in zip(*grads, strict=True):
        same(got, wanted, atol=1e-10)
    state, walk = torch.zeros(2, 3, 4, dtype=DOUBLE), []
    for n in range(6):
        y, state = delta_step(r[:, n], k[:, n], v[:, n], w[:, n], removal[:, n], a[:, n], state)
        walk.append(y)
    forms = torch.stack(walk, 1), delta_wkv(r, k, v, w, removal, a)
    grads = [torch.autograd.grad(y.square().sum(), (r, k, v, w)) for y in forms]
    for got, wanted in zip(*grads, strict=True):
        same(got, wanted, atol=1e-10)


@pytest.mark.equation("rwkv-decay-token")
def test_a_decay_from_the_token_lies_between_0_and_1_and_follows_it():
    """w_t = exp(−exp(λ + tanh(x A) B)): the form of version 6, for any weights."""
    x, A, B, lam = normal(50, 6, scale=5), normal(6, 2, seed=1), normal(2, 4, seed=2), normal(4)
    w = (-(lam + (x @ A).tanh() @ B).exp()).exp()
    assert ((w >= 0) & (w <= 1)).all()
    changes = (w[1:] - w[:-1]).abs()
    assert changes.max() > 0.1
    assert np.linalg.matrix_rank(w.log().neg().log().sub(lam).numpy()) == 2


def test_the_later_versions_name_bad_input():
    r, k, v, w = heads()
    u = torch.ones(2, 4, dtype=DOUBLE)
    with refuses(ValueError, "w must lie in (0, 1]"):
        matrix_wkv(r, k, v, 1 + w, u)
    with refuses(ValueError, "k must have shape (2, 9, 4)"):
        matrix_wkv(r, k[..., :3], v, w, u)
    with refuses(ValueError, "state must have shape (2, 4, 3)"):
        matrix_step(r[:, 0], k[:, 0], v[:, 0], w[:, 0], u, torch.zeros(2, 3, 4, dtype=DOUBLE))
    with refuses(ValueError, "a must have shape (2, 9, 4)"):
        delta_wkv(r, k, v, w, k, w[:1])
    with refuses(ValueError, "state must have shape (2, 3, 4)"):
        delta_step(r[:, 0], k[:, 0], v[:, 0], w[:, 0], u, u, torch.zeros(2, 4, 3, dtype=DOUBLE))


def test_parts_work_by_themselves():
    x = torch.randn(2, 5, 4)
    assert ChannelMixing(4, 6)(x, x[:, 0]).shape == (2, 5, 4)
    same(token_shift(x, x[:, 0])[:, 1:], x[:, :-1])
    assert RWKVBlock(4, 4, 6, 0, 1).norm1.weight.shape == (4,)
