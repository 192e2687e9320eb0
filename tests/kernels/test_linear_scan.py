import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnlib.kernels import linear_scan as module
from nnlib.kernels.linear_scan import (
    chunk_length,
    linear_scan,
    linear_scan_cost,
    linear_scan_reference,
    linear_scan_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

SHAPES = [(1, 1, 1), (3, 1, 70), (2, 63, 5), (1, 130, 5)]  # the last one is cut in two
LONG = [(1, 2048, 2), (3, 1000, 40), (2, 17, 5000)]  # chunks, chunks and a rest, the loop
starts = pytest.mark.parametrize("start", [False, True], ids=["from 0", "from h0"])
forms = pytest.mark.parametrize("form", [linear_scan_triton, linear_scan], ids=["kernel", "public"])


def recurrence(b, t, d, device, dtype=torch.float32, *, start=True):
    """Return a, b and perhaps h0; a may exceed 1, be negative, and is 0 at one step."""
    a, x = torch.rand(b, t, d) * 1.2 - 0.1, torch.randn(b, t, d)
    a[:, t // 3] = 0.0
    inputs = [a, x] + [torch.randn(b, d)] * start
    return [p.to(dtype).to(device) for p in inputs]


@starts
@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scan_equals_reference(form, shape, start, kernel_device):
    hold_to_double(form, linear_scan_reference, *recurrence(*shape, kernel_device, start=start))


@starts
@pytest.mark.parametrize("length", [5, 23])
def test_chunks_of_any_length_equal_the_walk(length, start, kernel_device, monkeypatch):
    monkeypatch.setattr(module, "chunk_length", lambda *shape: length)
    inputs = recurrence(1, 24, 3, kernel_device, start=start)
    hold_to_double(linear_scan_triton, linear_scan_reference, *inputs)


@starts
@pytest.mark.parametrize("shape", LONG, ids=str)
def test_plain_torch_equals_reference_on_long_and_wide_input(shape, start, device):
    hold_to_double(linear_scan, linear_scan_reference, *recurrence(*shape, device, start=start))


@forms
@starts
@pytest.mark.parametrize("length", [20, 9], ids=["walk", "chunks"])
def test_scan_equals_reference_in_float16(form, length, start, kernel_device, monkeypatch):
    monkeypatch.setattr(module, "chunk_length", lambda *shape: length)
    inputs = recurrence(2, 20, 6, kernel_device, torch.float16, start=start)
    hold_to_double(form, linear_scan_reference, *inputs)


@starts
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 4000, 130), (64, 100, 1024)], ids=str)
def test_kernel_equals_reference_in_bfloat16(shape, start):
    inputs = recurrence(*shape, "cuda", torch.bfloat16, start=start)
    hold_to_double(linear_scan_triton, linear_scan_reference, *inputs)


@forms
def test_equals_the_sum_of_all_paths(form, kernel_device):
    """The closed form: h_t is the sum over s ≤ t of b_s times every a after s, and a's on h0."""
    a, b, h0 = (p.double() for p in recurrence(2, 20, 3, "cpu"))
    paths = torch.stack([
        torch.stack([b[:, s] * a[:, s + 1 : t + 1].prod(1) for s in range(t + 1)]).sum(0)
        + h0 * a[:, : t + 1].prod(1)
        for t in range(20)
    ], 1)  # fmt: skip
    got = form(*(p.float().to(kernel_device) for p in (a, b, h0)))
    torch.testing.assert_close(got.cpu().double(), paths, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_finite_differences():
    inputs = recurrence(2, 20, 3, "cpu", torch.float64)
    assert torch.autograd.gradcheck(linear_scan, [p.requires_grad_() for p in inputs])


@forms
def test_a_scan_may_be_cut_and_carried_on(form, kernel_device):
    a, b, h0 = recurrence(2, 50, 4, kernel_device)
    whole = form(a, b, h0)
    first = form(a[:, :20], b[:, :20], h0)
    rest = form(a[:, 20:], b[:, 20:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)


@forms
@pytest.mark.parametrize("shape", [(1, 2048, 2), (1, 96, 3)], ids=str)
def test_products_that_shrink_to_nothing_do_no_harm(form, shape, device, monkeypatch):
    """The product of a underflows within a few steps; who divides by it gets NaN."""
    if form is linear_scan_triton:
        if shape[1] > 128 and device.type == "cpu":
            pytest.skip("long in the interpreter")
        monkeypatch.setattr(module, "chunk_length", lambda *shape: 32)
    a, b = torch.full(shape, 1e-9, device=device), torch.randn(shape, device=device)
    hold_to_double(form, linear_scan_reference, a, b)


@forms
def test_nan_goes_forward_in_its_own_feature(form, kernel_device):
    a, b = recurrence(2, 40, 3, kernel_device, start=False)
    a[:, 20:] = 0.5
    b[1, 25, 2] = torch.nan
    bad = form(a, b).isnan()
    wanted = torch.zeros_like(bad)
    wanted[1, 25:, 2] = True
    assert torch.equal(bad, wanted)


@forms
def test_strided_input_is_read_in_its_own_order(form, kernel_device):
    a, b = recurrence(4, 30, 10, kernel_device, start=False)
    hold_to_double(form, linear_scan_reference, a[::2, 1::3, ::2], b[::2, 1::3, ::2])
    hold_to_double(form, linear_scan_reference, a.mT, b.mT)
    once = b[:, :1].expand(-1, 10, -1)
    hold_to_double(form, linear_scan_reference, a[:, :10], once)


@forms
@pytest.mark.parametrize("shape", [(1, 20, 3), (1, 40, 3)], ids=str)
def test_inputs_stay_as_they_are(form, shape, kernel_device):
    inputs = recurrence(*shape, kernel_device)
    before = [p.clone() for p in inputs]
    value_and_grads(form, *inputs)
    form(*inputs)
    assert all(torch.equal(p, q) for p, q in zip(inputs, before, strict=True))


@forms
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0)], ids=str)
def test_nothing_in_gives_nothing_out(form, shape, kernel_device):
    a = torch.empty(shape, device=kernel_device, requires_grad=True)
    h = form(a, a)
    assert h.shape == shape
    assert torch.autograd.grad(h.sum(), a)[0].shape == shape


def test_time_is_cut_only_where_sequences_are_few_and_long():
    assert chunk_length(64, 4096, 1024) == 4096  # 1024 programs walk
    assert chunk_length(1, 100, 64) == 100  # too short to cut
    assert chunk_length(1, 65536, 64) == 64  # 1024 chunks
    assert chunk_length(8, 4096, 1024) == 512  # 128 programs, so eight chunks


BUGS = {
    "a sign": ("h = a * h + b\n", "h = a * h - b\n"),
    "a step too few": ("tl.range(0, tl.minimum(chunk, steps - first), num", "tl.range(0, "
                       "tl.minimum(chunk, steps - first) - 1, num"),
    "a forgotten decay": ("carry = a * delta", "carry = delta"),
    "the state itself, not the one before": ("h_ptr + at - features", "h_ptr + at"),
    "h0 forgotten backwards": ("tl.where(earlier, h, start)", "tl.where(earlier, h, 0.0)"),
    "dh0 of the last chunk": ("live & (first + 0 * cols == 0)",
                              "live & (first + count + 0 * cols == steps)"),
    "a chunk's summary": ("a * (end + b) if REVERSE", "a * end + b if REVERSE"),
    "chunks in the wrong order": ("states.flip(1) if reverse", "states if reverse"),
    "a chunk that starts from 0": ("torch.cat([start[:, None], states], 1)",
                                   "torch.cat([start[:, None], 0 * states], 1)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # unwritten memory may hold anything
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path)
    bugged.chunk_length = lambda *shape: 9
    with pytest.raises(AssertionError, match="allowed"):
        hold_to_double(
            bugged.linear_scan_triton, linear_scan_reference, *recurrence(2, 20, 3, kernel_device)
        )


PLAIN_BUGS = {
    "the loop's direction": ("factors[:0:-1] if reverse", "factors[-2::-1] if reverse"),
    "the fix-up's factor": ("h[:, 1:, :-1].addcmul_(p[:, 1:, :-1]",
                            "h[:, 1:, :-1].addcmul_(p[:, 1:, 1:]"),
    "a shift backwards": ("(0, 0, -1, rest + 1)", "(0, 0, 0, rest)"),
    "h0 forgotten": ("torch.mul(db[:, 0], h0, out=da[:, 0])", "da[:, 0] = 0"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLAIN_BUGS)
def test_a_planted_bug_in_plain_torch_is_caught(bug, tmp_path):
    bugged = plant(module, *PLAIN_BUGS[bug], tmp_path)
    with pytest.raises(AssertionError, match="allowed"):
        for t in (10, 40):
            hold_to_double(bugged.linear_scan, linear_scan_reference, *recurrence(2, t, 3, "cpu"))


CALLS = """
from nnlib.kernels.linear_scan import linear_scan_triton
for dtype, h0 in ((torch.float32, False), (torch.bfloat16, True)):
    a = torch.zeros(2, 1024, 128, dtype=dtype, requires_grad=True)
    linear_scan_triton(a, a, a[:, 0] if h0 else None).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    names = {"_forward_kernel", "_backward_kernel", "_summary_kernel"}
    assert {record["kernel"] for record in records} == names
    hold_to_hardware(records)
    for record in records:  # steps are fetched ahead through shared memory, several at a time
        assert record["shared"] >= (module.STAGES - 1) * module.BLOCK * 2 * 2, record


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.linear_scan import linear_scan
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    for t, with_h0 in ((7, False), (20, True)):
        a, b, h = (torch.randn(s, device=device) for s in ((2, t, 5), (2, t, 5), (2, 5)))
        learned = [p.clone().requires_grad_() for p in (a, b, h)]
        h0 = h if with_h0 else None
        opcheck(torch.ops.nnlib.linear_scan_loop, (a, b, h0, True))
        start = learned[2] if with_h0 else None
        opcheck(torch.ops.nnlib.linear_scan, (*learned[:2], start, True))
        opcheck(torch.ops.nnlib.linear_scan_backward, (a, b, h0, b, True))
        inputs = learned[: 2 + with_h0]
        whole = torch.compile(linear_scan, fullgraph=True, backend="aot_eager")
        got, wanted = whole(*inputs), linear_scan(*inputs)
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(
            torch.autograd.grad(got.square().sum(), inputs),
            torch.autograd.grad(wanted.square().sum(), inputs),
        )
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    inputs = recurrence(2, 30, 5, kernel_device)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        hold_to_double(linear_scan, linear_scan_reference, *inputs)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        linear_scan(*inputs)


class Calls(TorchDispatchMode):
    """Counts the operations that torch is asked for, each of which costs a call on a CPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_plain_torch_asks_for_fewer_operations_than_a_loop_over_views():
    """Forward and backward, against the loop over `unbind`, which asks for several a step."""
    a, b = recurrence(4, 1024, 16, "cpu", start=False)

    def calls(form):
        with Calls() as counted:
            value_and_grads(form, a, b)
        return counted.count

    few, many = calls(linear_scan), calls(linear_scan_reference)
    assert few * 4 < many


@forms
def test_bad_input_is_refused_by_name(form):
    a = torch.zeros(2, 3, 4)
    with refuses(TypeError, "a must be floating point, got torch.int64"):
        form(a.long(), a)
    with refuses(ValueError, "a must have shape (b, t, d), got (3, 4)"):
        form(a[0], a)
    with refuses(ValueError, "a must have one step or more, got shape (2, 0, 4)"):
        form(a[:, :0], a[:, :0])
    with refuses(ValueError, "b must have shape (2, 3, 4), got (2, 2, 4)"):
        form(a, a[:, 1:])
    with refuses(TypeError, "b must have the dtype of a, torch.float32, got torch.float16"):
        form(a, a.half())
    with refuses(ValueError, "b must be on cpu like a, got meta"):
        form(a, a.to("meta"))
    with refuses(ValueError, "h0 must have shape (2, 4), got (2, 3, 4)"):
        form(a, a, a)
    with refuses(TypeError, "h0 must be a torch.Tensor, got int"):
        form(a, a, 0)


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    a = torch.zeros(2, 3, 4)
    with refuses(TypeError, "linear_scan_triton takes float16, bfloat16, float32"):
        linear_scan_triton(a.double(), a.double())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "linear_scan_triton needs CUDA tensors, got cpu"):
        linear_scan_triton(a, a)


def test_cost_counts_three_passes_and_backwards_five():
    shape = (2, 30, 4)
    assert linear_scan_cost(shape, 2).bytes == 3 * math.prod(shape) * 2
    assert linear_scan_cost(shape, 2, backward=True).bytes == 5 * math.prod(shape) * 2
    assert linear_scan_cost(shape).flops == 2 * math.prod(shape)
