"""NF4 products against the weight put back together, float64 and bitsandbytes, and their bugs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.kernels import _nf4_kernels as kernels
from nnlib.kernels import nf4_matmul as module
from nnlib.kernels.nf4_matmul import (
    nf4_matmul,
    nf4_matmul_cost,
    nf4_matmul_reference,
    nf4_matmul_triton,
)
from nnlib.kernels.quantization import NF4, nf4_dequantize, nf4_quantize
from tests.kernel_support import compiled, hold_to_double, hold_to_hardware, plant
from tests.support import Peer, refuses

bitsandbytes = Peer("bitsandbytes.functional")

FORMS = {"kernel": nf4_matmul_triton, "public": nf4_matmul, "reference": nf4_matmul_reference}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SHAPES = {  # rows of x, features, rows of the weight, entries of a block, scales doubled
    "one block a row": ((2, 64, 16), 64, False),
    "features that a block divides": ((40, 256, 70), 64, True),
    "blocks over several rows": ((5, 70, 33), 4096, False),
    "an even number of features": ((5, 70, 33), 64, True),
    "an odd number": ((7, 333, 70), 32, True),
    "odd, and a block a number of rows": ((3, 5, 9), 16, False),
    "one feature": ((3, 1, 5), 16, False),
    "long sums": ((1, 1500, 65), 128, False),
    "many groups of scales": ((3, 512, 140), 64, True),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def inputs(sizes, block_size=64, double=False, *, dtype=torch.float32, device="cpu"):
    m, k, n = sizes
    weight = nf4_quantize(torch.randn(n, k) * torch.rand(n, 1).exp(), block_size, double)
    x, bias = torch.randn(m, k), torch.randn(n)
    return x.to(device, dtype), on(weight, device), bias.to(device, dtype)


def on(weight, device):
    return NF4(*(part.to(device) if torch.is_tensor(part) else part for part in weight))


def hold(form, x, weight, bias):
    hold_to_double(
        lambda x, b: form(x, weight, b), lambda x, b: nf4_matmul_reference(x, weight, b), x, bias
    )


@shapes
def test_kernel_equals_reference_with_gradients(shape, kernel_device):
    hold(nf4_matmul_triton, *inputs(*shape, device=kernel_device))


@shapes
def test_plain_torch_equals_reference_with_gradients(shape):
    hold(nf4_matmul, *inputs(*shape))
    hold(nf4_matmul, *inputs(*shape, dtype=torch.float64))


@pytest.mark.parametrize("form", [nf4_matmul_triton, nf4_matmul], ids=["kernel", "public"])
def test_half_precision_errs_no_more_than_plain_torch(form, kernel_device):
    hold(form, *inputs((20, 130, 40), 64, True, dtype=torch.float16, device=kernel_device))


def test_interpreted_bfloat16_is_upcast():
    x, weight, bias = inputs((20, 128, 40), dtype=torch.bfloat16)
    got = nf4_matmul_triton(x, weight, bias)
    wanted = nf4_matmul_reference(x.float(), weight, bias.float()).bfloat16()
    torch.testing.assert_close(got, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(1, 4096, 4096), (16, 4100, 1000), (700, 1024, 3000)], ids=str)
def test_kernel_equals_the_reference_at_size(shape, dtype):
    for double in (False, True):
        hold(nf4_matmul_triton, *inputs(shape, 64, double, dtype=dtype, device="cuda"))


@pytest.mark.parametrize("shape", [(5, 64, 32), (3, 256, 96)], ids=str)
def test_gives_what_bitsandbytes_gives_with_its_own_codes(shape):
    """Their packed weight and their scales, taken as they are."""
    m, k, n = shape
    w, x = torch.randn(n, k), torch.randn(m, k)
    codes, state = bitsandbytes.quantize_4bit(w, quant_type="nf4", blocksize=64)
    theirs = x @ bitsandbytes.dequantize_4bit(codes, state).T
    weight = NF4(codes.flatten(), state.absmax, None, None, (n, k), w.dtype, 64)
    for form in FORMS.values():
        torch.testing.assert_close(form(x, weight), theirs, rtol=1e-5, atol=1e-5)


@forms
def test_a_row_of_the_identity_reads_the_weight(form, kernel_device):
    """Each number of the weight, at its own place, to the last bit."""
    for k, double in ((96, False), (35, True)):
        _, weight, _ = inputs((1, k, 50), 16, double, device=kernel_device)
        got = form(torch.eye(k, device=kernel_device), weight)
        assert torch.equal(got, nf4_dequantize(weight).T)


# ---------------------------------------------------------------------------------------- edges
@forms
def test_blocks_of_zeros_give_the_bias(form, kernel_device):
    w = torch.randn(4, 64)
    w[2] = 0
    x, bias = torch.randn(3, 64, device=kernel_device), torch.randn(4, device=kernel_device)
    for double in (False, True):
        got = form(x, on(nf4_quantize(w, double=double), kernel_device), bias)
        assert torch.equal(got[:, 2], bias[2].expand(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@forms
def test_what_is_not_finite_stays_in_its_row(form, bad, kernel_device):
    x, weight, bias = inputs((5, 70, 9), device=kernel_device)
    clean = form(x, weight, bias)
    x[2, 3] = bad
    got = form(x, weight, bias)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(got[others], clean[others])
    assert not got[2].isfinite().any()


@forms
def test_nothing_in_nothing_out(form, kernel_device):
    for m, k, n in ((0, 8, 4), (3, 0, 4), (3, 8, 0)):
        x, weight, bias = inputs((m, k, n), device=kernel_device)
        x = x.requires_grad_()
        y = form(x, weight, bias)
        assert torch.equal(y, bias.expand(m, n)) if k == 0 else y.numel() == 0
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad.shape == x.shape and not grad.any()


@forms
def test_any_leading_axes_and_strides(form, kernel_device):
    x, weight, bias = inputs((24, 70, 9), device=kernel_device)
    wanted = form(x, weight, bias)
    torch.testing.assert_close(form(x.view(2, 3, 4, 70), weight, bias), wanted.view(2, 3, 4, 9))
    torch.testing.assert_close(form(x[0], weight, bias), wanted[0])
    torch.testing.assert_close(form(x.T.contiguous().T, weight, bias), wanted)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(form(leaf, weight).sum(), leaf)  # whose gradient has strides 0
    torch.testing.assert_close(grad, nf4_dequantize(weight).sum(0).expand(24, 70))


@forms
def test_gradients_are_those_of_the_weight_put_back_together(form, kernel_device):
    x, weight, bias = inputs((6, 70, 90), double=True, device=kernel_device)
    x, bias = x.requires_grad_(), bias.requires_grad_()
    dy = torch.randn(6, 90, device=kernel_device)
    dx, dbias = torch.autograd.grad(form(x, weight, bias), (x, bias), dy)
    torch.testing.assert_close(dx, dy @ nf4_dequantize(weight), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dbias, dy.sum(0))
    assert not form(x.detach(), weight).requires_grad


@settings(max_examples=20)
@given(m=st.integers(1, 40), k=st.integers(1, 90), n=st.integers(1, 70),
       block_size=st.sampled_from([16, 64, 128]), double=st.booleans())  # fmt: skip
def test_any_shape_at_all(m, k, n, block_size, double):
    given = inputs((m, k, n), block_size, double)
    hold(nf4_matmul, *given)
    if not torch.cuda.is_available():
        hold(nf4_matmul_triton, *given)


@pytest.mark.parametrize("pieces", [1, 2, 3, 9])
def test_columns_may_be_cut_into_any_number_of_pieces(pieces, kernel_device, monkeypatch):
    monkeypatch.setattr(kernels, "pieces_of", lambda *_: pieces)
    hold(nf4_matmul_triton, *inputs((3, 600, 70), device=kernel_device))


def test_pieces_keep_a_gpu_busy_and_are_not_too_short(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "processors", lambda device: 132)
    device = torch.device("cuda")
    assert kernels.pieces_of(64, 64, device) == 5  # 320 programs for 132 processors
    assert kernels.pieces_of(64, 8, device) == 2
    assert kernels.pieces_of(1000, 64, device) == 1
    assert kernels.pieces_of(1, 1, device) == 1


def test_autocast_takes_half_precision_like_a_linear_layer():
    with torch.autocast("cpu", torch.bfloat16):
        assert nf4_matmul(*inputs((6, 70, 9))).dtype == torch.bfloat16


def test_no_weight_in_full_is_kept_for_the_gradient():
    """Only bytes and scales wait for the backward pass."""
    x, weight, _ = inputs((4, 256, 256))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        nf4_matmul(x.requires_grad_(), weight)
    assert sum(t.numel() * t.element_size() for t in kept) < 256 * 256


# ----------------------------------------------------------------------------------------- bugs
BUGS = {
    "halves of a byte the other way round": ("first, second = byte >> 4, byte & 15",
                                             "first, second = byte & 15, byte >> 4"),
    "no byte half shared": ("shifted = place % 2 == 1", "shifted = place % 2 == 2"),
    "the same byte again": ("codes_ptr + (place + 1) // 2", "codes_ptr + place // 2"),
    "the first block's scale for a row": ("block = rows * (k // block_size) + at // block_size",
                                          "block = rows * (k // block_size)"),
    "the pair's first scale for both": ("(place + 1) // block_size", "place // block_size"),
    "one group's scale for all": ("group_ptr + block // 256", "group_ptr + block * 0"),
    "the mean not put back": ("* group + tl.load(offset_ptr)", "* group"),
    "even columns twice": ("tl.load(x_at + x_k,", "tl.load(x_at,"),
    "odd columns left out": ("total = tl.dot(second.to", "tl.dot(second.to"),
    "the first piece for all": ("begin = tl.program_id(1) * part", "begin = 0"),
    "an end that is too far": ("tl.minimum(begin + part, k), BLOCK_K", "k, BLOCK_K"),
    "rows of the first tile": ("    rows = tl.program_id(0) // tiles * BLOCK_N + tl",
                               "    rows = tl.program_id(0) * 0 + tl"),
    "backwards, columns the other way round": ("tl.interleave(evens, odds)",
                                               "tl.interleave(odds, evens)"),
    "backwards, the first rows only": ("for start in range(0, n, BLOCK_N)",
                                       "for start in range(0, BLOCK_N, BLOCK_N)"),
    "backwards, the first columns only": ("    at = tl.program_id(0) // tiles * BLOCK_K",
                                          "    at = tl.program_id(0) * 0"),
    "bias forgotten where pieces are summed": ("(y if bias is None else y + bias)", "(y)"),
}  # fmt: skip


def hold_hard(form, device):
    """Hold a form where every part counts: several tiles and pieces, even and odd, doubled."""
    torch.manual_seed(0)
    hold(form, *inputs((35, 256, 130), 64, True, device=device))
    hold(form, *inputs((3, 333, 70), 16, True, device=device))


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path, parts=(kernels,))
    with pytest.raises(AssertionError, match="allowed"):
        hold_hard(bugged.nf4_matmul_triton, kernel_device)


def test_the_healthy_forms_pass_what_catches_the_bugs(kernel_device):
    hold_hard(nf4_matmul_triton, kernel_device)
    hold_hard(nf4_matmul, kernel_device)


# -------------------------------------------------------------------------------------- hardware
CALLS = """
from nnlib.kernels.nf4_matmul import nf4_matmul_triton
from nnlib.kernels.quantization import nf4_quantize
half, wide = torch.bfloat16, torch.float32
for dtype, m, k, block, double in (
    (half, 1, 4096, 64, False), (half, 1, 4096, 64, True), (half, 512, 4096, 64, True),
    (torch.float16, 512, 4100, 64, True), (half, 512, 4101, 64, False), (half, 1, 4101, 64, True),
    (wide, 512, 4096, 64, True), (wide, 512, 4101, 64, True), (wide, 1, 4100, 64, True),
):
    weight = nf4_quantize(torch.zeros(512, k), block, double)
    x = torch.zeros(m, k, dtype=dtype, requires_grad=True)
    nf4_matmul_triton(x, weight, torch.zeros(512, dtype=dtype)).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_with_tensor_cores_and_without_spills():
    records = compiled(CALLS)
    names = {"_forward_kernel", "_backward_kernel"}
    assert {record["kernel"] for record in records} == names
    hold_to_hardware(records, dots=names)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.nf4_matmul import nf4_matmul, nf4_matmul_reference
from nnlib.kernels.quantization import nf4_levels, nf4_quantize
torch.manual_seed(0)
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x, bias = torch.randn(20, 64, device=device), torch.randn(32, device=device)
    x.requires_grad_()
    for double in (False, True):
        weight = nf4_quantize(torch.randn(32, 64, device=device), double=double)
        parts = weight.codes, nf4_levels().to(device), *weight[1:4]
        opcheck(torch.ops.nnlib.nf4_matmul, (x, *parts, 32, 64, bias, True))
        dy = torch.randn(20, 32, device=device)
        opcheck(torch.ops.nnlib.nf4_matmul_backward, (dy, *parts, 64, 64, True))
        whole = torch.compile(nf4_matmul, fullgraph=True, backend="aot_eager")
        got, wanted = whole(x, weight, bias), nf4_matmul_reference(x, weight, bias)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        got, wanted = (torch.autograd.grad(y.square().sum(), x)[0] for y in (got, wanted))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)
"""


# ---------------------------------------------------------------------------------------- errors
@forms
def test_bad_input_is_refused_by_name(form):
    x, weight, bias = inputs((3, 8, 4))
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        form(x.long(), weight)
    with refuses(TypeError, "nf4_weight must be an NF4, got Tensor"):
        form(x, x)
    with refuses(ValueError, "nf4_weight must have shape (n, k), got (2, 4, 8)"):
        form(x, nf4_quantize(torch.ones(2, 4, 8)))
    with refuses(ValueError, "x must have 8 features like nf4_weight (4, 8), got (3, 7)"):
        form(x[:, :7], weight)
    with refuses(ValueError, "nf4_weight must be on cpu like x, got meta"):
        form(x, on(weight, "meta"))
    with refuses(ValueError, "bias must have shape (4), got (3,)"):
        form(x, weight, bias[:3])
    with refuses(TypeError, "bias must have the dtype of x, torch.float32, got torch.float16"):
        form(x, weight, bias.half())


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    x, weight, _ = inputs((3, 8, 4))
    with refuses(TypeError, "nf4_matmul_triton takes float16, bfloat16, float32"):
        nf4_matmul_triton(x.double(), weight)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "nf4_matmul_triton needs CUDA tensors, got cpu"):
        nf4_matmul_triton(x, weight)


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    x, weight, bias = inputs((5, 70, 9), device=kernel_device)
    wanted = F.linear(x, nf4_dequantize(weight), bias)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(nf4_matmul(x, weight, bias), wanted, rtol=1e-5, atol=1e-4)


def test_cost_counts_half_a_byte_a_weight_and_its_scales():
    assert nf4_matmul_cost(8, 4096, 1024).flops == 2 * 8 * 4096 * 1024
    for double in (False, True):
        stored = nf4_quantize(torch.randn(96, 640), double=double).bytes
        cost = nf4_matmul_cost(3, 640, 96, 2, double=double)
        assert cost.bytes == stored + 2 * 3 * (640 + 96)
        assert nf4_matmul_cost(3, 640, 96, 2, double=double, backward=True) == cost
