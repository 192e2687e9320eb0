"""Multi-head attention against torch and plain loops."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.multi_head_attention import MultiHeadAttention, attention_weights
from nnlib.kernels.attention import attention
from nnlib.kernels.rope import rope
from tests.support import refuses

TIGHT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def pair(embed_dim=12, num_heads=3, **options):
    """Return torch's module and ours with its weights, biases made non-zero."""
    theirs = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True, **options).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    ours = MultiHeadAttention(embed_dim, num_heads, **options).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def gradients(output, module, *inputs):
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), [*module.parameters(), *inputs])


# ---------------------------------------------------------------- against torch


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_equals_torch_with_weights_and_gradients(bias, causal):
    theirs, ours = pair(bias=bias)
    x = normal(2, 5, 12).requires_grad_()
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    wanted, weights = theirs(x, x, x, attn_mask=ahead, average_attn_weights=False)
    got, looked = ours.with_weights(x, is_causal=causal)
    torch.testing.assert_close(got, wanted, **TIGHT)
    torch.testing.assert_close(looked, weights, **TIGHT)
    fast = ours(x, is_causal=causal)
    torch.testing.assert_close(fast, wanted, **TIGHT)
    for a, b in zip(gradients(fast, ours, x), gradients(wanted, theirs, x), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


def test_attention_to_a_source_of_another_length_equals_torch():
    theirs, ours = pair()
    x, source = normal(2, 3, 12), normal(2, 7, 12)
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])  # torch: True is ignored
    wanted, _ = theirs(x, source, source, key_padding_mask=padding)
    torch.testing.assert_close(ours(x, source, key_mask=~padding), wanted, **TIGHT)
    seven = torch.rand(3, 7) < 0.3
    seven[:, 0] = False
    wanted, _ = theirs(x, source, source, attn_mask=seven, key_padding_mask=padding)
    got = ours(x, source, mask=~seven, key_mask=~padding)
    torch.testing.assert_close(got, wanted, **TIGHT)


def test_numbers_may_be_added_to_the_scores_beside_padding():
    theirs, ours = pair()
    x, bias = normal(2, 4, 12), normal(4, 4)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    unseen = torch.zeros(padding.shape, dtype=torch.float64).masked_fill(padding, -math.inf)
    wanted, _ = theirs(x, x, x, attn_mask=bias, key_padding_mask=unseen)
    torch.testing.assert_close(ours(x, mask=bias, key_mask=~padding), wanted, **TIGHT)


def test_dropped_weights_are_scaled_up_and_gone_in_evaluation():
    ours = MultiHeadAttention(4, 1, dropout=0.5, bias=False)
    with torch.no_grad():
        for part in ours.in_proj_weight.split(4):
            part.copy_(torch.eye(4))
        ours.out_proj.weight.copy_(torch.eye(4))
    x = torch.ones(1, 2, 4)  # every weight is ½, every value 1
    seen = {round(float(v), 3) for _ in range(40) for v in ours(x).detach().flatten()}
    assert seen == {0.0, 1.0, 2.0}
    torch.testing.assert_close(ours.eval()(x), x)


# ---------------------------------------------------------------- heads


@pytest.mark.equation("transformer-head-projections", "transformer-head", "transformer-multihead")
def test_heads_are_small_attentions_side_by_side():
    _, ours = pair()
    x = normal(2, 5, 12)
    w, b = ours.in_proj_weight, ours.in_proj_bias
    out = torch.zeros(2, 5, 12, dtype=torch.float64)
    for i in range(3):
        rows = slice(4 * i, 4 * i + 4)
        q, k, v = (x @ w[o:][rows].T + b[o:][rows] for o in (0, 12, 24))
        for n in range(2):
            for t in range(5):
                score = torch.stack([q[n, t] @ k[n, s] / 2 for s in range(5)])  # √4
                head = score.exp() / score.exp().sum() @ v[n]
                out[n, t] += ours.out_proj.weight[:, rows] @ head  # concatenation, then W^O
    torch.testing.assert_close(ours(x), out + ours.out_proj.bias, **TIGHT)


@pytest.mark.equation("transformer-gqa")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_shared_keys_and_values_are_those_repeated_for_each_of_their_queries(groups):
    few = MultiHeadAttention(16, 4, num_kv_heads=groups).double()
    many = MultiHeadAttention(16, 4).double()
    q, k, v = few.in_proj_weight.detach().split(few.widths)
    assert k.shape == (4 * groups, 16)
    wide = [part.view(groups, 4, 16).repeat_interleave(4 // groups, 0).flatten(0, 1)
            for part in (k, v)]  # fmt: skip
    with torch.no_grad():
        many.in_proj_weight.copy_(torch.cat([q, *wide]))
        many.out_proj.load_state_dict(few.out_proj.state_dict())
    x = normal(2, 6, 16)
    torch.testing.assert_close(few(x, is_causal=True), many(x, is_causal=True), **TIGHT)


def test_a_window_hides_what_is_too_far_back():
    near = MultiHeadAttention(8, 2, window=3).double()
    x = normal(1, 7, 8)
    other = x.clone()
    other[:, 2] += 1
    moved = (near(other, is_causal=True) - near(x, is_causal=True)).abs().amax((0, 2)) > 1e-12
    assert moved.tolist() == [False, False, True, True, True, False, False]


def test_weights_are_those_that_the_kernel_mixes_with():
    q, k, v = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 8)
    for options in ({}, {"is_causal": True}, {"window": 2, "is_causal": True}, {"mask": normal(5)},
                    {"mask": torch.rand(2, 1, 3, 5) > 0.4}):  # fmt: skip
        weights = attention_weights(q, k, **options)
        mixed = weights @ v.repeat_interleave(2, 1)
        torch.testing.assert_close(mixed, attention(q, k, v, **options), **TIGHT)


# ---------------------------------------------------------------- masks at the extremes


@pytest.mark.parametrize("kind", ["padding", "bool", "numbers", "both"])
@pytest.mark.parametrize("weights", [True, False])
def test_a_query_that_sees_nothing_says_nothing_and_gives_no_nan(kind, weights):
    ours = MultiHeadAttention(8, 2).double()
    x = normal(2, 3, 8).requires_grad_()
    real = torch.tensor([[True] * 3, [False] * 3])
    unseen = torch.zeros(2, 1, 1, 3).double().masked_fill(~real[:, None, None], -math.inf)
    options = {
        "padding": {"key_mask": real},
        "bool": {"mask": real[:, None, None]},
        "numbers": {"mask": unseen},
        "both": {"key_mask": real, "mask": normal(3, 3)},
    }[kind]  # fmt: skip
    out, looked = ours.with_weights(x, **options) if weights else (ours(x, **options), None)
    torch.testing.assert_close(out[1], ours.out_proj.bias.expand(3, 8))
    if weights:
        assert (looked[1] == 0).all()
    for grad in gradients(out, ours, x):
        assert grad.isfinite().all()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    assert theirs(x, x, x, key_padding_mask=~real)[0][1].isnan().all()  # what others get


def test_large_scores_do_not_overflow():
    out, weights = MultiHeadAttention(8, 2).with_weights(1e4 * torch.randn(1, 5, 8))
    assert out.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 5))


# ---------------------------------------------------------------- cache


@pytest.mark.equation("transformer-cache")
@pytest.mark.parametrize("options", [
    {}, {"num_kv_heads": 1}, {"window": 3}, {"rotary_base": 100.0},
    {"num_kv_heads": 2, "rotary_base": 100.0, "window": 4},
])  # fmt: skip
@pytest.mark.parametrize("cuts", [[1] * 7, [4, 1, 2], [7]])
@torch.no_grad()
def test_reading_in_pieces_with_a_cache_is_reading_at_once(options, cuts):
    ours = MultiHeadAttention(16, 4, **options).double()
    x, cache = normal(2, 7, 16), KVCache(max_length=9)
    pieces = [ours(part, is_causal=True, cache=cache) for part in x.split(cuts, 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), ours(x, is_causal=True), **TIGHT)
    assert cache.length == 7


@torch.no_grad()
def test_a_source_read_once_serves_every_query():
    for bias in (True, False):
        _, ours = pair(bias=bias)
        x, source = normal(2, 3, 12), normal(2, 5, 12)
        real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        store = ours.read(source)
        for part in (x, x[:, :1]):
            got = ours(part, store, key_mask=real)
            torch.testing.assert_close(got, ours(part, source, key_mask=real), **TIGHT)
        assert store.length == 5  # and nothing was added


# ---------------------------------------------------------------- rotary positions


@pytest.mark.equation("transformer-rope-relative")
def test_rotary_scores_see_differences_of_positions_only():
    q, k = normal(1, 1, 1, 8).expand(1, 1, 9, 8), normal(1, 1, 1, 8).expand(1, 1, 9, 8)
    for interleaved in (True, False):
        at = torch.arange(9)
        turn = partial(rope, interleaved=interleaved)
        scores = [turn(q, at + shift) @ turn(k, at + shift).mT for shift in (0, 5)]
        torch.testing.assert_close(*scores, rtol=0, atol=1e-5)  # angles are float32
        same = scores[0][0, 0]
        for offset in range(-8, 9):
            band = same.diagonal(offset)
            torch.testing.assert_close(band, band[:1].expand_as(band), rtol=0, atol=1e-5)


def test_rotary_self_attention_does_not_notice_where_the_text_begins():
    ours = MultiHeadAttention(16, 2, rotary_base=100.0)
    x = torch.randn(1, 6, 16)
    padded = torch.cat([torch.zeros(1, 5, 16), x], 1)
    real = torch.tensor([[False] * 5 + [True] * 6])
    shifted = ours(padded, key_mask=real, is_causal=True)[:, 5:]
    torch.testing.assert_close(shifted, ours(x, is_causal=True), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((64, 5), ValueError, "num_heads=5 does not divide embed_dim=64"),
    ((64, 8, 3), ValueError, "num_kv_heads=3 does not divide num_heads=8"),
    ((64, 0), ValueError, "num_heads=0 must be an integer ≥ 1"),
    ((64.0, 8), TypeError, "embed_dim=64.0 must be an integer"),
    ((64, 8, 0), ValueError, "num_kv_heads=0"),
])  # fmt: skip
def test_heads_that_do_not_divide_are_refused(arguments, error, message):
    with refuses(error, message):
        MultiHeadAttention(*arguments)


@pytest.mark.parametrize(("options", "message"), [
    ({"window": 0}, "window=0 must be an integer ≥ 1"),
    ({"dropout": 1.5}, "dropout=1.5 must be a finite number ≥ 0 and ≤ 1"),
    ({"rotary_base": 0.0}, "rotary_base=0.0 must be a finite number > 0"),
    ({"rotary_base": 100.0, "num_heads": 4}, "rotary_base needs an even head width, got 3"),
    ({"bias": 0.0}, "bias=0.0 must be True or False"),
])  # fmt: skip
def test_bad_options_are_refused(options, message):
    with refuses(TypeError if "bias" in options else ValueError, message):
        MultiHeadAttention(**{"embed_dim": 12, "num_heads": 3, **options})


def test_new_weights_are_those_of_a_new_module():
    ours = MultiHeadAttention(12, 3)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(5)
    ours.reset_parameters()
    torch.manual_seed(5)
    for got, wanted in zip(ours.parameters(), MultiHeadAttention(12, 3).parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


class Largest(TorchDispatchMode):
    """Watch how large the largest tensor is that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else (out,):
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return out


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_holds_no_table_of_all_pairs(dropout, padded):
    """With 600 positions a table of 8 heads is 2.9 million numbers, and no operation makes it."""
    layer = MultiHeadAttention(32, 8, dropout=dropout).train()
    x = torch.randn(1, 600, 32)
    real = torch.arange(600)[None] < 500 if padded else None
    with Largest() as watch:
        layer(x, key_mask=real).sum().backward()
    assert 3 * 600 * 32 <= watch.numel < 8 * 600 * 600 / 2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_keeps_no_weights_for_the_backward_pass(dropout):
    """A table of 8 heads would be 11.5 MB; kept are queries, keys, values and the like."""
    layer, x, kept = MultiHeadAttention(32, 8, dropout=dropout).train(), torch.randn(1, 600, 32), {}

    def keep(saved):
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        layer(x)
    assert sum(kept.values()) < 1e6


def test_dropout_falls_on_the_weights_and_leaves_their_mean():
    torch.manual_seed(1)
    layer, x = MultiHeadAttention(8, 2, dropout=0.4), torch.randn(1, 6, 8)
    with torch.no_grad():
        many = layer.train()(x.expand(20_000, -1, -1))
        torch.testing.assert_close(many.mean(0), layer.eval()(x)[0], atol=0.01, rtol=0)
    assert many.std(0).min() > 0.01


def test_with_weights_gathers_what_forward_gathers():
    layer, x = MultiHeadAttention(12, 4, 2).double(), normal(2, 5, 12)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    out, weights = layer.with_weights(x, key_mask=real, is_causal=True)
    torch.testing.assert_close(out, layer(x, key_mask=real, is_causal=True))
    assert weights.shape == (2, 4, 5, 5)
    assert not weights[1, ..., 3:].any()


X = torch.zeros(2, 3, 12)


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"query": [1]}, TypeError, "query must be a torch.Tensor, got list"),
    ({"query": torch.zeros(2, 3, 8)}, ValueError, "query must have shape (b, t, 12)"),
    ({"query": torch.zeros(2, 3, 12).long()}, TypeError, "query must be floating point"),
    ({"source": torch.zeros(1, 4, 12)}, ValueError, "source must have shape (2, s, 12)"),
    ({"source": torch.zeros(2, 4, 12), "cache": KVCache(4)}, ValueError, "got a source as well"),
    ({"source": KVCache(4)}, ValueError, "source must hold keys of shape (2, 3, s, 4), got None"),
    ({"mask": torch.ones(4, 3) > 0}, ValueError, "mask must broadcast to (2, 3, 3, 3), got (4, 3)"),
    ({"mask": torch.ones(1, 1, 1, 3, 3) > 0}, ValueError, "mask must broadcast to (2, 3, 3, 3)"),
    ({"mask": torch.ones(3, 3).long()}, TypeError, "mask must be True where one may look"),
    ({"mask": "causal"}, TypeError, "mask must be a torch.Tensor, got str"),
    ({"key_mask": torch.ones(2, 4) > 0}, ValueError, "key_mask must have shape (2, 3)"),
    ({"key_mask": torch.ones(2, 3)}, TypeError, "key_mask must hold True at real tokens"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["forward", "with_weights"])
def test_bad_inputs_are_refused(given, error, message, method):
    with refuses(error, message):
        getattr(MultiHeadAttention(12, 3), method)(**{"query": X, **given})


def test_reading_a_source_refuses_what_does_not_fit():
    with refuses(ValueError, "source must have shape (b, s, 12), got (2, 3, 8)"):
        MultiHeadAttention(12, 3).read(torch.zeros(2, 3, 8))
    with refuses(ValueError, "rotary_base=100 is for self-attention"):
        MultiHeadAttention(12, 3, rotary_base=100.0).read(X)
    store = MultiHeadAttention(12, 3).read(X)
    with refuses(ValueError, "source must hold keys of shape (1, 3, s, 4), got (2, 3, 3, 4)"):
        MultiHeadAttention(12, 3)(X[:1], store)


def test_a_copy_has_its_own_weights():
    ours = MultiHeadAttention(8, 2)
    twin = copy.deepcopy(ours)
    with torch.no_grad():
        ours.in_proj_weight.zero_()
    assert twin.in_proj_weight.abs().sum() > 0
    assert F.mse_loss(twin(torch.ones(1, 2, 8)), ours(torch.ones(1, 2, 8))) > 0
