import inspect
import math

import pytest
import torch
from torch.nn import functional as F

from nnlib.kernels import (
    _attention_backward,
    _attention_forward,
    _attention_tiles,
    _attention_torch,
)
from nnlib.kernels import attention as module
from nnlib.kernels.attention import (
    attention,
    attention_cost,
    attention_reference,
    attention_triton,
    visible,
    visible_pairs,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

PARTS = (_attention_tiles, _attention_forward, _attention_backward)
SEED = torch.tensor(2**40 + 7)
CAUSAL = {"is_causal": True}
BAND = {"is_causal": True, "window": 37}
AROUND = {"window": 20}  # as far ahead as back
CASES = {  # b, h, g, t, s, d; what is asked
    "odd lengths and widths": ((1, 4, 2, 63, 63, 60), CAUSAL),
    "one head of keys for all": ((1, 3, 1, 63, 100, 123), {}),
    "tiles inside and on the diagonal": ((2, 1, 1, 200, 200, 24), CAUSAL),
    "one query at the end of many keys": ((1, 2, 1, 1, 300, 64), CAUSAL),
    "fewer queries than keys": ((1, 1, 1, 130, 200, 16), CAUSAL),
    "a window": ((1, 1, 1, 200, 200, 32), BAND),
    "a window to both sides": ((1, 1, 1, 200, 200, 32), AROUND),
    "queries that see nothing": ((1, 1, 1, 150, 70, 16), BAND),
    "queries past a window's reach": ((1, 1, 1, 200, 30, 16), AROUND),
    "a scale of its own": ((1, 1, 1, 70, 70, 16), {"scale": -0.3, **CAUSAL}),
    "a scale of zero": ((1, 1, 1, 70, 70, 16), {"scale": 0.0, **CAUSAL}),
    "heads one number wide": ((1, 1, 1, 33, 1, 1), {}),
}


def padding(b, s):
    """Return a mask of keys: padding at the end, at the beginning, and in between."""
    real = torch.ones(b, s, dtype=torch.bool)
    real[:, 3 * s // 4 :], real[:, s // 3] = False, False
    real[b // 2 :, : s // 8] = False
    return real


DROPS = {"dropout": 0.4, "seed": SEED}
MORE_CASES = {
    "padding": ((2, 1, 1, 40, 150, 16), {"key_mask": padding(2, 150)}),
    "padding, and later keys": ((2, 2, 1, 70, 70, 24), {"key_mask": padding(2, 70), **CAUSAL}),
    "padding alone": ((2, 1, 1, 40, 150, 16), {"key_mask": torch.zeros(2, 150).bool()}),
    "dropout": ((1, 4, 2, 40, 100, 16), DROPS),
    "dropout, padding, a window": (
        (2, 2, 1, 50, 70, 24), {"key_mask": padding(2, 70), **DROPS, **BAND},
    ),
    "everything dropped": ((1, 1, 1, 40, 40, 16), {"dropout": 1.0, "seed": SEED}),
}  # fmt: skip
ignore_infinities = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, interpreting


def inputs(shape, dtype=torch.float32, device="cpu"):
    b, h, g, t, s, d = shape
    sizes = ((b, h, t, d), (b, g, s, d), (b, g, s, d))
    return [torch.randn(size, device=device).to(dtype) for size in sizes]


def asked(operation, options):
    return lambda q, k, v: operation(q, k, v, **options)


def hold(shape, options, *, kernel=attention_triton, dtype=torch.float32, device="cpu"):
    tensors = inputs(shape, dtype, device)
    options = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in options.items()
    }
    hold_to_double(asked(kernel, options), asked(attention_reference, options), *tensors)


@ignore_infinities
@pytest.mark.parametrize("case", CASES | MORE_CASES)
def test_kernel_equals_reference(case, kernel_device):
    hold(*(CASES | MORE_CASES)[case], device=kernel_device)


@ignore_infinities
@pytest.mark.parametrize(
    "options",
    [CAUSAL, {"is_causal": True, "window": 150}, {"window": 150}, {}, {**CAUSAL, **DROPS}],
)
def test_kernel_equals_reference_in_half_precision(options, kernel_device):
    """The tiles of 16-bit numbers are larger, and those that no mask touches are walked apart."""
    hold((1, 1, 1, 200, 200, 24), options, dtype=torch.float16, device=kernel_device)


@ignore_infinities
def test_interpreted_bfloat16_is_upcast():
    hold((1, 1, 1, 40, 50, 16), CAUSAL, dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("d", [60, 64, 80, 128])
@pytest.mark.parametrize(
    "options", [CAUSAL, BAND, AROUND, {}, DROPS, {"key_mask": padding(2, 1000), **CAUSAL}], ids=str
)
def test_kernel_equals_reference_at_size(options, d, dtype):
    hold((2, 8, 2, 1000, 1000, d), options, dtype=dtype, device="cuda")


def test_other_layouts_are_read_in_place(kernel_device):
    q, k, v = (torch.randn(2, 70, 2, 16, device=kernel_device).transpose(1, 2) for _ in range(3))
    v = torch.randn(2, 2, 16, 70, device=kernel_device).mT  # columns apart
    k = torch.randn(2, 2, 1, 16, device=kernel_device).expand(2, 2, 70, 16)  # one key for all
    hold_to_double(asked(attention_triton, CAUSAL), asked(attention_reference, CAUSAL), q, k, v)
    assert attention_triton(q, k, v).stride() == q.stride()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_query_that_sees_nothing_gets_zero_and_gives_no_gradient(kernel_device):
    q, k, v = inputs((1, 2, 1, 90, 40, 16), device=kernel_device)
    got = value_and_grads(asked(attention_triton, CAUSAL), q, k, v)
    assert not got["out0"][:, :, :50].any()
    assert not got["grad0"][:, :, :50].any()
    assert all(value.isfinite().all() for value in got.values())
    assert (module._with_lse(q, k, v, True, None, None)[1][:, :, :50] == -math.inf).all()


def test_the_logarithm_of_the_sum_is_handed_out(kernel_device):
    q, k, v = inputs((1, 2, 1, 50, 70, 16), device=kernel_device)
    _, lse = module._with_lse(q, k, v, False, None, None)
    wanted = (q @ k.mT / 4).logsumexp(-1)
    torch.testing.assert_close(lse, wanted)


def test_scores_beyond_the_reach_of_exp_do_no_harm(kernel_device):
    q, k, v = inputs((1, 1, 1, 64, 70, 16), device=kernel_device)
    out, wanted = attention_triton(q * 1000, k, v), attention_reference(q * 1000, k, v)
    torch.testing.assert_close(out, wanted, atol=1e-3, rtol=0)  # a score of 1000 errs by 1e-4


def test_nan_stays_in_the_rows_that_saw_it(kernel_device):
    q, k, v = inputs((1, 1, 1, 70, 70, 16), device=kernel_device)
    q[0, 0, 5] = math.nan
    k[0, 0, 60] = math.nan
    out = attention_triton(q, k, v, is_causal=True)[0, 0]
    assert out[5].isnan().all() and out[60:].isnan().all()
    assert not out[:5].isnan().any() and not out[6:60].isnan().any()


@pytest.mark.parametrize("shape", [(0, 2, 1, 3, 4, 8), (1, 2, 1, 0, 4, 8), (1, 2, 1, 3, 0, 8)])
@pytest.mark.parametrize("operation", [attention, attention_triton, attention_reference])
def test_nothing_in_gives_nothing_or_zero_out(operation, shape, kernel_device):
    got = value_and_grads(operation, *inputs(shape, device=kernel_device))
    assert got["out0"].shape == (shape[0], shape[1], shape[3], shape[5])
    assert not any(value.any() for value in got.values())


BUGS = {
    "a sign": ("dscores = weights * (dweights - delta[:, None])",
               "dscores = weights * (dweights + delta[:, None])"),
    "a sign, for the keys": ("dscores = weights * (dweights - delta[None, :])",
                             "dscores = weights * (dweights + delta[None, :])"),
    "a mask's edge": ("= ahead <= 0\n        if WINDOW", "= ahead < 0\n        if WINDOW"),
    "a window's edge": ("seen & (ahead > -window)", "seen & (ahead >= -window)"),
    "the last keys not masked": ("scores = tl.where(seen, scores * scale, -float(\"inf\"))",
                                 "scores = scores * scale"),
    "first key aligned with first query": (
        "ahead = key[:, None] - position[None, :]",
        "ahead = key[:, None] - position[None, :] + (s - t)"),
    "a forgotten scale": ("dq *= scale * 0.6931471805599453  # `scale` holds log2 e", "pass"),
    "a forgotten scale, for the keys": ("dk *= scale * 0.6931471805599453\n", "\n"),
    "the sum not mended": ("total = total * mend +", "total = total +"),
    "the mixture not mended": ("v, mixed * mend[:, None],", "v, mixed,"),
    "the group's first head only": ("        q_ptr += q_h\n", ""),
    "a tile skipped": ("begin = tl.maximum(begin, 0) // BLOCK_T * BLOCK_T",
                       "begin = (tl.maximum(begin, 0) // BLOCK_T + 1) * BLOCK_T"),
}  # fmt: skip


MORE_BUGS = {  # in what is dropped, and in what is padding
    "another place's number, forwards": (
        "position[:, None], row, dropout)\n            weights",
        "position[:, None] + 1, row, dropout)\n            weights"),
    "another place's number, backwards": (
        "position[:, None], row, dropout)\n            dweights",
        "position[:, None] + 1, row, dropout)\n            dweights"),
    "another head's numbers, for the keys": ("real, asked + reader, begin", "real, asked, begin"),
    "the sum over what was left": ("tl.where(stay, weights, 0.0)",
                                   "tl.where(stay, weights, 0.0)\n            total -= 1e-3"),
    "what was left not raised": ("mixed * (rescale / total)", "mixed * (1 / total)"),
    "a slope of what was dropped": ("left = tl.where(stay, weights * rescale, 0.0)",
                                    "left = weights * rescale"),
    "padding seen": ("other=0) != 0)\n            scores", "other=0) >= 0)\n            scores"),
    "padding given a gradient": ("weights = tl.where(real[:, None], weights, 0.0)", "pass"),
    "the last real key left out": ("tl.where(real, at + 1, 0)", "tl.where(real, at, 0)"),
    "the first tile of real keys left out": (
        "tl.min(first, 0) // BLOCK_S * BLOCK_S", "(tl.min(first, 0) // BLOCK_S + 1) * BLOCK_S"),
}  # fmt: skip


@ignore_infinities
@pytest.mark.parametrize("bug", MORE_BUGS)
def test_a_planted_bug_in_dropout_or_padding_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *MORE_BUGS[bug], tmp_path, parts=PARTS)
    shape = (1, 2, 1, 30, 70, 16)
    real = torch.arange(70)[None] < 65  # the last one stands alone in its tile
    with pytest.raises(AssertionError, match="allowed"):
        hold(shape, {"key_mask": real, **DROPS}, kernel=bugged.attention_triton,
             device=kernel_device)  # fmt: skip


@ignore_infinities
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path, parts=PARTS)
    with pytest.raises(AssertionError, match="allowed"):
        for options in (CAUSAL, {}, BAND):
            hold((1, 2, 1, 40, 70, 16), options, kernel=bugged.attention_triton,
                 device=kernel_device)  # fmt: skip


CALLS = """
from nnlib.kernels.attention import attention_triton
for dtype, width, options in (
    (torch.bfloat16, 64, {"is_causal": True}),
    (torch.bfloat16, 128, {"is_causal": True, "window": 512}),
    (torch.float16, 80, {}),
    (torch.float32, 64, {"is_causal": True}),
    (torch.float32, 128, {"window": 512}),
):
    x = [torch.zeros(1, h, 1024, width, dtype=dtype, requires_grad=True) for h in (4, 2, 2)]
    attention_triton(*x, **options).square().sum().backward()
    real, seed = torch.ones(1, 1024, dtype=torch.bool), torch.tensor(0)
    options |= {"key_mask": real, "dropout": 0.1, "seed": seed}
    attention_triton(*x, **options).square().sum().backward()
"""
KERNELS = {"_forward_kernel", "_query_gradient_kernel", "_key_gradient_kernel"}


def test_compiles_for_sm_80_and_sm_90_with_tensor_cores_and_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == KERNELS
    assert len(records) == 5 * 2 * 3 * 2
    hold_to_hardware(records, dots=KERNELS)


def test_kernels_use_no_atomics():
    for part in (module, *PARTS):  # so that two runs give the same gradients, bit for bit
        assert "atomic" not in inspect.getsource(part)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.attention import attention, attention_reference
torch.manual_seed(0)
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = [torch.randn(1, h, 20, 16, device=device, requires_grad=True) for h in (4, 2, 2)]
    real, seed = torch.arange(20, device=device)[None] < 15, torch.tensor(7, device=device)
    for real, seed, dropout in ((None, None, 0.0), (real, seed, 0.4)):
        options = (True, 5, 0.25, dropout)
        opcheck(torch.ops.nnlib.attention, (*x, real, seed, *options))
        out, lse = torch.ops.nnlib.attention(*[y.detach() for y in x], real, seed, *options)
        given = (*[y.detach() for y in x], real, seed, out, lse, out, *options)
        opcheck(torch.ops.nnlib.attention_backward, given)
        named = {"is_causal": True, "window": 5, "key_mask": real, "dropout": dropout, "seed": seed}
        traced = torch.ops.nnlib.attention(*x, real, seed, *options)[0]  # where no GPU is
        whole = torch.compile(attention, fullgraph=True, backend="aot_eager")(*x, **named)
        wanted = attention_reference(*x, **named)
        grads = torch.autograd.grad(wanted.square().sum(), x)
        for y in (traced, whole):
            torch.testing.assert_close(y, wanted)
            for one, other in zip(torch.autograd.grad(y.square().sum(), x), grads):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
"""


# ------------------------------------------------------------------------------- plain torch
def test_reference_equals_torch():
    q, k, v = (x.double() for x in inputs((2, 4, 2, 30, 30, 8)))
    ours = value_and_grads(asked(attention_reference, CAUSAL), q, k, v)
    theirs = value_and_grads(
        lambda *x: F.scaled_dot_product_attention(*x, is_causal=True, enable_gqa=True), q, k, v
    )
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted)


PLAIN = [
    ((2, 4, 2, 30, 30, 8), {}),
    ((2, 4, 2, 30, 30, 8), CAUSAL),
    ((2, 4, 2, 1, 30, 8), CAUSAL),
    ((2, 4, 1, 1, 30, 8), {"window": 4}),
    ((1, 4, 2, 12, 30, 8), CAUSAL),
    ((1, 2, 1, 30, 12, 8), {"is_causal": True, "window": 3}),
    ((1, 2, 1, 700, 900, 8), {"is_causal": True, "window": 50}),  # in bands
    ((1, 1, 1, 700, 900, 8), {"window": 50, "scale": 0.2}),
    ((1, 1, 1, 1400, 800, 8), {"is_causal": True, "window": 50}),  # whose first sees nothing
]


def test_plain_torch_drops_by_the_same_seed():
    q, k, v = inputs((1, 2, 1, 20, 30, 8))
    options = {"key_mask": padding(1, 30), **DROPS}
    torch.testing.assert_close(
        attention(q, k, v, **options), attention_reference(q, k, v, **options)
    )


@pytest.mark.parametrize("kind", ["all", "causal", "padded"])
def test_plain_torch_drops_each_chunk_alike_in_both_passes(kind):
    """The gradient of the values is what the weights that stayed say: no chunk is drawn anew."""
    n = 2 * _attention_torch.CHUNK + 8
    options = {"all": {}, "causal": CAUSAL, "padded": {"key_mask": padding(1, n)}}[kind]
    q, k, _ = (0.1 * x for x in inputs((1, 1, 1, n, n, n)))
    v = torch.eye(n)[None, None].requires_grad_()
    weights = attention(q, k, v, dropout=0.5, **options)  # such values hand out the weights
    (grad,) = torch.autograd.grad(weights[0, 0, -9], v, torch.eye(n)[0])
    weights = weights[0, 0].detach()
    torch.testing.assert_close(grad[0, 0, :, 0], weights[-9])
    assert abs(weights.sum(-1).mean() - 1) < 0.1
    assert abs((weights[-9] == 0).float().mean() - (0.65 if kind == "padded" else 0.5)) < 0.1


@pytest.mark.parametrize(("shape", "options"), PLAIN, ids=str)
def test_plain_torch_equals_the_reference(shape, options):
    tensors = [x.double() for x in inputs(shape)]
    got = value_and_grads(asked(attention, options), *tensors)
    for name, wanted in value_and_grads(asked(attention_reference, options), *tensors).items():
        torch.testing.assert_close(got[name], wanted)


@pytest.mark.parametrize("kind", ["bool", "added", "added, one row", "bool, a vector"])
@pytest.mark.parametrize("options", [{}, CAUSAL, {"is_causal": True, "window": 4}], ids=str)
@pytest.mark.parametrize("t", [1, 9])
def test_a_mask_joins_what_is_seen(kind, options, t):
    q, k, v = (x.double() for x in inputs((2, 4, 2, t, 12, 8)))
    mask = torch.rand(2, 1, t, 12) > 0.5
    mask[0, 0, t - 1] = False  # a query that may look nowhere
    if kind == "added":
        mask = torch.randn(4, t, 12).double().masked_fill(~mask[0, 0], -math.inf)
    if kind == "added, one row":
        mask = torch.randn(1, 12)
    if kind == "bool, a vector":
        mask = mask[1, 0, 0]
    options = {"mask": mask, **options}
    got = value_and_grads(asked(attention, options), q, k, v)
    for name, wanted in value_and_grads(asked(attention_reference, options), q, k, v).items():
        torch.testing.assert_close(got[name], wanted)


def test_a_window_costs_no_table_of_all_pairs():
    """2¹⁵ keys: the table would hold a billion scores, and take minutes."""
    q, k, v = inputs((1, 1, 1, 2**15, 2**15, 8))
    out = attention(q, k, v, is_causal=True, window=16)
    wanted = attention_reference(
        q[:, :, -5:], k[:, :, -20:], v[:, :, -20:], **{**BAND, "window": 16}
    )
    torch.testing.assert_close(out[:, :, -5:], wanted)


def test_the_last_query_stands_at_the_last_key():
    assert visible(2, 3, is_causal=True).tolist() == [[True, True, False], [True] * 3]
    assert visible(3, 2, is_causal=True).tolist() == [[False] * 2, [True, False], [True] * 2]
    assert visible(1, 4, is_causal=True, window=2).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("options", [{}, CAUSAL, BAND, AROUND, {"window": 3, **CAUSAL}], ids=str)
@pytest.mark.parametrize(("t", "s"), [(1, 1), (50, 50), (7, 60), (60, 7), (1, 40), (90, 40)])
def test_pairs_are_counted_without_the_table(t, s, options):
    assert visible_pairs(t, s, **options) == int(visible(t, s, **options).sum())


def test_cost_counts_pairs_that_are_seen_and_no_table():
    shapes = (2, 8, 100, 64), (2, 2, 100, 64)
    full = attention_cost(*shapes, 2)
    assert full.flops == 4 * 2 * 8 * 100 * 100 * 64
    assert full.bytes == 2 * 2 * (8 + 2) * 2 * 100 * 64
    assert attention_cost(*shapes, 2, backward=True).flops == 2.5 * full.flops
    assert attention_cost(*shapes, 2, backward=True).bytes == 2 * full.bytes
    assert attention_cost(*shapes, is_causal=True).flops == full.flops * 101 // 200


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    q, k, v = inputs((1, 2, 1, 20, 30, 8), device=kernel_device)
    wanted = attention_reference(q, k, v, is_causal=True)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(attention(q, k, v, is_causal=True), wanted)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    wide = inputs((1, 1, 1, 4, 4, 200), device=kernel_device)  # wider than the kernels take
    torch.testing.assert_close(attention(*wide), attention_reference(*wide))
    mask = torch.ones(20, 30, dtype=torch.bool, device=kernel_device)
    torch.testing.assert_close(attention(q, k, v, is_causal=True, mask=mask), wanted)
    monkeypatch.setattr(module, "attention_torch", None)  # not even looked at
    real, seed = padding(1, 30).to(kernel_device), SEED.to(kernel_device)
    options = {"key_mask": real, "dropout": 0.3, "seed": seed}
    wanted = attention_reference(q, k, v, **options)
    torch.testing.assert_close(attention(q, k, v, **options), wanted)
    torch.manual_seed(1)
    one, two = (attention(q, k, v, dropout=0.5) for _ in range(2))
    assert not torch.equal(one, two)
    torch.manual_seed(1)
    assert torch.equal(attention(q, k, v, dropout=0.5), one)


def test_bad_input_is_refused_by_name():
    q, k, v = inputs((2, 4, 2, 5, 6, 8))
    with refuses(TypeError, "q must be a torch.Tensor, got list"):
        attention([1.0], k, v)
    with refuses(TypeError, "q must be floating point, got torch.int64"):
        attention(q.long(), k, v)
    with refuses(ValueError, "q must have shape (b, h, t, d), got (4, 5, 8)"):
        attention(q[0], k, v)
    with refuses(ValueError, "k must have shape (2, g, s, 8), got (2, 2, 6, 7)"):
        attention(q, k[..., :7], v)
    with refuses(ValueError, "v must have shape (2, 2, 6, 8), got (2, 2, 5, 8)"):
        attention(q, k, v[:, :, :5])
    with refuses(ValueError, "the 2 heads of k do not divide the 3 heads of q"):
        attention(q[:, :3], k, v)
    with refuses(TypeError, "k must have the dtype of q, torch.float32, got torch.float64"):
        attention(q, k.double(), v)
    with refuses(ValueError, "window=0 must be an integer ≥ 1"):
        attention(q, k, v, window=0)
    with refuses(TypeError, "window=1.5 must be an integer ≥ 1"):
        attention(q, k, v, window=1.5)
    with refuses(ValueError, "key_mask must have shape (2, 6), got (2, 5)"):
        attention(q, k, v, key_mask=torch.ones(2, 5) > 0)
    with refuses(TypeError, "key_mask must hold True at real tokens, got torch.float32"):
        attention(q, k, v, key_mask=torch.ones(2, 6))
    with refuses(ValueError, "dropout=1.5 must be a finite number ≥ 0 and ≤ 1"):
        attention(q, k, v, dropout=1.5)
    with refuses(TypeError, "seed must hold integers, got torch.float32"):
        attention(q, k, v, dropout=0.5, seed=torch.tensor(1.0))
    with refuses(ValueError, "scale=nan must be a finite number"):
        attention(q, k, v, scale=math.nan)
    with refuses(TypeError, "is_causal='yes' must be True or False"):
        attention(q, k, v, is_causal="yes")
    with refuses(ValueError, "mask must broadcast to (2, 4, 5, 6), got (5, 5)"):
        attention(q, k, v, mask=torch.ones(5, 5))
    with refuses(ValueError, "mask must broadcast to (2, 4, 5, 6), got (1, 1, 1, 5, 6)"):
        attention(q, k, v, mask=torch.ones(1, 1, 1, 5, 6))
    with refuses(TypeError, "mask must be True where one may look"):
        attention(q, k, v, mask=torch.ones(5, 6, dtype=torch.int64))
    with refuses(ValueError, "the heads of q must be 1 wide or more, got d = 0"):
        attention(q[..., :0], k[..., :0], v[..., :0])


def test_what_no_kernel_takes_is_refused_by_name(monkeypatch):
    q, k, v = inputs((1, 1, 1, 4, 4, 200))
    with refuses(ValueError, "attention_triton takes heads of width ≤ 128, got 200"):
        attention_triton(q, k, v)
    q, k, v = inputs((1, 1, 1, 4, 4, 8))
    with refuses(ValueError, "attention_triton takes no mask"):
        attention_triton(q, k, v, mask=torch.ones(4, 4))
    with refuses(TypeError, "attention_triton takes float16, bfloat16, float32, got torch.float64"):
        attention_triton(q.double(), k.double(), v.double())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "attention_triton needs CUDA tensors, got cpu"):
        attention_triton(q, k, v)
