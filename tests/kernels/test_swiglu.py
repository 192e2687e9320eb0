import math

import pytest
import torch
from torch.nn import functional as F

from nnlib.kernels import swiglu as module
from nnlib.kernels.swiglu import (
    geglu,
    geglu_cost,
    geglu_reference,
    geglu_triton,
    swiglu,
    swiglu_cost,
    swiglu_reference,
    swiglu_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

PAIRS = [(swiglu_triton, swiglu_reference), (geglu_triton, geglu_reference)]
SHAPES = [(1,), (3, 5), (2, 3, 127), (2, 1024), (3, 1025), (2, 5000)]
pairs = pytest.mark.parametrize(("kernel", "reference"), PAIRS, ids=["swiglu", "geglu"])


def inputs(shape, device, dtype=torch.float32):
    return [3 * torch.randn(shape, device=device, dtype=dtype) for _ in "ab"]


def halved(operation):
    """Return the operation on both halves of one tensor."""
    return lambda x: operation(*x.chunk(2, -1))


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(kernel, reference, shape, kernel_device):
    hold_to_double(kernel, reference, *inputs(shape, kernel_device))


@pairs
def test_half_precision_is_rounded_once(kernel, reference, kernel_device):
    hold_to_double(kernel, reference, *inputs((4, 300), kernel_device, torch.float16))


@pairs
@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16(kernel, reference):
    hold_to_double(kernel, reference, *inputs((64, 1000), "cuda", torch.bfloat16))


@pytest.mark.parametrize(
    ("reference", "torch_form"),
    [
        (swiglu_reference, lambda a, b: F.silu(a) * b),
        (geglu_reference, lambda a, b: F.gelu(a) * b),
    ],
    ids=["swiglu", "geglu"],
)
def test_reference_equals_torch(reference, torch_form):
    given = inputs((5, 33), "cpu", torch.float64)
    ours = value_and_grads(reference, *given)
    for name, wanted in value_and_grads(torch_form, *given).items():
        torch.testing.assert_close(ours[name], wanted)


@pairs
def test_halves_of_one_tensor_are_read_where_they_stand(kernel, reference, kernel_device):
    both = torch.randn(2, 5, 2 * 1030, device=kernel_device)
    hold_to_double(halved(kernel), halved(reference), both)
    gate, value = both.detach().chunk(2, -1)
    assert torch.equal(kernel(gate, value), kernel(gate.contiguous(), value.contiguous()))


@pairs
def test_strided_tensors_are_read_in_their_own_order(kernel, reference, kernel_device):
    a, b = inputs((6, 40), kernel_device)
    hold_to_double(kernel, reference, a[::2, 1::3], b.t()[:13, :3].t())
    hold_to_double(kernel, reference, a.t(), b.view(40, 6))
    hold_to_double(kernel, reference, a[:, :1], b[:, 5:6])


@pairs
def test_a_gradient_that_is_one_number_spread_out_is_read_right(kernel, reference, kernel_device):
    a, b = (t.requires_grad_() for t in inputs((5, 30), kernel_device))
    wanted = torch.autograd.grad(reference(a, b).sum(), (a, b))  # the sum's gradient has strides 0
    torch.testing.assert_close(torch.autograd.grad(kernel(a, b).sum(), (a, b)), wanted)


@pairs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of overflow
def test_far_from_zero_the_gate_is_open_or_shut(kernel, reference, kernel_device):
    a = torch.tensor([-1e4, -200.0, 200.0, 1e4], device=kernel_device)
    b = torch.full_like(a, 3.0)
    ours = value_and_grads(kernel, a, b)
    assert all(t.isfinite().all() for t in ours.values())
    assert ours["out0"].tolist() == [0, 0, 600, 3e4]


@pairs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_stays_where_it_is(kernel, reference, kernel_device):
    a, b = inputs((3, 10), kernel_device)
    a[0, 3], b[2, 5] = math.nan, math.nan
    assert torch.equal(kernel(a, b).isnan(), a.isnan() | b.isnan())


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,)], ids=str)
def test_nothing_in_gives_nothing_out(shape, kernel_device):
    a, b = (t.requires_grad_() for t in inputs(shape, kernel_device))
    y = swiglu_triton(a, b)
    assert y.shape == shape
    y.sum().backward()
    assert a.grad.shape == shape


def test_a_single_number_is_taken(kernel_device):
    a = torch.tensor(1.5, device=kernel_device)
    torch.testing.assert_close(geglu_triton(a, a), geglu_reference(a, a))


VALUE = "b_ptr + row * b_stride + at, mask=live, other=0.0).to(tl.float32)\n    share"  # forwards
BUGS = {
    "a sign": ("slope = share * (1 + a * (1 - share))", "slope = share * (1 - a * (1 - share))"),
    "a mask's edge": (VALUE, VALUE.replace("mask=live", "mask=at < columns - 1")),
    "the wrong row": (VALUE, VALUE.replace("b_stride", "columns")),
    "a forgotten gate": ("dy * a * share, mask", "dy * a, mask"),
    "a forgotten value": ("dy * b * slope, mask", "dy * slope, mask"),
    "a density without its height": (" * 0.3989422804014327", ""),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path)
    both = torch.randn(3, 2 * 70, device=kernel_device)
    with pytest.raises(AssertionError, match="allowed"):
        hold_to_double(halved(bugged.swiglu_triton), halved(swiglu_reference), both)
        hold_to_double(halved(bugged.geglu_triton), halved(geglu_reference), both)


CALLS = """
from nnlib.kernels.swiglu import geglu_triton, swiglu_triton
for operation, dtype in ((swiglu_triton, torch.bfloat16), (geglu_triton, torch.float32)):
    a = torch.zeros(4, 1024, dtype=dtype, requires_grad=True)
    operation(a, a).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from torch.nn import functional as F
from nnlib.kernels.swiglu import geglu, swiglu
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(5, 80, device=device, requires_grad=True)
    a, b = x.detach().chunk(2, -1)
    for gelu, public, gate in ((False, swiglu, F.silu), (True, geglu, F.gelu)):
        opcheck(torch.ops.nnlib.gated, (*x.chunk(2, -1), gelu))
        opcheck(torch.ops.nnlib.gated_backward, (a, b, a, gelu))
        wanted = torch.autograd.grad((gate(x[:, :40]) * x[:, 40:]).square().sum(), x)
        for form in (public, lambda a, b: torch.ops.nnlib.gated(a, b, gelu)):
            whole = torch.compile(form, fullgraph=True, backend="aot_eager")
            got = torch.autograd.grad(whole(*x.chunk(2, -1)).square().sum(), x)
            torch.testing.assert_close(got, wanted)
            got = torch.autograd.grad(form(*x.chunk(2, -1)).square().sum(), x)
            torch.testing.assert_close(got, wanted)
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    a, b = inputs((3, 50), kernel_device)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(swiglu(a, b), F.silu(a) * b)
        torch.testing.assert_close(geglu(a, b), F.gelu(a) * b)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        swiglu(a, b)


X = torch.zeros(2, 4)


@pytest.mark.parametrize("operation", [swiglu, geglu, swiglu_triton, geglu_triton])
def test_bad_input_is_refused_by_name(operation):
    with refuses(TypeError, "a must be floating point, got torch.int64"):
        operation(torch.arange(3), torch.arange(3))
    with refuses(TypeError, "b must be a torch.Tensor, got int"):
        operation(X, 1)
    with refuses(ValueError, "b must have shape (2, 4), got (2, 3)"):
        operation(X, X[:, :3])
    with refuses(TypeError, "b must have the dtype of a, torch.float32, got torch.float16"):
        operation(X, X.half())
    with refuses(ValueError, "b must be on cpu like a, got meta"):
        operation(X, X.to("meta"))


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    with refuses(TypeError, "swiglu_triton takes float16, bfloat16, float32, got torch.float64"):
        swiglu_triton(X.double(), X.double())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "geglu_triton needs CUDA tensors, got cpu"):
        geglu_triton(X, X)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        swiglu(X, X)


def test_cost_counts_two_reads_and_one_write():
    assert swiglu_cost((64, 1000), 2).bytes == 3 * 64 * 1000 * 2
    assert geglu_cost((64, 1000), 2, backward=True).bytes == 5 * 64 * 1000 * 2
    assert swiglu_cost((64, 1000), 2).intensity == 1
