import pytest
import torch
from torch.nn import functional as F

from nnlib.blocks.layer_norm import LayerNorm
from nnlib.kernels import layer_norm as module
from nnlib.kernels.layer_norm import (
    layer_norm,
    layer_norm_cost,
    layer_norm_reference,
    layer_norm_triton,
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


def inputs(shape, device, dtype=torch.float32, mean=0.0):
    """Return x, weight, bias and residual."""
    wide, c = {"device": device, "dtype": dtype}, shape[-1]
    x, residual = mean + torch.randn(shape, **wide), torch.randn(shape, **wide)
    return x, 1 + torch.randn(c, **wide), torch.randn(c, **wide), residual


def hold(kernel, x, weight, bias, residual=None, **options):
    """Hold a kernel to its reference; what is None is left out of the inputs."""
    given = {"x": x, "weight": weight, "bias": bias, "residual": residual}
    names = [name for name, t in given.items() if t is not None]
    nothing = {name: None for name, t in given.items() if t is None}

    def by_name(operation):
        def call(*tensors):
            return operation(**dict(zip(names, tensors, strict=True)), **nothing, **options)

        return call

    tensors = [given[name] for name in names]
    hold_to_double(by_name(kernel), by_name(layer_norm_reference), *tensors)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(shape, kernel_device):
    x, weight, bias, _ = inputs(shape, kernel_device)
    hold(layer_norm_triton, x, weight, bias)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_a_residual_both_outputs_carry_gradients(shape, kernel_device):
    hold(layer_norm_triton, *inputs(shape, kernel_device), eps=0.1)


@pytest.mark.parametrize("shape", [(5, 70), (3, 9001)], ids=str)
@pytest.mark.parametrize("left_out", ["weight", "bias", "both"])
def test_weight_and_bias_may_be_left_out(left_out, shape, kernel_device):
    x, weight, bias, residual = inputs(shape, kernel_device)
    weight = None if left_out in ("weight", "both") else weight
    bias = None if left_out in ("bias", "both") else bias
    hold(layer_norm_triton, x, weight, bias)
    hold(layer_norm_triton, x, weight, bias, residual)


def test_half_precision_is_rounded_once(kernel_device):
    for shape in ((4, 77), (3, 9001)):
        x, weight, bias, residual = inputs(shape, kernel_device, torch.float16)
        hold(layer_norm_triton, x, weight, bias)
        hold(layer_norm_triton, x, weight, bias, residual)


def test_a_float32_stream_and_float32_weights_beside_halves(kernel_device):
    x, weight, bias, residual = inputs((4, 77), kernel_device)
    hold(layer_norm_triton, x.half(), weight, bias)
    hold(layer_norm_triton, x.half(), weight, bias, residual)
    y, total = layer_norm_triton(x.half(), weight, bias, residual=residual)
    assert y.dtype == total.dtype == torch.float32


@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16():
    for shape in SHAPES:
        x, weight, bias, residual = inputs(shape, "cuda", torch.bfloat16)
        hold(layer_norm_triton, x, weight, bias)
        hold(layer_norm_triton, x, weight, bias, residual)


@pytest.mark.parametrize("columns", [100, 9001])
def test_a_large_mean_does_not_swallow_the_variance(columns, kernel_device):
    x, weight, bias, _ = inputs((3, columns), kernel_device, mean=1e4)
    hold(layer_norm_triton, x, weight, bias)
    y = layer_norm_triton(x, None, None)
    truth = layer_norm_reference(x.double(), None, None)
    short = x.square().mean(-1) - x.mean(-1).square()  # the form in one pass
    assert (y - truth).abs().max() < 1e-3
    assert (short - x.double().var(-1, correction=0)).abs().min() > 0.1


def test_blocks_with_different_means_are_merged_exactly(kernel_device):
    x = torch.linspace(-50, 50, 2 * 9001, device=kernel_device).view(2, 9001)
    hold(layer_norm_triton, x, torch.rand_like(x[0]), x[1])


def test_equal_numbers_leave_only_the_bias(kernel_device):
    x = torch.full((2, 9001), 7.0, device=kernel_device)
    bias = torch.randn(9001, device=kernel_device)
    torch.testing.assert_close(layer_norm_triton(x, None, bias), bias.expand(2, -1))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@pytest.mark.parametrize("special", [float("nan"), float("inf")], ids=str)
def test_a_bad_row_stays_alone(special, kernel_device):
    x, weight, bias, _ = inputs((4, 9001), kernel_device)
    x[1, 8999] = special
    ours = value_and_grads(layer_norm_triton, x, weight, bias)
    assert ours["out0"][1].isnan().all()
    assert ours["grad0"][1].isnan().all()
    rest = [0, 2, 3]
    healthy = value_and_grads(layer_norm_triton, x.nan_to_num(0.0, 0.0), weight, bias)
    for name in ("out0", "grad0"):
        torch.testing.assert_close(ours[name][rest], healthy[name][rest], rtol=0, atol=0)


def test_strided_tensors_are_read_in_their_own_order(kernel_device):
    x, weight, bias, residual = inputs((6, 40), kernel_device)
    hold(layer_norm_triton, x[::2, 1::3], weight[1::3], bias[1::3], residual.t()[:13, :3].t())


def test_one_output_alone_carries_the_gradient(kernel_device):
    x, weight, bias, residual = inputs((3, 10), kernel_device)
    hold_to_double(
        lambda *t: layer_norm_triton(*t[:3], 1e-5, t[3])[0],
        lambda *t: layer_norm_reference(*t[:3], 1e-5, t[3])[0],
        x, weight, bias, residual,
    )  # fmt: skip
    x.requires_grad_()
    _, total = layer_norm_triton(x, weight, bias, residual=residual)
    assert torch.equal(torch.autograd.grad(total.sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 3)], ids=str)
def test_no_rows_give_no_rows(shape, kernel_device):
    x = torch.empty(shape, device=kernel_device, requires_grad=True)
    weight = torch.ones(shape[-1], device=kernel_device, requires_grad=True)
    y = layer_norm_triton(x, weight, weight)
    assert y.shape == shape
    y.sum().backward()
    assert not weight.grad.any()


def test_the_weights_gradient_is_the_same_every_time(kernel_device):
    rows = 5000 if kernel_device.type == "cuda" else 8
    x, weight, bias, _ = inputs((rows, 33), kernel_device)
    first = value_and_grads(layer_norm_triton, x, weight, bias)
    again = value_and_grads(layer_norm_triton, x, weight, bias)
    assert all(torch.equal(first[name], again[name]) for name in first)


BUGS = {
    "a sign": ("weight * dy - level - hat * along", "weight * dy + level - hat * along"),
    "the row's length forgotten": ("level - hat * along)", "level)"),
    "a mask's edge": ("tl.where(live, s - middle, 0.0)", "s - middle"),
    "a forgotten scale": ("ds = scale * (weight", "ds = (weight"),
    "variance in one pass": (
        "squares += tl.sum(away * away, 0) - here * middle_off * middle_off",
        "squares += tl.sum(s * s, 0) - here * middle * middle",
    ),
    "blocks not merged": ("squares += shift * shift * here", "squares += 0 * here"),
    "a gradient of the sum lost": ("if dtotal_ptr is not None:", "if False:"),
    "a program's share overwritten": ("own = program * columns", "own = 0 * columns"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path).layer_norm_triton
    with pytest.raises(AssertionError, match="allowed"):
        for shape in ((3, 9001), (3, 70)):
            hold(bugged, *inputs(shape, kernel_device, mean=300.0))


CALLS = """
from nnlib.kernels.layer_norm import layer_norm_triton
for dtype, columns in ((torch.float32, 8192), (torch.bfloat16, 40000)):
    x = torch.zeros(4, columns, dtype=dtype, requires_grad=True)
    w = torch.ones(columns, dtype=dtype, requires_grad=True)
    torch.stack(layer_norm_triton(x, w, w, residual=x)).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_forward_kernel", "_backward_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.layer_norm import layer_norm
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x, r, w, b = (
        torch.randn(shape, device=device, requires_grad=True)
        for shape in ((5, 40), (5, 40), (40,), (40,))
    )
    opcheck(torch.ops.nnlib.layer_norm, (x, None, w, b, 1e-5))
    opcheck(torch.ops.nnlib.layer_norm, (x, r, None, None, 1e-5))
    given = [t.detach() for t in (x, w, b, x[:, 0], x[:, 0], r, r)]
    opcheck(torch.ops.nnlib.layer_norm_backward, given)

    def total(form, *tensors):
        y, s = form(*tensors)
        return torch.autograd.grad((y * y + s).sum(), (x, w, b, r))

    operation = lambda x, w, b, r: torch.ops.nnlib.layer_norm(x, r, w, b, 1e-5)[:2]
    public = lambda x, w, b, r: layer_norm(x, w, b, residual=r)
    wanted = total(public, x, w, b, r)
    for form in (operation, public):
        whole = torch.compile(form, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(total(whole, x, w, b, r), wanted)
        torch.testing.assert_close(total(form, x, w, b, r), wanted)
"""


def test_registration_and_torch_compile():
    in_own_process(OPCHECK)


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    x, weight, bias, residual = inputs((3, 50), kernel_device)
    wanted = F.layer_norm(x + residual, (50,), weight, bias)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        y, total = layer_norm(x, weight, bias, residual=residual)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(total, x + residual)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        layer_norm(x, weight, bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_on_the_cpu_it_is_torchs_own_bit_for_bit(dtype):
    x, weight, bias, residual = inputs((4, 33), "cpu", dtype)
    wanted = value_and_grads(lambda x, w, b: F.layer_norm(x, (33,), w, b), x, weight, bias)
    for name, got in value_and_grads(layer_norm, x, weight, bias).items():
        assert torch.equal(got, wanted[name]), name
    y, total = layer_norm(x, weight, bias, residual=residual)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, F.layer_norm(total, (33,), weight, bias))


def test_the_module_runs_it_over_one_axis_or_several(monkeypatch, kernel_device):
    monkeypatch.setenv("NNLIB_KERNELS", "triton")  # which shows in the operation's name
    x = torch.randn(3, 4, 6, device=kernel_device)
    assert "nnlib_layer_norm" in LayerNorm(6, device=kernel_device)(x).grad_fn.name()
    assert "NativeLayerNorm" in LayerNorm((4, 6), device=kernel_device)(x).grad_fn.name()


X = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layer_norm(torch.arange(3), None, None), TypeError, "x must be floating point"),
        (lambda: layer_norm(torch.tensor(1.0), None, None), ValueError, "x must end in an axis"),
        (lambda: layer_norm(X[:, :0], None, None), ValueError, "one feature or more, got (2, 0)"),
        (lambda: layer_norm(X, X[0, :3], None), ValueError, "weight must have shape (4), got (3,)"),
        (lambda: layer_norm(X, None, X), ValueError, "bias must have shape (4), got (2, 4)"),
        (lambda: layer_norm(X, None, X[0].double()), TypeError, "bias must have the dtype of x"),
        (lambda: layer_norm(X, None, None, -1.0), ValueError, "eps=-1.0"),
        (lambda: layer_norm(X, None, None, residual=X[:1]), ValueError, "residual must have shape"),
        (lambda: layer_norm(X, X[0].half(), None), TypeError, "weight must have the dtype of x"),
        (lambda: layer_norm(X, X[0].to("meta"), None), ValueError, "weight must be on cpu like x"),
        (
            lambda: layer_norm_triton(X.double(), None, None),
            TypeError,
            "layer_norm_triton takes float16, bfloat16, float32, got torch.float64",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with refuses(error, message):
        call()


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "layer_norm_triton needs CUDA tensors, got cpu"):
        layer_norm_triton(X, None, None)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        layer_norm(X, None, None)


def test_cost_counts_every_tensor_once():
    n, c, size = 64, 1000, 2
    rows, vectors, saved = n * c * size, 2 * c * size, 2 * n * 4
    assert layer_norm_cost((n, c), size).bytes == 2 * rows + vectors + saved
    assert layer_norm_cost((8, 8, c), size, residual=True).bytes == 4 * rows + vectors + saved
    backward = layer_norm_cost((n, c), size, backward=True)  # weight in, both gradients out
    assert backward.bytes == 3 * rows + 3 * c * size + saved
    both = layer_norm_cost((n, c), size, backward=True, residual=True)
    assert both.bytes == 4 * rows + 3 * c * size + saved
    assert 1 < layer_norm_cost((n, c), size).intensity < 2
