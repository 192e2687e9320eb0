"""Liquid neurons against scipy's solver, closed forms, loops, theorems and ncps' weights."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch.nn import functional as F

from nnlib.dynamics.liquid import (
    LTC,
    CfC,
    CfCCell,
    LTCCell,
    Wiring,
    euler_step,
    exact_step,
    fused_step,
    steady_state,
    time_constant,
    wiring,
)
from tests.support import Example, Peer, refuses

ncps = Peer("ncps.torch")
wirings = Peer("ncps.wirings")
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, a few hundred operations


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"input_size": 3, "hidden_size": 5, "unfolds": 2},
        (torch.randn(4, 6, 3),),
        {"timespans": torch.rand(4, 6) + 0.1},
    )


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(inputs: int = 3, neurons=5, unfolds: int = 6, seed: int = 1) -> LTC:
    torch.manual_seed(seed)
    return LTC(inputs, neurons, unfolds, dtype=torch.float64)


positive = st.floats(0.05, 20)
gate = st.floats(0, 20)
potential = st.floats(-5, 5)
span = st.floats(0, 50)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


# ---------------------------------------------------------------------------------- one neuron
@pytest.mark.equation("liquid-ode", "liquid-frozen")
@pytest.mark.parametrize(("tau", "f", "A", "x"), [(2.0, 0.6, 1.5, -0.4), (0.5, 3.0, -2.0, 1.0)])
def test_with_a_frozen_gate_the_exact_step_solves_the_equation(tau, f, A, x):
    at = [0.0, 0.3, 1.0, 4.0]
    solved = solve_ivp(
        lambda _, v: -(1 / tau + f) * v + f * A, (0, 4), [x], t_eval=at, rtol=1e-11, atol=1e-13
    )
    times = torch.tensor(at, dtype=torch.float64)
    ours = exact_step(number(x), f, A, tau, times)
    torch.testing.assert_close(ours, torch.from_numpy(solved.y[0]), rtol=1e-8, atol=1e-10)


def test_without_a_gate_a_neuron_leaks_by_a_factor_e_in_its_time_constant():
    after = exact_step(number(3.0), 0.0, 7.0, 2.0, 2.0)
    assert after.item() == pytest.approx(3 / math.e)


@pytest.mark.equation("liquid-leak")
def test_with_its_gate_held_still_it_is_a_leaky_integrator():
    """τ = 2 from a leak of 5: f = 1/2 − 1/5, and A such that it is driven by x = 0.7."""
    f = 1 / 2 - 1 / 5
    solved = solve_ivp(lambda _, v: (-v + 0.7) / 2, (0, 3), [-1.0], rtol=1e-11, atol=1e-13)
    ours = exact_step(number(-1.0), f, 0.7 / (2 * f), 5.0, 3.0)
    assert ours.item() == pytest.approx(solved.y[0, -1], rel=1e-8)


@pytest.mark.equation("liquid-gradient")
def test_a_fused_step_divides_the_gradient():
    v = number(0.3).requires_grad_()
    fused_step(v, 0.6, 1.5, 2.0, 0.7).backward()
    assert v.grad is not None
    wanted = 1 / (1 + 0.7 / time_constant(2.0, 0.6))
    torch.testing.assert_close(v.grad, wanted)


@pytest.mark.equation("liquid-tau")
@given(tau=positive, f=gate)
def test_the_time_constant_is_the_rate_of_forgetting_a_start(tau, f):
    """Two starts approach one another by a factor e in one time constant."""
    constant = time_constant(number(tau), number(f))
    first, second = (exact_step(number(x), f, 1.0, tau, constant) for x in (0.0, 1.0))
    torch.testing.assert_close(second - first, number(1 / math.e))


@pytest.mark.equation("liquid-steady")
@given(tau=positive, f=gate, A=potential)
def test_at_the_steady_state_nothing_moves(tau, f, A):
    rest = steady_state(number(f), A, tau)
    for step in (exact_step, fused_step, euler_step):
        torch.testing.assert_close(step(rest, f, A, tau, 0.7), rest, rtol=1e-9, atol=1e-9)


def test_the_steady_state_is_not_the_gate_times_its_potential():
    """The common formula A·f says .900 whatever the leak; the truth depends on it."""
    taus = torch.tensor([0.5, 1, 2, 10], dtype=torch.float64)
    rest = steady_state(number(0.6), 1.5, taus)
    wanted = torch.tensor([0.346, 0.563, 0.818, 1.286], dtype=torch.float64)
    torch.testing.assert_close(rest, wanted, rtol=0, atol=6e-4)
    long = exact_step(number(-0.4), 0.6, 1.5, taus, 500.0)
    torch.testing.assert_close(long, rest, **CLOSE)


@pytest.mark.equation("liquid-fused")
@given(x=potential, f=gate, A=potential, tau=positive, dt=span)
def test_a_fused_step_solves_its_implicit_equation(x, f, A, tau, dt):
    """x' = x + dt·(−(1/τ + f)·x' + f·A): linear in the new state, which stands on both sides."""
    new = fused_step(number(x), f, A, tau, dt)
    torch.testing.assert_close(
        new, x + dt * (-(1 / tau + f) * new + f * A), rtol=1e-9, atol=1e-9 * (1 + dt * f)
    )


@given(f=gate, A=potential, tau=positive, dt=span, share=st.floats(0, 1))
def test_a_fused_step_never_leaves_the_bounds_however_long(f, A, tau, dt, share):
    low, high = min(0.0, A), max(0.0, A)
    new = fused_step(number(low + share * (high - low)), f, A, tau, dt).item()
    assert low - 1e-12 <= new <= high + 1e-12


@pytest.mark.equation("liquid-euler", "liquid-euler-limit")
def test_euler_multiplies_an_error_by_one_minus_dt_over_the_time_constant():
    tau, f, A = 1.0, 4.0, 1.5
    rest, constant = steady_state(number(f), A, tau), time_constant(number(tau), number(f))
    for dt in (0.1, 0.3, 0.5):
        x = rest + 1
        for _ in range(5):
            x = euler_step(x, f, A, tau, dt)
        torch.testing.assert_close(x - rest, (1 - dt / constant) ** 5)
    assert abs(1 - 0.39 / constant) < 1 < abs(1 - 0.41 / constant), "the limit is 2 τ = 0.4"


def test_explicit_euler_leaves_and_the_fused_step_stays():
    x = number(-0.4)
    euler, fused = (step(x, 0.9, 1.5, 2.0, 10.0) for step in (euler_step, fused_step))
    assert euler > 13
    assert 0 < fused < 1.5


@pytest.mark.parametrize("step", [fused_step, euler_step])
def test_both_steps_are_of_first_order(step):
    """Half the step, half the error: 1.9 to 2.1 once steps are small."""
    wanted = exact_step(number(-0.4), 0.6, 1.5, 2.0, 2.0)

    def error(steps):
        x = number(-0.4)
        for _ in range(steps):
            x = step(x, 0.6, 1.5, 2.0, 2.0 / steps)
        return (x - wanted).abs().item()

    assert 1.9 < error(100) / error(200) < 2.1


def test_a_negative_gate_would_make_it_unstable_and_is_refused():
    assert 1 / 2.0 + -0.8 < 0  # the rate of decay is negative: it would grow for ever
    for call in (
        lambda: time_constant(2.0, -0.8),
        lambda: fused_step(0.0, torch.tensor([0.1, -0.8]), 1.0, 2.0, 0.1),
    ):
        with refuses(ValueError, "f must be ≥ 0, got -0.8"):
            call()


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_a_time_constant_must_be_positive(tau):
    with refuses(ValueError, f"tau must be > 0, got {tau:g}"):
        time_constant(tau, 0.5)
    with refuses(ValueError, "tau must be > 0"):
        exact_step(0.0, 0.5, 1.0, torch.tensor([1.0, tau]), 0.1)


def test_other_arguments_are_refused_by_name():
    with refuses(ValueError, "dt must be ≥ 0, got -1"):
        fused_step(0.0, 0.5, 1.0, 1.0, -1.0)
    with refuses(ValueError, "v must be finite"):
        exact_step(torch.tensor(math.nan), 0.5, 1.0, 1.0, 1.0)
    with refuses(TypeError, "A='no' must be a finite number"):
        steady_state(0.5, "no", 1.0)


# ----------------------------------------------------------------------------- a network of them
def by_hand(cell: LTCCell, x, v):
    """Capacity, and the current into each neuron, one synapse after the other."""
    soft = F.softplus
    x = x * cell.input_w + cell.input_b
    rates, totals = [], []
    for i in range(cell.hidden_size):
        leak = soft(cell.gleak[i])
        current, total = leak * (cell.vleak[i] - v[i]), leak
        sources = [("sensory_", x, cell.sensory_sparsity_mask), ("", v, cell.sparsity_mask)]
        for kind, from_, mask in sources:
            slope, threshold, strength, potential = (
                getattr(cell, kind + name) for name in ("sigma", "mu", "w", "erev")
            )
            for j in range(len(from_)):
                opened = torch.sigmoid(slope[j, i] * (from_[j] - threshold[j, i]))
                conductance = mask[j, i] * soft(strength[j, i]) * opened
                current = current + conductance * (potential[j, i] - v[i])
                total = total + conductance
        rates.append(current / soft(cell.cm[i]))
        totals.append(soft(cell.cm[i]) / total)
    return torch.stack(rates), torch.stack(totals)


@pytest.mark.equation("liquid-membrane", "liquid-tau-network")
@pytest.mark.parametrize("neurons", [5, wiring(3, 7, 2)])
def test_rates_and_time_constants_are_sums_over_synapses(neurons):
    cell = network(3, neurons).rnn_cell
    with torch.no_grad():
        cell.input_w.mul_(1.3), cell.input_b.add_(0.2)
    x, v = drawn(2, 3), drawn(2, cell.hidden_size, seed=1)
    for row in range(2):
        rate, constant = by_hand(cell, x[row], v[row])
        torch.testing.assert_close(cell.derivative(x, v)[row], rate, **CLOSE)
        torch.testing.assert_close(cell.time_constants(x, v)[row], constant, **CLOSE)


@pytest.mark.equation("liquid-fused-network")
@pytest.mark.parametrize("neurons", [6, wiring(3, 9, 2)])
def test_the_fast_walk_is_the_readable_one(neurons):
    ltc = network(3, neurons)
    x, spans = drawn(4, 5, 3), drawn(4, 5).abs() + 0.01
    start = drawn(4, ltc.hidden_size, seed=3)
    for got, wanted in zip(ltc(x, start, spans), ltc.loop(x, start, spans), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)


@pytest.mark.equation("liquid-gate")
def test_a_gate_with_one_sender_is_that_of_a_layer_with_a_sigmoid():
    """Capacitance and strengths of 1, one input, no synapse among neurons: the two layers agree."""
    alone = wiring(1, 4, 1)
    alone.sensory.fill_(1), alone.inner.zero_()  # the input reaches every neuron
    cell, x, v = network(1, alone).rnn_cell, drawn(3, 1), drawn(3, 4, seed=1)
    with torch.no_grad():
        cell.vleak.zero_()
        cell.cm.fill_(math.log(math.e - 1)), cell.sensory_w.fill_(math.log(math.e - 1))
    f = torch.nn.Linear(1, 4, dtype=torch.float64)
    with torch.no_grad():
        f.weight.copy_(cell.sensory_sigma.T)
        f.bias.copy_(-(cell.sensory_sigma * cell.sensory_mu)[0])
    gate, (capacity, leak) = f(x).sigmoid(), cell.leaks()
    wanted = -(leak / capacity + gate) * v + gate * cell.sensory_erev[0]
    torch.testing.assert_close(cell.derivative(x, v), wanted, **CLOSE)


def test_a_fused_step_of_one_neuron_is_that_of_the_single_equation():
    """One input, no synapse among neurons: C, g and W are a τ = C/g and an f = W·σ/C."""
    two = wiring(1, 4, 1)
    two.inner.zero_()
    ltc = network(1, two, unfolds=1)
    cell, x, v = ltc.rnn_cell, drawn(2, 1, 1), drawn(2, 4, seed=1)
    with torch.no_grad():
        cell.vleak.zero_()
    capacity, leak = cell.leaks()
    opened = torch.sigmoid(cell.sensory_sigma * (x[:, 0, :, None] - cell.sensory_mu))[:, 0]
    f = cell.strengths()[0][0] * opened / capacity
    wanted = fused_step(v, f, cell.sensory_erev[0], capacity / leak, 0.7)
    torch.testing.assert_close(ltc(x, v, 0.7)[1], wanted, **CLOSE)


def test_fine_steps_reach_scipys_solution_and_the_error_is_of_first_order():
    torch.manual_seed(2)
    fine = LTC(2, 6, unfolds=1, dtype=torch.float64)
    x, start = drawn(1, 1, 2), drawn(1, 6, seed=1) * 0.3

    def rate(_, v):
        with torch.no_grad():
            return fine.rnn_cell.derivative(x[:, 0], torch.from_numpy(v)[None])[0].numpy()

    solved = solve_ivp(rate, (0, 1.5), start[0].numpy(), rtol=1e-10, atol=1e-12, method="LSODA")
    wanted = torch.from_numpy(solved.y[:, -1])

    def error(unfolds):
        fine.rnn_cell.unfolds = unfolds
        with torch.no_grad():
            return (fine(x, start, 1.5)[1][0] - wanted).abs().max().item()

    assert error(6) < 0.15, "what six steps, the default, are off"
    assert 1.9 < error(400) / error(800) < 2.1
    assert error(3200) < 1e-3


# -------------------------------------------------------------------------------------- theorems
@pytest.mark.equation("liquid-bounds-tau")
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_time_constants_stay_between_their_bounds_whatever_comes_in(scale):
    cell = network(3, 6).rnn_cell
    x, v = scale * drawn(200, 3), scale * drawn(200, 6, seed=1)
    capacity, leak = cell.leaks()
    most = capacity / leak
    least = capacity / (leak + sum(part.sum(0) for part in cell.strengths()))
    got = cell.time_constants(x, v)
    assert (got <= most + 1e-12).all()
    assert (got >= least - 1e-12).all()
    silent, full = torch.full((1, 3), -1e6), torch.full((1, 3), 1e6)
    both = torch.full((1, 6), -1e6), torch.full((1, 6), 1e6)
    torch.testing.assert_close(cell.time_constants(silent.double(), both[0].double())[0], most)
    torch.testing.assert_close(cell.time_constants(full.double(), both[1].double())[0], least)


@pytest.mark.equation("liquid-bounds-state")
@pytest.mark.parametrize("gap", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("size", [1.0, 1e6])
def test_states_stay_between_the_potentials_whatever_comes_in(gap, size):
    ltc = network(3, 6)
    cell = ltc.rnn_cell
    ends = torch.cat((cell.erev, cell.sensory_erev, cell.vleak[None]))
    low, high = ends.amin(0), ends.amax(0)
    start = low + (high - low) * torch.rand(8, 6, dtype=torch.float64)
    states = ltc.trace(size * drawn(8, 30, 3), start, gap).states
    assert (states >= low - 1e-9).all()
    assert (states <= high + 1e-9).all()


def test_a_state_that_starts_outside_comes_back_in():
    ltc = network(3, 6)
    outside = torch.full((1, 6), 50.0, dtype=torch.float64)
    states = ltc.trace(drawn(1, 40, 3), outside).states[0]
    assert states[0].max() > 1
    assert states[-1].abs().max() <= 1


# --------------------------------------------------------------------------- time, ends, streaming
def test_a_gap_of_zero_changes_nothing():
    ltc, start = network(3, 6), drawn(2, 6)
    torch.testing.assert_close(ltc(drawn(2, 1, 3), start, 0.0)[1], start, **CLOSE)


def test_two_gaps_are_one_gap_of_their_sum_when_steps_are_the_same():
    """The input holds for the whole gap, so with equal step sizes a pause can be cut anywhere."""
    torch.manual_seed(3)
    short, long = LTC(2, 5, 4, dtype=torch.float64), LTC(2, 5, 8, dtype=torch.float64)
    long.load_state_dict(short.state_dict())
    x, start = drawn(1, 1, 2), drawn(1, 5)
    twice = short(x, short(x, start, 1.0)[1], 1.0)[1]
    torch.testing.assert_close(twice, long(x, start, 2.0)[1], **CLOSE)


@pytest.mark.parametrize(
    "make", [lambda: network(3, 6), lambda: network(3, wiring(3, 9, 2)), lambda: closed()]
)
def test_step_by_step_is_the_whole_sequence(make):
    layer, x, spans = make(), drawn(2, 5, 3), drawn(2, 5).abs()
    outputs, last = layer(x, None, spans)
    state = None
    for t in range(5):
        told = layer.step(x[:, t], state, spans[:, t])
        out, state = told if isinstance(told, tuple) else (told, told)
        torch.testing.assert_close(out, outputs[:, t], **CLOSE)
    torch.testing.assert_close(state, last, **CLOSE)


@pytest.mark.parametrize("make", [lambda: network(3, 6), lambda: closed()])
@pytest.mark.parametrize("form", ["forward", "loop"])
def test_after_its_end_a_sequence_is_silent_and_its_state_waits(make, form):
    layer, x, spans = make(), drawn(3, 5, 3), drawn(3, 5).abs() + 0.1
    lengths = torch.tensor([5, 2, 1])
    outputs, last = getattr(layer, form)(x, None, spans, lengths)
    for row, end in enumerate(lengths.tolist()):
        out, state = layer(x[row : row + 1, :end], None, spans[row : row + 1, :end])
        torch.testing.assert_close(outputs[row, :end], out[0], **CLOSE)
        torch.testing.assert_close(last[row], state[0], **CLOSE)
        assert not outputs[row, end:].any()


def test_a_trace_holds_every_state_and_its_time_constants():
    ltc, x, spans = network(3, 6), drawn(2, 4, 3), drawn(2, 4).abs()
    trace = ltc.trace(x, timespans=spans)
    torch.testing.assert_close(trace.states[:, -1], ltc(x, None, spans)[1], **CLOSE)
    wanted = ltc.rnn_cell.time_constants(x[:, 2], trace.states[:, 2])
    torch.testing.assert_close(trace.time_constants[:, 2], wanted, **CLOSE)


# -------------------------------------------------------------------------------------------- CfC
def closed(mode: str = "default", layers: int = 1, activation: str = "lecun_tanh") -> CfC:
    torch.manual_seed(1)
    return CfC(3, 6, mode, 8, layers, activation, dtype=torch.float64)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("mode", ["default", "no_gate", "pure"])
def test_the_fast_form_is_the_readable_one(mode, layers):
    cfc, x, spans = closed(mode, layers), drawn(4, 5, 3), drawn(4, 5).abs()
    start = drawn(4, 6, seed=3)
    for got, wanted in zip(cfc(x, start, spans), cfc.loop(x, start, spans), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)


def heads(cfc: CfC, x, h):
    """What each head says of one input and one state, by name."""
    cell = cfc.rnn_cell
    z = cell.backbone(torch.cat((x, h), -1))
    return {name: getattr(cell, name)(z) for name in ("ff1", "ff2", "time_a", "time_b")}


@pytest.mark.equation("liquid-cfc", "liquid-cfc-gate")
def test_a_cfc_fades_from_one_head_to_the_other():
    cfc, x, h = closed(), drawn(2, 3), drawn(2, 6)
    said = heads(cfc, x, h)
    g, k = said["ff1"].tanh(), said["ff2"].tanh()
    for gap in (0.0, 0.5, 3.0):
        gate = 1 / (1 + torch.exp(said["time_a"] * gap + said["time_b"]))  # σ(−f t)
        torch.testing.assert_close(cfc.step(x, h, gap), gate * g + (1 - gate) * k, **CLOSE)
    far = torch.where(said["time_a"] > 0, k, g)
    torch.testing.assert_close(cfc.step(x, h, 1e6), far, **CLOSE)


@pytest.mark.equation("liquid-cfc-no-gate")
def test_without_the_second_gate_one_head_stays():
    cfc, x, h = closed("no_gate"), drawn(2, 3), drawn(2, 6)
    said = heads(cfc, x, h)
    gate = 1 / (1 + torch.exp(-said["time_a"] * 0.5 - said["time_b"]))
    wanted = said["ff1"].tanh() + gate * said["ff2"].tanh()
    torch.testing.assert_close(cfc.step(x, h, 0.5), wanted, **CLOSE)


@pytest.mark.equation("liquid-cfc-pure")
def test_the_pure_form_goes_to_its_potential():
    cfc, x, h = closed("pure"), drawn(2, 3), drawn(2, 6)
    cell = cfc.rnn_cell
    f = cell.ff1(cell.backbone(torch.cat((x, h), -1)))
    for gap in (0.0, 0.5, 3.0):
        rate = cell.w_tau.abs() + f.abs()
        wanted = cell.A * (1 - f * (-gap * rate).exp())
        torch.testing.assert_close(cfc.step(x, h, gap), wanted, **CLOSE)
    torch.testing.assert_close(cfc.step(x, h, 1e6), cell.A.expand(2, 6), **CLOSE)


@pytest.mark.equation("liquid-cfc-solution")
def test_the_published_approximation_is_the_pure_form_of_a_silent_input():
    """At x = 0 the sigmoids f(x) and f(−x) are both one half; the state starts at 0."""
    cell = CfCCell(1, 1, "pure", backbone_layers=0, dtype=torch.float64)
    A, tau, half = 1.5, 2.0, number(0.5)
    with torch.no_grad():
        cell.A.fill_(A), cell.w_tau.fill_(1 / tau)
        for t in (0.0, 0.7, 4.0):
            wanted = (0 - A) * math.exp(-(1 / tau + 0.5) * t) * 0.5 + A
            got = cell.solution(half.view(1, 1), number(t).view(1, 1))
            assert got.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.equation("liquid-s4")
def test_liquid_s4_is_a_convolution_and_one_with_products_of_inputs():
    """Multiplied out by hand over every subset of four inputs, for one state."""
    decay, weight, x = 0.9, 0.3, [0.5, -1.0, 2.0, 0.7]
    v = 0.0
    for now in x:
        v = (decay + weight * now) * v + weight * now
    total = 0.0
    for first in range(4):
        for later in product((0, 1), repeat=3 - first):
            term = weight * x[first]
            for k, taken in enumerate(later, first + 1):
                term *= weight * x[k] if taken else decay
            total += term
    assert v == pytest.approx(total, rel=1e-12)


def test_the_modes_have_the_heads_that_they_need():
    names = {mode: {n for n, _ in closed(mode).rnn_cell.named_parameters(recurse=False)}
             for mode in ("default", "no_gate", "pure")}  # fmt: skip
    assert names == {"default": set(), "no_gate": set(), "pure": {"w_tau", "A"}}
    assert not hasattr(closed("pure").rnn_cell, "ff2")


# ------------------------------------------------------------------------------------------- ncps
def both_ways(ours, peer):
    """Give the peer our weights and take them back: nothing may be missing or left over."""
    peer.load_state_dict(ours.state_dict())
    fresh = {name: torch.zeros_like(value) for name, value in ours.state_dict().items()}
    ours.load_state_dict(fresh)
    ours.load_state_dict(peer.state_dict())


@pytest.mark.parametrize("wired", [False, True])
def test_an_ltc_agrees_with_ncps_by_weights(wired):
    """The peer adds 1e-8 to a denominator, so equality is to about that."""
    neurons = wiring(3, 9, 2, sparsity=0.4) if wired else 6
    ours = network(3, neurons)
    peers = wirings.AutoNCP(9, 2, sparsity_level=0.4) if wired else 6
    peer = ncps.LTC(3, peers).double()
    with torch.no_grad():  # maps of inputs and outputs that do something
        for name in ("input_w", "input_b", "output_w", "output_b"):
            ours.rnn_cell.get_parameter(name).uniform_(-2, 2)
    both_ways(ours, peer)
    x, start = drawn(4, 7, 3), drawn(4, ours.hidden_size, seed=5)
    for got, wanted in zip(ours(x, start), peer(x, start), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-7)
    gaps = drawn(1, 7).abs() + 0.1  # one sequence: the peer's gaps know no batch
    got, wanted = ours(x[:1], None, gaps)[0], peer(x[:1].float().double(), start[:1] * 0, gaps)[0]
    torch.testing.assert_close(got, ours(x[:1].float().double(), None, gaps)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        ours(x[:1].float().double(), None, gaps)[0], wanted, rtol=0, atol=1e-7
    )


def test_gradients_agree_with_ncps():
    ours = network(3, 6)
    peer = ncps.LTC(3, 6).double()
    peer.load_state_dict(ours.state_dict())
    x = drawn(4, 7, 3)
    for layer in (ours, peer):
        layer(x, drawn(4, 6))[0].square().sum().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, peer.get_parameter(name).grad, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("activation", ["lecun_tanh", "tanh", "relu", "silu", "gelu"])
@pytest.mark.parametrize("mode", ["default", "no_gate", "pure"])
def test_a_cfc_agrees_with_ncps_by_weights(mode, activation):
    ours = closed(mode, 2, activation)
    peer = ncps.CfC(
        3, 6, mode=mode, activation=activation, backbone_units=8, backbone_layers=2
    ).double()
    both_ways(ours, peer)
    x, start = drawn(4, 7, 3), drawn(4, 6, seed=5)
    for got, wanted in zip(ours(x, start), peer(x, start), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)
    gaps = drawn(1, 7).abs()  # one sequence: the peer's gaps know no batch
    got, wanted = ours(x[:1], start[:1], gaps)[0], peer(x[:1], start[:1], gaps)[0]
    torch.testing.assert_close(got, wanted, **CLOSE)


def test_a_cfc_without_a_backbone_agrees_with_ncps():
    ours = closed(layers=0)
    peer = ncps.CfC(3, 6, backbone_layers=0).double()
    both_ways(ours, peer)
    x, start = drawn(4, 7, 3), drawn(4, 6)
    torch.testing.assert_close(ours(x, start)[0], peer(x, start)[0], **CLOSE)


# -------------------------------------------------------------------------------- where they begin
def test_parameters_begin_where_ncps_begins():
    torch.manual_seed(0)
    cell = LTCCell(3, 60)
    peer = ncps.LTC(3, 60).rnn_cell
    for name, ours in cell.named_parameters():
        if "erev" in name:
            assert set(ours.unique().tolist()) == {-1.0, 1.0}
            assert 0.55 < (ours > 0).double().mean() < 0.78, "two of three excite"
            continue
        theirs = peer.get_parameter(name)
        width = max((theirs.max() - theirs.min()).item(), 1e-3)
        assert abs(ours.min() - theirs.min()) < 0.25 * width, name
        assert abs(ours.max() - theirs.max()) < 0.25 * width, name


def test_a_wired_network_begins_with_the_signs_of_its_wiring():
    drawn_wiring = wiring(3, 9, 2)
    cell = LTCCell(3, drawn_wiring)
    assert torch.equal(cell.erev, drawn_wiring.inner.float())
    assert torch.equal(cell.sensory_erev, drawn_wiring.sensory.float())


def test_a_cfc_begins_by_glorots_rule():
    torch.manual_seed(0)
    cell = CfC(5, 40, backbone_units=60).rnn_cell
    bound = math.sqrt(6 / (60 + 40))
    assert 0.95 * bound < cell.ff1.weight.abs().max() <= bound
    pure = CfC(5, 40, "pure").rnn_cell
    assert 0 < pure.w_tau.abs().max() <= math.sqrt(6 / 41)


# -------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("make", [lambda: LTC(3, 4), lambda: CfC(3, 4)])
def test_times_that_run_backwards_are_refused_where_they_do(make):
    spans = torch.ones(2, 5)
    spans[1, 3] = -0.5
    message = "(times must not run backwards), got -0.5 at step 3 of sequence 1"
    with refuses(ValueError, message):
        make()(torch.zeros(2, 5, 3), timespans=spans)
    with refuses(ValueError, "timespans=-1.0 must be a finite number ≥ 0"):
        make()(torch.zeros(2, 5, 3), timespans=-1.0)
    with refuses(ValueError, "timespans must have shape (2, 5), got (2, 4)"):
        make()(torch.zeros(2, 5, 3), timespans=torch.ones(2, 4))


def test_what_does_not_fit_is_refused_by_name():
    with refuses(ValueError, "x must have shape (b, t, 3), got (2, 5, 4)"):
        LTC(3, 4)(torch.zeros(2, 5, 4))
    with refuses(ValueError, "state must have shape (2, 4), got (2, 5)"):
        LTC(3, 4)(torch.zeros(2, 5, 3), torch.zeros(2, 5))
    with refuses(ValueError, "unfolds=0 must be an integer ≥ 1"):
        LTC(3, 4, 0)
    with refuses(ValueError, "input_size=3 must be 2, as the wiring in hidden_size has"):
        LTC(3, wiring(2, 6, 1))
    with refuses(ValueError, "mode='fast' must be one of ['default', 'no_gate', 'pure']"):
        CfC(3, 4, "fast")
    with refuses(ValueError, "activation='step' must be one of ['lecun_tanh'"):
        CfC(3, 4, activation="step")


@pytest.mark.parametrize("make", [lambda: LTC(3, 4), lambda: CfC(3, 4)])
def test_times_and_a_state_in_double_precision_are_taken_in_that_of_the_inputs(make):
    layer, x = make(), torch.rand(2, 5, 3)
    spans, state = torch.rand(2, 5), torch.rand(2, 4)
    wanted = layer(x, state, spans)
    for got in (layer(x, state.double(), spans.double()), layer.loop(x, state, spans.double())):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("make", [lambda: LTC(3, 4), lambda: CfC(3, 4)])
def test_the_time_before_a_single_input_is_refused_by_its_own_name(make):
    layer, x = make(), torch.zeros(2, 3)
    with refuses(ValueError, "timespan must have shape (2), got ()"):
        layer.step(x, None, torch.tensor(0.5))
    with refuses(ValueError, "timespan must have shape (2), got (3,)"):
        layer.step(x, None, torch.ones(3))
    with refuses(ValueError, "timespan=-1 must be a finite number ≥ 0"):
        layer.step(x, None, -1)


def test_a_cell_refuses_what_does_not_fit_by_name():
    cell = LTC(3, 4).rnn_cell
    with refuses(ValueError, "x must have shape (b, 3), got (2, 5)"):
        cell.derivative(torch.zeros(2, 5), torch.zeros(2, 4))
    with refuses(ValueError, "state must have shape (2, 4), got (1, 4)"):
        cell.time_constants(torch.zeros(2, 3), torch.zeros(1, 4))


# ------------------------------------------------------------------------------------------ wiring
@pytest.mark.parametrize("seed", [22222, 0, 7])
@pytest.mark.parametrize(
    "size", [(4, 19, 1, 0.5), (2, 9, 2, 0.3), (32, 28, 4, 0.8), (1, 6, 1, 0.9)]
)
def test_with_the_same_seed_ncps_draws_the_same_wiring(size, seed):
    inputs, neurons, outputs, sparsity = size
    peer = wirings.AutoNCP(neurons, outputs, sparsity_level=sparsity, seed=seed)
    peer.build(inputs)
    ours = wiring(inputs, neurons, outputs, sparsity, seed=seed)
    np.testing.assert_array_equal(ours.inner.numpy(), peer.adjacency_matrix)
    np.testing.assert_array_equal(ours.sensory.numpy(), peer.sensory_adjacency_matrix)


def test_with_its_numbers_given_it_is_ncps_circuit():
    peer = wirings.NCP(12, 8, 2, 4, 5, 6, 3, seed=5)
    peer.build(10)
    ours = wiring(
        10, 22, 2, command=8, sensory_fanout=4, inter_fanout=5, recurrent=6, motor_fanin=3, seed=5
    )
    np.testing.assert_array_equal(ours.inner.numpy(), peer.adjacency_matrix)
    np.testing.assert_array_equal(ours.sensory.numpy(), peer.sensory_adjacency_matrix)
    assert ours.synapses == peer.synapse_count + peer.sensory_synapse_count


def test_signals_go_from_layer_to_layer_and_only_command_neurons_feed_back():
    circuit = wiring(8, 28, 3)
    kinds = circuit.groups
    assert [len(kinds[name]) for name in ("motor", "command", "inter")] == [3, 10, 15]
    assert list(kinds["motor"]) == [0, 1, 2]
    joined = circuit.inner != 0
    allowed = torch.zeros_like(joined)
    for source, target in (("inter", "command"), ("command", "command"), ("command", "motor")):
        rows, columns = kinds[source], kinds[target]
        allowed[rows.start : rows.stop, columns.start : columns.stop] = True
    assert not (joined & ~allowed).any()
    sensory = circuit.sensory != 0
    assert not sensory[:, : kinds["inter"].start].any(), "inputs reach inter neurons only"
    assert joined[kinds["command"].start : kinds["command"].stop].any()


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_left_out(seed):
    circuit = wiring(3, 30, 2, sparsity=0.9, seed=seed)
    kinds, inner = circuit.groups, circuit.inner.abs()
    assert circuit.sensory.abs().sum(0)[list(kinds["inter"])].min() >= 1
    assert inner[list(kinds["inter"])].sum(0)[list(kinds["command"])].min() >= 1
    assert inner[list(kinds["command"])][:, list(kinds["motor"])].sum(1).min() >= 1
    assert inner[:, list(kinds["motor"])].sum(0).min() >= 1


def test_what_is_not_wired_has_no_influence():
    circuit = wiring(3, 9, 2)
    ltc = LTC(3, circuit, dtype=torch.float64)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    before = ltc(x)[0]
    with torch.no_grad():
        for name, mask in (("w", circuit.inner), ("sensory_w", circuit.sensory)):
            ltc.rnn_cell.get_parameter(name)[mask == 0] = 5.0
    assert torch.equal(ltc(x)[0], before)


def test_it_tells_its_numbers():
    circuit = wiring(4, 19, 1)
    assert repr(circuit) == "Wiring(4 inputs, 1 motor, 7 command, 11 inter, 68 synapses)"
    assert circuit.synapses == int((circuit.inner != 0).sum() + (circuit.sensory != 0).sum())
    assert circuit.density == pytest.approx(68 / (4 * 19 + 19 * 19))
    assert (circuit.input_size, circuit.hidden_size, circuit.outputs) == (4, 19, 1)


def test_a_wiring_can_be_written_by_hand():
    loop = Wiring([[1, 0, 0]], [[0, 1, 0], [0, 0, -1], [1, 0, 0]], outputs=1)
    assert list(loop.groups["motor"]) == [0]
    assert list(loop.groups["inter"]) == [1, 2]
    assert LTC(1, loop)(torch.zeros(2, 3, 1))[0].shape == (2, 3, 1)


def test_an_empty_wiring_is_refused():
    with refuses(ValueError, "sensory must hold at least one synapse, got an empty wiring"):
        Wiring([[0, 0]], [[0, 1], [1, 0]], outputs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 3}, "hidden_size=3 must be ≥ 4, three more than outputs=1"),
        ({"sparsity": 0.95}, "sparsity=0.95 must be a finite number ≥ 0.1 and ≤ 0.9"),
        ({"sparsity": 0.05}, "sparsity=0.05 must be a finite number ≥ 0.1 and ≤ 0.9"),
        ({"command": 9}, "command=9 must be < 9, the neurons that are not motor"),
        ({"sensory_fanout": 7}, "sensory_fanout=7 must be ≤ 6, the neurons to choose from"),
        ({"inter_fanout": 4}, "inter_fanout=4 must be ≤ 3, the neurons to choose from"),
        ({"motor_fanin": 4}, "motor_fanin=4 must be ≤ 3, the neurons to choose from"),
        ({"recurrent": 0}, "recurrent=0 must be an integer ≥ 1"),
        ({"input_size": 0}, "input_size=0 must be an integer ≥ 1"),
        ({"seed": -1}, "seed=-1 must be an integer ≥ 0"),
        ({"seed": 2**32}, "seed=4294967296 must be below 2**32"),
    ],
)
def test_a_wiring_that_cannot_be_drawn_is_refused_by_name(change, message):
    with refuses(ValueError, message):
        wiring(**{"input_size": 3, "hidden_size": 10, "outputs": 1, **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[2]], [[0]], 1), "sensory must hold -1, 0 and 1, got 2"),
        (([[1, 1]], [[0]], 1), "inner must have shape (2, 2), got (1, 1)"),
        (([[1]], [[0]], 2), "outputs=2 must be ≤ 1, the neurons"),
        (([[1]], [[0]], 1, {"motor": 2}), "groups={'motor': 2} must add up to 1, the neurons"),
        (([[1]], [[0]], 1, {"a": 2, "b": -1}), "groups['b']=-1 must be an integer ≥ 0"),
        (
            ([[1, 0]], [[0, 1], [1, 0]], 1, {"motor": 2}),
            "groups={'motor': 2} must begin with outputs=1, the motor neurons",
        ),
        ((torch.tensor([[-128]], dtype=torch.int8), [[0]], 1), "must hold -1, 0 and 1, got 128"),
    ],
)
def test_a_wiring_by_hand_that_does_not_fit_is_refused(arguments, message):
    with refuses(ValueError, message):
        Wiring(*arguments)


def test_more_recurrent_synapses_may_be_drawn_than_there_are_places():
    assert wiring(3, 10, 1, recurrent=50).inner[1:4, 1:4].any()


def test_what_is_no_matrix_or_no_dictionary_is_refused_by_name():
    with refuses(TypeError, "sensory must be a matrix of -1, 0 and 1, got [[1, 0], [1]]"):
        Wiring([[1, 0], [1]], [[0, 0], [0, 0]], 1)
    with refuses(TypeError, "inner must be a matrix of -1, 0 and 1, got None"):
        Wiring([[1, 0]], None, 1)
    with refuses(TypeError, "groups=[1] must be a dictionary of numbers by name"):
        Wiring([[1]], [[0]], 1, [1])


def test_a_wiring_keeps_its_synapses_when_the_matrix_it_was_given_changes():
    given = torch.tensor([[1, -1]])
    made = Wiring(given, [[0, 0], [0, 0]], 1)
    given.zero_()
    assert made.sensory.tolist() == [[1, -1]]
