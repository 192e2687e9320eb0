from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nnlib.kernels import linear_cross_entropy as module
from nnlib.kernels.linear_cross_entropy import (
    chunk_length,
    linear_cross_entropy,
    linear_cross_entropy_cost,
    linear_cross_entropy_reference,
    linear_cross_entropy_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

SHAPES = [(1, 1, 1), (63, 50, 8), (20, 127, 7), (35, 70, 33)]  # tokens, classes, features
FORMS = [linear_cross_entropy_triton, linear_cross_entropy]
smoothings = pytest.mark.parametrize("smoothing", [0.0, 0.1])
forms = pytest.mark.parametrize("form", FORMS, ids=["kernel", "public"])


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Cut even the small inputs of these tests into chunks."""
    monkeypatch.setattr(module, "LEAST", 64)


def tokens(n, v, d, device, dtype=torch.float32):
    """Return inputs, weights and targets; every third row but the first is ignored."""
    target = torch.randint(v, (n,))
    target[3::3] = -100
    x, weight = torch.randn(n, d, dtype=dtype), torch.randn(v, d, dtype=dtype)
    return x.to(device), weight.to(device), target.to(device)


def hold(form, x, weight, target, smoothing=0.0, ignore_index=-100):
    hold_to_double(
        lambda x, weight: form(x, weight, target, ignore_index, smoothing),
        lambda x, weight: linear_cross_entropy_reference(
            x, weight, target, ignore_index, smoothing
        ),
        x, weight,
    )  # fmt: skip


@forms
@smoothings
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_chunks_equal_reference(form, shape, smoothing, kernel_device):
    assert chunk_length(*shape) < shape[0] or shape[0] == 1
    hold(form, *tokens(*shape, kernel_device), smoothing)


@forms
@smoothings
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_chunks_equal_reference_in_each_precision(form, dtype, smoothing, kernel_device):
    hold(form, *tokens(21, 100, 16, kernel_device, dtype), smoothing)


@forms
@smoothings
@pytest.mark.gpu
def test_chunks_equal_reference_in_bfloat16(form, smoothing):
    hold(form, *tokens(210, 1000, 64, "cuda", torch.bfloat16), smoothing)


@smoothings
def test_equals_torch_in_float64(smoothing):
    x, weight, target = tokens(17, 33, 5, "cpu", torch.float64)
    theirs = value_and_grads(
        lambda x, weight: F.cross_entropy(F.linear(x, weight), target, label_smoothing=smoothing),
        x, weight,
    )  # fmt: skip
    for form in (linear_cross_entropy, linear_cross_entropy_reference):
        operation = partial(form, target=target, label_smoothing=smoothing)
        ours = value_and_grads(operation, x, weight)
        for name, wanted in theirs.items():
            torch.testing.assert_close(ours[name], wanted)


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that an operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.nnlib.linear_cross_entropy.default:  # look inside
            with self:
                return module._by_chunks(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple) else (out,):
            if isinstance(made, torch.Tensor):
                self.elements = max(self.elements, made.numel())
        return out


def largest(form, x, weight, target):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with Largest() as seen:
        form(x, weight, target).backward()
    return seen.elements


@forms
def test_tokens_times_vocabulary_never_exists(form, kernel_device):
    n, v, d = 200, 120, 4
    inputs = tokens(n, v, d, kernel_device)
    assert largest(linear_cross_entropy_reference, *inputs) == n * v
    seen = largest(form, *inputs)
    assert seen * 10 < n * v
    if form is linear_cross_entropy:  # the interpreter makes tensors of its own
        assert seen == max(chunk_length(n, v, d) * v, n * d, v * d)


@pytest.mark.gpu
def test_peak_memory_is_that_of_a_chunk(monkeypatch):
    monkeypatch.undo()  # chunks as they are
    n, v, d = 16384, 32000, 256
    x, weight, target = tokens(n, v, d, "cuda", torch.bfloat16)
    x.requires_grad_()
    weight.requires_grad_()
    peaks = []
    for form in (linear_cross_entropy, linear_cross_entropy_reference):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        form(x, weight, target).backward()
        x.grad = weight.grad = None
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[0] < n * v * 2  # less than the logits alone
    assert peaks[0] * 5 < peaks[1]


def test_a_chunk_has_a_token_for_each_feature(monkeypatch):
    monkeypatch.undo()
    assert chunk_length(32768, 128256, 4096) == 4096
    assert chunk_length(1000, 128256, 4096) == 1000  # all there are
    assert chunk_length(32768, 256, 64) == 1024  # 2¹⁸ logits at least
    assert chunk_length(0, 256, 64) == 1


@forms
@pytest.mark.parametrize("learned", [(False, False), (True, False), (False, True)], ids=str)
def test_only_wanted_gradients_are_computed(form, learned, kernel_device):
    x, weight, target = tokens(30, 20, 4, kernel_device)
    wanted = linear_cross_entropy_reference(x, weight, target)
    inputs = [x.clone().requires_grad_(learned[0]), weight.clone().requires_grad_(learned[1])]
    loss = form(*inputs, target)
    torch.testing.assert_close(loss.detach(), wanted)
    assert loss.requires_grad == any(learned)
    if any(learned):
        loss.backward()
    assert [p.grad is not None for p in inputs] == list(learned)
    with torch.no_grad():
        assert not form(*inputs, target).requires_grad


@forms
def test_the_gradient_is_scaled_by_what_comes_from_above(form, kernel_device):
    x, weight, target = tokens(30, 20, 4, kernel_device)
    x.requires_grad_()
    loss = form(x, weight, target)
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, x)
    torch.testing.assert_close(thrice, 3 * once)


@forms
def test_no_row_that_counts_gives_nan_and_no_gradient(form, kernel_device):
    x, weight, target = tokens(5, 4, 3, kernel_device)
    x.requires_grad_()
    loss = form(x, weight, torch.full_like(target, -100))
    assert loss.isnan()
    assert bool((torch.autograd.grad(loss, x)[0] == 0).all())
    assert form(x[:0], weight, target[:0]).isnan()


@forms
def test_small_gradients_survive_float16_and_nan_is_told(form, kernel_device):
    """A mean over 20,000 tokens divides by what would leave float16 nothing of p = 10⁻³."""
    n, v, d = 20_000, 40, 8
    target = torch.full((n,), -100, device=kernel_device)
    target[:8] = 0  # the rest is ignored, so the interpreter has little to do
    x = torch.randn(n, d, device=kernel_device, dtype=torch.float16)
    weight = torch.randn(v, d, device=kernel_device, dtype=torch.float16)
    if form is linear_cross_entropy:
        hold(form, x, weight, target)
    x[3] = torch.nan
    assert form(x[:8], weight, target[:8]).isnan()


@forms
def test_sums_beyond_float16_are_no_infinity(form, kernel_device):
    """The weight's gradient is a mean; the sum it comes from, 50 · 3000 here, has no float16."""
    x = torch.full((50, 4), 3000.0, dtype=torch.float16, device=kernel_device)
    weight = torch.zeros(3, 4, dtype=torch.float16, device=kernel_device)
    hold(form, x, weight, torch.zeros(50, dtype=torch.int64, device=kernel_device))


@forms
@smoothings
def test_logits_of_ten_thousand_lose_no_digits(form, smoothing, kernel_device):
    x, weight, target = tokens(9, 30, 4, kernel_device)
    hold(form, x * 1e4, weight, target, smoothing)


@forms
def test_autocast_narrows_both_and_keeps_the_loss_wide(form, device):
    x, weight, target = tokens(12, 10, 4, device)
    if form is linear_cross_entropy_triton and device.type == "cpu":
        pytest.skip("the interpreter computes no bfloat16")
    x.requires_grad_()
    with torch.autocast(device.type, torch.bfloat16):
        loss = form(x, weight.bfloat16(), target)
        wanted = F.cross_entropy(F.linear(x, weight), target)
    assert loss.dtype == wanted.dtype == torch.float32
    torch.testing.assert_close(loss, wanted, atol=0.05, rtol=0)
    assert torch.autograd.grad(loss, x)[0].dtype == torch.float32


BUGS = {
    "a sign": ("label_smoothing, in_place=True", "-label_smoothing, in_place=True"),
    "a chunk's edge": ("target[at : at + step]\n", "target[:step][: n - at]\n"),
    "a forgotten scale": ("dweight * dtotal", "dweight"),
    "only the last chunk counts": ("dweight.addmm_(", "dweight = torch.mm("),
    "the loss of one chunk": ("total += losses.sum()", "total = losses.sum()"),
    "rows at the wrong place": ("out=dx[at : at + step]", "out=dx[: len(part)]"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path)
    bugged.LEAST = 64
    with pytest.raises(AssertionError, match="allowed"):
        hold(bugged.linear_cross_entropy_triton, *tokens(20, 12, 4, kernel_device), 0.1)


PLAIN_BUGS = {
    "an ignored row that counts": ("p.masked_fill_(~kept[:, None], 0.0)", "pass"),
    "a forgotten smoothing": ("p.sub_(label_smoothing / p.shape[1])", "pass"),
    "a target that is not subtracted": ("label_smoothing - 1)", "label_smoothing)"),
}


@pytest.mark.parametrize("bug", PLAIN_BUGS)
def test_a_planted_bug_in_plain_torch_is_caught(bug, tmp_path):
    bugged = plant(module, *PLAIN_BUGS[bug], tmp_path)
    bugged.LEAST = 64
    with pytest.raises(AssertionError, match="allowed"):
        hold(bugged.linear_cross_entropy, *tokens(20, 12, 4, "cpu"), 0.1)


CALLS = """
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy_triton
for dtype, v in ((torch.float32, 1000), (torch.bfloat16, 32000)):
    x, weight = torch.zeros(4, 8, dtype=dtype), torch.zeros(v, 8, dtype=dtype)
    target = torch.zeros(4, dtype=torch.int64)
    linear_cross_entropy_triton(x.requires_grad_(), weight, target, label_smoothing=0.1).backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from torch.nn import functional as F
from nnlib.kernels import linear_cross_entropy as module
module.LEAST = 64
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(9, 4, device=device, requires_grad=True)
    weight = torch.randn(20, 4, device=device, requires_grad=True)
    y = torch.tensor([0, 19, -100, 7, 7, 1, 2, 3, 4], device=device)
    for smoothing, wants in ((0.0, (True, True)), (0.1, (True, False))):
        inputs = (x, weight, y, -100, smoothing, *wants, True)
        if all(wants):
            opcheck(torch.ops.nnlib.linear_cross_entropy, inputs)
        with torch.no_grad():
            opcheck(torch.ops.nnlib.linear_cross_entropy, [
                p.detach() if isinstance(p, torch.Tensor) else p for p in inputs
            ])
        wanted = F.cross_entropy(F.linear(x, weight), y, label_smoothing=smoothing)
        wanted_grads = torch.autograd.grad(wanted, (x, weight))
        whole = torch.compile(module.linear_cross_entropy, fullgraph=True, backend="aot_eager")
        loss = whole(x, weight, y, -100, smoothing)
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(torch.autograd.grad(loss, (x, weight)), wanted_grads)
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    x, weight, target = tokens(6, 50, 4, kernel_device)
    wanted = F.cross_entropy(F.linear(x, weight), target)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(linear_cross_entropy(x, weight, target), wanted)
        torch.testing.assert_close(linear_cross_entropy(x, weight, target.int()), wanted)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        linear_cross_entropy(x, weight, target)


@forms
def test_bad_input_is_refused_by_name(form):
    x, weight, y = torch.randn(3, 2), torch.randn(4, 2), torch.tensor([0, 1, 2])
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        form(x.long(), weight, y)
    with refuses(ValueError, "x must have shape (n, d), got (1, 3, 2)"):
        form(x[None], weight, y)
    with refuses(ValueError, "weight must have shape (v, 2), got (4, 3)"):
        form(x, torch.randn(4, 3), y)
    with refuses(ValueError, "weight must have one class or more, got shape (0, 2)"):
        form(x, weight[:0], y)
    with refuses(TypeError, "weight must have the dtype of x, torch.float32, got torch.float16"):
        form(x, weight.half(), y)
    with refuses(ValueError, "target must have shape (3), got (2,)"):
        form(x, weight, y[:2])
    with refuses(TypeError, "target must hold integers, got torch.float32"):
        form(x, weight, y.float())
    with refuses(ValueError, "target must hold 0 … 3 or ignore_index=-100, got -1"):
        form(x, weight, y - 1)
    with refuses(TypeError, "ignore_index=None must be an integer"):
        form(x, weight, y, None)
    with refuses(ValueError, "label_smoothing=-0.5 must be a finite number ≥ 0 and ≤ 1"):
        form(x, weight, y, label_smoothing=-0.5)
    with refuses(ValueError, "weight must be on cpu like x, got meta"):
        form(x, weight.to("meta"), y)
    with refuses(ValueError, "target must be on cpu like x, got meta"):
        form(x, weight, y.to("meta"))


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    x, weight, y = torch.randn(3, 2), torch.randn(4, 2), torch.tensor([0, 1, 2])
    with refuses(TypeError, "linear_cross_entropy_triton takes float16, bfloat16, float32"):
        linear_cross_entropy_triton(x.double(), weight.double(), y)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "linear_cross_entropy_triton needs CUDA tensors, got cpu"):
        linear_cross_entropy_triton(x, weight, y)


def test_cost_is_one_product_and_backwards_two():
    n, v, d = 1024, 32000, 256
    forward = linear_cross_entropy_cost(n, v, d, 2)
    backward = linear_cross_entropy_cost(n, v, d, 2, backward=True)
    assert forward.flops == 2 * n * v * d
    assert backward.flops == 2 * forward.flops
    assert forward.bytes < n * v * 2  # less than a look at the logits
