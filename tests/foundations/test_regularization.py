"""Penalties, dropout, norms, early stopping and shifts against torch, autograd and closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.foundations.regularization import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    EarlyStopping,
    LayerNorm,
    RMSNorm,
    batch_norm,
    fold_batch_norm,
    l1_penalty,
    l2_penalty,
    layer_norm,
    rms_norm,
    shift_images,
    soft_threshold,
)
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"p": 0.5}, (torch.randn(5, 8),))


EXACT = {"rtol": 0, "atol": 0}


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def gradients(output, inputs):
    """Gradients of one fixed weighted sum of the output."""
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), inputs)


# ---------------------------------------------------------------- penalties


@pytest.mark.equation("regularization-l1", "regularization-l2")
def test_penalties_are_the_sums_of_sizes_and_of_half_squares():
    weights = [normal(3, 4), normal(2, 3)]
    flat = [float(w) for part in weights for w in part.flatten()]
    assert float(l1_penalty(weights)) == pytest.approx(sum(abs(w) for w in flat))
    assert float(l2_penalty(weights)) == pytest.approx(sum(w * w for w in flat) / 2)
    norms = sum(torch.linalg.norm(w, "fro") ** 2 for w in weights) / 2
    torch.testing.assert_close(l2_penalty(w for w in weights), norms)


@pytest.mark.equation("regularization-l1", "regularization-l2")
def test_penalties_pull_with_constant_force_and_with_a_force_as_long_as_the_weight():
    w = torch.tensor([-3.0, 0.0, 0.5], requires_grad=True)
    assert torch.autograd.grad(l1_penalty([w]), w)[0].tolist() == [-1.0, 0.0, 1.0]
    assert torch.autograd.grad(l2_penalty([w]), w)[0].tolist() == [-3.0, 0.0, 0.5]


@pytest.mark.equation("regularization-weight-decay")
def test_for_plain_gradient_steps_the_l2_penalty_is_weight_decay():
    ours, theirs = normal(4).requires_grad_(), None
    theirs = ours.detach().clone().requires_grad_()
    by_hand, eta, strength = ours.detach().clone(), 0.01, 0.3
    target = normal(4)
    step = torch.optim.SGD([ours], lr=eta)
    decay = torch.optim.SGD([theirs], lr=eta, weight_decay=strength)
    for _ in range(20):
        for w, optimizer, penalty in ((ours, step, strength), (theirs, decay, 0.0)):
            optimizer.zero_grad()
            ((w - target) ** 4).sum().add(penalty * l2_penalty([w])).backward()
            optimizer.step()
        by_hand = (1 - eta * strength) * by_hand - eta * 4 * (by_hand - target) ** 3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    torch.testing.assert_close(ours.detach(), by_hand, rtol=0, atol=1e-14)


@pytest.mark.equation("regularization-soft-threshold", "regularization-shrink")
@pytest.mark.parametrize("a", [-2.0, -0.6, 0.0, 0.3, 0.7, 3.0])
def test_the_penalized_minimum_is_a_soft_threshold_or_a_shrink(a):
    """A fine grid of w finds the same minimum of ½(w − a)² + penalty."""
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    fit, strength = (grid - a) ** 2 / 2, 0.5
    best_l1 = grid[(fit + strength * grid.abs()).argmin()]
    best_l2 = grid[(fit + strength * grid**2 / 2).argmin()]
    a = torch.tensor(a, dtype=torch.float64)
    torch.testing.assert_close(soft_threshold(a, strength), best_l1, rtol=0, atol=1e-4)
    torch.testing.assert_close(a / (1 + strength), best_l2, rtol=0, atol=1e-4)


@pytest.mark.equation("regularization-soft-threshold")
def test_soft_threshold_is_torchs_softshrink():
    w = torch.cat([normal(50), torch.tensor([0.0, 0.5, -0.5, 1e300, -1e-300])])
    torch.testing.assert_close(soft_threshold(w, 0.5), F.softshrink(w, 0.5), **EXACT)
    torch.testing.assert_close(soft_threshold(w, 0.0), w, **EXACT)


@pytest.mark.equation("regularization-early-shrink")
def test_gradient_descent_stopped_early_shrinks_the_flat_directions_most():
    x, y = normal(30, 3) * torch.tensor([3.0, 1.0, 0.2]), normal(30)
    curvature, axes = torch.linalg.eigh(x.T @ x)
    full, w, eta, steps = torch.linalg.solve(x.T @ x, x.T @ y), torch.zeros(3).double(), 0.002, 25
    for _ in range(steps):
        w = w - eta * x.T @ (x @ w - y)
    torch.testing.assert_close(axes.T @ w, (1 - (1 - eta * curvature) ** steps) * (axes.T @ full))
    strength = 1 / (eta * steps)
    ridge = torch.linalg.solve(x.T @ x + strength * torch.eye(3).double(), x.T @ y)
    torch.testing.assert_close(axes.T @ ridge, curvature / (curvature + strength) * (axes.T @ full))


# ---------------------------------------------------------------- dropout


@pytest.mark.equation("regularization-dropout-mask", "regularization-dropout-inverted")
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_is_torchs_with_the_same_seed(p):
    x = normal(200, 30).requires_grad_()
    torch.manual_seed(3)
    ours = Dropout(p)(x)
    torch.manual_seed(3)
    theirs = nn.Dropout(p)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-15, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)))


@pytest.mark.equation("regularization-dropout-mask")
def test_each_value_is_kept_independently_with_probability_one_minus_p():
    kept = Dropout(0.3)(torch.ones(400_000)).view(-1, 2) > 0
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.004)
    assert float(kept.all(1).double().mean()) == pytest.approx(0.49, abs=0.005)


def masks(size, p):
    """Every mask and its probability: expectations are sums, not samples."""
    for kept in itertools.product([0.0, 1.0], repeat=size):
        yield torch.tensor(kept).double(), math.prod(1 - p if k else p for k in kept)


@pytest.mark.equation(
    "regularization-dropout-train", "regularization-dropout-test", "regularization-dropout-inverted"
)
def test_both_scalings_keep_the_expected_value():
    h, p = normal(6), 0.3
    expected = sum(chance * mask * h for mask, chance in masks(6, p))
    torch.testing.assert_close(expected, (1 - p) * h)  # classic: smaller in use
    inverted = sum(chance * mask * h / (1 - p) for mask, chance in masks(6, p))
    torch.testing.assert_close(inverted, h)  # inverted: larger in training, untouched in use
    torch.testing.assert_close(Dropout(p).eval()(h), h, **EXACT)


@pytest.mark.equation("regularization-dropout-test")
def test_scaling_is_exact_through_a_linear_layer_and_not_through_relu():
    w, h, p = normal(4), normal(4), 0.5
    linear = sum(chance * (w @ (mask * h)) for mask, chance in masks(4, p))
    torch.testing.assert_close(linear, w @ ((1 - p) * h))
    w, h = torch.tensor([0.7, 0.7]).double(), torch.ones(2).double()
    bent = sum(chance * (w @ (mask * h) - 1).relu() for mask, chance in masks(2, p))
    assert float(bent) == pytest.approx(0.1)  # both kept, a quarter of the time: 1.4 − 1
    assert float((w @ ((1 - p) * h) - 1).relu()) == 0.0


@pytest.mark.equation("regularization-dropout-ridge")
def test_dropout_before_a_linear_unit_is_a_ridge_on_average():
    w, x, y, p = normal(5), normal(5), 0.4, 0.2
    average = sum(chance * (y - w @ (mask * x) / (1 - p)) ** 2 for mask, chance in masks(5, p))
    torch.testing.assert_close(average, (y - w @ x) ** 2 + p / (1 - p) * (w**2 * x**2).sum())


def test_dropout_in_place_overwrites_and_otherwise_leaves_alone():
    x = torch.ones(100)
    Dropout(0.5)(x)
    assert x.eq(1).all()
    y = Dropout(0.5, inplace=True)(x)
    assert y.data_ptr() == x.data_ptr() and not x.eq(1).all()


# ---------------------------------------------------------------- norms: the equations


@pytest.mark.equation(
    "regularization-batchnorm-statistics",
    "regularization-batchnorm-normalize",
    "regularization-batchnorm-affine",
)
@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (4, 3, 5, 2), (1, 3, 2, 2)], ids=str)
def test_batch_norm_normalizes_each_feature_over_all_else(shape):
    x, gamma, beta = 5 * normal(*shape) + 2, normal(3), normal(3)
    y = batch_norm(x, gamma, beta, eps=1e-5)
    for c in range(3):
        values = x[:, c].flatten()
        mean = values.sum() / len(values)
        variance = ((values - mean) ** 2).sum() / len(values)
        by_hand = gamma[c] * (x[:, c] - mean) / (variance + 1e-5) ** 0.5 + beta[c]
        torch.testing.assert_close(y[:, c], by_hand)


@pytest.mark.equation("regularization-layernorm-statistics", "regularization-layernorm")
def test_layer_norm_normalizes_each_example_and_scales_each_feature():
    x, gamma, beta = 5 * normal(4, 6) + 2, normal(6), normal(6)
    y = LayerNorm(6).double()
    y.load_state_dict({"weight": gamma, "bias": beta})
    for row, out in zip(x, y(x), strict=True):
        mean = row.sum() / 6
        variance = ((row - mean) ** 2).sum() / 6
        for i in range(6):
            by_hand = gamma[i] * (row[i] - mean) / (variance + 1e-5) ** 0.5 + beta[i]
            torch.testing.assert_close(out[i], by_hand)


@pytest.mark.equation("regularization-rms", "regularization-rmsnorm")
def test_rms_norm_divides_by_the_root_mean_square_of_the_example():
    x, gamma = 5 * normal(4, 6) + 2, normal(6)
    y = RMSNorm(6, eps=0.0).double()
    y.load_state_dict({"weight": gamma})
    for row, out in zip(x, y(x), strict=True):
        torch.testing.assert_close(
            out, gamma * row / math.sqrt(sum(float(v) ** 2 for v in row) / 6)
        )


PAIRS = [
    (BatchNorm1d, nn.BatchNorm1d, (5,), (8, 5)),
    (BatchNorm1d, nn.BatchNorm1d, (5,), (8, 5, 3)),
    (BatchNorm2d, nn.BatchNorm2d, (5,), (2, 5, 3, 4)),
    (LayerNorm, nn.LayerNorm, (5,), (8, 5)),
    (LayerNorm, nn.LayerNorm, ((3, 5),), (2, 4, 3, 5)),
    (RMSNorm, nn.RMSNorm, (5,), (8, 5)),
    (RMSNorm, nn.RMSNorm, ((3, 5),), (2, 4, 3, 5)),
]


@pytest.mark.equation(
    "regularization-batchnorm-statistics",
    "regularization-batchnorm-normalize",
    "regularization-batchnorm-affine",
    "regularization-layernorm-statistics",
    "regularization-layernorm",
    "regularization-rms",
    "regularization-rmsnorm",
    "regularization-batchnorm-running",
    "regularization-batchnorm-eval",
)
@pytest.mark.parametrize(("ours", "theirs", "args", "shape"), PAIRS)
def test_a_norm_loads_torchs_state_and_gives_its_outputs_gradients_and_buffers(
    ours, theirs, args, shape
):
    reference, norm = theirs(*args).double(), ours(*args).double()
    for parameter in reference.parameters():
        nn.init.normal_(parameter)
    norm.load_state_dict(reference.state_dict())
    for mode in (True, True, False):  # two training steps move the buffers, then they are used
        x = 3 * normal(*shape) + 1
        results = []
        for model in (norm, reference):
            inputs = x.clone().requires_grad_()
            y = model.train(mode)(inputs)
            results.append([y, *gradients(y, [inputs, *model.parameters()])])
        for got, wanted in zip(*results, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert norm.state_dict().keys() == reference.state_dict().keys()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value, **EXACT)
    theirs(*args).double().load_state_dict(norm.state_dict())


@pytest.mark.equation("regularization-batchnorm-statistics", "regularization-batchnorm-normalize")
@pytest.mark.equation("regularization-layernorm-statistics", "regularization-layernorm")
@pytest.mark.equation("regularization-rms", "regularization-rmsnorm")
@pytest.mark.parametrize(
    ("fast", "twin", "shape"),
    [
        (lambda: BatchNorm1d(5, affine=False), lambda x: batch_norm(x), (8, 5)),
        (lambda: BatchNorm2d(5, affine=False), lambda x: batch_norm(x), (2, 5, 3, 4)),
        (lambda: LayerNorm((3, 5)), lambda x: layer_norm(x, (3, 5)), (2, 3, 5)),
        (lambda: RMSNorm((3, 5)), lambda x: rms_norm(x, (3, 5)), (2, 3, 5)),
        (lambda: RMSNorm(5, eps=1e-3), lambda x: rms_norm(x, 5, eps=1e-3), (2, 3, 5)),
    ],
)
def test_the_fast_form_is_the_readable_twin_with_its_gradient(fast, twin, shape):
    x = (3 * normal(*shape) + 1).requires_grad_()
    a, b = fast().double()(x), twin(x)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(gradients(y, [x])[0] for y in (a, b)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rms_norm_in_half_precision_is_torchs(dtype):
    x = torch.randn(4, 8).to(dtype)
    torch.testing.assert_close(RMSNorm(8, dtype=dtype)(x), nn.RMSNorm(8, dtype=dtype)(x), **EXACT)


@pytest.mark.equation("regularization-batchnorm-gradient")
def test_the_gradient_through_a_batch_leaves_out_its_mean_and_its_part_along_the_output():
    z = normal(9, 4).requires_grad_()
    g = normal(9, 4)
    norm = BatchNorm1d(4, eps=0.5).double()  # the formula is exact for any ε
    nn.init.normal_(norm.weight)
    (got,) = torch.autograd.grad((norm(z) * g).sum(), z)
    sigma = (z.detach().var(0, correction=0) + 0.5).sqrt()
    hat = (z.detach() - z.detach().mean(0)) / sigma
    by_hand = norm.weight / sigma * (g - g.mean(0) - hat * (g * hat).mean(0))
    torch.testing.assert_close(got, by_hand.detach())
    tiny = BatchNorm1d(4, eps=1e-14).double()
    (got,) = torch.autograd.grad((tiny(z) * g).sum(), z)
    torch.testing.assert_close(got.sum(0), torch.zeros(4).double())
    torch.testing.assert_close((got * hat).sum(0), torch.zeros(4).double())


# ---------------------------------------------------------------- norms: batch norm's state


@pytest.mark.equation("regularization-batchnorm-running", "regularization-batchnorm-eval")
def test_running_statistics_are_moving_means_with_the_unbiased_variance():
    norm, mean, variance = BatchNorm1d(3, momentum=0.25).double(), 0.0, 1.0
    for _ in range(4):
        x = 2 * normal(6, 3) + 1
        norm(x)
        mean = 0.75 * mean + 0.25 * x.mean(0)
        variance = 0.75 * variance + 0.25 * ((x - x.mean(0)) ** 2).sum(0) / 5
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    x = normal(1, 3)
    torch.testing.assert_close(norm.eval()(x), ((x - mean) / (variance + 1e-5).sqrt()))
    assert int(norm.num_batches_tracked) == 4


def test_momentum_none_is_the_plain_mean_of_all_batches():
    norm, reference = BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, momentum=None)
    batches = torch.randn(5, 8, 3)
    for x in batches:
        norm(x), reference(x)
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, reference.running_var, **EXACT)


@pytest.mark.parametrize("affine", [True, False])
def test_without_running_statistics_evaluation_uses_the_batch(affine):
    norm = BatchNorm2d(3, affine=affine, track_running_stats=False)
    reference = nn.BatchNorm2d(3, affine=affine, track_running_stats=False)
    assert norm.state_dict().keys() == reference.state_dict().keys()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm.eval()(x), reference.eval()(x), **EXACT)
    torch.testing.assert_close(norm(x), norm.train()(x), **EXACT)


@pytest.mark.equation("regularization-batchnorm-fold")
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_layer_answers_as_the_pair_in_evaluation(bias):
    for layer, norm, x in (
        (nn.Linear(4, 3, bias=bias), BatchNorm1d(3), normal(5, 4)),
        (nn.Conv2d(4, 3, 2, bias=bias), BatchNorm2d(3), normal(2, 4, 5, 5)),
        (nn.Linear(4, 3, bias=bias), nn.BatchNorm1d(3, affine=False), normal(5, 4)),
    ):
        layer, norm = layer.double(), norm.double()
        for value in (norm.running_mean, *norm.parameters()):
            nn.init.normal_(value)
        norm.running_var.uniform_(0.1, 3.0)
        before = layer.weight.clone()
        folded = fold_batch_norm(layer, norm)
        torch.testing.assert_close(folded(x), norm.eval()(layer(x)))
        torch.testing.assert_close(layer.weight, before, **EXACT)


# ---------------------------------------------------------------- norms: properties, extremes


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=2),
    last=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_norms_of_the_features_take_any_leading_axes_and_forget_scale(shape, last, scale):
    x = normal(*shape, last)
    for norm in (LayerNorm(last, eps=0.0), RMSNorm(last, eps=0.0)):
        y = norm.double()(x)
        assert y.shape == x.shape
        if last > 1:
            torch.testing.assert_close(norm(scale * x), y, rtol=1e-6, atol=1e-9)


def test_rms_norm_of_centred_features_is_layer_norm():
    x = normal(6, 9)
    centred = x - x.mean(-1, keepdim=True)
    ours = RMSNorm(9, eps=1e-5).double()(centred)
    torch.testing.assert_close(ours, LayerNorm(9).double()(x))


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    for norm in (RMSNorm(4), LayerNorm(4), RMSNorm(4, eps=1e-6)):
        x = torch.zeros(2, 4, requires_grad=True)
        y = norm(x)
        y.sum().backward()
        assert y.eq(0).all() and x.grad.isfinite().all()
    without_eps = torch.zeros(4) / torch.zeros(4).square().mean().sqrt()
    assert without_eps.isnan().all()


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e18])
def test_rms_norm_at_extremes_is_torchs(size):
    x = size * torch.randn(3, 16)
    ours, theirs = RMSNorm(16)(x), nn.RMSNorm(16)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-30)


def test_a_constant_feature_becomes_its_shift():
    x = torch.full((6, 2), 4096.0)
    y = BatchNorm1d(2)(x)
    torch.testing.assert_close(y, torch.zeros(6, 2))


# ---------------------------------------------------------------- early stopping, shifts


def test_early_stopping_keeps_a_copy_of_the_best_state():
    layer, stopping = nn.Linear(2, 1), EarlyStopping(patience=3)
    values = [1.0, 0.5, 0.7, 0.6, 0.6, 0.1]
    told, states = [], []
    for value in values:
        nn.init.normal_(layer.weight)
        states.append(layer.weight.detach().clone())
        told.append(stopping.update(value, layer))
    assert told == [False, False, False, False, True, True]
    assert (stopping.best, stopping.at) == (0.5, 1)  # what came after the stop does not count
    torch.testing.assert_close(stopping.state["weight"], states[1], **EXACT)
    layer.load_state_dict(stopping.state)


def test_early_stopping_can_climb_and_takes_nan_for_no_improvement():
    stopping = EarlyStopping(patience=2, mode="max")
    for value, stop in ((0.1, False), (float("nan"), False), (0.3, False), (0.3, False), (0, True)):
        assert stopping.update(value, {}) is stop
    assert stopping.best == 0.3
    first = EarlyStopping(patience=5)
    first.update(float("nan"), {})
    first.update(2.0, {})
    assert first.best == 2.0


@settings(max_examples=30, deadline=None)
@given(down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_a_shift_moves_pixels_and_brings_in_zeros(down, right):
    x = torch.arange(1.0, 25.0).view(2, 3, 4)
    got = shift_images(x, torch.tensor([down, 0]), torch.tensor([right, 0]))
    wanted = torch.zeros(3, 4)
    for r, c in itertools.product(range(3), range(4)):
        if 0 <= r + down < 3 and 0 <= c + right < 4:
            wanted[r + down, c + right] = x[0, r, c]
    assert got[0].equal(wanted) and got[1].equal(x[1])


# ---------------------------------------------------------------- bad input

X = torch.randn(4, 3)
ONE = torch.zeros(4).long()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: l1_penalty([]), ValueError, "parameters must hold one tensor"),
        (lambda: l2_penalty([ONE]), TypeError, "parameters[0] must be floating point"),
        (lambda: l2_penalty([3.0]), TypeError, "parameters[0] must be a torch.Tensor"),
        (lambda: soft_threshold(X, -1), ValueError, "amount=-1"),
        (lambda: Dropout(1.5), ValueError, "p=1.5"),
        (lambda: Dropout(-0.1), ValueError, "p=-0.1"),
        (lambda: Dropout(float("nan")), ValueError, "p=nan"),
        (lambda: Dropout("half"), TypeError, "p='half'"),
        (lambda: Dropout(0.5)(ONE), TypeError, "x must be floating point"),
        (lambda: BatchNorm1d(0), ValueError, "num_features=0"),
        (lambda: BatchNorm1d(-2), ValueError, "num_features=-2"),
        (lambda: BatchNorm1d(3.0), TypeError, "num_features=3.0"),
        (lambda: BatchNorm1d(3, eps=-1e-5), ValueError, "eps=-1e-05"),
        (lambda: BatchNorm1d(3, eps=0.0), ValueError, "eps=0.0"),
        (lambda: BatchNorm1d(3, momentum=2), ValueError, "momentum=2"),
        (lambda: BatchNorm1d(3, affine=0.0), TypeError, "affine=0.0"),
        (lambda: BatchNorm1d(3)(X[:1]), ValueError, "one value has no variance"),
        (lambda: BatchNorm2d(3)(torch.randn(1, 3, 1, 1)), ValueError, "no variance"),
        (lambda: BatchNorm1d(3)(X[:0]), ValueError, "no variance"),
        (lambda: BatchNorm1d(4)(X), ValueError, "num_features=4, got (4, 3)"),
        (lambda: BatchNorm2d(3)(X), ValueError, "(b, c, y, x)"),
        (lambda: BatchNorm1d(3)(ONE[:, None]), TypeError, "x must be floating point"),
        (lambda: LayerNorm(0), ValueError, "normalized_shape=0"),
        (lambda: LayerNorm(()), ValueError, "normalized_shape must hold one size"),
        (lambda: LayerNorm((3, -1)), ValueError, "normalized_shape=-1"),
        (lambda: LayerNorm(2.5), TypeError, "normalized_shape=2.5"),
        (lambda: LayerNorm(4)(X), ValueError, "normalized_shape=(4,), got (4, 3)"),
        (lambda: LayerNorm((2, 3))(X[0]), ValueError, "normalized_shape=(2, 3)"),
        (lambda: RMSNorm(-8), ValueError, "normalized_shape=-8"),
        (lambda: RMSNorm(3, eps=-1.0), ValueError, "eps=-1.0"),
        (lambda: RMSNorm(4)(X), ValueError, "normalized_shape=(4,), got (4, 3)"),
        (lambda: rms_norm(X, 2), ValueError, "normalized_shape=(2,)"),
        (lambda: layer_norm(ONE, 4), TypeError, "x must be floating point"),
        (lambda: batch_norm(X[0]), ValueError, "x must have shape (b, c, …)"),
        (lambda: fold_batch_norm(nn.ReLU(), BatchNorm1d(3)), TypeError, "layer must be Linear"),
        (lambda: fold_batch_norm(nn.Linear(2, 4), BatchNorm1d(3)), ValueError, "norm must have 4"),
        (
            lambda: fold_batch_norm(nn.Linear(2, 3), BatchNorm1d(3, track_running_stats=False)),
            ValueError,
            "norm must keep running statistics",
        ),
        (lambda: EarlyStopping(0), ValueError, "patience=0"),
        (lambda: EarlyStopping(2.0), TypeError, "patience=2.0"),
        (lambda: EarlyStopping(2, mode="up"), ValueError, "mode='up'"),
        (lambda: shift_images(X, ONE, ONE), ValueError, "x must have shape (n, y, x)"),
        (lambda: shift_images(X[None], ONE, ONE), ValueError, "down must have shape (1)"),
        (
            lambda: shift_images(X[None], ONE[:1], ONE[:1] / 2),
            TypeError,
            "right must hold integers",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
