import math

import pytest
import torch

from nnlib.kernels import rope as module
from nnlib.kernels.rope import angles, rope, rope_cost, rope_reference, rope_triton
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
)
from tests.support import refuses

# b h t d: heads that fill no group of four, steps and widths off every block's edge.
SHAPES = [(1, 1, 1, 2), (2, 3, 5, 8), (1, 6, 70, 24), (2, 1, 33, 120), (1, 5, 7, 256)]
forms = pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])


def inputs(shape, device, dtype=torch.float32, *, each=False):
    """Return x and positions, out of order; of `each` sequence its own, or shared."""
    b, _, t, _ = shape
    positions = torch.randint(0, 3000, (b, t) if each else (t,), device=device)
    return torch.randn(shape, device=device, dtype=dtype), positions


def hold(kernel, x, positions, **options):
    def at_positions(operation):
        return lambda x: operation(x, positions, **options)

    hold_to_double(at_positions(kernel), at_positions(rope_reference), x)


@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(shape, interleaved, kernel_device):
    hold(rope_triton, *inputs(shape, kernel_device), interleaved=interleaved)


@forms
def test_positions_of_each_sequence(interleaved, kernel_device):
    for b in (1, 3):
        x, positions = inputs((b, 2, 5, 8), kernel_device, each=True)
        hold(rope_triton, x, positions, interleaved=interleaved, base=500.0)


@forms
def test_half_precision_is_rounded_once(interleaved, kernel_device):
    hold(rope_triton, *inputs((2, 2, 9, 16), kernel_device, torch.float16), interleaved=interleaved)


@forms
@pytest.mark.gpu
def test_kernel_equals_reference_in_bfloat16(interleaved):
    hold(rope_triton, *inputs((2, 6, 70, 64), "cuda", torch.bfloat16), interleaved=interleaved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_far_positions_keep_their_angles(dtype, kernel_device):
    """Angles of 100000 radians are right to a hundredth, whatever the dtype of x."""
    t, d = 4, 8
    positions = torch.arange(100_000, 100_000 + t, device=kernel_device)
    x = torch.zeros(1, 1, t, d, device=kernel_device, dtype=dtype)
    x[..., 0] = 1  # so the pair's new values are the cosine and the sine themselves
    y = rope_triton(x, positions).double()
    truth = torch.tensor([[math.cos(p), math.sin(p)] for p in positions.tolist()])
    assert (y[0, 0][:, [0, d // 2]].cpu() - truth).abs().max() < 0.01


def test_double_precision_has_double_angles():
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 1, 1, 2)
    p = 123_456_789  # float32 knows it to 8 only
    for form in (rope, rope_reference):
        y = form(x, torch.tensor([p]))[0, 0, 0]
        torch.testing.assert_close(y.tolist(), [math.cos(p), math.sin(p)], rtol=0, atol=1e-7)


@forms
def test_scores_see_only_differences_of_positions(interleaved, kernel_device):
    q, k = (torch.randn(1, 1, 1, 16, device=kernel_device) for _ in "qk")

    def score(m, n):
        at = [torch.tensor([p], device=kernel_device) for p in (m, n)]
        turned = [
            rope_triton(x, p, interleaved=interleaved) for x, p in zip((q, k), at, strict=True)
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(3, 10), score(103, 110), rtol=1e-4, atol=1e-4)
    assert (score(3, 10) - score(3, 11)).abs() > 1e-3


@forms
def test_frequencies_of_ones_own_take_the_place_of_the_base(interleaved, kernel_device):
    x, positions = inputs((2, 3, 5, 8), kernel_device)
    theta = torch.tensor([1.5, 0.7, 0.01, 0.0], device=kernel_device)
    how = {"interleaved": interleaved, "frequencies": theta}
    wanted = rope_reference(x, positions, **how)
    for form in (rope_triton, rope):
        torch.testing.assert_close(form(x, positions, **how), wanted)
    assert (wanted - rope_reference(x, positions, interleaved=interleaved)).abs().max() > 0.1
    powers = 10000.0 ** (-2 * torch.arange(4, device=kernel_device) / 8)
    same = rope_triton(x, positions, interleaved=interleaved, frequencies=powers)
    torch.testing.assert_close(same, rope_triton(x, positions, interleaved=interleaved))


@forms
def test_position_zero_changes_nothing_and_lengths_stay(interleaved, kernel_device):
    x, positions = inputs((2, 3, 5, 8), kernel_device)
    assert torch.equal(rope_triton(x, positions * 0, interleaved=interleaved), x)
    y = rope_triton(x, positions, interleaved=interleaved)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))


@forms
def test_heads_are_read_and_written_where_they_stand(interleaved, kernel_device):
    b, t, h, d = 2, 9, 5, 8
    x = torch.randn(b, t, 3, h, d, device=kernel_device)[:, :, 1].transpose(1, 2)  # of a wide q k v
    positions = torch.arange(t, device=kernel_device)
    hold(rope_triton, x, positions, interleaved=interleaved)
    dense = torch.randn(b, t, h, d, device=kernel_device).transpose(1, 2)
    assert rope_triton(dense, positions, interleaved=interleaved).stride() == dense.stride()
    hold(rope_triton, x.flip(-1)[..., ::2], positions[::1], interleaved=interleaved)


@forms
def test_a_gradient_that_is_one_number_spread_out_is_read_right(interleaved, kernel_device):
    x, positions = inputs((2, 3, 5, 8), kernel_device)
    x.requires_grad_()
    wanted = torch.autograd.grad(rope_reference(x, positions, interleaved=interleaved).sum(), x)
    got = torch.autograd.grad(rope_triton(x, positions, interleaved=interleaved).sum(), x)
    torch.testing.assert_close(got, wanted)


@forms
def test_second_derivatives_are_rotations_too(interleaved, kernel_device):
    x, positions = inputs((1, 2, 3, 4), kernel_device)
    x.requires_grad_()
    y = rope_triton(x, positions, interleaved=interleaved)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)  # lengths stay: 2 x
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, torch.full_like(x, 2.0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy tells of NaN
@forms
def test_nan_reaches_its_own_pair_only(interleaved, kernel_device):
    x, positions = inputs((1, 2, 3, 8), kernel_device)
    x[0, 1, 2, 4] = math.nan
    bad = rope_triton(x, positions, interleaved=interleaved).isnan().nonzero().tolist()
    assert bad == ([[0, 1, 2, 4], [0, 1, 2, 5]] if interleaved else [[0, 1, 2, 0], [0, 1, 2, 4]])


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 2, 0, 4), (1, 0, 3, 4)], ids=str)
def test_nothing_in_gives_nothing_out(shape, kernel_device):
    x, positions = inputs(shape, kernel_device)
    assert rope_triton(x, positions).shape == rope(x, positions).shape == shape


LAYOUTS = {
    "even steps": lambda x: x[..., :8],
    "an odd start": lambda x: x[..., 1:9],
    "odd steps": lambda x: x.flatten(1)[:, : 3 * 6 * 9].unflatten(1, (3, 6, 9))[..., :8],
    "steps along the features": lambda x: x[..., :6].mT.repeat(1, 1, 1, 1)[..., :6].mT,
    "one number spread out": lambda x: x[..., :1].expand(2, 3, 6, 8),
}


@forms
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_torch_takes_any_layout(layout, dtype, interleaved):
    x, positions = inputs((2, 3, 6, 10), "cpu", dtype, each=True)
    x.requires_grad_()
    view, slope = LAYOUTS[layout](x), torch.randn(2, 3, 6, 8, dtype=dtype)
    results = []
    for form in (rope, rope_reference):
        y = form(view, positions, interleaved=interleaved)
        results.append((y, torch.autograd.grad((y * slope[..., : y.shape[-1]]).sum(), x)[0]))
    torch.testing.assert_close(*results)


BUGS = {
    "a sign": (
        "b * cos + a * sin)\n            tl.store",
        "b * cos - a * sin)\n            tl.store",
    ),
    "a sign at the far half": ("pair, b * cos + a * sin", "pair, b * cos - a * sin"),
    "turned on, not back": ("sin = -sin\n    for", "sin = sin\n    for"),
    "a mask's edge": ("& (pair < half)", "& (pair < half - 1)"),
    "a forgotten head": ("head = group * HEADS + nth", "head = group + nth"),
    "a forgotten stride": ("table = batch * table_batch + step", "table = step"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path).rope_triton
    x, positions = inputs((2, 6, 5, 8), kernel_device, each=True)
    with pytest.raises(AssertionError, match="allowed"):
        for interleaved in (False, True):
            hold(bugged, x, positions, interleaved=interleaved)


CALLS = """
from nnlib.kernels.rope import rope_triton
for dtype, d, interleaved in ((torch.float32, 256, False), (torch.bfloat16, 128, True)):
    x = torch.zeros(2, 8, 64, d, dtype=dtype, requires_grad=True)
    rope_triton(x, torch.arange(64), interleaved=interleaved).sum().backward()
"""


def test_compiles_for_sm_80_and_sm_90_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_turn_kernel"}
    hold_to_hardware(records)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.rope import rope, rope_reference
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    x = torch.randn(2, 3, 5, 8, device=device, requires_grad=True)
    positions = torch.randint(0, 50, (2, 5), device=device)
    table = torch.randn(2, 2, 5, 4, device=device)
    for interleaved in (False, True):
        opcheck(torch.ops.nnlib.rope, (x, *table, interleaved, False))
        shared = (x.transpose(1, 2), *table[:, 0, :3])
        opcheck(torch.ops.nnlib.rope, (*shared, interleaved, True))
        public = lambda x: rope(x, positions, interleaved=interleaved)
        wanted = rope_reference(x, positions, interleaved=interleaved)
        slope = torch.autograd.grad((wanted * table.flatten()[0] * wanted).sum(), x)
        for form in (public, torch.compile(public, fullgraph=True, backend="aot_eager")):
            y = form(x)
            torch.testing.assert_close(y, wanted)
            got = torch.autograd.grad((y * table.flatten()[0] * y).sum(), x)
            torch.testing.assert_close(got, slope)
    operation = lambda x: torch.ops.nnlib.rope(x, *table, False, False)
    y = torch.compile(operation, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, operation(x))
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), x), torch.autograd.grad(operation(x).sum(), x)
    )
"""


@forms
def test_the_public_name_takes_the_forced_path(interleaved, monkeypatch, kernel_device):
    x, positions = inputs((2, 3, 5, 8), kernel_device)
    wanted = rope_reference(x, positions, interleaved=interleaved)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        torch.testing.assert_close(rope(x, positions, interleaved=interleaved), wanted)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        rope(x, positions)


X, P = torch.zeros(2, 3, 4, 6), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rope(X.long(), P), TypeError, "x must be floating point, got torch.int64"),
        (lambda: rope(X[0], P), ValueError, "x must have shape (b, h, t, d), got (3, 4, 6)"),
        (lambda: rope(X[..., :5], P), ValueError, "even head width d to turn pairs of features"),
        (lambda: rope(X, P.float()), TypeError, "positions must hold integers, got torch.float32"),
        (lambda: rope(X, P[:3]), ValueError, "positions must have shape (4,) or (2, 4), got (3,)"),
        (lambda: rope(X, P.expand(3, 4)), ValueError, "positions must have shape (4,) or (2, 4)"),
        (lambda: rope(X, P.to("meta")), ValueError, "positions must be on cpu like x, got meta"),
        (lambda: rope(X, P, base=0.0), ValueError, "base=0.0 must be a finite number > 0"),
        (lambda: rope(X, P, frequencies=X[0, 0]), ValueError, "frequencies must have shape (3)"),
        (lambda: rope(X, P, frequencies=P[:3]), TypeError, "frequencies must be floating point"),
        (lambda: rope(X, P, interleaved=2), TypeError, "interleaved=2 must be True or False"),
        (
            lambda: rope_triton(X.double(), P),
            TypeError,
            "rope_triton takes float16, bfloat16, float32, got torch.float64",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with refuses(error, message):
        call()


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "rope_triton needs CUDA tensors, got cpu"):
        rope_triton(X, P)
    monkeypatch.setenv("NNLIB_KERNELS", "triton")
    with refuses(RuntimeError, "NNLIB_KERNELS=triton needs CUDA tensors, got cpu"):
        rope(X, P)


def test_angles_grow_with_the_position_and_shrink_along_the_features():
    got = angles(torch.tensor([0, 1, 10]), 4, 100.0)
    torch.testing.assert_close(got, torch.tensor([[0, 0], [1, 0.1], [10, 1]]))


def test_cost_counts_one_read_one_write_and_the_table():
    cost = rope_cost((2, 8, 100, 64), 2)
    assert cost.bytes == 2 * (2 * 8 * 100 * 64) * 2 + 2 * 4 * 100 * 32
    assert cost == rope_cost((2, 8, 100, 64), 2, backward=True)
