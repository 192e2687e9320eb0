"""Penalties and dropout against torch, autograd and closed forms.

Norms, early stopping and shifts are tested where they stand: tests/blocks, tests/train, tests/data.
"""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.foundations.regularization import Dropout, l1_penalty, l2_penalty, soft_threshold
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"p": 0.5}, (torch.randn(5, 8),))


EXACT = {"rtol": 0, "atol": 0}


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


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


@pytest.mark.equation("regularization-penalty-and-norm")
def test_least_squares_with_an_l2_penalty_is_ridge_regression():
    x, y, strength = normal(20, 4), normal(20), 0.7
    w = torch.linalg.solve(x.T @ x + strength * torch.eye(4).double(), x.T @ y).requires_grad_()
    penalized = (x @ w - y).square().sum() / 2 + strength * l2_penalty([w])
    (slope,) = torch.autograd.grad(penalized, w)
    torch.testing.assert_close(slope, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.equation("regularization-penalty-and-norm")
@pytest.mark.parametrize(("over", "shape"), [(0, (1, 5)), (1, (7, 1))])
def test_a_norm_is_one_formula_and_its_group_makes_it_batch_or_layer_norm(over, shape):
    z, gamma, beta = 3 * normal(7, 5) + 2, normal(5), normal(5)
    mean, variance = z.mean(over).view(shape), z.var(over, correction=0).view(shape)
    by_formula = gamma * (z - mean) / (variance + 1e-5).sqrt() + beta
    torchs = F.layer_norm(z, (5,), gamma, beta)
    if over == 0:
        torchs = F.batch_norm(z, None, None, gamma, beta, training=True)
    torch.testing.assert_close(by_formula, torchs)


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
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
