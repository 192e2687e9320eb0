"""Solvers, adjoint and flows against torchdiffeq, SciPy, autograd, finite differences, formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, quad, solve_ivp
from torch import nn

from nnlib.dynamics import _ode_march
from nnlib.dynamics.neural_ode import (
    TABLES,
    ContinuousFlow,
    NeuralODE,
    SolverError,
    StepUnderflow,
    TooManySteps,
    VectorField,
    divergence,
    hutchinson,
    odeint,
    odeint_adjoint,
    odeint_event,
    solve,
)
from tests.support import Example, Peer, refuses

torchdiffeq = Peer("torchdiffeq")
DOUBLE = torch.float64
FIXED = [name for name, table in TABLES.items() if not table.adaptive]
ADAPTIVE = [name for name, table in TABLES.items() if table.adaptive]
SOLVERS = [odeint, odeint_adjoint]


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"features": 3, "hidden_size": 5, "method": "rk4", "rtol": 1e-3}
    return Example(arguments, (torch.randn(4, 3),))


class Field(nn.Module):
    """A smooth field that depends on the time, and counts how often it is asked."""

    def __init__(self, features: int = 2, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        sizes = {"dtype": DOUBLE}
        self.net = nn.Sequential(nn.Linear(features, 9, **sizes), nn.Tanh(),
                                 nn.Linear(9, features, **sizes))  # fmt: skip
        self.asked: list[float] = []

    def forward(self, t, y):
        self.asked.append(float(t.detach()))
        return self.net(y) * (1 + t) + torch.sin(3 * t) * y.flip(-1)


def times(*numbers: float, **options) -> torch.Tensor:
    return torch.tensor(numbers, dtype=DOUBLE, **options)


def start(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def decay(k: float):
    return lambda t, y: -k * y


def gradients(solver, field, y0, t, **options):
    """Values, and gradients to the start, the times and the weights, of a weighted sum."""
    y0, t = y0.clone().requires_grad_(), t.clone().requires_grad_()
    field.zero_grad()
    y = solver(field, y0, t, **options)
    (y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return [y.detach(), y0.grad, t.grad, *(p.grad.clone() for p in field.parameters())]


def close(got, wanted, relative: float) -> None:
    """Equal within a share of the largest entry of each tensor."""
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=relative * float(b.abs().max()))


# ---------------------------------------------------------------------------------------- the peer
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("t", [times(0, 0.4, 1, 1.7), times(1.5, 0.2, -0.3)])
def test_values_and_gradients_are_those_of_torchdiffeq(solver, t):
    field, y0 = Field(), start(5, 2)
    peer = getattr(torchdiffeq, solver.__name__)
    close(gradients(solver, field, y0, t), gradients(peer, field, y0, t), 1e-5)


@pytest.mark.parametrize("ours", ["euler", "midpoint", "rk4_38", "bosh3"])
def test_methods_of_the_same_kind_are_those_of_torchdiffeq(ours):
    field, y0, t = Field(), start(5, 2), torch.linspace(0, 1, 12, dtype=DOUBLE)
    theirs = {"rk4_38": "rk4"}.get(ours, ours)
    wanted = gradients(torchdiffeq.odeint, field, y0, t, method=theirs)
    got = gradients(odeint, field, y0, t, method=ours)
    # torchdiffeq's gradient to the times goes through its grid and its interpolation; ours is exact
    del got[2], wanted[2]
    close(got, wanted, 5e-5 if ours == "bosh3" else 1e-12)


@pytest.mark.equation("neural-ode-error")
@pytest.mark.equation("neural-ode-control")
@pytest.mark.parametrize(("ours", "theirs"), [("dopri5", "RK45"), ("bosh3", "RK23")])
@pytest.mark.parametrize("end", [4.0, -0.6])
def test_steps_are_those_of_scipy(ours, theirs, end):
    """The error of each step, in units of the tolerance, decides the next: same steps, same looks.

    The field is bumpy enough that some steps are rejected.
    """

    def bumpy(t, y, sin):
        return -y * y + 5 * sin(9 * t * t)

    wanted = solve_ivp(lambda t, y: bumpy(t, y, np.sin), (0, end), [1.0, 0.3], theirs,
                       rtol=1e-5, atol=1e-7)  # fmt: skip
    got = solve(lambda t, y: bumpy(t, y, torch.sin), times(1, 0.3), times(0, end), method=ours,
                rtol=1e-5, atol=1e-7)  # fmt: skip
    np.testing.assert_allclose(got.steps, wanted.t, atol=1e-9)
    np.testing.assert_allclose(got.y[-1], wanted.y[:, -1], rtol=1e-9)
    assert got.evaluations == wanted.nfev
    assert end < 0 or got.rejected > 0


@pytest.mark.equation("neural-ode-dense")
def test_between_the_steps_states_are_those_of_scipy():
    t = torch.linspace(0, 3, 50, dtype=DOUBLE)
    wanted = solve_ivp(lambda t, y: [y[1], -(y[0] ** 3)], (0, 3), [1.0, 0.0], t_eval=t.numpy())
    told = solve(
        lambda t, y: torch.stack([y[1], -(y[0] ** 3)]), times(1, 0), t, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(told.y.T, wanted.y, atol=1e-10)
    assert len(told.steps) < 20  # so most times lie within a step
    np.testing.assert_allclose(np.array(TABLES["dopri5"].dense), RK45.P, rtol=1e-14)


# --------------------------------------------------------------------------------------- the steps
@pytest.mark.equation("neural-ode-runge-kutta")
@pytest.mark.parametrize("method", FIXED)
def test_a_step_is_the_written_formula(method):
    """Numbers from a textbook, each stage spelled out."""

    def f(t, y):
        return torch.sin(y) + t * t

    y, h, t0 = start(3), 0.3, 0.5

    def at(share, state):
        return f(torch.tensor(t0 + share * h, dtype=DOUBLE), state)

    k1 = at(0, y)
    if method == "euler":
        wanted = y + h * k1
    elif method == "midpoint":
        wanted = y + h * at(0.5, y + h / 2 * k1)
    elif method == "heun":
        wanted = y + h / 2 * (k1 + at(1, y + h * k1))
    elif method == "rk4":
        k2 = at(0.5, y + h / 2 * k1)
        k3 = at(0.5, y + h / 2 * k2)
        wanted = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + at(1, y + h * k3))
    else:
        k2 = at(1 / 3, y + h / 3 * k1)
        k3 = at(2 / 3, y + h * (k2 - k1 / 3))
        wanted = y + h / 8 * (k1 + 3 * k2 + 3 * k3 + at(1, y + h * (k1 - k2 + k3)))
    torch.testing.assert_close(odeint(f, y, times(t0, t0 + h), method=method)[1], wanted)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_meets_the_conditions_of_its_order(name):
    """Sums of trees up to order 4 are those of the exact solution; nodes are sums of rows."""
    table = TABLES[name]
    a = np.zeros((len(table.nodes), len(table.nodes)))
    for i, row in enumerate(table.stages):
        a[i + 1, : len(row)] = row
    b, c = np.array(table.weights), np.array(table.nodes)
    np.testing.assert_allclose(a.sum(1), c, atol=1e-14)
    trees = [
        (1, b, 1),
        (2, b * c, 2),
        (3, b * c**2, 3),
        (3, b * (a @ c), 6),
        (4, b * c**3, 4),
        (4, b * c * (a @ c), 8),
        (4, b * (a @ c**2), 12),
        (4, b * (a @ a @ c), 24),
    ]
    for order, tree, share in trees:
        if order <= table.order:
            assert tree.sum() == pytest.approx(1 / share, abs=1e-14)
    if table.adaptive:  # the other result is of one order less, and between steps ends meet
        for order, tree in ((1, np.array(table.error)), (2, np.array(table.error) * c)):
            assert abs(tree.sum()) < 1e-14, order
        np.testing.assert_allclose(np.array(table.dense).sum(1), b, atol=1e-13)


@pytest.mark.equation("neural-ode-order")
@pytest.mark.parametrize("name", TABLES)
def test_the_error_falls_with_the_power_of_the_step_that_is_the_order(name):
    order = TABLES[name].order

    def f(t, y):
        return y * torch.cos(t)

    def error(steps):
        span = torch.linspace(0, 2, steps + 1, dtype=DOUBLE)
        if not TABLES[name].adaptive:
            got = odeint(f, times(1), times(0, 2), method=name, step_size=2 / steps)
            return abs(got[-1].item() - math.exp(math.sin(2)))
        y = times(1)  # equal steps of a method that would choose: one table, by hand
        for a, b in zip(span[:-1].tolist(), span[1:].tolist(), strict=True):
            y = _ode_march.fixed(lambda t, y: (f(t, y), ()), y, (a, b), TABLES[name], None).states[
                1
            ]
        return abs(y.item() - math.exp(math.sin(2)))

    fitted = math.log2(error(40) / error(80))
    assert fitted == pytest.approx(order, abs=0.3)


@pytest.mark.equation("neural-ode-euler")
def test_residual_layers_are_steps_of_euler():
    field, y = Field(), start(4, 2)
    wanted = y
    for layer in range(8):
        wanted = wanted + field(torch.tensor(layer / 8, dtype=DOUBLE), wanted) / 8
    got = odeint(field, y, times(0, 1), method="euler", step_size=1 / 8)[-1]
    torch.testing.assert_close(got, wanted)


@pytest.mark.equation("neural-ode-stability")
@pytest.mark.parametrize(("h", "shrinks"), [(0.019, True), (0.021, False)])
def test_eulers_step_must_stay_below_two_over_the_rate(h, shrinks):
    """On dy/dt = −100 y each step multiplies by 1 − 100 h."""
    t = torch.arange(101, dtype=DOUBLE) * h
    y = odeint(decay(100), times(1), t, method="euler")
    torch.testing.assert_close(y[:, 0], (1 - 100 * h) ** torch.arange(101, dtype=DOUBLE))
    assert (abs(y[-1].item()) < 1) == shrinks


@pytest.mark.equation("neural-ode-solution")
def test_the_state_is_the_start_and_the_integral_of_the_slopes():
    field, y0 = Field(), start(1, 2)

    def slope(t):
        y = odeint(field, y0, times(0, t))[-1] if t > 0 else y0
        return field(torch.tensor(t, dtype=DOUBLE), y)[0, 0].item()

    with torch.no_grad():
        wanted = y0[0, 0].item() + quad(slope, 0, 1.3, limit=20, epsabs=1e-6)[0]
        assert odeint(field, y0, times(0, 1.3))[-1, 0, 0].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.equation("neural-ode-gronwall")
def test_neighbours_part_no_faster_than_the_lipschitz_constant_allows():
    field = VectorField(2, 8, autonomous=True, dtype=DOUBLE)
    bound = math.prod(torch.linalg.matrix_norm(layer.weight, 2).item() for layer in field.layers)
    y0 = start(40, 2)
    t = torch.linspace(0, 2, 9, dtype=DOUBLE)
    with torch.no_grad():
        gaps = torch.cdist(odeint(field, y0, t), odeint(field, y0, t))
    most = gaps[0] * torch.exp(bound * t)[:, None, None]
    least = gaps[0] * torch.exp(-bound * t)[:, None, None]
    assert (gaps <= most + 1e-7).all()
    assert (gaps >= least - 1e-7).all()  # so no two paths ever meet


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_solution_ends_at_its_last_time_and_asks_nothing_beyond(method):
    field = Field()
    told = solve(field, start(3, 2), times(0, 0.37, 1.1), method=method, rtol=1e-4, atol=1e-5)
    assert told.steps[-1] == 1.1
    assert max(field.asked) <= 1.1
    assert len(field.asked) == told.evaluations


def test_back_in_time_is_where_it_came_from():
    field, y0 = Field(), start(3, 2)
    end = odeint(field, y0, times(0, 1.5))[-1]
    torch.testing.assert_close(odeint(field, end, times(1.5, 0))[-1], y0, atol=1e-6, rtol=0)


def test_a_step_size_is_a_bound_that_meets_every_time():
    told = solve(decay(1), times(1), times(0, 0.25, 1), method="rk4", step_size=0.1)
    wanted = [*np.linspace(0, 0.25, 4), *np.linspace(0.25, 1, 9)[1:]]
    np.testing.assert_allclose(told.steps, wanted, atol=1e-12)
    assert told.evaluations == 4 * 11


def test_a_tolerance_is_kept_by_the_step_it_is_about():
    for tolerance in (1e-3, 1e-6, 1e-9):
        y = odeint(decay(1), times(1), times(0, 1), rtol=tolerance, atol=tolerance)
        assert abs(y[-1].item() - math.exp(-1)) < 3 * tolerance


def test_a_field_that_stands_still_takes_the_largest_steps():
    told = solve(lambda t, y: torch.zeros_like(y), start(3), times(0, 1000))
    assert told.evaluations < 80
    torch.testing.assert_close(told.y[1], told.y[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_keeps_its_dtype_and_comes_near(dtype):
    y0 = torch.ones(3, dtype=dtype)
    y = odeint(decay(1), y0, torch.tensor([0.0, 1.0]), rtol=0.05, atol=0.05)
    assert y.dtype == dtype
    torch.testing.assert_close(y[-1].double(), torch.full((3,), math.exp(-1)).double(),
                               atol=0.02, rtol=0)  # fmt: skip


# ------------------------------------------------------------------------------------- the adjoint
@pytest.mark.equation("neural-ode-state-gradient")
@pytest.mark.parametrize("t", [0.0, 0.5, 1.2])
def test_the_adjoint_says_what_a_nudge_of_the_state_does_to_the_loss(t):
    """Of dy/dt = My and the loss c·y(1.3) it is exp(Mᵀ(1.3 − t)) c, with a plus sign."""
    M, c, y = start(3, 3), start(3, seed=2), start(3, seed=3)
    near = {"rtol": 1e-5, "atol": 1e-6}

    def loss(state, solver=odeint, **options):
        return solver(lambda _, v: v @ M.T, state, times(t, 1.3), **options)[-1] @ c

    leaf = y.clone().requires_grad_()
    (a,) = torch.autograd.grad(loss(leaf, odeint_adjoint, adjoint_params=()), leaf)
    torch.testing.assert_close(a, torch.linalg.matrix_exp(M.T * (1.3 - t)) @ c, **near)
    nudge = start(3, seed=4)
    torch.testing.assert_close(loss(y + nudge) - loss(y), a @ nudge, **near)


@pytest.mark.equation("neural-ode-adjoint")
def test_the_adjoint_state_is_plus_the_gradient_at_each_time():
    """a(t) of the equation, integrated with its sign, is what autograd finds from time t on."""
    field, y0, t = Field(), start(1, 2), times(0, 0.5, 1)
    path = odeint(field, y0, t).detach()

    def back(s, both):
        y, a = both[0].detach().requires_grad_(), both[1]
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad(field(s, y), y, a)
        return torch.stack([field(s, y.detach()), -pulled]).detach()

    a = odeint(back, torch.stack([path[-1], 2 * path[-1]]), t.flip(0))[:, 1].flip(0)
    for at in (0, 1):
        y = path[at].clone().requires_grad_()
        odeint(field, y, t[at:])[-1].square().sum().backward()
        torch.testing.assert_close(a[at], y.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.equation("neural-ode-gradient")
def test_the_gradient_to_the_weights_is_that_of_differences():
    field, y0, t = Field(), start(2, 2), times(0, 0.7, 1.2)

    def loss():
        return odeint_adjoint(field, y0, t)[1:].square().sum()

    loss().backward()
    weight = field.net[2].weight
    with torch.no_grad():
        for at in ((0, 3), (1, 7)):
            moved = []
            for shift in (1e-5, -1e-5):
                weight[at] += shift
                moved.append(loss().item())
                weight[at] -= shift
            wanted = (moved[0] - moved[1]) / 2e-5
            assert weight.grad[at].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.equation("neural-ode-times")
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("numbers", [(0.1, 0.6, 1.3), (1.3, 0.6, 0.1)])
def test_the_gradient_to_the_times_is_that_of_differences(solver, numbers):
    field, y0 = Field(), start(2, 2)

    def loss(t):
        y = solver(field, y0, t)
        return (y * torch.arange(1, 4, dtype=DOUBLE)[:, None, None]).square().sum()

    t = times(*numbers, requires_grad=True)
    loss(t).backward()
    for at in range(3):
        step = torch.zeros(3, dtype=DOUBLE)
        step[at] = 1e-5
        with torch.no_grad():
            wanted = (loss(t + step) - loss(t - step)).item() / 2e-5
        assert t.grad[at].item() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_direct_and_adjoint_gradients_meet_as_steps_become_fine(method):
    field, y0, t = Field(), start(4, 2), times(0, 0.5, 1)
    fine = {"step_size": 0.02} if method == "rk4" else {}
    wanted = gradients(odeint, field, y0, t, method=method, **fine)
    close(gradients(odeint_adjoint, field, y0, t, method=method, **fine), wanted, 1e-6)


def test_with_few_steps_the_adjoint_is_not_the_gradient_of_what_was_computed():
    """Euler: direct gradients are those of the program, adjoint ones those of another."""
    field, y0 = Field(), start(4, 2)
    off = []
    for steps in (2, 8, 64):
        options = {"method": "euler", "step_size": 1 / steps}
        one = gradients(odeint, field, y0, times(0, 1), **options)[3]
        other = gradients(odeint_adjoint, field, y0, times(0, 1), **options)[3]
        off.append(((one - other).norm() / one.norm()).item())
    assert off[0] > 2 * off[1] > 8 * off[2] > 0


def test_the_adjoint_keeps_the_states_at_the_times_alone():
    field, y0 = Field(), start(4, 2)

    def kept(solver, step_size):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        ):
            solver(field, y0, times(0, 1), method="rk4", step_size=step_size)
        return sum(sizes)

    weights = sum(p.numel() for p in field.parameters())
    assert kept(odeint_adjoint, 0.5) == kept(odeint_adjoint, 0.01) == 2 * y0.numel() + weights
    assert kept(odeint, 0.01) > 40 * kept(odeint, 0.5)


def test_the_way_back_drifts_where_the_field_contracts_and_checkpoints_mend_it():
    """Back in time an error of dx/dt = −50 x grows by e⁵⁰; with 20 times between, by e^2.5 each.

    dz/dt = c x, so z(1) = c x(0) (1 − e⁻⁵⁰) / 50, and its derivative to c is 0.02.
    """
    c, errors = nn.Parameter(times(3.0)), []
    for many in (2, 21):
        c.grad = None
        t = torch.linspace(0, 1, many, dtype=DOUBLE)
        y = odeint_adjoint(
            lambda t, y: torch.cat([-50 * y[:1], c * y[:1]]), times(1, 0), t,
            adjoint_params=[c], rtol=1e-6, atol=1e-6, max_steps=100_000,
        )  # fmt: skip
        y[-1, 1].backward()
        errors.append(abs(c.grad.item() / 0.02 - 1))
    assert errors[1] < 1e-3
    assert errors[0] > 1e3


def test_only_what_asks_for_a_gradient_gets_one():
    field, y0, t = Field(), start(3, 2), times(0, 1)
    field.net[0].weight.requires_grad_(False)
    odeint_adjoint(field, y0, t).sum().backward()
    assert field.net[0].weight.grad is None
    assert field.net[2].weight.grad.abs().sum() > 0
    y0.requires_grad_()
    odeint_adjoint(lambda t, y: torch.ones_like(y), y0, t, adjoint_params=()).sum().backward()
    torch.testing.assert_close(y0.grad, torch.full_like(y0, 2.0))


def test_the_gradient_of_the_gradient_goes_through_the_steps():
    y0 = times(0.3, requires_grad=True)
    y = odeint(lambda t, y: y * y, y0, times(0, 1), method="rk4", step_size=0.01)[-1]
    (first,) = torch.autograd.grad(y.sum(), y0, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), y0)  # y = y0 / (1 − y0)
    assert second.item() == pytest.approx(2 / 0.7**3, rel=1e-5)


# ------------------------------------------------------------------------------------ what happens
@pytest.mark.equation("neural-ode-event")
def test_a_ball_falls_for_the_square_root_of_its_height():
    height = times(3.0, requires_grad=True)
    y0 = torch.cat([height, times(0.0)])

    def falls(t, y):
        return torch.stack([y[1], y.new_tensor(-9.81)])

    t, y = odeint_event(falls, y0, lambda t, y: y[0], end=5.0)
    wanted = math.sqrt(2 * 3 / 9.81)
    assert t.item() == pytest.approx(wanted, abs=1e-8)
    assert y[0].item() == pytest.approx(0, abs=1e-7)
    (slope,) = torch.autograd.grad(t, height, retain_graph=True)
    assert slope.item() == pytest.approx(wanted / 6, rel=1e-6)
    (faster,) = torch.autograd.grad(y[1], height)
    assert faster.item() == pytest.approx(-math.sqrt(9.81 / 6), rel=1e-6)


def test_an_event_may_be_one_of_time_and_back_in_time():
    t, y = odeint_event(decay(1), times(1), lambda t, y: t + 0.4 + 0 * y[0], end=-2)
    assert (t.item(), y.item()) == pytest.approx((-0.4, math.exp(0.4)), abs=1e-7)


# -------------------------------------------------------------------------------------- the module
def test_the_layer_ends_where_its_path_does():
    model, x = NeuralODE(3, 8), torch.randn(5, 3)
    torch.testing.assert_close(model(x), model.path(x, torch.tensor([0.0, 1.0]))[-1])
    options = {"rtol": 1e-6, "atol": 1e-6, "method": "dopri5"}
    wanted = torchdiffeq.odeint(model.field, x, torch.tensor([0.0, 1.0]), **options)[-1]
    torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.equation("neural-ode-augmented")
def test_augmented_states_begin_with_zeros():
    model, x = NeuralODE(2, 8, augment=3), torch.randn(5, 2)
    path = model.path(x, torch.linspace(0, 1, 3))
    torch.testing.assert_close(path[0], torch.cat([x, torch.zeros(5, 3)], 1))
    torch.testing.assert_close(model(x), path[-1])
    assert path[-1, :, 2:].abs().min() > 0


def test_on_a_line_the_order_of_points_is_kept_and_with_one_more_number_it_need_not_be():
    """A plain flow of a line is monotonic; two numbers may turn, which swaps them."""
    model = NeuralODE(1, 16, rtol=1e-6, atol=1e-6, dtype=DOUBLE)
    x = torch.linspace(-3, 3, 41, dtype=DOUBLE)[:, None]
    assert (model(x).diff(dim=0) > 0).all()
    turning = NeuralODE(1, augment=1, rtol=1e-8, atol=1e-8)
    turning.field = Turn()
    end = turning(x)
    torch.testing.assert_close(end[:, :1], -x, atol=1e-6, rtol=0)


class Turn(nn.Module):
    """Half a turn in one unit of time."""

    def forward(self, t, y):
        return math.pi * torch.stack([-y[:, 1], y[:, 0]], 1)


def test_both_ways_of_the_layer_give_one_gradient():
    x = torch.randn(4, 3, dtype=DOUBLE)
    grads = []
    for adjoint in (False, True):
        torch.manual_seed(0)
        model = NeuralODE(3, 6, adjoint=adjoint, rtol=1e-8, atol=1e-9, dtype=DOUBLE)
        model(x).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    close(grads[0], grads[1], 1e-6)


def test_a_field_with_time_sees_it_and_an_autonomous_one_does_not():
    y = torch.randn(4, 2)
    plain, still = VectorField(2, 8), VectorField(2, 8, autonomous=True)
    early, late = torch.tensor(0.0), torch.tensor(1.0)
    assert not torch.allclose(plain(early, y), plain(late, y))
    torch.testing.assert_close(still(early, y), still(late, y))
    inner = torch.cat([y, torch.full((4, 1), 0.7)], 1)
    for number, layer in enumerate(plain.layers):
        inner = layer(inner if number == 0 else torch.tanh(inner))
    torch.testing.assert_close(plain(torch.tensor(0.7), y), inner)


def test_a_method_that_chooses_its_steps_tells_shapes_on_the_meta_device():
    model = NeuralODE(3, 4, augment=1, device="meta")
    assert model(torch.empty(5, 3, device="meta")).shape == (5, 4)


# --------------------------------------------------------------------------------------- densities
@pytest.mark.equation("neural-ode-trace")
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_density_changes_by_the_trace(trace):
    """Exactly the log-determinant of the whole map, found by autograd, and its mean by probes."""
    torch.manual_seed(0)
    flow = ContinuousFlow(2, 6, trace=trace, rtol=1e-8, atol=1e-9, dtype=DOUBLE)
    y = start(1, 2)
    span = times(0, 1)
    jacobian = torch.autograd.functional.jacobian(lambda y: flow.path(y, span)[-1], y)
    wanted = -jacobian[0, :, 0].det().abs().log()
    if trace == "exact":
        torch.testing.assert_close(flow.transport(y, span)[1][0], wanted, rtol=1e-6, atol=1e-7)
        return
    many = flow.transport(y.expand(4000, 2), span, generator=torch.Generator().manual_seed(1))[1]
    assert many.mean().item() == pytest.approx(wanted.item(), abs=5 * many.std().item() / 4000**0.5)
    assert many.std() > 0


@pytest.mark.equation("neural-ode-likelihood")
def test_the_density_of_a_plane_adds_up_to_one():
    torch.manual_seed(3)
    flow = ContinuousFlow(2, 6, method="rk4", step_size=0.1)
    side = torch.linspace(-6, 6, 121)
    points = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = flow.log_prob(points).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1, abs=2e-3)


def test_samples_have_the_density_that_is_told():
    """Counts in cells against the integral of the density, within four standard deviations."""
    torch.manual_seed(3)
    flow = ContinuousFlow(1, 6, method="rk4", step_size=0.1)
    with torch.no_grad():
        x = flow.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 0]
        edges = torch.linspace(-2, 2, 9)
        fine = torch.linspace(-2, 2, 801)[:, None]
        inside = torch.trapezoid(flow.log_prob(fine).exp().view(-1), fine[:, 0])
        counts = torch.histogram(x, edges).hist
        middle = (edges[1:] + edges[:-1]) / 2
        density = flow.log_prob(middle[:, None]).exp()
    share = ((x > -2) & (x < 2)).float().mean().item()
    assert share == pytest.approx(inside.item(), abs=4 * 0.5 / 20_000**0.5)
    torch.testing.assert_close(counts / 20_000 / 0.5, density, atol=0.02, rtol=0.05)


@pytest.mark.equation("neural-ode-hutchinson")
def test_probes_give_the_trace_on_average_and_exactly_for_all_signs():
    matrix = start(3, 3)
    y = start(1, 3).requires_grad_()
    signs = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]).double()
    told = [hutchinson(y @ matrix, y, probe[None]).item() for probe in signs]
    assert np.mean(told) == pytest.approx(matrix.trace().item())
    assert np.std(told) > 0
    torch.testing.assert_close(divergence(y @ matrix, y)[0], matrix.trace())


@pytest.mark.parametrize("adjoint", [False, True])
def test_a_likelihood_trains_through_either_solver(adjoint):
    torch.manual_seed(0)
    flow = ContinuousFlow(2, 5, adjoint=adjoint, rtol=1e-9, atol=1e-10, dtype=DOUBLE)
    x = start(6, 2)
    flow(x).mean().backward()
    weight = flow.field.layers[1].weight
    got, moved = weight.grad[0, 1].item(), []
    with torch.no_grad():
        for shift in (1e-5, -1e-5):
            weight[0, 1] += shift
            moved.append(flow.log_prob(x).mean().item())
            weight[0, 1] -= shift
    assert got == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4)


def test_reset_draws_the_field_anew():
    for model in (NeuralODE(2, 4), ContinuousFlow(2, 4), VectorField(2, 4)):
        before = [p.detach().clone() for p in model.parameters()]
        model.reset_parameters()
        pairs = zip(before, model.parameters(), strict=True)
        assert all(not torch.equal(old, new) for old, new in pairs)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("solver", [odeint, odeint_adjoint, solve])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rtol": 0.0}, "rtol=0.0 must be a finite number > 0"),
        ({"atol": -1.0}, "atol=-1.0 must be a finite number > 0"),
        ({"method": "rk5"}, "method='rk5' must be one of ['euler', 'midpoint'"),
        ({"step_size": 0.1}, "step_size=0.1 must be None: dopri5 chooses its steps"),
        ({"method": "rk4", "step_size": 0.0}, "step_size=0.0 must be a finite number > 0"),
        ({"max_steps": 0}, "max_steps=0 must be an integer ≥ 1"),
        ({"t": times(0, 1, 1)}, "t must rise or fall from each time to the next"),
        ({"t": times(0, 1, 0.5)}, "t must rise or fall"),
        ({"t": times(0)}, "t must have 2 times or more, got 1"),
        ({"t": times(0, math.inf)}, "t must be finite"),
        ({"y0": times(math.nan)}, "y0 must be finite"),
        ({"f": lambda t, y: y[:0]}, "f must return a tensor of the shape of y0, (1,), got (0,)"),
        ({"f": lambda t, y: 1.0}, "f must return a tensor of the shape of y0, (1,), got float"),
    ],
)  # fmt: skip
def test_what_cannot_be_solved_is_refused_by_name(solver, change, message):
    given = {"f": decay(1), "y0": times(1), "t": times(0, 1)} | change
    if solver is odeint_adjoint:
        given["adjoint_params"] = ()
    with refuses(ValueError, message):
        solver(**given)


def test_a_solution_that_leaves_for_infinity_says_when():
    """dy/dt = y², y(0) = 2 ends at t = ½."""
    with refuses(StepUnderflow, "too small to move time") as _:
        odeint(lambda t, y: y * y, times(2), times(0, 1))
    with pytest.raises(StepUnderflow) as told:
        odeint(lambda t, y: y * y, times(2), times(0, 1))
    assert told.value.time == pytest.approx(0.5, abs=1e-6)
    assert isinstance(told.value, SolverError)


def test_a_field_without_a_number_says_when():
    def hole(t, y):
        return torch.where(t > 0.25, math.nan, 1.0) * y

    with pytest.raises(StepUnderflow) as told:
        odeint(hole, times(1), times(0, 1))
    assert told.value.time == pytest.approx(0.25, abs=1e-6)


def test_a_stiff_field_says_how_far_it_came():
    with pytest.raises(TooManySteps, match=r"max_steps=100 steps have come to t=") as told:
        odeint(decay(1e5), times(1), times(0, 1), max_steps=100)
    assert 0 < told.value.time < 0.01


def test_other_bad_input_is_refused_by_name():
    with refuses(ValueError, "adjoint_params must list what f has learned"):
        odeint_adjoint(decay(1), times(1), times(0, 1))
    with refuses(ValueError, "adjoint_rtol=0 must be a finite number > 0"):
        odeint_adjoint(Field(), start(1, 2), times(0, 1), adjoint_rtol=0)
    with refuses(ValueError, "adjoint_atol=-1 must be"):
        odeint_adjoint(Field(), start(1, 2), times(0, 1), adjoint_atol=-1)
    with refuses(TypeError, "adjoint_params[0] must be a torch.Tensor"):
        odeint_adjoint(decay(1), times(1), times(0, 1), adjoint_params=[1.0])
    with refuses(ValueError, "end=1.0: nothing has happened until then"):
        odeint_event(decay(1), times(1), lambda t, y: y[0] + 1, end=1.0)
    with refuses(ValueError, "end=0.0 must be another time than start=0.0"):
        odeint_event(decay(1), times(1), lambda t, y: y[0] + 1, end=0.0)
    with refuses(ValueError, "y0 must not be where the event happens"):
        odeint_event(decay(1), times(1), lambda t, y: y[0] - 1, end=1.0)
    with refuses(ValueError, "method='rk4' must be one that chooses its steps"):
        odeint_event(decay(1), times(1), lambda t, y: y[0] + 1, end=1.0, method="rk4")
    with refuses(ValueError, "probe must have shape (1, 2)"):
        y = start(1, 2).requires_grad_()
        hutchinson(2 * y, y, torch.ones(2, 2))
    with refuses(ValueError, "slope must have shape (1, 2)"):
        divergence(y[:, :1], y)
    with refuses(ValueError, "trace='none' must be one of ['exact', 'hutchinson']"):
        ContinuousFlow(2, trace="none")
    with refuses(ValueError, "activation='gelu' must be one of"):
        VectorField(2, activation="gelu")
    with refuses(ValueError, "augment=-1 must be an integer ≥ 0"):
        NeuralODE(2, augment=-1)
    with refuses(ValueError, "x must have shape (b, 2), got (3, 3)"):
        NeuralODE(2)(torch.zeros(3, 3))
    with refuses(TypeError, "f must be a function of time and state, got NoneType"):
        odeint(None, times(1), times(0, 1))
    with refuses(TypeError, "f must be a function of time and state, got NoneType"):
        odeint_adjoint(None, times(1), times(0, 1))
    with refuses(TypeError, "event must be a function of time and state, got int"):
        odeint_event(decay(1), times(1), 3, end=1.0)
    with refuses(ValueError, "y must have shape (*, 2), got (5, 3)"):
        VectorField(2, 4)(torch.tensor(0.0), torch.zeros(5, 3))
    with refuses(ValueError, "y must require a gradient, as its slope does"):
        divergence(nn.Linear(2, 2)(torch.zeros(3, 2)), torch.zeros(3, 2))
    with refuses(ValueError, "x must have shape (n, 2), got (3, 4)"):
        ContinuousFlow(2, 4).log_prob(torch.zeros(3, 4))
    for layer in (NeuralODE(2, 4), ContinuousFlow(2, 4)):
        with refuses(TypeError, "t must be a torch.Tensor, got list"):
            layer.path(torch.zeros(3, 2), [0.0, 1.0])


@pytest.mark.parametrize("size", [1e33, math.inf])
def test_a_slope_too_large_to_measure_ends_as_a_solver_ends(size):
    with pytest.raises(SolverError) as told:
        odeint(lambda t, y: -size * y, torch.ones(2), torch.tensor([0.0, 1.0]), max_steps=50)
    assert told.value.time < 1e-20


def test_equal_steps_that_are_too_small_to_move_time_say_where():
    for size, begin in ((1e-320, 0.0), (1e-12, 1e6)):
        with refuses(StepUnderflow, f"is too small to move time at t={begin:g}"):
            odeint(decay(1), times(1), times(begin, begin + 1), method="euler", step_size=size)


def test_a_parameter_that_is_named_twice_counts_once():
    rate = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    for named in ([rate], [rate, rate]):
        end = odeint_adjoint(lambda t, y: rate * y, times(1), times(0, 1), adjoint_params=named)[-1]
        (got,) = torch.autograd.grad(end.sum(), rate)
        assert float(got) == pytest.approx(math.e, rel=1e-6)


def rise(t, y):
    return torch.ones_like(y)


def test_an_event_at_the_very_end_happens():
    when, where = odeint_event(rise, times(0), lambda t, y: t - 1, end=1.0)
    assert float(when) == 1 and float(where) == pytest.approx(1)


def test_an_event_that_is_no_number_says_when():
    with refuses(ValueError, "event(t, y) must be a number, got nan at t=0"):
        odeint_event(rise, times(0), lambda t, y: torch.log(y[0] - 1), end=3.0)
    with refuses(TypeError, "event(t, y) must be floating point, got torch.bool"):
        odeint_event(rise, times(0), lambda t, y: y[0] < 1, end=3.0)


def test_a_step_function_is_an_event_without_a_gradient():
    def step(t, y):
        return torch.sign(y[0] - 1)

    with torch.inference_mode():
        when, where = odeint_event(rise, times(0), step, end=3.0)
    assert float(when) == pytest.approx(1) == float(where)
    with refuses(ValueError, "event(t, y) must change at a rate other than 0 where it happens"):
        odeint_event(rise, times(0).requires_grad_(), step, end=3.0)


@pytest.mark.parametrize("adjoint", [False, True])
def test_shapes_are_told_on_the_meta_device(adjoint):
    layer = NeuralODE(2, 4, adjoint=adjoint, device="meta")
    x = torch.zeros(3, 2, device="meta")
    assert layer(x).shape == (3, 2)
    assert layer.path(x, torch.tensor([0.0, 0.5, 1.0])).shape == (3, 3, 2)
    assert ContinuousFlow(2, 4, adjoint=adjoint, device="meta").log_prob(x).shape == (3,)
