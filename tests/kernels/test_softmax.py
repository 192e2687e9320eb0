import math

import pytest
import torch

from nnlib.kernels import softmax as module
from nnlib.kernels.softmax import (
    log_softmax,
    log_softmax_reference,
    log_softmax_triton,
    softmax,
    softmax_cost,
    softmax_reference,
    softmax_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

PAIRS = [(softmax_triton, softmax_reference), (log_softmax_triton, log_softmax_reference)]
SHAPES = [(1, 1), (3, 5), (2, 3, 127), (2, 128), (7, 1000), (2, 8193)]  # off every block's edge
pairs = pytest.mark.parametrize(("kernel", "reference"), PAIRS, ids=["softmax", "log_softmax"])


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(kernel, reference, shape, kernel_device):
    hold_to_double(kernel, reference, torch.randn(shape, device=kernel_device) * 5)


@pairs
def test_later_blocks_may_hold_the_largest_values(kernel, reference, kernel_device):
    hold_to_double(kernel, reference, rising(kernel_device))


def rising(device):
    """Return rows of three blocks whose maximum is mended at each."""
    return torch.linspace(-20, 20, 2 * 20000, device=device).view(2, 20000)


@pairs
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_kernel_equals_reference_in_each_precision(kernel, reference, dtype, kernel_device):
    hold_to_double(kernel, reference, torch.randn(4, 77, dtype=dtype, device=kernel_device))


@pairs
@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16(kernel, reference):
    hold_to_double(kernel, reference, torch.randn(64, 1000, dtype=torch.bfloat16, device="cuda"))


@pytest.mark.parametrize(
    ("reference", "torch_form"),
    [(softmax_reference, torch.softmax), (log_softmax_reference, torch.log_softmax)],
)
def test_reference_equals_torch(reference, torch_form):
    x = torch.randn(5, 33, dtype=torch.float64) * 30
    ours = value_and_grads(reference, x)
    for name, wanted in value_and_grads(lambda x: torch_form(x, -1), x).items():
        torch.testing.assert_close(ours[name], wanted)


@pairs
def test_strided_input_is_read_in_its_own_order(kernel, reference, kernel_device):
    x = torch.randn(6, 40, device=kernel_device)[::2, 1::3]
    hold_to_double(kernel, reference, x)
    hold_to_double(kernel, reference, x.t())


@pairs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@pytest.mark.parametrize("special", [-math.inf, math.inf, math.nan], ids=str)
def test_infinities_and_nan_are_those_of_torch(kernel, reference, special, kernel_device):
    x = torch.randn(3, 9000, device=kernel_device)
    x[0, :8500] = special  # a whole block, and part of the next
    x[1] = special
    wanted = x.softmax(-1) if kernel is softmax_triton else x.log_softmax(-1)
    torch.testing.assert_close(kernel(x), wanted, equal_nan=True)


def test_large_numbers_do_not_overflow(kernel_device):
    x = torch.tensor([[0.0, 1e4], [-1e30, -1e30]], device=kernel_device)
    assert softmax_triton(x).tolist() == [[0.0, 1.0], [0.5, 0.5]]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,)], ids=str)
def test_nothing_in_gives_nothing_out(shape, kernel_device):
    assert softmax_triton(torch.empty(shape, device=kernel_device)).shape == shape


BUGS = {
    "a sign": ("y * (dy - total)", "y * (dy + total)"),
    "a mask's edge": (
        "live = at + cols < columns\n        x = ",
        "live = at + cols < columns - 1\n        x = ",
    ),
    "a forgotten scale": ("tl.exp(x - base) / total", "tl.exp(x - base)"),
    "a maximum not carried on": ("total = total * tl.exp(m - base)", "total = total"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path)
    with pytest.raises(AssertionError, match="allowed"):
        hold_to_double(bugged.softmax_triton, softmax_reference, rising(kernel_device))


CALLS = """
from nnlib.kernels.softmax import log_softmax_triton, softmax_triton
for operation in (softmax_triton, log_softmax_triton):
    for dtype, columns in ((torch.float32, 1000), (torch.bfloat16, 40000)):
        x = torch.zeros(4, columns, dtype=dtype, requires_grad=True)
        operation(x).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.softmax import softmax
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(5, 40, device=device, requires_grad=True)
    for log in (False, True):
        opcheck(torch.ops.nnlib.softmax, (x, log))
        opcheck(torch.ops.nnlib.softmax_backward, (x.detach().softmax(-1), x.detach(), log))
    whole = torch.compile(softmax, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(whole(x), x.softmax(-1))
    whole(x).square().sum().backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(x.softmax(-1).square().sum(), x)[0])
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    x = torch.randn(3, 50, device=kernel_device)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(softmax(x), x.softmax(-1))
        torch.testing.assert_close(log_softmax(x), x.log_softmax(-1))
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        softmax(x)


def test_bad_input_is_refused_by_name():
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        softmax(torch.arange(3))
    with refuses(ValueError, "x must have one axis or more"):
        log_softmax(torch.tensor(1.0))
    with refuses(TypeError, "softmax_triton takes float16, bfloat16, float32, got torch.float64"):
        softmax_triton(torch.zeros(2, 2, dtype=torch.float64))


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "softmax_triton needs CUDA tensors, got cpu"):
        softmax_triton(torch.zeros(2, 2))
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        softmax(torch.zeros(2, 2))


def test_cost_counts_one_read_and_one_write():
    cost = softmax_cost((64, 1000), element_size=2)
    assert cost.bytes == 2 * 64 * 1000 * 2
    assert softmax_cost((64, 1000), 2, backward=True).bytes == 3 * 64 * 1000 * 2
    assert cost.intensity == 1.25
