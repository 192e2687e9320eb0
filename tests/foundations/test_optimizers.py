"""The optimizers against their equations, torch.optim step by step, and closed forms."""

import copy
import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import minimize_scalar
from torch import optim

from nnlib.foundations.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from nnlib.train.loop import train
from nnlib.train.schedules import warmup_cosine
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"lr": 0.1})


RULES = {"SGD": SGD, "Adagrad": Adagrad, "RMSprop": RMSprop, "Adam": Adam, "AdamW": AdamW}
CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adagrad", {"weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.7), "weight_decay": 0.3}),
]
SHAPES = ((3, 4), (5,), (), (0,))
A, B = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([1.0, -2.0, 3.0]).double()


def tensors(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def leaves(values):
    return [value.detach().clone().requires_grad_() for value in values]


def give(parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()


def path(make, slope, start, n):
    """The parameters after each of n steps, as a matrix."""
    theta = start.clone().requires_grad_()
    optimizer, places = make([theta]), [start]
    for _ in range(n):
        theta.grad = slope(theta.detach())
        optimizer.step()
        places.append(theta.detach().clone())
    return torch.stack(places)


def bowl(theta):
    return A * (theta - B)


ZERO = torch.zeros(3).double()


@pytest.mark.equation("optimizers-sgd", "optimizers-momentum-torch", "optimizers-nesterov-torch")
@pytest.mark.equation("optimizers-adagrad")
@pytest.mark.equation("optimizers-rmsprop")
@pytest.mark.equation("optimizers-adam-moments")
@pytest.mark.equation("optimizers-adam-correction", "optimizers-adam-step")
@pytest.mark.equation("optimizers-adamw-step")
@pytest.mark.parametrize("foreach", [None, False], ids=["together", "one by one"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_every_step_is_torchs(name, options, foreach):
    ours, theirs = leaves(tensors(0)), leaves(tensors(0))
    one = RULES[name](ours, foreach=foreach, **options)
    other = getattr(optim, name)(theirs, **options)
    for step in range(40):
        give(ours, tensors(step + 1))
        give(theirs, tensors(step + 1))
        one.step()
        other.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("optimizers-sgd", "optimizers-error")
def test_sgd_shrinks_a_quadratic_geometrically():
    walked = path(partial(SGD, lr=0.1), bowl, ZERO, 20)
    t = torch.arange(21).double()[:, None]
    torch.testing.assert_close(walked, B - B * (1 - 0.1 * A) ** t)


@pytest.mark.equation("optimizers-stability")
@pytest.mark.parametrize(("share", "grows"), [(0.01, False), (0.99, False), (1.01, True)])
def test_two_over_the_largest_curvature_is_the_limit_of_the_rate(share, grows):
    """In a bowl that no axis is aligned with; its curvatures are the Hessian's eigenvalues."""
    factor = torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double()
    hessian = factor @ factor.T
    largest = torch.linalg.eigvalsh(hessian).max().item()
    walked = path(partial(SGD, lr=share * 2 / largest), lambda p: hessian @ p, B, 400)
    heights = torch.einsum("ti,ij,tj->t", walked, hessian, walked)
    assert (heights[-1] > heights[0]) == grows


FEW = torch.tensor([[1.0, 2.0], [-3.0, 1.0], [2.0, -6.0], [4.0, 5.0]]).double()  # gradients


def batches(size):
    """The mean gradient of every batch of `size` draws with replacement from `FEW`."""
    return torch.stack([FEW[list(rows)].mean(0) for rows in product(range(len(FEW)), repeat=size)])


@pytest.mark.equation("optimizers-batch-variance")
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_is_right_on_average_and_its_covariance_is_that_of_one_over_its_size(size):
    every = batches(size)
    torch.testing.assert_close(every.mean(0), FEW.mean(0))
    torch.testing.assert_close(
        torch.cov(every.T, correction=0), torch.cov(FEW.T, correction=0) / size
    )


@pytest.mark.equation("optimizers-noise-floor")
@pytest.mark.parametrize("lr", [0.01, 0.2])
@pytest.mark.parametrize("size", [1, 8])
def test_the_floor_is_the_fixed_point_of_the_covariance(lr, size):
    """Independent: scipy solves the Lyapunov equation of the whole matrix, in turned axes."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    curvature, variance = A.numpy(), np.array([0.5, 2.0, 1.0])
    hessian = turn @ np.diag(curvature) @ turn.T
    noise = turn @ np.diag(variance) @ turn.T / size
    place = solve_discrete_lyapunov(np.eye(3) - lr * hessian, lr**2 * noise)
    excess = 0.5 * np.trace(hessian @ place)
    floor = lr / size * (variance / (4 - 2 * lr * curvature)).sum()
    assert excess == pytest.approx(floor, rel=1e-10)


@pytest.mark.equation("optimizers-robbins-monro")
def test_rates_whose_sum_or_sum_of_squares_is_wrong_do_not_find_the_mean():
    draws = 3.0 + torch.randn(20_000, generator=torch.Generator().manual_seed(4)).double()

    def ends(rate, gradient):
        theta = torch.zeros(1).double().requires_grad_()
        optimizer = SGD([theta], lr=1.0)
        for t, draw in enumerate(draws, start=1):
            optimizer.param_groups[0]["lr"] = rate(t)
            theta.grad = gradient(theta.detach(), draw)
            optimizer.step()
        return theta.item()

    def noisy(theta, draw):
        return theta - draw

    # both sums as they should be: SGD is the running mean, whose variance is 1 / t
    assert ends(lambda t: 1 / t, noisy) == pytest.approx(draws.mean().item(), abs=1e-12)
    # a finite first sum: even without noise, half of the way is left, as ∏ (1 − 1/t²) = 1/2
    left = ends(lambda t: 1 / (t + 1) ** 2, lambda theta, draw: theta - 3.0)
    assert 1 - left / 3.0 == pytest.approx(0.5, abs=1e-4)
    # an infinite second one: at a constant rate the variance stays η / (2 − η)
    late, theta = [], 0.0
    for draw in draws.tolist():
        theta += 0.5 * (draw - theta)
        late.append(theta)
    assert np.var(late[100:]) == pytest.approx(0.5 / 1.5, rel=0.05)


@pytest.mark.equation("optimizers-best-rate", "optimizers-batch-steps")
def test_best_rate_and_gain_of_a_step_follow_the_batch_size():
    """Every batch is tried, and the best rate found by search, not by the formula."""
    hessian = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    g, noise = FEW.mean(0), torch.cov(FEW.T, correction=0)
    curved = (g @ hessian @ g).item()
    fastest, scale = (g @ g).item() / curved, torch.trace(hessian @ noise).item() / curved
    gains = {}
    for size in (1, 2, 4):
        every = batches(size)

        def change(lr, every=every):
            quadratic = torch.einsum("bi,ij,bj->b", every, hessian, every)
            return (-lr * (every @ g) + 0.5 * lr**2 * quadratic).mean().item()

        found = minimize_scalar(change, bounds=(0, 2), method="bounded", options={"xatol": 1e-10})
        assert found.x == pytest.approx(fastest / (1 + scale / size), rel=1e-5)
        gains[size] = -found.fun
    full = 0.5 * (g @ g).item() * fastest  # the gain of a step without noise: S_min steps' worth
    for size, gain in gains.items():
        assert full / gain == pytest.approx(1 + scale / size, rel=1e-8)


@pytest.mark.equation("optimizers-clip")
@pytest.mark.parametrize("threshold", [0.1, 1.0, 1e9])
def test_clipping_is_torchs(threshold):
    parameters, gradients = leaves(tensors(0)), tensors(1)
    give(parameters, gradients)
    torch.nn.utils.clip_grad_norm_(parameters, threshold)
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    for parameter, g in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(
            parameter.grad, g * min(1.0, threshold / norm), rtol=1e-5, atol=1e-12
        )  # torch adds 1e-6 to the norm


@pytest.mark.equation("optimizers-momentum")
@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_velocity_form_is_torchs_momentum_and_a_linear_recurrence(mu):
    theta, v, places = ZERO, torch.zeros(3).double(), [ZERO]
    for _ in range(30):
        v = mu * v - 0.05 * bowl(theta)
        theta = theta + v
        places.append(theta)
    places = torch.stack(places)
    torch.testing.assert_close(
        places, path(partial(optim.SGD, lr=0.05, momentum=mu), bowl, ZERO, 30)
    )
    torch.testing.assert_close(places, path(partial(SGD, lr=0.05, momentum=mu), bowl, ZERO, 30))
    for at in range(3):  # independent: powers of the matrix that maps (error, velocity) onwards
        step = np.array([[1 - 0.05 * A[at], mu], [-0.05 * A[at], mu]])
        error = np.linalg.matrix_power(step, 30) @ np.array([-B[at], 0.0])
        assert places[-1, at].item() - B[at].item() == pytest.approx(error[0], abs=1e-12)


@pytest.mark.equation("optimizers-nesterov")
@pytest.mark.equation("optimizers-nesterov-torch")
def test_look_ahead_point_of_nesterov_is_torchs_parameters():
    theta, v, seen = ZERO, torch.zeros(3).double(), [ZERO]
    for _ in range(30):
        v = 0.9 * v - 0.05 * bowl(theta + 0.9 * v)
        theta = theta + v
        seen.append(theta + 0.9 * v)
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True}
    torch.testing.assert_close(
        torch.stack(seen), path(partial(optim.SGD, **options), bowl, ZERO, 30)
    )
    torch.testing.assert_close(torch.stack(seen), path(partial(SGD, **options), bowl, ZERO, 30))
    # independent: the iterates θ obey Nesterov's two-point form, extrapolate and then descend
    before, now = ZERO.numpy(), (ZERO - 0.05 * bowl(ZERO)).numpy()
    for _ in range(29):
        ahead = now + 0.9 * (now - before)
        before, now = now, ahead - 0.05 * A.numpy() * (ahead - B.numpy())
    np.testing.assert_allclose(theta.numpy(), now, atol=1e-12)


@pytest.mark.equation("optimizers-momentum-torch")
def test_buffer_is_the_faded_sum_of_all_gradients():
    theta = torch.zeros(1).double().requires_grad_()
    optimizer, gradients = SGD([theta], lr=0.1, momentum=0.8), tensors(3, [(1,)] * 12)
    for gradient in gradients:
        give([theta], [gradient])
        optimizer.step()
    faded = sum(0.8 ** (11 - k) * gradient for k, gradient in enumerate(gradients))
    torch.testing.assert_close(optimizer.state[theta]["momentum_buffer"], faded)


def test_forms_of_momentum_part_when_the_rate_drops():
    theta, v, ours = ZERO, torch.zeros(3).double(), ZERO.clone().requires_grad_()
    optimizer, gaps = SGD([ours], lr=0.02, momentum=0.9), []
    for step in range(40):
        lr = 0.02 if step < 15 else 0.002
        v = 0.9 * v - lr * bowl(theta)
        theta = theta + v
        optimizer.param_groups[0]["lr"] = lr
        give([ours], [bowl(ours.detach())])
        optimizer.step()
        gaps.append((theta - ours.detach()).norm().item())
    assert max(gaps[:15]) < 1e-12
    assert max(gaps[15:]) > 0.5


@pytest.mark.equation("optimizers-adagrad")
def test_adagrad_on_an_even_slope_sums_inverse_roots():
    walked = path(partial(Adagrad, lr=0.1, eps=0.0), lambda p: torch.full_like(p, 3.0), ZERO, 9)
    assert walked[-1, 0].item() == pytest.approx(-0.1 * sum(t**-0.5 for t in range(1, 10)))
    theta = torch.zeros(4).double().requires_grad_()
    optimizer, gradients = Adagrad([theta], lr=0.1), tensors(5, [(4,)] * 7)
    for gradient in gradients:
        give([theta], [gradient])
        optimizer.step()
    torch.testing.assert_close(
        optimizer.state[theta]["sum"], torch.stack(gradients).square().sum(0)
    )


@pytest.mark.equation("optimizers-rmsprop")
def test_rmsprop_is_the_unrolled_mean_and_forgets():
    gradients = torch.stack(tensors(6, [(4,)] * 25))
    weights = 0.9 ** torch.arange(24, -1, -1).double()
    mean = 0.1 * (weights[:, None] * gradients.square()).sum(0)
    theta = torch.zeros(4).double().requires_grad_()
    optimizer = RMSprop([theta], lr=0.1, alpha=0.9)
    for gradient in gradients:
        before = theta.detach().clone()
        give([theta], [gradient])
        optimizer.step()
    torch.testing.assert_close(optimizer.state[theta]["square_avg"], mean)
    torch.testing.assert_close(
        theta.detach(), before - 0.1 * gradients[-1] / (mean.sqrt() + 1e-8), rtol=1e-9, atol=1e-12
    )


@pytest.mark.equation("optimizers-adam-moments")
@pytest.mark.equation("optimizers-adam-correction", "optimizers-adam-step")
@pytest.mark.equation("optimizers-adam-unrolled")
def test_adam_is_the_ratio_of_weighted_means():
    """The corrected means are weighted averages of the gradients with weights that sum to 1."""
    gradients = torch.stack(tensors(7, [(4,)] * 15))
    start = torch.randn(4, generator=torch.Generator().manual_seed(1)).double()
    theta = start.clone().requires_grad_()
    optimizer, expected = Adam([theta], lr=0.1), start.clone()
    for t in range(1, 16):
        give([theta], [gradients[t - 1]])
        optimizer.step()
        first, second = (b ** torch.arange(t - 1, -1, -1).double()[:, None] for b in (0.9, 0.999))
        m_hat = (first / first.sum() * gradients[:t]).sum(0)
        v_hat = (second / second.sum() * gradients[:t].square()).sum(0)
        expected = expected - 0.1 * m_hat / (v_hat.sqrt() + 1e-8)
        torch.testing.assert_close(theta.detach(), expected, rtol=1e-10, atol=1e-12)
    slots = optimizer.state[theta]
    torch.testing.assert_close(slots["exp_avg"], 0.1 * (first * gradients).sum(0))
    assert 0.1 * first.sum().item() == pytest.approx(1 - 0.9**15)  # the weights of the sum
    torch.testing.assert_close(slots["exp_avg_sq"], 0.001 * (second * gradients.square()).sum(0))


@pytest.mark.equation("optimizers-adam-uncorrected")
def test_uncorrected_steps_have_the_stated_size():
    m = v = 0.0
    for t in range(1, 200):
        m, v = 0.9 * m + 0.1 * 0.7, 0.999 * v + 0.001 * 0.7**2
        assert m / v**0.5 == pytest.approx((1 - 0.9**t) / math.sqrt(1 - 0.999**t))
    walked = path(partial(Adam, lr=0.1, eps=0.0), lambda p: torch.full_like(p, 0.7), ZERO, 50)
    torch.testing.assert_close(walked[:, 0], -0.1 * torch.arange(51).double())  # corrected: η each


@pytest.mark.equation("optimizers-adamw-step")
def test_adamw_is_adam_on_the_loss_after_shrinking():
    """Between two steps, AdamW equals a fresh reckoning of Adam's step plus the pull."""
    theta = B.clone().requires_grad_()
    optimizer = AdamW([theta], lr=0.1, weight_decay=0.3)
    m, v = torch.zeros(3).double(), torch.zeros(3).double()
    for t in range(1, 20):
        before, g = theta.detach().clone(), bowl(theta.detach()).sin()
        give([theta], [g])
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(theta.detach(), before - 0.1 * (adam + 0.3 * before))
    still = path(partial(AdamW, lr=0.1, weight_decay=0.3), torch.zeros_like, B, 10)
    torch.testing.assert_close(still[-1], B * 0.97**10)  # closed form: no slope, only the pull


@pytest.mark.equation("optimizers-adamw-paper")
def test_papers_decay_is_torchs_divided_by_the_rate():
    lr, decay, theta = 0.05, 0.02, B.clone()
    ours = B.clone().requires_grad_()
    optimizer = optim.AdamW([ours], lr=lr, weight_decay=decay / lr)
    m = v = torch.zeros(3).double()
    for t, factor in enumerate((1.0, 0.5, 0.25, 0.1), start=1):
        g = bowl(theta).sin()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = theta - factor * (lr * adam + decay * theta)
        optimizer.param_groups[0]["lr"] = lr * factor
        give([ours], [bowl(ours.detach()).sin()])
        optimizer.step()
        torch.testing.assert_close(ours.detach(), theta)


@pytest.mark.equation("optimizers-l2")
def test_weight_decay_of_sgd_is_a_penalty_by_autograd_and_of_adam_is_not_adamw():
    theta = B.clone().requires_grad_()
    (0.15 * (theta**2).sum()).backward()
    torch.testing.assert_close(theta.grad, 0.3 * B)
    for make in (SGD, Adam, RMSprop, Adagrad):
        penalty = path(partial(make, lr=0.05), lambda p: bowl(p) + 0.3 * p, B + 1, 20)
        decay = path(partial(make, lr=0.05, weight_decay=0.3), bowl, B + 1, 20)
        torch.testing.assert_close(decay, penalty)
    ends = [path(partial(m, lr=0.1, weight_decay=0.1), bowl, ZERO, 30)[-1] for m in (Adam, AdamW)]
    assert (ends[0] - ends[1]).norm() > 0.05


@pytest.mark.equation("optimizers-epsilon-inside")
@pytest.mark.parametrize(
    ("gradient", "outside", "inside"),
    [(1e-4, 0.9999, 0.7071), (1e-5, 0.9990, 0.0995), (1e-6, 0.9901, 0.0100)],
)
def test_epsilon_inside_the_root_mutes_small_gradients(gradient, outside, inside):
    step = path(partial(Adagrad, lr=1.0, eps=1e-8), lambda p: torch.full_like(p, gradient), ZERO, 1)
    assert -step[-1, 0].item() == pytest.approx(outside, abs=5e-5)
    assert gradient / math.sqrt(gradient**2 + 1e-8) == pytest.approx(inside, abs=5e-5)
    theirs = path(
        partial(optim.Adagrad, lr=1.0, eps=0.0, initial_accumulator_value=1e-8),
        lambda p: torch.full_like(p, gradient),
        ZERO,
        1,
    )  # torch's start value of the sum is an ε inside the root
    assert -theirs[-1, 0].item() == pytest.approx(inside, abs=5e-5)


@pytest.mark.equation("optimizers-warmup-cosine")
def test_warmup_cosine_is_torchs_two_schedulers():
    steps, warm, ours = 30, 6, warmup_cosine(30, warmup=6)
    parameter = torch.zeros(1, requires_grad=True)
    first, second = (optim.SGD([parameter], lr=1.0) for _ in range(2))
    rise = optim.lr_scheduler.LinearLR(first, 1 / warm, 1.0, total_iters=warm - 1)
    fall = optim.lr_scheduler.CosineAnnealingLR(second, steps - warm)
    for t in range(1, steps + 1):
        optimizer, scheduler = (first, rise) if t <= warm else (second, fall)
        wave = 0.5 * (1 + math.cos(math.pi * (t - 1 - warm) / (steps - warm)))
        assert ours(t - 1) == pytest.approx(t / warm if t <= warm else wave, abs=1e-12)
        assert ours(t - 1) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.equation("optimizers-warmup-cosine")
def test_warmup_cosine_is_what_torchs_schedulers_give_joined_and_by_a_function():
    steps, warm, rates = 30, 6, []
    plan = warmup_cosine(steps, warmup=warm)
    for join in (
        lambda optimizer: optim.lr_scheduler.LambdaLR(optimizer, plan),
        lambda optimizer: optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, total_iters=warm - 1),
                optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm),
            ],
            milestones=[warm],
        ),
    ):
        optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        scheduler = join(optimizer)
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    wanted = [0.5 * plan(t) for t in range(steps)]
    assert rates == pytest.approx(2 * wanted, abs=1e-12)


@pytest.mark.parametrize("mu", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("nesterov", [False, True], ids=["momentum", "Nesterov"])
def test_the_largest_rate_on_a_parabola_has_a_closed_form(mu, nesterov):
    """Independent: the spectral radius of the map of error and velocity passes 1 there."""
    limit = 2 * (1 + mu) / (1 + 2 * mu) if nesterov else 2 * (1 + mu)

    def radius(lr):  # of (error, velocity), with a curvature of 1
        kept = mu * (1 - lr) if nesterov else mu
        return np.abs(np.linalg.eigvals([[1 - lr, kept], [-lr, kept]])).max()

    assert radius(0.99 * limit) < 1 < radius(1.01 * limit)
    options = {"momentum": mu, "nesterov": nesterov}
    start = torch.ones(1).double()
    for share, settles in ((0.97, True), (1.03, False)):
        walked = path(partial(SGD, lr=share * limit, **options), lambda p: p, start, 2000)
        assert (walked[-1].abs() < 0.01) == settles


@pytest.mark.equation("optimizers-rate-sgd", "optimizers-rate-momentum")
@pytest.mark.parametrize("kappa", [4.0, 25.0, 100.0])
def test_rates_are_the_spectral_radii_and_no_constants_are_better(kappa):
    def radius(lr, mu):
        maps = [np.array([[1 - lr * a, mu], [-lr * a, mu]]) for a in np.linspace(1, kappa, 15)]
        return max(np.abs(np.linalg.eigvals(m)).max() for m in maps)

    root = math.sqrt(kappa)
    plain, heavy = (kappa - 1) / (kappa + 1), (root - 1) / (root + 1)
    assert radius(2 / (kappa + 1), 0.0) == pytest.approx(plain)
    assert radius((2 / (root + 1)) ** 2, heavy**2) == pytest.approx(heavy, rel=1e-6)
    rates = np.linspace(0.01, 4, 60) / kappa
    assert min(radius(lr, 0.0) for lr in rates) >= plain - 1e-9
    assert min(radius(lr, mu) for lr in rates for mu in np.linspace(0, 0.99, 25)) >= heavy - 1e-6
    far = path(partial(SGD, lr=2 / (kappa + 1)), lambda p: torch.tensor([1, kappa]) * p, B[:2], 9)
    torch.testing.assert_close(far[1:].norm(dim=1), plain * far[:-1].norm(dim=1))


def bent(theta):
    """The gradient of a convex function whose curvature is 25, then 1, then 25 again."""
    return torch.where(theta < 1, 25 * theta, torch.where(theta < 2, theta + 24, 25 * theta - 24))


def test_the_rate_of_momentum_holds_for_quadratics_only():
    """Heavy-ball momentum at its best constants for κ = 25 cycles on a convex function of κ = 25.

    Lessard, Recht and Packard 2016. The cycle is found exactly, and it is attracting.
    """
    curvature = torch.autograd.functional.jacobian(bent, torch.tensor([0.5, 1.5, 2.5]).double())
    assert curvature.diag().tolist() == [25.0, 1.0, 25.0]
    options = {"lr": 4 / (5 + 1) ** 2, "momentum": ((5 - 1) / (5 + 1)) ** 2}
    start = torch.tensor([3.3]).double()
    walked = path(partial(SGD, **options), bent, start, 300)[:, 0]
    last = walked[-3:]
    torch.testing.assert_close(walked[-6:-3], last, rtol=0, atol=1e-12)
    assert last.abs().min() > 0.5  # the minimum is at 0
    # independent: the linear equations of a cycle through the pieces θ < 1, θ ≥ 2, θ < 1
    lr, mu = options["lr"], options["momentum"]
    slopes, shifts = np.array([25.0, 25.0, 25.0]), np.array([0.0, -24.0, 0.0])
    cycle = np.zeros((3, 3))
    for at in range(3):
        cycle[at, (at + 1) % 3] += 1
        cycle[at, at] += lr * slopes[at] - 1 - mu
        cycle[at, at - 1] += mu
    places = np.linalg.solve(cycle, -lr * shifts)
    np.testing.assert_allclose(np.sort(last.numpy()), np.sort(places), atol=1e-12)
    # on the quadratic of the same κ the same constants do converge, and so does plain descent here
    straight = path(partial(SGD, **options), lambda p: 25 * p, start, 300)[-1]
    plain = path(partial(SGD, lr=2 / 26), bent, start, 300)
    assert straight.abs() < 1e-12
    assert (plain[1:].abs() <= 24 / 26 * plain[:-1].abs() + 1e-15).all()


def test_plain_descent_keeps_at_most_its_share_and_less_in_between():
    curvature, start = torch.tensor([1.0, 5.0, 25.0]).double(), torch.ones(3).double()
    walked = path(partial(SGD, lr=2 / 26), lambda p: curvature * p, start, 1)
    shares = walked[1].abs()
    torch.testing.assert_close(shares[[0, 2]], torch.full((2,), 24 / 26).double())
    assert shares[1] < 24 / 26


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("to_torch", [False, True])
def test_state_travels_between_torch_and_us(name, options, to_torch):
    makers = [getattr(optim, name), RULES[name]]
    first, second = reversed(makers) if to_torch else makers
    old = leaves(tensors(0))
    elder = first(old, **options)
    for step in range(3):
        give(old, tensors(step + 1))
        elder.step()
    new = leaves(old)
    heir = second(new)
    heir.load_state_dict(copy.deepcopy(elder.state_dict()))
    for step in range(3, 6):
        for parameters, optimizer in ((old, elder), (new, heir)):
            give(parameters, tensors(step + 1))
            optimizer.step()
    torch.testing.assert_close(new, old, rtol=1e-12, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(RULES)),
    shape=st.lists(st.integers(0, 4), max_size=3),
    scale=st.sampled_from([0.0, 1e-30, 1e-12, 1.0, 1e12]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_steps_stay_finite_at_extremes(name, shape, scale, dtype):
    parameter = torch.ones(shape, dtype=dtype, requires_grad=True)
    optimizer = RULES[name]([parameter], lr=1e-3)
    for _ in range(3):
        parameter.grad = torch.full_like(parameter, scale)
        optimizer.step()
    assert parameter.dtype == dtype
    assert parameter.shape == torch.Size(shape)
    assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("name", sorted(set(RULES) - {"SGD", "Adagrad"}))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_adaptive_rules_do_not_see_the_scale_of_the_loss(name, scale):
    options = {"lr": 0.1, "eps": 0.0, "weight_decay": 0.0}
    plain, scaled = (
        path(partial(RULES[name], **options), lambda p, s=s: s * bowl(p), ZERO, 15)
        for s in (1.0, scale)
    )
    torch.testing.assert_close(plain, scaled)


def test_closure_groups_and_missing_gradients():
    one, two, idle = leaves([torch.ones(2), torch.ones(2), torch.ones(2)])
    optimizer = SGD([{"params": [one, idle]}, {"params": [two], "lr": 0.5}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = one.sum() + two.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert (one[0].item(), two[0].item(), idle[0].item()) == pytest.approx((0.9, 0.5, 1.0))


@pytest.mark.parametrize(
    ("name", "kept"), [("SGD", 0), ("Adagrad", 1), ("RMSprop", 1), ("AdamW", 2)]
)
def test_state_takes_the_stated_room(name, kept):
    (parameter,) = leaves([torch.ones(7, 3)])
    optimizer = RULES[name]([parameter])
    give([parameter], [torch.ones(7, 3)])
    optimizer.step()
    slots = {k: v for k, v in optimizer.state[parameter].items() if k != "step"}
    assert sum(slot.numel() for slot in slots.values()) == kept * 21


@pytest.mark.parametrize("name", sorted(RULES))
def test_training_loop_takes_them_and_resumes_from_a_checkpoint(name, tmp_path):
    x, w = torch.randn(64, 3), torch.tensor([[1.0], [2.0], [-1.0]])

    def squared(model, x, y):
        return (model(x) - y).square().mean()

    def run(steps, **kwargs):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        options = {"batch_size": 16, "optimizer": RULES[name], "lr": 0.05}
        return train(model, squared, (x, x @ w), steps=steps, **options, **kwargs)

    whole = run(30)
    assert whole.loss[-1] < whole.loss[0]
    run(15, checkpoint=tmp_path)
    assert run(30, checkpoint=tmp_path).loss == whole.loss


P = torch.ones(2, requires_grad=True)
SPARSE = torch.ones(2, requires_grad=True)


def step_with_sparse_gradient():
    SPARSE.grad = torch.ones(2).to_sparse()
    Adam([SPARSE]).step()


def load(into, state_of, **change):
    state = state_of.state_dict()
    state["param_groups"][0].update(change)
    into.load_state_dict(state)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SGD([]), ValueError, "params must hold one tensor or more"),
        (lambda: SGD(P), TypeError, "params"),
        (lambda: SGD([torch.ones(2, dtype=torch.long)]), TypeError, "params must be floating"),
        (lambda: SGD([P], lr=-1.0), ValueError, "lr=-1.0"),
        (lambda: SGD([P], lr=float("nan")), ValueError, "lr=nan"),
        (lambda: SGD([P], lr="fast"), TypeError, "lr='fast'"),
        (lambda: SGD([P], momentum=-0.1), ValueError, "momentum=-0.1"),
        (lambda: SGD([P], nesterov=True), ValueError, "nesterov=True needs momentum > 0"),
        (lambda: SGD([P], 0.1, 0.9, 0.5, 0, True), ValueError, "dampening=0.5"),
        (lambda: SGD([P], nesterov=0.0), TypeError, "nesterov=0.0"),
        (lambda: SGD([P], foreach=0.0), TypeError, "foreach=0.0"),
        (lambda: SGD([P], maximize=True), TypeError, "maximize"),
        (lambda: Adagrad([P], lr_decay=-1), ValueError, "lr_decay=-1"),
        (lambda: Adagrad([P], eps=float("inf")), ValueError, "eps=inf"),
        (lambda: Adagrad([P], initial_accumulator_value=-1), ValueError, "initial_accumulator"),
        (lambda: RMSprop([P], alpha=1.0), ValueError, "alpha=1.0"),
        (lambda: RMSprop([P], centered=True), TypeError, "centered"),
        (lambda: Adam([P], betas=(0.9, 1.0)), ValueError, "betas[1]=1.0"),
        (lambda: Adam([P], betas=0.9), TypeError, "betas=0.9"),
        (lambda: Adam([P], weight_decay=-0.1), ValueError, "weight_decay=-0.1"),
        (lambda: Adam([P], amsgrad=True), TypeError, "amsgrad"),
        (
            lambda: AdamW([{"params": [P], "amsgrad": True}]),
            ValueError,
            "AdamW takes no ['amsgrad']",
        ),
        (lambda: AdamW([{"params": [P], "lr": -1}]), ValueError, "lr=-1"),
        (step_with_sparse_gradient, TypeError, "dense gradients"),
        (lambda: load(Adam([P]), optim.SGD([P])), ValueError, "lacks ['betas', 'eps']"),
        (lambda: load(Adam([P]), optim.Adam([P], amsgrad=True)), ValueError, "amsgrad=True"),
        (lambda: load(RMSprop([P]), optim.RMSprop([P], momentum=0.9)), ValueError, "momentum=0.9"),
        (lambda: load(Adam([P]), optim.AdamW([P])), ValueError, "decoupled_weight_decay=True"),
        (lambda: load(SGD([P]), optim.SGD([P]), lr=-1.0), ValueError, "lr=-1.0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
