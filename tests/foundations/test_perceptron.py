"""The perceptron against its equations, scikit-learn, and its convergence theorem."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from nnlib.data.tables import iris
from nnlib.foundations.perceptron import (
    Perceptron,
    absorb_bias,
    margin,
    novikoff_bound,
    widest_separator,
)
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"in_features": 4}, (torch.randn(5, 4),))


def separable(seed: int, n: int = 40, d: int = 3, gap: float = 0.1):
    """Points that a hidden plane, not through the origin, separates."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(d + 1, generator=generator, dtype=torch.float64)
    x = torch.randn(8 * n, d, generator=generator, dtype=torch.float64)
    score = absorb_bias(x) @ hidden / hidden.norm()
    keep = score.abs() > gap
    return x[keep][:n], (score[keep][:n] > 0).long(), hidden


def trace_of(x, y, epochs=200):
    """The absorbed weights after each update, made one example at a time."""
    unit, path = Perceptron(x.shape[1]).double(), []
    for _ in range(epochs):
        before = len(path)
        for row, target in zip(x, y.tolist(), strict=True):
            if unit.correct(row, target):
                path.append(torch.cat([unit.weight, unit.bias[None]]))
        if len(path) == before:
            return torch.stack(path)
    raise AssertionError("did not converge")


@pytest.mark.equation("perceptron-preactivation")
def test_score_is_the_sum_of_weighted_inputs():
    unit = Perceptron(3).double()
    unit.weight.copy_(torch.tensor([2.0, -1.0, 0.5]))
    unit.bias.fill_(0.25)
    x = torch.randn(7, 3, dtype=torch.float64)
    by_hand = [sum(w * v for w, v in zip([2.0, -1.0, 0.5], row, strict=True)) + 0.25 for row in x]
    torch.testing.assert_close(unit(x), torch.stack(by_hand))


@pytest.mark.equation("perceptron-step")
def test_answer_is_the_side_and_zero_is_class_one():
    unit = Perceptron(1)
    unit.weight.fill_(1.0)
    scores = torch.tensor([[-1.0], [-1e-30], [0.0], [1e-30], [2.0]])
    assert unit.predict(scores).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.equation("perceptron-rule", "perceptron-update-weight", "perceptron-update-bias")
@pytest.mark.parametrize("seed", range(5))
def test_every_update_is_scikit_learns(seed):
    from sklearn.linear_model import Perceptron as Reference

    x, y, _ = separable(seed)
    y[::7] = 1 - y[::7]  # not separable any more: the path goes on to the last epoch
    y[0] = 0  # at the start the score is 0: scikit-learn updates for both classes, we for class 0
    unit = Perceptron(3).double()
    unit.fit(x, y, max_epochs=6)
    reference = Reference(shuffle=False, tol=None, max_iter=6).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(unit.weight, reference.coef_[0], atol=1e-12)
    np.testing.assert_allclose(unit.bias, reference.intercept_[0], atol=1e-12)


@pytest.mark.equation("perceptron-update-weight", "perceptron-update-bias")
def test_update_moves_by_the_error_times_the_input():
    for y, z in ((0, 1.0), (1, -1.0), (1, 1.0), (0, -1.0)):
        unit = Perceptron(2, lr=0.5)
        unit.bias.fill_(z)
        x = torch.tensor([3.0, -2.0])
        error = y - (1 if z >= 0 else 0)
        assert unit.correct(x, y) == (error != 0)
        assert unit.weight.tolist() == [0.5 * error * 3.0, 0.5 * error * -2.0]
        assert unit.bias.item() == z + 0.5 * error


@pytest.mark.parametrize("seed", range(5))
def test_jumping_to_the_next_mistake_is_the_plain_loop(seed):
    x, y, _ = separable(seed)
    unit = Perceptron(3).double()
    updates = unit.fit(x, y, max_epochs=200)
    path = trace_of(x, y)
    assert updates == len(path)
    torch.testing.assert_close(torch.cat([unit.weight, unit.bias[None]]), path[-1])
    assert (unit.predict(x) == y).all()


@pytest.mark.parametrize("train", ["fit", "fit_pocket"])
def test_data_in_double_precision_are_learned_as_those_in_single(train):
    x, y, _ = separable(1)
    x = x.float().double()  # so that both units see the same numbers
    one, other = Perceptron(3), Perceptron(3)
    assert getattr(one, train)(x, y, 50) == getattr(other, train)(x.float(), y, 50)
    torch.testing.assert_close(one.weight, other.weight)
    assert one.predict(x).equal(other.predict(x.float()))
    assert one(x).dtype == torch.float64 and one.weight.dtype == torch.float32


def test_the_weights_stand_where_they_are_asked_for():
    unit = Perceptron(2, device="meta", dtype=torch.float64)
    assert unit.weight.is_meta and unit.weight.dtype == unit.bias.dtype == torch.float64


def test_fit_stops_after_max_epochs_where_nothing_separates():
    x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
    assert Perceptron(1).fit(x, y, max_epochs=7) == 14


@pytest.mark.equation("perceptron-hinge")
def test_the_rule_is_a_step_down_the_perceptron_loss():
    x, y, _ = separable(2)
    y[::5] = 1 - y[::5]
    unit, corrected = Perceptron(3, lr=0.5).double(), 0
    unit.weight.copy_(torch.tensor([0.3, -0.2, 0.1]))  # no score is exactly 0
    for row, target in zip(x, y.tolist(), strict=True):
        w, b = unit.weight.clone().requires_grad_(), unit.bias.clone().requires_grad_()
        loss = (-(2 * target - 1) * (w @ row + b)).clamp(min=0)
        slopes = torch.autograd.grad(loss, (w, b))
        corrected += unit.correct(row, target)
        torch.testing.assert_close(unit.weight, w.detach() - 0.5 * slopes[0])
        torch.testing.assert_close(unit.bias, b.detach() - 0.5 * slopes[1])
    assert 0 < corrected < len(x)


@pytest.mark.equation("perceptron-absorbed")
def test_absorbed_bias_gives_the_same_score():
    x, y, _ = separable(0)
    unit = Perceptron(3).double()
    unit.fit(x, y, max_epochs=50)
    torch.testing.assert_close(absorb_bias(x) @ torch.cat([unit.weight, unit.bias[None]]), unit(x))


@pytest.mark.equation("perceptron-margin")
def test_margin_is_the_distance_to_the_nearest_point():
    x, y, hidden = separable(1)
    nearest = min(
        float(abs(row @ hidden[:-1] + hidden[-1]) / hidden.square().sum().sqrt()) for row in x
    )
    assert margin(x, y, hidden) == pytest.approx(nearest, rel=1e-12)
    assert margin(x, y, 5 * hidden) == pytest.approx(nearest, rel=1e-12)
    assert margin(x, y, -hidden) < 0


@pytest.mark.parametrize("seed", range(5))
def test_no_plane_is_wider_than_the_widest_separator(seed):
    """A linear programme, KKT conditions and random planes all fail to beat it."""
    x, y, hidden = separable(seed)
    best = widest_separator(x, y)
    widest = margin(x, y, best)
    signed = ((2 * y - 1)[:, None] * absorb_bias(x)).numpy()
    n, d = signed.shape
    programme = linprog(  # the largest t with signed @ w ≥ t and |w| ≤ 1 in every coordinate
        np.r_[np.zeros(d), -1],
        A_ub=np.c_[-signed, np.ones(n)],
        b_ub=np.zeros(n),
        bounds=[(-1, 1)] * d + [(None, None)],
    )
    assert programme.x[-1] > 0
    assert margin(x, y, torch.tensor(programme.x[:-1])) <= widest + 1e-9
    assert margin(x, y, hidden) <= widest + 1e-9
    nudges = best + 0.05 * best.norm() * torch.randn(200, d, dtype=torch.float64)
    assert max(margin(x, y, w) for w in nudges) <= widest + 1e-9


@pytest.mark.equation("perceptron-radius", "perceptron-bound")
@pytest.mark.parametrize("seed", range(20))
def test_updates_stay_within_the_bound(seed):
    x, y, hidden = separable(seed, d=2, gap=0.02)
    radius = max(float((row @ row + 1) ** 0.5) for row in x)
    bound = novikoff_bound(x, y, hidden)
    assert bound == pytest.approx((radius / margin(x, y, hidden)) ** 2, rel=1e-12)
    best = novikoff_bound(x, y, widest_separator(x, y))
    assert 0 < Perceptron(2).double().fit(x, y, max_epochs=10**6) <= best <= bound


@pytest.mark.equation("perceptron-progress", "perceptron-growth")
@pytest.mark.parametrize("seed", range(5))
def test_proof_holds_at_every_update(seed):
    x, y, hidden = separable(seed)
    path = trace_of(x, y)
    k = torch.arange(1, len(path) + 1, dtype=torch.float64)
    gamma, radius = margin(x, y, hidden), absorb_bias(x).norm(dim=1).max()
    assert (path @ hidden / hidden.norm() >= k * gamma - 1e-9).all()
    assert (path.norm(dim=1) ** 2 <= k * radius**2 + 1e-9).all()


@pytest.mark.parametrize(
    ("low", "high", "updates", "naive"),
    [(0.01, 0.03, 3337, 9), (0.04, 0.06, 1673, 36), (0.19, 0.21, 497, 441)],
)
def test_bound_without_the_bias_is_no_bound(low, high, updates, naive):
    x, y = torch.tensor([[low], [high]], dtype=torch.float64), torch.tensor([0, 1])
    assert Perceptron(1).double().fit(x, y, max_epochs=10_000) == updates > naive
    assert updates <= novikoff_bound(x, y, widest_separator(x, y))


@given(rate=st.sampled_from([2.0**-k for k in range(-3, 8)]))
def test_learning_rate_scales_and_decides_nothing(rate):
    x, y, _ = separable(2)
    one, other = Perceptron(3).double(), Perceptron(3, lr=rate).double()
    assert one.fit(x, y, 100) == other.fit(x, y, 100)
    torch.testing.assert_close(one.weight * rate, other.weight)


def test_pocket_keeps_the_best_weights_of_the_run():
    flowers = iris("all")
    mixed = torch.randperm(100)
    x, y = flowers.x[50:, 2:][mixed].double(), flowers.y[50:][mixed] - 1
    unit, seen = Perceptron(2).double(), []
    for _ in range(5):
        for row, target in zip(x, y.tolist(), strict=True):
            if unit.correct(row, target):
                seen.append(int((unit.predict(x) != y).sum()))
    pocket = Perceptron(2).double()
    assert pocket.fit_pocket(x, y, max_epochs=5) == len(seen)
    assert pocket.mistakes(x, y) == int((pocket.predict(x) != y).sum()) == min(seen) < max(seen)


def test_exclusive_or_has_no_separator():
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    with refuses(ValueError, "y cannot be separated"):
        widest_separator(corners, torch.tensor([0, 1, 1, 0]))


X, Y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Perceptron(0), ValueError, "in_features=0"),
        (lambda: Perceptron(-1), ValueError, "in_features=-1"),
        (lambda: Perceptron(2.5), TypeError, "in_features=2.5"),
        (lambda: Perceptron(2, lr=0.0), ValueError, "lr=0.0"),
        (lambda: Perceptron(2, lr=float("nan")), ValueError, "lr=nan"),
        (lambda: Perceptron(3).predict(X), ValueError, "in_features=3"),
        (lambda: Perceptron(2).predict(X * float("nan")), ValueError, "x must be finite"),
        (lambda: Perceptron(2).fit(X, Y, 0), ValueError, "max_epochs=0"),
        (lambda: Perceptron(2).fit(X[:0], Y[:0], 1), ValueError, "x must not be empty"),
        (lambda: Perceptron(2).fit(X, Y + 1, 1), ValueError, "y must hold classes 0 … 1"),
        (lambda: Perceptron(2).fit(X, Y[:3], 1), ValueError, "y must have shape"),
        (lambda: Perceptron(2).fit_pocket(X, Y, -3), ValueError, "max_epochs=-3"),
        (lambda: novikoff_bound(X, Y, torch.zeros(3)), ValueError, "separator must not be zero"),
        (lambda: novikoff_bound(X[:2], Y[:2] * 0, torch.tensor([0.0, 0, 1])), ValueError, "margin"),
        (lambda: margin(X, Y, torch.ones(2)), ValueError, "separator must have shape"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
