"""Layer norm and RMSNorm share their kernels, and what is proved of them here."""

from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional as F

from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.kernels import _norm, layer_norm, rms_norm
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses


class Norm(NamedTuple):
    """One of the two: its file, its learned vectors, its module, and what torch calls it."""

    module: ModuleType
    vectors: tuple[str, ...]
    block: type
    torch: Any
    center: bool

    def plain(self, form=""):
        """Return the operation, or its form `"_triton"` or `"_reference"`."""
        return getattr(self.module, f"{self.module.__name__.split('.')[-1]}{form}")

    def add(self, form=""):
        """Return the operation with a residual."""
        return getattr(self.module, f"add_{self.module.__name__.split('.')[-1]}{form}")


LAYER = Norm(layer_norm, ("weight", "bias"), LayerNorm, F.layer_norm, True)
RMS = Norm(rms_norm, ("weight",), RMSNorm, F.rms_norm, False)
norms = pytest.mark.parametrize("norm", [LAYER, RMS], ids=["layer", "rms"])

# Off every block's edge; the last is wider than what stays in registers.
SHAPES = [(1, 1), (3, 5), (2, 3, 127), (2, 128), (7, 1000), (3, 8192 + 2048 + 1)]


def inputs(norm, shape, device, dtype=torch.float32, mean=0.0):
    """Return x, a residual, and the learned vectors."""
    wide = {"device": device, "dtype": dtype}
    x, residual = mean + 3 * torch.randn(shape, **wide), torch.randn(shape, **wide)
    return x, residual, [1 + torch.randn(shape[-1], **wide) for _ in norm.vectors]


def hold(norm, x, learned, residual=None, *, kernel=None, eps=1e-6):
    """Hold a kernel to its reference; what is None is no input that has a gradient."""
    given = [x, *learned] if residual is None else [x, residual, *learned]
    form = norm.plain if residual is None else norm.add

    def of(operation):
        def call(*tensors):
            left = iter(tensors)
            return operation(*(None if t is None else next(left) for t in given), eps)

        return call

    tensors = [t for t in given if t is not None]
    hold_to_double(of(kernel or form("_triton")), of(form("_reference")), *tensors)


@norms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(norm, shape, kernel_device):
    x, _, learned = inputs(norm, shape, kernel_device)
    hold(norm, x, learned)


@norms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_a_residual_both_outputs_carry_gradients(norm, shape, kernel_device):
    x, residual, learned = inputs(norm, shape, kernel_device)
    hold(norm, x, learned, residual, eps=0.1)


@pytest.mark.parametrize("shape", [(5, 70), (3, 9001)], ids=str)
@pytest.mark.parametrize("norm_and_kept", [(LAYER, (1, 0)), (LAYER, (0, 1)), (LAYER, (0, 0)),
    (RMS, (0,))], ids=["layer, no bias", "layer, no weight", "layer, neither", "rms"])  # fmt: skip
def test_learned_vectors_may_be_left_out(norm_and_kept, shape, kernel_device):
    norm, kept = norm_and_kept
    x, residual, learned = inputs(norm, shape, kernel_device)
    learned = [t if keep else None for t, keep in zip(learned, kept, strict=True)]
    hold(norm, x, learned)
    hold(norm, x, learned, residual)


@norms
@pytest.mark.parametrize("shape", [(4, 77), (3, 9001)], ids=str)
def test_half_precision_is_rounded_once(norm, shape, kernel_device):
    x, residual, learned = inputs(norm, shape, kernel_device, torch.float16)
    hold(norm, x, learned)
    hold(norm, x, learned, residual)


@norms
def test_a_float32_stream_and_float32_weights_beside_halves(norm, kernel_device):
    x, residual, learned = inputs(norm, (4, 77), kernel_device)
    hold(norm, x.half(), learned)
    hold(norm, x.half(), learned, residual)
    y, total = norm.add("_triton")(x.half(), residual, *learned)
    assert y.dtype == total.dtype == torch.float32


@pytest.mark.gpu
@norms
def test_kernel_equals_reference_in_bfloat16(norm):
    for shape in SHAPES:
        x, residual, learned = inputs(norm, shape, "cuda", torch.bfloat16)
        hold(norm, x, learned)
        hold(norm, x, learned, residual)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@norms
@pytest.mark.parametrize("columns", [100, 9001])
@pytest.mark.parametrize("special", [float("nan"), float("inf")], ids=str)
def test_a_bad_row_stays_alone(norm, columns, special, kernel_device):
    x, _, learned = inputs(norm, (4, columns), kernel_device)
    x[1, columns - 2] = special
    ours = value_and_grads(norm.plain("_triton"), x, *learned)
    assert ours["out0"][1].isnan().any()
    assert not ours["grad0"][1].isfinite().all()
    if norm.center or special != special:
        assert ours["out0"][1].isnan().all()
        assert ours["grad0"][1].isnan().all()
    rest = [0, 2, 3]
    healthy = value_and_grads(norm.plain("_triton"), x.nan_to_num(0.0, 0.0), *learned)
    for name in ("out0", "grad0"):
        torch.testing.assert_close(ours[name][rest], healthy[name][rest], rtol=0, atol=0)


@norms
def test_strided_tensors_are_read_in_their_own_order(norm, kernel_device):
    x, residual, learned = inputs(norm, (6, 40), kernel_device)
    hold(norm, x[::2, 1::3], [t[1::3] for t in learned], residual.t()[:13, :3].t())


@norms
def test_one_output_alone_carries_the_gradient(norm, kernel_device):
    x, residual, learned = inputs(norm, (3, 10), kernel_device)
    hold_to_double(
        lambda *t: norm.add("_triton")(*t, 1e-6)[0],
        lambda *t: norm.add("_reference")(*t, 1e-6)[0],
        x, residual, *learned,
    )  # fmt: skip
    x.requires_grad_()
    total = norm.add("_triton")(x, residual, *learned).total
    assert torch.equal(torch.autograd.grad(total.sum(), x)[0], torch.ones_like(x))


@norms
@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 3)], ids=str)
def test_no_rows_give_no_rows(norm, shape, kernel_device):
    x = torch.empty(shape, device=kernel_device, requires_grad=True)
    weight = torch.ones(shape[-1], device=kernel_device, requires_grad=True)
    y = norm.plain("_triton")(x, *[weight] * len(norm.vectors))
    assert y.shape == shape
    y.sum().backward()
    assert not weight.grad.any()


@norms
def test_learned_gradients_are_the_same_every_time(norm, kernel_device):
    rows = 5000 if kernel_device.type == "cuda" else 8
    x, _, learned = inputs(norm, (rows, 33), kernel_device)
    first = value_and_grads(norm.plain("_triton"), x, *learned)
    again = value_and_grads(norm.plain("_triton"), x, *learned)
    assert all(torch.equal(first[name], again[name]) for name in first)


BUGS = {
    "a sign": ("weight * dy - level - hat * along", "weight * dy - level + hat * along"),
    "the row's length forgotten": ("level - hat * along)", "level)"),
    "a mask's edge": (
        "live = at < columns\n        s = tl.load(x_ptr",
        "live = at < columns - 1\n        s = tl.load(x_ptr",
    ),
    "a forgotten scale": ("ds = scale * (weight", "ds = (weight"),
    "a mean that is a sum": ("squares / columns + eps", "squares + eps"),
    "a gradient of the sum lost": ("if dtotal_ptr is not None:", "if False:"),
    "a program's share overwritten": ("own = program * columns", "own = 0 * columns"),
}
LAYER_BUGS = {
    "the row's shift with a wrong sign": ("weight * dy - level", "weight * dy + level"),
    "numbers beyond the edge in the variance": ("tl.where(live, s - middle, 0.0)", "s - middle"),
    "variance in one pass": (
        "squares += tl.sum(away * away, 0) - here * middle_off * middle_off",
        "squares += tl.sum(s * s, 0) - here * middle * middle",
    ),
    "blocks not merged": ("squares += shift * shift * here", "squares += 0 * here"),
}
RMS_BUGS = {"a block forgotten": ("squares += tl.sum(s * s, 0)", "squares = tl.sum(s * s, 0)")}


@pytest.mark.parametrize(("norm", "bug"), [
    *((LAYER, bug) for bug in BUGS | LAYER_BUGS), *((RMS, bug) for bug in BUGS | RMS_BUGS),
], ids=lambda value: value if isinstance(value, str) else value.plain().__name__)  # fmt: skip
def test_a_planted_bug_is_caught(norm, bug, tmp_path, kernel_device):
    bugged = plant(_norm, *(BUGS | LAYER_BUGS | RMS_BUGS)[bug], tmp_path)

    def kernel(x, residual, *learned_and_eps):
        weight, *bias, eps = learned_and_eps
        return bugged.add_norm(x, residual, weight, *(bias or [None]), eps, center=norm.center)

    with pytest.raises(AssertionError, match="allowed"):
        for shape in ((3, 9001), (3, 70)):
            x, residual, learned = inputs(norm, shape, kernel_device, mean=300.0 * norm.center)
            hold(norm, x, learned, residual, kernel=kernel)


CALLS = """
from nnlib.kernels.layer_norm import add_layer_norm_triton
from nnlib.kernels.rms_norm import add_rms_norm_triton
for dtype, columns in ((torch.float32, 8192), (torch.bfloat16, 40000)):
    x = torch.zeros(4, columns, dtype=dtype, requires_grad=True)
    w = torch.ones(columns, dtype=dtype, requires_grad=True)
    torch.stack(add_layer_norm_triton(x, x, w, w)).sum().backward()
    torch.stack(add_rms_norm_triton(x, x, w)).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    assert {record["constants"]["CENTER"] for record in records} == {True, False}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.layer_norm import add_layer_norm
from nnlib.kernels.rms_norm import add_rms_norm
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x, r, w, b = (
        torch.randn(shape, device=device, requires_grad=True)
        for shape in ((5, 40), (5, 40), (40,), (40,))
    )
    for center in (True, False):
        shift = b if center else None
        opcheck(torch.ops.nnlib.norm, (x, None, w, shift, 1e-5, center))
        opcheck(torch.ops.nnlib.norm, (x, r, None, None, 1e-5, center))
        mean = x[:, 0] if center else x.new_empty(0)
        given = [t if t is None else t.detach() for t in (x, w, shift, mean, x[:, 0], r, r)]
        opcheck(torch.ops.nnlib.norm_backward, (*given, center))
        inputs = (x, w, r, b) if center else (x, w, r)

        def total(form, *tensors):
            y, s = form(*tensors)
            return torch.autograd.grad((y * y + s).sum(), inputs)

        def operation(x, w, r, b=None):
            return torch.ops.nnlib.norm(x, r, w, b, 1e-5, center)[:2]

        def public(x, w, r, b=None):
            return add_layer_norm(x, r, w, b, 1e-5) if center else add_rms_norm(x, r, w, 1e-5)

        wanted = total(public, *inputs)
        for form in (operation, public):
            whole = torch.compile(form, fullgraph=True, backend="aot_eager")
            torch.testing.assert_close(total(whole, *inputs), wanted)
            torch.testing.assert_close(total(form, *inputs), wanted)
"""


@norms
def test_the_public_names_take_the_forced_path(norm, monkeypatch, kernel_device):
    x, residual, learned = inputs(norm, (3, 50), kernel_device)
    wanted = norm.torch(x + residual, (50,), *learned, 1e-6)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        y, total = norm.add()(x, residual, *learned, 1e-6)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(total, x + residual)
        torch.testing.assert_close(norm.plain()(total, *learned, 1e-6), wanted)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        norm.plain()(x, *learned)


@norms
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_on_the_cpu_it_is_torchs_own_bit_for_bit(norm, dtype):
    x, residual, learned = inputs(norm, (4, 33), "cpu", dtype)
    wanted = value_and_grads(lambda x, *w: norm.torch(x, (33,), *w), x, *learned)
    for name, got in value_and_grads(norm.plain(), x, *learned).items():
        assert torch.equal(got, wanted[name]), name
    y, total = norm.add()(x, residual, *learned)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, norm.torch(total, (33,), *learned))


@norms
def test_the_module_runs_it_over_one_axis_or_several(norm, monkeypatch, kernel_device):
    monkeypatch.setenv("NNLIB_KERNELS", "triton")  # which shows in the operation's name
    x = torch.randn(3, 4, 6, device=kernel_device)
    assert "nnlib_norm" in norm.block(6, device=kernel_device)(x).grad_fn.name()
    assert "nnlib" not in norm.block((4, 6), device=kernel_device)(x).grad_fn.name()


X = torch.zeros(2, 4)


@norms
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, add: f(torch.arange(3)), TypeError, "x must be floating point"),
        (lambda f, add: f(torch.tensor(1.0)), ValueError, "x must end in an axis of one"),
        (lambda f, add: f(X[:, :0]), ValueError, "one feature or more, got (2, 0)"),
        (lambda f, add: f(X, X[0, :3]), ValueError, "weight must have shape (4), got (3,)"),
        (lambda f, add: f(X, X[0].double()), TypeError, "weight must have the dtype of x"),
        (lambda f, add: f(X, X[0].half()), TypeError, "weight must have the dtype of x"),
        (lambda f, add: f(X, X[0].to("meta")), ValueError, "weight must be on cpu like x"),
        (lambda f, add: f(X, eps=-1.0), ValueError, "eps=-1.0"),
        (lambda f, add: f(X, eps="small"), TypeError, "eps='small'"),
        (lambda f, add: add(X, X[:1]), ValueError, "residual must have shape (2, 4)"),
    ],
)
def test_bad_input_is_refused_by_name(norm, call, error, message):
    rest = dict.fromkeys(norm.vectors[1:])
    with refuses(error, message):
        call(
            lambda x, weight=None, **eps: norm.plain()(x, weight, **rest, **eps),
            lambda x, residual: norm.add()(x, residual, None, **rest),
        )


@norms
def test_a_kernel_is_refused_where_none_can_run(norm, monkeypatch):
    nothing = [None for _ in norm.vectors]
    name = norm.plain("_triton").__name__
    with refuses(TypeError, f"{name} takes float16, bfloat16, float32, got torch.float64"):
        norm.plain("_triton")(X.double(), *nothing)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, f"{name} needs CUDA tensors, got cpu"):
        norm.plain("_triton")(X, *nothing)
    with refuses(RuntimeError, f"add_{name} needs CUDA tensors, got cpu"):
        norm.add("_triton")(X, X, *nothing)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        norm.plain()(X, *nothing)
