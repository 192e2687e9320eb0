"""Int8 products against integers added up one by one, float64, bitsandbytes, and their bugs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.kernels import _int8_kernels as kernels
from nnlib.kernels import int8_matmul as module
from nnlib.kernels.int8_matmul import (
    int8_matmul,
    int8_matmul_cost,
    int8_matmul_reference,
    int8_matmul_triton,
    outlier_columns,
    row_codes,
)
from nnlib.kernels.quantization import Quantized, dequantize, quantize
from tests.kernel_support import compiled, hold_to_double, hold_to_hardware, plant
from tests.support import Peer, refuses

bitsandbytes = Peer("bitsandbytes.functional")

FORMS = {"kernel": int8_matmul_triton, "public": int8_matmul, "reference": int8_matmul_reference}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SHAPES = [(1, 16, 16), (5, 70, 33), (40, 129, 70), (33, 300, 1), (3, 1, 5), (2, 1500, 65)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
# numpy's, interpreting, where a row holds what is not finite
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def inputs(m, k, n, *, outliers=2, dtype=torch.float32, device="cpu"):
    """Return x with a few columns of large numbers, a weight and a bias."""
    x = torch.randn(m, k)
    x[:, torch.randperm(k)[:outliers]] += 20
    weight = quantize(torch.randn(n, k) * torch.rand(n, 1).exp())
    bias = torch.randn(n)
    return x.to(device, dtype), on(weight, device), bias.to(device, dtype)


def on(weight, device):
    return weight._replace(values=weight.values.to(device), scale=weight.scale.to(device))


def hold(form, x, weight, bias, **named):
    hold_to_double(
        lambda x, b: form(x, weight, b, **named),
        lambda x, b: int8_matmul_reference(x, weight, b, **named), x, bias,
    )  # fmt: skip


@shapes
@pytest.mark.parametrize("threshold", [6.0, None, 0.5], ids=str)
def test_kernel_equals_reference_with_gradients(shape, threshold, kernel_device):
    hold(int8_matmul_triton, *inputs(*shape, device=kernel_device), threshold=threshold)


@shapes
@pytest.mark.parametrize("threshold", [6.0, None], ids=str)
@pytest.mark.parametrize("integers", [True, False], ids=["integers", "floats"])
def test_plain_torch_equals_reference_with_gradients(shape, threshold, integers, monkeypatch):
    monkeypatch.setattr(module, "INTEGERS", integers)
    hold(int8_matmul, *inputs(*shape), threshold=threshold)
    hold(int8_matmul, *inputs(*shape, dtype=torch.float64), threshold=threshold)


@pytest.mark.parametrize("form", [int8_matmul_triton, int8_matmul], ids=["kernel", "public"])
def test_half_precision_is_rounded_once(form, kernel_device):
    x, weight, bias = inputs(20, 130, 40, dtype=torch.float16, device=kernel_device)
    hold(form, x, weight, bias)
    assert form(x, weight, bias).dtype == torch.float16


def test_interpreted_bfloat16_is_upcast():
    hold(int8_matmul_triton, *inputs(20, 130, 40, dtype=torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(1, 4096, 4096), (64, 4100, 1000), (700, 1024, 3000)], ids=str)
def test_kernel_equals_the_reference_at_size(shape, dtype):
    x, weight, bias = inputs(*shape, dtype=dtype)
    for threshold in (6.0, None):
        got = int8_matmul_triton(x.cuda(), on(weight, "cuda"), bias.cuda(), threshold).cpu()
        wanted = int8_matmul_reference(x.double(), weight, bias.double(), threshold)
        rounding = torch.finfo(dtype).eps * wanted.abs().max()
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=float(2 * rounding))


# ------------------------------------------------------------------------------------- integers
@forms
def test_integers_are_summed_exactly(form, kernel_device):
    """Sums of up to 1500 products of codes, added one by one by Python, bit for bit."""
    x, weight, _ = inputs(3, 1500, 4, outliers=0, device=kernel_device)
    weight.values[0] = 127
    x[0] = x[0].abs().max()  # every code 127: the largest sum there is
    codes, scale = row_codes(x, torch.zeros(1500, dtype=torch.bool, device=kernel_device))
    got = form(x, weight, threshold=None)
    for i, q in enumerate(codes.tolist()):
        for j, p in enumerate(weight.values.tolist()):
            whole = sum(a * b for a, b in zip(q, p, strict=True))
            wanted = torch.tensor(whole, dtype=torch.float64).float() * scale[i, 0].cpu()
            assert got[i, j] == wanted * weight.scale[j, 0].cpu()


@forms
def test_codes_are_rounded_half_to_even(form, kernel_device):
    """A weight that is the identity lets the codes of x through."""
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -126.5]], device=kernel_device)
    unit = Quantized(torch.eye(8).char(), torch.ones(8, 1), None, 8, None)
    got = form(x, on(unit, kernel_device), threshold=None)
    assert got.tolist() == [[127, 0, 2, 2, 0, -2, 126, -126]]
    x = torch.randn(30, 8, device=kernel_device)
    codes, scale = row_codes(x, torch.zeros(8, dtype=torch.bool, device=kernel_device))
    assert torch.equal(form(x, on(unit, kernel_device), threshold=None), codes * scale)


def test_codes_are_those_of_quantize_and_of_bitsandbytes():
    x = torch.randn(30, 200)
    codes, scale = row_codes(x, torch.zeros(200, dtype=torch.bool))
    assert torch.equal(codes, quantize(x).values)
    assert torch.equal(scale, quantize(x).scale)
    theirs, peaks, _ = bitsandbytes.int8_vectorwise_quant(x.half())
    ours, scale = row_codes(x.half(), torch.zeros(200, dtype=torch.bool))
    torch.testing.assert_close(scale[:, 0] * 127, peaks)
    apart = (ours.int() - theirs.int()).abs()  # theirs multiplies by 127/max, in half precision
    assert apart.max() <= 1 and (apart > 0).float().mean() < 0.1


# ------------------------------------------------------------------------------------- outliers
@forms
def test_outlier_columns_are_multiplied_as_they_are(form, kernel_device):
    x, weight, bias = inputs(20, 100, 30, outliers=3, device=kernel_device)
    near = dequantize(weight)
    apart = outlier_columns(x, 6.0)
    assert apart.sum() == 3
    rest = torch.where(apart, 0, x)
    wanted = dequantize(quantize(rest)) @ near.T + torch.where(apart, x, 0) @ near.T + bias
    torch.testing.assert_close(form(x, weight, bias), wanted, rtol=1e-5, atol=1e-4)


@forms
def test_splitting_off_pays_where_a_column_is_large(form, kernel_device):
    x, weight, _ = inputs(20, 100, 30, device=kernel_device)
    exact = x @ dequantize(weight).T
    errors = [(form(x, weight, threshold=t) - exact).square().mean().sqrt() for t in (6.0, None)]
    assert 4 * errors[0] < errors[1]


@forms
def test_with_every_column_apart_nothing_is_rounded(form, kernel_device):
    x, weight, bias = inputs(7, 50, 9, device=kernel_device)
    wanted = F.linear(x, dequantize(weight), bias)
    torch.testing.assert_close(form(x, weight, bias, 1e-9), wanted, rtol=1e-5, atol=1e-4)


def test_a_trace_that_reads_no_numbers_gives_the_same(monkeypatch):
    x, weight, bias = inputs(7, 50, 9)
    wanted = int8_matmul(x, weight, bias)
    monkeypatch.setattr(module.checks, "readable", lambda x: False)
    torch.testing.assert_close(int8_matmul(x, weight, bias), wanted)


# ---------------------------------------------------------------------------------------- edges
@forms
def test_rows_of_zeros_give_the_bias(form, kernel_device):
    x, weight, bias = inputs(5, 70, 9, device=kernel_device)
    x[2] = 0
    assert torch.equal(form(x, weight, bias)[2], bias)
    zero = weight._replace(values=weight.values * 0)
    assert torch.equal(form(x, zero), torch.zeros(5, 9, device=kernel_device))
    tiny = torch.full((2, 70), 1e-45, device=kernel_device)
    assert form(tiny, weight).isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("threshold", [6.0, None], ids=str)
@forms
def test_what_is_not_finite_stays_in_its_row(form, threshold, bad, kernel_device):
    x, weight, bias = inputs(5, 70, 9, device=kernel_device)
    clean = form(x, weight, bias, threshold)
    x[2, 3] = bad
    got = form(x, weight, bias, threshold)
    others = [0, 1, 3, 4]
    assert got[others].isfinite().all()
    if bad != bad or threshold is None:
        assert got[2].isnan().all()
        assert torch.equal(got[others], clean[others])
    else:  # split off: as a product of real numbers has it
        assert not got[2].isfinite().any()


@forms
def test_nothing_in_nothing_out(form, kernel_device):
    for m, k, n in ((0, 8, 4), (3, 0, 4), (3, 8, 0)):
        x, weight, bias = inputs(m, k, n, outliers=0, device=kernel_device)
        x = x.requires_grad_()
        y = form(x, weight, bias)
        assert torch.equal(y, bias.expand(m, n)) if k == 0 else y.numel() == 0
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad.shape == x.shape and not grad.any()


@forms
def test_any_leading_axes_and_strides(form, kernel_device):
    x, weight, bias = inputs(24, 70, 9, device=kernel_device)
    wanted = form(x, weight, bias)
    torch.testing.assert_close(form(x.view(2, 3, 4, 70), weight, bias), wanted.view(2, 3, 4, 9))
    torch.testing.assert_close(form(x[:1], weight, bias, None),
                               form(x[0], weight, bias, None)[None])  # fmt: skip
    turned = x.T.contiguous().T
    torch.testing.assert_close(form(turned, weight, bias), wanted)
    spread = weight._replace(values=weight.values.T.contiguous().T)
    torch.testing.assert_close(form(x, spread, bias), wanted)


@forms
def test_gradients_are_those_of_the_rounded_weight(form, kernel_device):
    x, weight, bias = inputs(6, 70, 9, device=kernel_device)
    x, bias = x.requires_grad_(), bias.requires_grad_()
    dy = torch.randn(6, 9, device=kernel_device)
    dx, dbias = torch.autograd.grad(form(x, weight, bias), (x, bias), dy)
    torch.testing.assert_close(dx, dy @ dequantize(weight), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dbias, dy.sum(0))
    assert not form(x.detach(), weight).requires_grad


@settings(max_examples=20)
@given(m=st.integers(1, 40), k=st.integers(1, 90), n=st.integers(1, 70),
       threshold=st.none() | st.floats(0.5, 30))  # fmt: skip
def test_any_shape_at_all(m, k, n, threshold):
    x, weight, bias = inputs(m, k, n, outliers=1)
    hold(int8_matmul, x, weight, bias, threshold=threshold)
    if not torch.cuda.is_available():
        hold(int8_matmul_triton, x, weight, bias, threshold=threshold)


def test_autocast_takes_half_precision_like_a_linear_layer():
    x, weight, bias = inputs(6, 70, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert int8_matmul(x, weight, bias).dtype == torch.bfloat16


# ----------------------------------------------------------------------------------------- bugs
BUGS = {
    "rounded down": ("(tl.div_rn(x, scale) + 12582912.0) - 12582912.0",
                     "tl.floor(tl.div_rn(x, scale))"),
    "outliers in the scale": ("            live = live & (tl.load(apart_ptr + place",
                              "            live = live | (tl.load(apart_ptr + place"),
    "outliers counted twice": ("            own = live & (tl.load(apart_ptr",
                               "            own = live | (tl.load(apart_ptr"),
    "outliers left out": ("y = tl.dot(few, tl.trans(theirs)", "tl.dot(few, tl.trans(theirs)"),
    "the first outlier for all": ("columns_ptr + nth,", "columns_ptr + nth * 0,"),
    "a scale of the weight for x": ("tl.load(scale_ptr + first + rows", "tl.load(scale_ptr + rows"),
    "the weight's scale forgotten": ("    y = y * step[None, :]", "    y = y"),
    "the wrong tile of the weight": ("p_ptr + left * k + at", "p_ptr + at"),
    "an end that is too near": ("for at in range(0, k, BLOCK_K)",
                                "for at in range(0, k - BLOCK_K, BLOCK_K)"),
    "the bias of the first tile": ("bias_ptr + left + cols", "bias_ptr + cols"),
    "a grid of 128": ("tl.div_rn(tl.max(peak, 0), 127.0)", "tl.div_rn(tl.max(peak, 0), 128.0)"),
}  # fmt: skip


def hold_hard(form, device):
    """Hold a form where every part counts: several tiles each way, and outliers far apart."""
    torch.manual_seed(0)
    hold(form, *inputs(40, 290, 130, outliers=20, device=device))


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path, parts=(kernels,))
    with pytest.raises(AssertionError, match="allowed"):
        hold_hard(bugged.int8_matmul_triton, kernel_device)


PLAIN_BUGS = {
    "outliers counted twice": ("    x = torch.where(apart, 0, x)\n", ""),
    "outliers with their scale": ("y + few.to(y.dtype) @ theirs.to(y.dtype).T",
                                  "y + scale * (few.to(y.dtype) @ theirs.to(y.dtype).T)"),
    "the first columns only": ("total.double() + part", "total"),
    "the weight's scale forgotten backwards": ("(dy * steps.T.to(dy.dtype))", "dy"),
    "a scale of 128": ("scale = peak / TOP", "scale = peak / (TOP + 1)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLAIN_BUGS)
def test_a_planted_bug_in_plain_torch_is_caught(bug, tmp_path):
    bugged = plant(module, *PLAIN_BUGS[bug], tmp_path)
    bugged.INTEGERS = False
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="allowed"):
        hold(bugged.int8_matmul, *inputs(9, 1100, 30, outliers=3))


def test_the_healthy_forms_pass_what_catches_the_bugs(kernel_device):
    hold_hard(int8_matmul_triton, kernel_device)
    hold_hard(int8_matmul, kernel_device)
    torch.manual_seed(0)
    hold(int8_matmul, *inputs(9, 1100, 30, outliers=3))


# -------------------------------------------------------------------------------------- hardware
CALLS = """
from nnlib.kernels.int8_matmul import int8_matmul_triton
from nnlib.kernels.quantization import Quantized
for dtype, m, k, threshold in (
    (torch.bfloat16, 1, 4096, 6.0), (torch.bfloat16, 64, 4096, 6.0),
    (torch.bfloat16, 512, 4096, 6.0), (torch.bfloat16, 512, 4100, 6.0),
    (torch.float16, 512, 4096, None), (torch.float16, 1, 4100, 6.0),
    (torch.float32, 512, 4096, 6.0), (torch.float32, 64, 4100, 6.0),
):
    weight = Quantized(torch.zeros(512, k, dtype=torch.int8), torch.ones(512, 1), None, 8, None)
    x, bias = torch.zeros(m, k, dtype=dtype), torch.zeros(512, dtype=dtype)
    int8_matmul_triton(x, weight, bias, threshold)
"""


def test_compiles_for_sm_80_and_sm_90_with_tensor_cores_and_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_codes_kernel", "_product_kernel"}
    hold_to_hardware(records, dots={"_product_kernel"})
    assert {record["constants"]["OUTLIERS"] for record in records} == {True, False}


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.int8_matmul import int8_matmul, int8_matmul_reference
from nnlib.kernels.quantization import quantize
torch.manual_seed(0)
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(20, 64, device=device)
    x[:, 5] = 40
    x.requires_grad_()
    weight, bias = quantize(torch.randn(32, 64, device=device)), torch.randn(32, device=device)
    for threshold in (6.0, None):
        given = x, weight.values, weight.scale, bias, threshold, True
        opcheck(torch.ops.nnlib.int8_matmul, given)
        whole = torch.compile(int8_matmul, fullgraph=True, backend="aot_eager")
        got = whole(x, weight, bias, threshold)
        wanted = int8_matmul_reference(x, weight, bias, threshold)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        got, wanted = (torch.autograd.grad(y.square().sum(), x)[0] for y in (got, wanted))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)
"""


# ---------------------------------------------------------------------------------------- errors
@forms
def test_bad_input_is_refused_by_name(form):
    x, weight, bias = inputs(3, 8, 4, outliers=0)
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        form(x.long(), weight)
    with refuses(TypeError, "weight must be a Quantized, got Tensor"):
        form(x, x)
    with refuses(ValueError, "weight must have shape (n, k), got (2, 4, 8)"):
        form(x, quantize(torch.ones(2, 4, 8)))
    with refuses(ValueError, "weight must be symmetric: quantize(w, symmetric=True)"):
        form(x, quantize(torch.ones(4, 8), symmetric=False))
    for granularity, size in (("tensor", None), ("group", 4), ("group", 8)):
        with refuses(ValueError, "weight must have a scale a row"):
            form(x, quantize(torch.ones(4, 8), granularity=granularity, group_size=size))
    with refuses(ValueError, "x must have 8 features like weight (4, 8), got (3, 7)"):
        form(x[:, :7], weight)
    with refuses(ValueError, "x must have 8 features like weight (4, 8), got ()"):
        form(x[0, 0], weight)
    with refuses(ValueError, "weight must be on cpu like x, got meta"):
        form(x, on(weight, "meta"))
    with refuses(ValueError, "bias must have shape (4), got (3,)"):
        form(x, weight, bias[:3])
    with refuses(TypeError, "bias must have the dtype of x, torch.float32, got torch.float16"):
        form(x, weight, bias.half())
    for bad in (0, -1.0, math.nan):
        with refuses(ValueError, f"threshold={bad!r} must be a finite number > 0"):
            form(x, weight, bias, bad)
    with refuses(TypeError, "threshold='6' must be a finite number > 0"):
        form(x, weight, bias, "6")


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    x, weight, _ = inputs(3, 8, 4, outliers=0)
    with refuses(TypeError, "int8_matmul_triton takes float16, bfloat16, float32"):
        int8_matmul_triton(x.double(), weight)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "int8_matmul_triton needs CUDA tensors, got cpu"):
        int8_matmul_triton(x, weight)


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    given = inputs(5, 70, 9, device=kernel_device)
    wanted = int8_matmul_reference(*given)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(int8_matmul(*given), wanted, rtol=1e-5, atol=1e-4)


def test_cost_counts_a_byte_a_weight():
    cost = int8_matmul_cost(8, 4096, 1024, 2, outliers=6)
    assert cost.flops == 2 * 8 * 1024 * (4096 + 6)
    assert cost.bytes == 4096 * 1024 + 4 * 1024 + 2 * 8 * (4096 + 1024)
