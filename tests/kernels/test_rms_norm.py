import pytest
import torch
from torch.nn import functional as F

from nnlib.blocks.rms_norm import RMSNorm
from nnlib.kernels import rms_norm as module
from nnlib.kernels.rms_norm import (
    rms_norm,
    rms_norm_cost,
    rms_norm_reference,
    rms_norm_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    in_own_process,
    plant,
    value_and_grads,
)
from tests.support import refuses

# Off every block's edge; the last is wider than what stays in registers.
SHAPES = [(1, 1), (3, 5), (2, 3, 127), (2, 128), (7, 1000), (3, 8192 + 2048 + 1)]


def inputs(shape, device, dtype=torch.float32):
    """Return x, weight and residual."""
    wide = {"device": device, "dtype": dtype}
    x, residual = 3 * torch.randn(shape, **wide), torch.randn(shape, **wide)
    return x, 1 + torch.randn(shape[-1], **wide), residual


def hold(kernel, x, weight, residual=None, eps=1e-6):
    """Hold a kernel to its reference; what is None is left out of the inputs."""
    given = {"x": x, "weight": weight, "residual": residual}
    names = [name for name, t in given.items() if t is not None]
    nothing = {name: None for name, t in given.items() if t is None}

    def by_name(operation):
        def call(*tensors):
            return operation(**dict(zip(names, tensors, strict=True)), **nothing, eps=eps)

        return call

    tensors = [given[name] for name in names]
    hold_to_double(by_name(kernel), by_name(rms_norm_reference), *tensors)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(shape, kernel_device):
    x, weight, _ = inputs(shape, kernel_device)
    hold(rms_norm_triton, x, weight)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_a_residual_both_outputs_carry_gradients(shape, kernel_device):
    hold(rms_norm_triton, *inputs(shape, kernel_device), eps=0.1)


@pytest.mark.parametrize("shape", [(5, 70), (3, 9001)], ids=str)
def test_the_weight_may_be_left_out(shape, kernel_device):
    x, _, residual = inputs(shape, kernel_device)
    hold(rms_norm_triton, x, None)
    hold(rms_norm_triton, x, None, residual)


@pytest.mark.parametrize("shape", [(4, 77), (3, 9001)], ids=str)
def test_half_precision_is_rounded_once(shape, kernel_device):
    x, weight, residual = inputs(shape, kernel_device, torch.float16)
    hold(rms_norm_triton, x, weight)
    hold(rms_norm_triton, x, weight, residual)


def test_squares_of_large_halves_do_not_overflow(kernel_device):
    x = torch.full((2, 64), 1000.0, device=kernel_device, dtype=torch.float16)  # 1000² > 65504
    assert (rms_norm_triton(x, None) == 1).all()


def test_a_float32_stream_and_float32_weights_beside_halves(kernel_device):
    x, weight, residual = inputs((4, 77), kernel_device)
    hold(rms_norm_triton, x.half(), weight)
    hold(rms_norm_triton, x.half(), weight, residual)
    y, total = rms_norm_triton(x.half(), weight, residual=residual)
    assert y.dtype == total.dtype == torch.float32


@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16():
    for shape in SHAPES:
        x, weight, residual = inputs(shape, "cuda", torch.bfloat16)
        hold(rms_norm_triton, x, weight)
        hold(rms_norm_triton, x, weight, residual)


def test_a_row_of_zeros_stays_zero_with_a_finite_gradient(kernel_device):
    x = torch.zeros(2, 9001, device=kernel_device)
    weight = torch.ones_like(x[0])
    ours = value_and_grads(rms_norm_triton, x, weight)
    assert not ours["out0"].any()
    assert ours["grad0"].isfinite().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@pytest.mark.parametrize("columns", [100, 9001])
def test_a_bad_row_stays_alone(columns, kernel_device):
    x, weight, _ = inputs((4, columns), kernel_device)
    x[1, columns - 2] = float("nan")
    ours = value_and_grads(rms_norm_triton, x, weight)
    assert ours["out0"][1].isnan().all()
    assert ours["grad0"][1].isnan().all()
    rest = [0, 2, 3]
    healthy = value_and_grads(rms_norm_triton, x.nan_to_num(0.0), weight)
    for name in ("out0", "grad0"):
        torch.testing.assert_close(ours[name][rest], healthy[name][rest], rtol=0, atol=0)


def test_strided_tensors_are_read_in_their_own_order(kernel_device):
    x, weight, residual = inputs((6, 40), kernel_device)
    hold(rms_norm_triton, x[::2, 1::3], weight[1::3], residual.t()[:13, :3].t())


def test_one_output_alone_carries_the_gradient(kernel_device):
    x, weight, residual = inputs((3, 10), kernel_device)
    hold_to_double(
        lambda *t: rms_norm_triton(*t[:2], 1e-6, t[2])[0],
        lambda *t: rms_norm_reference(*t[:2], 1e-6, t[2])[0],
        x, weight, residual,
    )  # fmt: skip
    x.requires_grad_()
    _, total = rms_norm_triton(x, weight, residual=residual)
    assert torch.equal(torch.autograd.grad(total.sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 3)], ids=str)
def test_no_rows_give_no_rows(shape, kernel_device):
    x = torch.empty(shape, device=kernel_device, requires_grad=True)
    weight = torch.ones(shape[-1], device=kernel_device, requires_grad=True)
    y = rms_norm_triton(x, weight)
    assert y.shape == shape
    y.sum().backward()
    assert not weight.grad.any()


def test_the_weights_gradient_is_the_same_every_time(kernel_device):
    rows = 5000 if kernel_device.type == "cuda" else 8
    x, weight, _ = inputs((rows, 33), kernel_device)
    first = value_and_grads(rms_norm_triton, x, weight)
    again = value_and_grads(rms_norm_triton, x, weight)
    assert all(torch.equal(first[name], again[name]) for name in first)


BUGS = {
    "a sign": ("weight * dy - hat * along", "weight * dy + hat * along"),
    "the row's length forgotten": ("weight * dy - hat * along)", "weight * dy)"),
    "a mask's edge": (
        "live = at < columns\n        s = tl.load(x_ptr",
        "live = at < columns - 1\n        s = tl.load(x_ptr",
    ),
    "a forgotten scale": ("ds = scale * (weight", "ds = (weight"),
    "a block forgotten": ("squares += s * s", "squares = s * s"),
    "a mean that is a sum": ("tl.sum(squares, 0) / columns + eps", "tl.sum(squares, 0) + eps"),
    "a gradient of the sum lost": ("if dtotal_ptr is not None:", "if False:"),
    "a program's share overwritten": ("own = program * columns", "own = 0 * columns"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path).rms_norm_triton
    with pytest.raises(AssertionError, match="allowed"):
        for shape in ((3, 9001), (3, 70)):
            hold(bugged, *inputs(shape, kernel_device))


CALLS = """
from nnlib.kernels.rms_norm import rms_norm_triton
for dtype, columns in ((torch.float32, 8192), (torch.bfloat16, 40000)):
    x = torch.zeros(4, columns, dtype=dtype, requires_grad=True)
    w = torch.ones(columns, dtype=dtype, requires_grad=True)
    torch.stack(rms_norm_triton(x, w, residual=x)).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.rms_norm import rms_norm
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x, r, w = (
        torch.randn(shape, device=device, requires_grad=True) for shape in ((5, 40), (5, 40), (40,))
    )
    opcheck(torch.ops.nnlib.rms_norm, (x, None, w, 1e-6))
    opcheck(torch.ops.nnlib.rms_norm, (x, r, None, 1e-6))
    given = [t.detach() for t in (x, w, x[:, 0], r, r)]
    opcheck(torch.ops.nnlib.rms_norm_backward, given)

    def total(form, *tensors):
        y, s = form(*tensors)
        return torch.autograd.grad((y * y + s).sum(), (x, w, r))

    operation = lambda x, w, r: torch.ops.nnlib.rms_norm(x, r, w, 1e-6)[:2]
    public = lambda x, w, r: rms_norm(x, w, residual=r)
    wanted = total(public, x, w, r)
    for form in (operation, public):
        whole = torch.compile(form, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(total(whole, x, w, r), wanted)
        torch.testing.assert_close(total(form, x, w, r), wanted)
"""


def test_registration_and_torch_compile():
    in_own_process(OPCHECK)


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    x, weight, residual = inputs((3, 50), kernel_device)
    wanted = F.rms_norm(x + residual, (50,), weight, 1e-6)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        y, total = rms_norm(x, weight, residual=residual)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(total, x + residual)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        rms_norm(x, weight)


@pytest.mark.parametrize("columns", [33, 20000])  # the larger one takes the gradient written out
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_on_the_cpu_it_is_torchs_own_bit_for_bit(dtype, columns):
    x, weight, residual = inputs((4, columns), "cpu", dtype)
    weight.requires_grad_()
    x.requires_grad_()
    assert torch.equal(rms_norm(x, weight), F.rms_norm(x, (columns,), weight, 1e-6))
    y, total = rms_norm(x, weight, residual=residual)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, F.rms_norm(total, (columns,), weight, 1e-6))


def test_the_gradient_written_out_is_the_derivative(monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 1)
    x, weight, _ = inputs((2, 3, 5), "cpu", torch.float64)
    plain = value_and_grads(lambda x, w: F.rms_norm(x, (5,), w, 1e-6), x, weight)
    for name, got in value_and_grads(rms_norm, x, weight).items():
        torch.testing.assert_close(got, plain[name])
    given = (x.requires_grad_(), weight.requires_grad_())
    assert "Explicit" in rms_norm(*given).grad_fn.name()
    assert torch.autograd.gradcheck(rms_norm, given)
    assert torch.autograd.gradgradcheck(rms_norm, given)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap over addcmul_
def test_the_gradient_written_out_can_be_batched(monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 1)
    x, weight, _ = inputs((3, 5), "cpu", torch.float64)
    whole = torch.func.jacrev(lambda x: rms_norm(x, weight))(x)
    one = torch.autograd.functional.jacobian(lambda x: F.rms_norm(x, (5,), weight, 1e-6), x)
    torch.testing.assert_close(whole, one)


def test_the_module_runs_it_over_one_axis_or_several(monkeypatch, kernel_device):
    monkeypatch.setenv("NNLIB_KERNELS", "triton")  # which shows in the operation's name
    x = torch.randn(3, 4, 6, device=kernel_device)
    assert "nnlib_rms_norm" in RMSNorm(6, device=kernel_device)(x).grad_fn.name()
    assert "nnlib" not in RMSNorm((4, 6), device=kernel_device)(x).grad_fn.name()


X = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rms_norm(torch.arange(3), None), TypeError, "x must be floating point"),
        (lambda: rms_norm(torch.tensor(1.0), None), ValueError, "x must end in an axis of one"),
        (lambda: rms_norm(X[:, :0], None), ValueError, "one feature or more, got (2, 0)"),
        (lambda: rms_norm(X, X[0, :3]), ValueError, "weight must have shape (4), got (3,)"),
        (lambda: rms_norm(X, X[0].double()), TypeError, "weight must have the dtype of x"),
        (lambda: rms_norm(X, None, -1.0), ValueError, "eps=-1.0"),
        (lambda: rms_norm(X, None, "small"), TypeError, "eps='small'"),
        (lambda: rms_norm(X, None, residual=X[:1]), ValueError, "residual must have shape (2, 4)"),
        (lambda: rms_norm(X, X[0].to("meta")), ValueError, "weight must be on cpu like x"),
        (
            lambda: rms_norm_triton(X.double(), None),
            TypeError,
            "rms_norm_triton takes float16, bfloat16, float32, got torch.float64",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with refuses(error, message):
        call()


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "rms_norm_triton needs CUDA tensors, got cpu"):
        rms_norm_triton(X, None)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        rms_norm(X, None)


def test_cost_counts_every_tensor_once():
    n, c, size = 64, 1000, 2
    rows, vector, saved = n * c * size, c * size, n * 4
    assert rms_norm_cost((n, c), size).bytes == 2 * rows + vector + saved
    assert rms_norm_cost((8, 8, c), size, residual=True).bytes == 4 * rows + vector + saved
    backward = rms_norm_cost((n, c), size, backward=True)
    assert backward.bytes == 3 * rows + 2 * vector + saved
    both = rms_norm_cost((n, c), size, backward=True, residual=True)
    assert both.bytes == 4 * rows + 2 * vector + saved
    assert 0.5 < rms_norm_cost((n, c), size).intensity < 1.1
