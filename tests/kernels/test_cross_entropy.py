import math

import pytest
import torch
from torch.nn import functional as F

from nnlib.kernels import cross_entropy as module
from nnlib.kernels.cross_entropy import (
    cross_entropy,
    cross_entropy_cost,
    cross_entropy_reference,
    cross_entropy_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

SHAPES = [(1, 1), (3, 5), (63, 127), (4, 128), (5, 1000), (3, 8193)]  # off every block's edge
SMOOTHINGS = [0.0, 0.1, 1.0]
smoothings = pytest.mark.parametrize("smoothing", SMOOTHINGS)


def rows(n, v, device, dtype=torch.float32):
    """Return logits and targets; every third row but the first is ignored."""
    target = torch.randint(v, (n,))
    target[3::3] = -100
    return torch.randn(n, v, dtype=dtype).to(device) * 5, target.to(device)


def rising(device):
    """Return three rows of three blocks, whose maximum is mended at each; one is ignored."""
    logits = torch.linspace(-20, 20, 3 * 20000, device=device).view(3, 20000)
    return logits, torch.tensor([19_999, -100, 8192], device=device)


def hold(kernel, logits, target, smoothing=0.0, ignore_index=-100):
    hold_to_double(
        lambda x: kernel(x, target, ignore_index, smoothing),
        lambda x: cross_entropy_reference(x, target, ignore_index, smoothing),
        logits,
    )


@smoothings
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(shape, smoothing, kernel_device):
    hold(cross_entropy_triton, *rows(*shape, kernel_device), smoothing)


@smoothings
def test_later_blocks_may_hold_the_largest_logits(smoothing, kernel_device):
    hold(cross_entropy_triton, *rising(kernel_device), smoothing)


@smoothings
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_kernel_equals_reference_in_each_precision(dtype, smoothing, kernel_device):
    hold(cross_entropy_triton, *rows(7, 200, kernel_device, dtype), smoothing)


@smoothings
@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16(smoothing):
    hold(cross_entropy_triton, *rows(64, 1000, "cuda", torch.bfloat16), smoothing)


@smoothings
def test_reference_equals_torch(smoothing):
    logits, target = rows(7, 33, "cpu", torch.float64)
    ours = value_and_grads(
        lambda x: cross_entropy_reference(x, target, label_smoothing=smoothing), logits
    )
    theirs = value_and_grads(
        lambda x: F.cross_entropy(x, target, label_smoothing=smoothing), logits
    )
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted)


@pytest.mark.parametrize("ignore_index", [0, 1, 3, -1])
def test_rows_with_the_ignored_target_do_not_count(ignore_index, kernel_device):
    logits = torch.randn(9, 4, device=kernel_device, requires_grad=True)
    target = torch.arange(9, device=kernel_device) % 4
    kept = target != ignore_index
    loss = cross_entropy_triton(logits, target, ignore_index)
    torch.testing.assert_close(loss, F.cross_entropy(logits[kept], target[kept]))
    (grad,) = torch.autograd.grad(loss, logits)
    assert bool((grad[~kept] == 0).all())
    hold(cross_entropy_triton, logits, target, 0.2, ignore_index)


def test_no_row_that_counts_gives_nan_and_no_gradient(kernel_device):
    logits = torch.randn(3, 5, device=kernel_device, requires_grad=True)
    target = torch.full((3,), -100, device=kernel_device)
    for operation in (cross_entropy_triton, cross_entropy, F.cross_entropy):
        loss = operation(logits, target)
        assert loss.isnan()
        assert bool((torch.autograd.grad(loss, logits)[0] == 0).all())
    assert cross_entropy_triton(logits[:0], target[:0]).isnan()


@smoothings
def test_logits_of_ten_thousand_lose_no_digits(smoothing, kernel_device):
    """log Σ eˣ rounded at 10⁴ errs by 10⁻³; its distance from the target's logit does not."""
    logits = 1e4 + torch.randn(8, 300, device=kernel_device)
    target = torch.arange(8, device=kernel_device)
    truth = F.cross_entropy(logits.double(), target, label_smoothing=smoothing)
    got = cross_entropy_triton(logits, target, label_smoothing=smoothing)
    assert abs(got.item() - truth.item()) < 1e-5
    hold(cross_entropy_triton, torch.randn(8, 300, device=kernel_device) * 1e4, target, smoothing)


@smoothings
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@pytest.mark.parametrize("special", [-math.inf, math.inf, math.nan], ids=str)
def test_infinities_and_nan_are_those_of_torch(special, smoothing, kernel_device):
    normal = torch.randn(9000, device=kernel_device)
    for first, last, y in ((0, 8500, 8700), (0, 8500, 3), (0, 9000, 3), (8999, 9000, 0)):
        logits = normal[None].clone()
        logits[0, first:last] = special
        target = torch.tensor([y], device=kernel_device)
        wanted = F.cross_entropy(logits, target, label_smoothing=smoothing)
        got = cross_entropy_triton(logits, target, label_smoothing=smoothing)
        torch.testing.assert_close(got, wanted, equal_nan=True)


def test_strided_logits_are_read_in_their_own_order(kernel_device):
    logits, target = rows(40, 12, kernel_device)
    hold(cross_entropy_triton, logits[::2, 1::3], target[::2] % 4)
    hold(cross_entropy_triton, logits.t(), torch.arange(12, device=kernel_device))


@pytest.mark.gpu
def test_on_a_gpu_a_target_outside_gives_nan_in_its_own_row():
    logits = torch.randn(3, 5, device="cuda", requires_grad=True)
    loss = cross_entropy_triton(logits, torch.tensor([0, 5, 1], device="cuda"))
    assert loss.isnan()
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.isnan().all(1).tolist() == [False, True, False]


def test_a_target_outside_never_leaves_its_row():
    """What the launch does when the check is left out, as it is on a GPU."""
    if torch.cuda.is_available():
        pytest.skip("the test above is this one")
    losses, _, _ = module.statistics(torch.randn(3, 5), torch.tensor([0, 5, -7]), -100, 0.1)
    assert losses.isnan().tolist() == [False, True, True]


BUGS = {
    "a sign": ("dloss * (p - wanted)", "dloss * (p + wanted)"),
    "a mask's edge": (
        "live = at + cols < columns\n            x = ",
        "live = at + cols < columns - 1\n            x = ",
    ),
    "a forgotten scale": ("smoothing * mean", "mean"),
    "a maximum not carried on": ("total = total * tl.exp(m - base)", "total = total"),
    "an ignored row that counts": ("if y == ignore:\n        tl.store(dx_ptr", "if False:\n"
                                   "        tl.store(dx_ptr"),
    "a target off by one": ("tl.where(cols == y, 1", "tl.where(cols == y + 1, 1"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path)
    with pytest.raises(AssertionError, match="allowed"):
        hold(bugged.cross_entropy_triton, *rising(kernel_device), 0.1)


CALLS = """
from nnlib.kernels.cross_entropy import cross_entropy_triton
for dtype, v in ((torch.float32, 1000), (torch.bfloat16, 32000)):
    for smoothing in (0.0, 0.1):
        x = torch.zeros(4, v, dtype=dtype, requires_grad=True)
        target = torch.zeros(4, dtype=torch.int64)
        cross_entropy_triton(x, target, label_smoothing=smoothing).backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from torch.nn import functional as F
from nnlib.kernels.cross_entropy import _by_kernel, cross_entropy
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(5, 40, device=device, requires_grad=True)
    y = torch.tensor([0, 39, -100, 7, 7], device=device)
    for smoothing in (0.0, 0.1):
        opcheck(torch.ops.nnlib.cross_entropy, (x, y, -100, smoothing))
        _, m, log_total = torch.ops.nnlib.cross_entropy(x.detach(), y, -100, smoothing)
        inputs = (x.detach(), y, m, log_total, torch.ones(5, device=device), -100, smoothing)
        opcheck(torch.ops.nnlib.cross_entropy_backward, inputs)
        wanted = F.cross_entropy(x, y, label_smoothing=smoothing)
        (wanted_grad,) = torch.autograd.grad(wanted, x)
        for operation in (_by_kernel, cross_entropy):
            whole = torch.compile(operation, fullgraph=True, backend="aot_eager")
            loss = whole(x, y, -100, smoothing)
            torch.testing.assert_close(loss, wanted)
            torch.testing.assert_close(torch.autograd.grad(loss, x)[0], wanted_grad)
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    logits, target = rows(6, 50, kernel_device)
    wanted = F.cross_entropy(logits, target, label_smoothing=0.1)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(cross_entropy(logits, target, label_smoothing=0.1), wanted)
        short = cross_entropy(logits, target.to(torch.int32), -100, 0.1)
        torch.testing.assert_close(short, wanted)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        cross_entropy(logits, target)


@pytest.mark.parametrize("operation", [cross_entropy, cross_entropy_triton])
def test_bad_input_is_refused_by_name(operation):
    x, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
    with refuses(TypeError, "logits must be floating point, got torch.int64"):
        operation(torch.zeros(3, 4, dtype=torch.int64), y)
    with refuses(ValueError, "logits must have shape (n, v), got (3, 2, 4)"):
        operation(torch.zeros(3, 2, 4), y)
    with refuses(ValueError, "logits must have one class or more, got shape (3, 0)"):
        operation(torch.zeros(3, 0), y)
    with refuses(ValueError, "target must have shape (3), got (2,)"):
        operation(x, y[:2])
    with refuses(TypeError, "target must hold integers, got torch.float32"):
        operation(x, y.float())
    with refuses(ValueError, "target must hold 0 … 3 or ignore_index=-100, got 4"):
        operation(x, y + 2)
    with refuses(ValueError, "target must hold 0 … 3 or ignore_index=-1, got -100"):
        operation(x, torch.tensor([0, -1, -100]), -1)
    with refuses(TypeError, "ignore_index=0.5 must be an integer"):
        operation(x, y, 0.5)
    with refuses(ValueError, "label_smoothing=1.5 must be a finite number ≥ 0 and ≤ 1"):
        operation(x, y, label_smoothing=1.5)
    with refuses(ValueError, "target must be on cpu like logits, got meta"):
        operation(x, y.to("meta"))


def test_the_kernel_takes_no_float64():
    with refuses(TypeError, "cross_entropy_triton takes float16, bfloat16, float32"):
        cross_entropy_triton(torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1]))


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "cross_entropy_triton needs CUDA tensors, got cpu"):
        cross_entropy_triton(torch.zeros(2, 2), torch.tensor([0, 1]))


def test_cost_counts_one_read_and_backwards_a_read_and_a_write():
    n, v = 64, 1000
    assert cross_entropy_cost((n, v), 2).bytes == n * v * 2 + n * 20
    assert cross_entropy_cost((n, v), 2, backward=True).bytes == 2 * n * v * 2 + n * 20
