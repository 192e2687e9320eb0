"""Spiking networks against loops, solvers, enumeration, snnTorch and what was worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import nn
from torch.nn import functional as F

from nnlib.dynamics._spiking_membrane import leaky_loop, leaky_sum
from nnlib.dynamics._spiking_surrogates import SLOPES
from nnlib.dynamics.spiking import (
    LIF,
    SpikingNetwork,
    Surrogate,
    _scale,
    adaptive_lif,
    convert,
    decay,
    delta_code,
    firing_rate,
    hodgkin_huxley,
    izhikevich,
    latency_code,
    membrane,
    poisson_code,
    spike_times,
    stdp,
    stdp_neuron,
    stdp_reference,
    stdp_window,
    surrogate,
    synapse,
    synaptic_operations,
    traces,
)
from tests.support import Example, Peer, refuses

peer = Peer("snntorch")
slopes = Peer("snntorch.surrogate")
spikegen = Peer("snntorch.spikegen")
DOUBLE = torch.float64
TIGHT = {"rtol": 1e-10, "atol": 1e-12}
RULES = [
    (reset, refractory, detach)
    for reset in ("subtract", "zero")
    for refractory in (0, 2)
    for detach in (True, False)
]
rules = pytest.mark.parametrize(("reset", "refractory", "detach"), RULES)


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"input_size": 3, "hidden_size": 8, "output_size": 4, "num_layers": 2}
    how = {"surrogate": "arctan", "learn_beta": True, "threshold": 0.3}
    return Example({**arguments, **how}, (2 * torch.rand(5, 6, 3),))


def currents(*shape: int, seed: int = 0, most: float = 0.6) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return most * torch.rand(*shape, generator=draw, dtype=DOUBLE)


def column(*values: float) -> torch.Tensor:
    """One neuron's current over time."""
    return torch.tensor(values, dtype=DOUBLE).view(1, -1, 1)


# ------------------------------------------------------------------------------------membranes
@pytest.mark.equation("spiking-update", "spiking-spike")
def test_the_pencils_membrane_is_subtracted_from_one_step_after_its_spike():
    spikes, voltages = LIF(beta=0.5, threshold=1.0)(column(0.8, 0.8, 0.8, 0.9, 0.0))
    torch.testing.assert_close(voltages, column(0.8, 1.2, 0.4, 1.1, -0.45))
    torch.testing.assert_close(spikes, column(0, 1, 0, 1, 0))


@pytest.mark.equation("spiking-zero")
def test_a_reset_to_zero_forgets_what_was_over_the_threshold():
    spikes, voltages = LIF(beta=0.5, threshold=1.0, reset="zero")(column(0.8, 0.8, 0.8, 0.9, 0.0))
    torch.testing.assert_close(voltages, column(0.8, 1.2, 0.8, 1.3, 0.0))
    torch.testing.assert_close(spikes, column(0, 1, 0, 1, 0))


def test_a_membrane_at_its_threshold_fires():
    spikes, _ = LIF(beta=1.0, threshold=1.0)(column(0.5, 0.5, 0.25))
    torch.testing.assert_close(spikes, column(0, 1, 0))


def test_without_leak_the_membrane_keeps_what_no_spike_has_taken():
    x = currents(4, 50, 3)
    spikes, voltages = LIF(beta=1.0, threshold=0.7)(x)
    taken = 0.7 * (spikes.cumsum(1) - spikes)
    torch.testing.assert_close(voltages, x.cumsum(1) - taken, **TIGHT)


def test_without_memory_it_is_a_threshold_on_the_input():
    x = currents(4, 50, 3, most=2.0)
    spikes, _ = LIF(beta=0.0, reset="zero")(x)
    torch.testing.assert_close(spikes, (x >= 1).to(DOUBLE))


def test_a_refractory_neuron_ignores_its_input_and_leaks_on():
    x = column(3.0, 3.0, 3.0, 3.0, 3.0)
    spikes, voltages = LIF(beta=0.5, reset="zero", refractory=2)(x)
    torch.testing.assert_close(spikes, column(1, 0, 0, 1, 0))
    torch.testing.assert_close(voltages, column(3, 0, 0, 3, 0))
    _, voltages = LIF(beta=0.5, refractory=1)(column(3.0, 9.0, 0.0))
    torch.testing.assert_close(voltages, column(3, 0.5, 0.25))


def test_it_begins_where_it_is_told_to():
    _, voltages = LIF(beta=0.5, initial=0.6)(column(0.1, 0.0))
    torch.testing.assert_close(voltages, column(0.4, 0.2))


def two_ways(neuron, x):
    """Return what the fast form gives, and what the loop gives, with all gradients."""
    given = []
    for call in (neuron, neuron.loop):
        x = x.detach().requires_grad_()
        spikes, voltages = call(x)
        draw = torch.Generator().manual_seed(3)
        weights = torch.randn(2, *spikes.shape, generator=draw, dtype=spikes.dtype)
        loss = (weights[0] * spikes + weights[1] * voltages).sum()
        given.append((spikes, voltages, *torch.autograd.grad(loss, [x, *neuron.parameters()])))
    return given


@rules
def test_the_fast_form_is_the_loop_forwards_and_backwards(reset, refractory, detach):
    neuron = LIF(
        0.9, 0.8, reset, refractory=refractory, detach_reset=detach, initial=0.3,
        surrogate="arctan", learn_beta=True, dtype=DOUBLE,
    )  # fmt: skip
    fast, slow = two_ways(neuron, currents(3, 40, 5))
    assert fast[0].sum() > 20
    torch.testing.assert_close(fast, slow, **TIGHT)


@rules
def test_so_it_is_with_a_fixed_leak(reset, refractory, detach):
    neuron = LIF(0.8, reset=reset, refractory=refractory, detach_reset=detach)
    fast, slow = two_ways(neuron, currents(2, 30, 4))
    torch.testing.assert_close(fast, slow, **TIGHT)


def test_blocks_of_the_way_back_join_without_a_seam(monkeypatch):
    monkeypatch.setattr("nnlib.dynamics._spiking_membrane.CACHE", 50)
    for detach in (True, False):
        neuron = LIF(0.9, 0.8, "zero", detach_reset=detach, surrogate="sigmoid")
        fast, slow = two_ways(neuron, currents(3, 23, 5))
        torch.testing.assert_close(fast, slow, **TIGHT)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(RULES))
def test_whatever_is_drawn_both_forms_agree(seed, beta, rule):
    reset, refractory, detach = rule
    neuron = LIF(beta, reset=reset, refractory=refractory, detach_reset=detach)
    fast, slow = two_ways(neuron, currents(2, 12, 3, seed=seed, most=2.0))
    torch.testing.assert_close(fast, slow, **TIGHT)


def test_a_gradient_to_spikes_alone_or_to_membranes_alone_is_that_of_the_loop():
    neuron, x = LIF(0.9), currents(2, 20, 3).requires_grad_()
    for at in (0, 1):
        fast, slow = (torch.autograd.grad(f(x)[at].sum(), x) for f in (neuron, neuron.loop))
        torch.testing.assert_close(fast, slow, **TIGHT)


@pytest.mark.equation("spiking-backward")
def test_the_gradient_by_hand_for_three_steps():
    """Each step: its own slope, and β of what comes after, less the reset if it is learned from."""
    x = column(0.9, 0.3, 0.4).requires_grad_()
    neuron = LIF(0.5, surrogate=surrogate("triangle"))
    spikes, v = neuron(x)
    (got,) = torch.autograd.grad(spikes[0, 2, 0], x)
    last = 1 - abs(v[0, 2, 0].item() - 1)
    torch.testing.assert_close(got, column(0.25 * last, 0.5 * last, last), **TIGHT)
    attached = LIF(0.5, surrogate=surrogate("triangle"), detach_reset=False)
    (got,) = torch.autograd.grad(attached(x)[0][0, 2, 0], x)
    second = 0.5 - (1 - abs(v[0, 1, 0].item() - 1))
    first = 0.5 * second * 1 - (1 - abs(v[0, 0, 0].item() - 1)) * second
    torch.testing.assert_close(got, column(first * last, second * last, last), **TIGHT)


def test_a_learned_leak_begins_where_it_was_set_and_stays_within_bounds():
    neuron = LIF(0.8, learn_beta=True, dtype=DOUBLE)
    assert neuron.beta.item() == pytest.approx(0.8)
    nn.init.constant_(neuron.raw_beta, 1000.0)
    assert neuron.beta.item() == 1.0
    neuron.reset_parameters()
    assert neuron.beta.item() == pytest.approx(0.8)


# ------------------------------------------------------------------------------------surrogates
@pytest.mark.equation("spiking-surrogate")
@pytest.mark.parametrize("name", SLOPES)
def test_each_slope_is_the_derivative_of_its_soft_step(name):
    spike = surrogate(name, slope=1.7, scale=0.6)
    x = torch.linspace(-1.93, 2.11, 40, dtype=DOUBLE).requires_grad_()
    (soft,) = torch.autograd.grad(spike.soft_step(x).sum(), x)
    torch.testing.assert_close(spike.derivative(x), soft, **TIGHT)
    spikes = spike(x)
    assert spikes.tolist() == (x >= 0).double().tolist()
    (hard,) = torch.autograd.grad((3 * spikes).sum(), x)
    torch.testing.assert_close(hard, 3 * soft, **TIGHT)


@pytest.mark.parametrize("name", [name for name in SLOPES if name != "straight_through"])
def test_its_area_is_what_it_says(name):
    spike = surrogate(name, scale=2.0)
    x = torch.cat([torch.linspace(-400, -1, 400_001), torch.linspace(-1, 1, 400_001)[1:]]).double()
    x = torch.cat([x, -x.flip(0)[400_001:]])
    area = torch.trapezoid(spike.derivative(x), x)
    assert float(area) == pytest.approx(spike.area, rel=3e-3)


@pytest.mark.equation(
    "spiking-fast-sigmoid", "spiking-arctan", "spiking-sigmoid-surrogate", "spiking-triangle"
)
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("fast_sigmoid", lambda x: 1 / (1 + 3 * abs(x)) ** 2),
        ("arctan", lambda x: 1.5 / (1 + (1.5 * math.pi * x) ** 2)),
        ("sigmoid", lambda x: 3 * math.exp(-3 * x) / (1 + math.exp(-3 * x)) ** 2),
        ("triangle", lambda x: max(0.0, 1 - 3 * abs(x))),
        ("rectangle", lambda x: 3.0 * (abs(x) < 1 / 6)),
        ("gaussian", lambda x: 3 / math.sqrt(2 * math.pi) * math.exp(-4.5 * x * x)),
        ("exponential", lambda x: math.exp(-3 * abs(x))),
        ("straight_through", lambda x: 1.0),
    ],
)
def test_each_slope_is_its_formula(name, wanted):
    x = [-2.0, -0.3, -0.1, 0.0, 0.1, 0.3, 2.0]
    got = surrogate(name, slope=3.0).derivative(torch.tensor(x, dtype=DOUBLE))
    assert got.tolist() == pytest.approx([wanted(value) for value in x], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs", "given"),
    [
        ("fast_sigmoid", "fast_sigmoid", {"slope": 25.0}),
        ("arctan", "atan", {"alpha": 2.0}),
        ("sigmoid", "sigmoid", {"slope": 25.0}),
        ("straight_through", "straight_through_estimator", {}),
    ],
)
def test_where_snntorch_has_it_it_is_the_same(name, theirs, given):
    x = torch.linspace(-1, 1.1, 22).requires_grad_()
    step = getattr(slopes, theirs)(**given)
    (wanted,) = torch.autograd.grad(step(x).sum(), x)
    torch.testing.assert_close(surrogate(name).derivative(x).detach(), wanted)


def test_the_sigmoid_is_finite_where_snntorchs_overflows():
    x = torch.tensor([-4.0], requires_grad=True)
    (theirs,) = torch.autograd.grad(slopes.sigmoid(25)(x).sum(), x)
    assert theirs.isnan()
    assert 0 <= float(surrogate("sigmoid").derivative(x.detach())) < 1e-30


def test_an_arctan_under_another_name_has_an_area_below_a_third():
    """The formula that is often printed as the fast sigmoid: 1/π · 1/(1 + (πx)²)."""
    printed = surrogate("arctan", scale=1 / math.pi)
    x = torch.linspace(-3, 3, 7, dtype=DOUBLE)
    torch.testing.assert_close(printed.derivative(x), 1 / math.pi / (1 + (math.pi * x) ** 2))
    assert printed.area == pytest.approx(0.3183, abs=1e-4)


# ---------------------------------------------------------------------------------beside snnTorch
def snn_run(x, affine, readout, beta, reset):
    """Run snnTorch's neuron over time, between the same two maps."""
    neuron = peer.Leaky(beta=beta, spike_grad=slopes.fast_sigmoid(25), reset_mechanism=reset)
    membrane, spikes, membranes = neuron.reset_mem(), [], []
    for step in x.unbind(1):
        fired, membrane = neuron(affine(step), membrane)
        spikes.append(fired)
        membranes.append(membrane)
    return torch.stack(spikes, 1), torch.stack(membranes, 1), readout(torch.stack(spikes, 1))


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spikes_membranes_and_gradients_are_those_of_snntorch(reset):
    torch.manual_seed(0)
    network = SpikingNetwork(12, 20, 4, beta=0.85, reset=reset)
    nn.init.normal_(network.maps[0].weight, std=0.5)
    x, y = torch.rand(8, 15, 12).round(), torch.randint(4, (8,))
    scores, (spikes,) = network(x)
    theirs, membranes, out = snn_run(x, *network.maps, 0.85, reset)
    assert spikes.sum() > 100
    assert torch.equal(spikes, theirs)
    own = network.neurons[0](network.maps[0](x))[1]
    torch.testing.assert_close(own, membranes, rtol=1e-5, atol=1e-5)
    losses = F.cross_entropy(scores[:, -1], y), F.cross_entropy(out.mean(1), y)
    mine, wanted = (torch.autograd.grad(loss, [*network.parameters()]) for loss in losses)
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-7)


# ---------------------------------------------------------------------------------------networks
@pytest.mark.equation("spiking-readout")
def test_the_score_after_t_steps_is_the_mean_of_what_has_come():
    network = SpikingNetwork(3, 6, 2, threshold=0.2, dtype=DOUBLE)
    x = torch.rand(2, 9, 3, dtype=DOUBLE)
    scores, (spikes,) = network(x)
    for t in (1, 4, 9):
        wanted = network.maps[1](spikes[:, :t]).mean(1)
        torch.testing.assert_close(scores[:, t - 1], wanted, **TIGHT)


def test_what_comes_later_changes_nothing_before_it():
    network = SpikingNetwork(3, 6, 2, num_layers=2, threshold=0.2)
    x = torch.rand(2, 12, 3)
    torch.testing.assert_close(network(x[:, :5])[0], network(x)[0][:, :5])


def test_layers_are_applied_one_after_the_other():
    network = SpikingNetwork(3, 6, 2, num_layers=2, beta=0.7, threshold=0.2, reset="zero")
    x = torch.rand(2, 12, 3)
    _, (first, second) = network(x)
    wanted, _ = LIF(0.7, 0.2, "zero")(network.maps[0](x))
    assert torch.equal(first, wanted)
    assert torch.equal(second, LIF(0.7, 0.2, "zero")(network.maps[1](first))[0])


def test_it_learns_which_of_two_inputs_is_busier():
    torch.manual_seed(1)
    network = SpikingNetwork(2, 16, 2)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        rate = torch.rand(64, 2)
        x = (torch.rand(64, 10, 2) < rate[:, None]).float()
        loss = F.cross_entropy(network(x)[0][:, -1], x.sum(1).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.35  # ln 2 = 0.69 by guessing


@pytest.mark.equation("spiking-energy")
def test_operations_are_counted_spike_by_spike():
    network = SpikingNetwork(3, 6, 2, num_layers=2, threshold=0.2)
    x = torch.rand(2, 5, 3).round()
    _, (first, second) = network(x)
    got = synaptic_operations(network, x)
    for b in range(2):
        for t in range(5):
            sent = int(x[b, t].sum()) * 6 + int(first[b, t].sum()) * 6 + int(second[b, t].sum()) * 2
            assert int(got[b, t]) == sent


# -------------------------------------------------------------------------------------conversion
def trained(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(),
                         nn.Linear(12, 3)).double()  # fmt: skip


@pytest.mark.equation("spiking-conversion")
def test_scaled_layers_compute_the_same_as_long_as_nothing_fires():
    """With ReLUs in place of neurons the converted maps give the original scores exactly."""
    network, x = trained(), torch.rand(200, 5, dtype=DOUBLE)
    maps = convert(network, x, percentile=100.0).maps
    first = maps[0](x).relu()
    second = maps[1](first).relu()
    assert first.max().item() == pytest.approx(1) == second.max().item()
    torch.testing.assert_close(maps[2](second), network(x), **TIGHT)


def test_a_lower_percentile_leaves_the_largest_above_one():
    network, x = trained(), torch.rand(200, 5, dtype=DOUBLE)
    first = convert(network, x, percentile=90.0).maps[0](x).relu()
    assert float((first > 1).double().mean()) == pytest.approx(0.1, abs=0.01)


@pytest.mark.equation("spiking-rate-code")
def test_a_rate_is_the_mean_input_less_what_is_left_in_the_membrane():
    x = currents(3, 40, 6, most=1.0)
    spikes, voltages = LIF(beta=1.0, initial=0.5)(x)
    left = voltages[:, -1] - spikes[:, -1]
    wanted = x.mean(1) - (left - 0.5) / 40
    torch.testing.assert_close(spikes.mean(1), wanted, **TIGHT)


def test_given_time_the_converted_network_gives_the_original_scores():
    network, x = trained(), torch.rand(50, 5, dtype=DOUBLE)
    spiking = convert(network, x, percentile=100.0, initial=0.5)
    errors = []
    for steps in (50, 1600):
        scores, _ = spiking(x[:, None].expand(-1, steps, -1))
        errors.append(float((scores[:, -1] - network(x)).abs().max()))
    assert errors[1] < errors[0] / 8  # it falls like one over the steps
    assert errors[1] < 1e-3
    assert all(neuron.rule.initial == 0.5 for neuron in spiking.neurons)


def test_conversion_leaves_the_original_alone():
    network, x = trained(), torch.rand(50, 5, dtype=DOUBLE)
    before = [p.clone() for p in network.parameters()]
    convert(network, x)
    torch.testing.assert_close([*network.parameters()], before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_activations_are_scaled_by_torchs_percentile(dtype):
    values = torch.randn(3001, 7, dtype=dtype).relu()
    for percentile in (60.0, 99.0, 99.9, 100.0):
        wanted = values.double().flatten().quantile(percentile / 100).to(dtype)
        rounding = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(_scale(values, percentile), wanted, rtol=rounding, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_and_many_activations_are_converted(dtype):
    network = trained().to(dtype)
    made = convert(network, torch.rand(20, 5))
    assert made.maps[0].weight.dtype == dtype and made.maps[0].weight.isfinite().all()
    many = torch.rand(2**24 + 1, 1)  # more than torch.quantile takes
    assert float(_scale(many, 50.0)) == pytest.approx(0.5, abs=1e-3)


def test_a_layer_that_is_silent_on_all_examples_is_not_scaled():
    network = trained()
    with torch.no_grad():
        network[0].bias.fill_(-100)
        network[2].bias.fill_(1)
    made = convert(network, torch.rand(20, 5, dtype=DOUBLE))
    torch.testing.assert_close(made.maps[0].weight, network[0].weight)
    assert all(affine.weight.isfinite().all() for affine in made.maps)


# ----------------------------------------------------------------------------sums that only leak
@pytest.mark.equation("spiking-synapse")
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([1, 5, 64, 65, 200]))
def test_a_synapse_by_products_is_the_loop(seed, alpha, steps):
    x = currents(2, steps, 3, seed=seed)
    slow = leaky_loop(x.transpose(0, 1), alpha).transpose(0, 1)
    torch.testing.assert_close(synapse(x, alpha), slow, rtol=1e-9, atol=1e-10)


def test_leaky_sums_have_the_gradient_of_the_loop():
    x = currents(130, 2, 3).requires_grad_()
    weight = currents(130, 2, 3, seed=1)
    fast, slow = (
        torch.autograd.grad((weight * f(x, 0.9)).sum(), x) for f in (leaky_sum, leaky_loop)
    )
    torch.testing.assert_close(fast, slow, **TIGHT)


@pytest.mark.equation("spiking-adaptive")
def test_a_threshold_that_tires_by_hand():
    spikes, levels = adaptive_lif(column(1.5, 1.5, 1.5), 0.5, adaptation=0.5, rho=0.8)
    # 1.5 ≥ 1 fires; 0.75 + 1.5 − 1 = 1.25 < 1.5; 0.625 + 1.5 = 2.125 ≥ 1.4 fires
    torch.testing.assert_close(spikes, column(1, 0, 1))
    torch.testing.assert_close(levels, column(1, 1.5, 1.4))


def test_without_adaptation_it_is_the_plain_neuron():
    x = currents(2, 30, 4)
    spikes, _ = adaptive_lif(x, 0.9, 0.8, adaptation=0.0)
    assert torch.equal(spikes, LIF(0.9, 0.8)(x)[0])


def test_an_adaptive_neuron_loses_the_threshold_that_it_passed():
    drawn_current = torch.rand(30, generator=torch.Generator().manual_seed(3), dtype=DOUBLE) * 2
    spikes, levels = adaptive_lif(
        drawn_current[None, :, None], beta=0.8, threshold=1.0, adaptation=0.5, rho=0.9
    )
    v, tired, level, fired = 0.0, 0.0, 1.0, 0.0
    for t, drive in enumerate(drawn_current.tolist()):
        v = 0.8 * v + drive - level * fired
        tired = 0.9 * tired + fired
        level = 1.0 + 0.5 * tired
        fired = float(v >= level)
        assert spikes[0, t, 0] == fired and float(levels[0, t, 0]) == pytest.approx(level)
    assert 2 < spikes.sum() < 30


def test_an_adaptive_neuron_slows_down_under_a_steady_current():
    spikes, _ = adaptive_lif(torch.full((1, 200, 1), 1.0), adaptation=0.3, rho=0.97)
    early, late = spikes[0, :50].sum(), spikes[0, -50:].sum()
    assert 0 < late < early


# ------------------------------------------------------------------------------------bad input
@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("beta=1.1 must be a finite number ≥ 0 and ≤ 1", lambda: LIF(1.1)),
        ("beta=-0.1 must be", lambda: SpikingNetwork(2, 3, 2, beta=-0.1)),
        ("beta=1.0 must be a finite number > 0 and < 1", lambda: LIF(1.0, learn_beta=True)),
        ("threshold=0 must be a finite number > 0", lambda: LIF(threshold=0)),
        ("reset='hard' must be one of ['subtract', 'zero']", lambda: LIF(reset="hard")),
        ("refractory=-1 must be an integer ≥ 0", lambda: LIF(refractory=-1)),
        ("surrogate='relu' must be one of", lambda: LIF(surrogate="relu")),
        ("initial=nan must be a finite number", lambda: LIF(initial=math.nan)),
        ("name='fast' must be one of", lambda: surrogate("fast")),
        ("slope=0 must be a finite number > 0", lambda: surrogate(slope=0)),
        ("scale=-1 must be a finite number > 0", lambda: surrogate(scale=-1)),
        ("name='fast' must be one of", lambda: Surrogate("fast", 1.0)),
        ("slope=-1.0 must be a finite number > 0", lambda: Surrogate("arctan", -1.0)),
        ("current must have shape (b, t, h), got (2, 3)", lambda: LIF()(torch.zeros(2, 3))),
        ("current must not be empty", lambda: LIF()(torch.zeros(2, 0, 3))),
        ("num_layers=0 must be", lambda: SpikingNetwork(2, 3, 2, 0)),
        ("x must have shape (b, t, 2)", lambda: SpikingNetwork(2, 3, 2)(torch.zeros(1, 4, 3))),
        ("alpha=2 must be", lambda: synapse(torch.zeros(1, 2, 3), 2)),
        ("rho=1.5 must be", lambda: adaptive_lif(torch.zeros(1, 2, 3), rho=1.5)),
        ("adaptation=-1 must be",
         lambda: adaptive_lif(torch.zeros(1, 2, 3), adaptation=-1)),
        ("percentile=0 must be", lambda: convert(trained(), torch.rand(3, 5), percentile=0)),
        ("x must have shape (n, 5), got (3, 4)", lambda: convert(trained(), torch.rand(3, 4))),
        ("percentile=1 of the activations of a layer is 0: take a larger one",
         lambda: convert(trained(), torch.rand(50, 5), percentile=1)),
        ("x must be finite", lambda: convert(trained(), torch.full((3, 5), math.nan))),
        ("network must be Linear, ReLU, Linear, …, Linear, got ['Linear', 'Tanh', 'Linear']",
         lambda: convert(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
                         torch.rand(3, 2))),
        ("network has hidden layers of [3, 4] units, it needs one size",
         lambda: convert(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(),
                                       nn.Linear(4, 2)), torch.rand(3, 2))),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(message, call):
    with refuses(ValueError, message):
        call()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("surrogate must be a name or a Surrogate, got int", lambda: LIF(surrogate=3)),
        ("current must be floating point", lambda: LIF()(torch.zeros(1, 2, 3, dtype=torch.long))),
        ("learn_beta=1 must be True or False", lambda: LIF(learn_beta=1)),
        ("network must be a torch.nn.Sequential", lambda: convert(3, torch.rand(3, 5))),
        ("surrogate must be a name or a Surrogate, got int",
         lambda: adaptive_lif(torch.zeros(1, 2, 3), surrogate=3)),
        ("slope='a' must be a finite number > 0", lambda: Surrogate("arctan", "a")),
        ("network must be a SpikingNetwork, got Linear",
         lambda: synaptic_operations(nn.Linear(2, 2), torch.zeros(1, 2, 2))),
    ],
)  # fmt: skip
def test_what_is_of_the_wrong_kind_is_refused_by_name(message, call):
    with refuses(TypeError, message):
        call()


def test_it_works_in_bfloat16():
    network = SpikingNetwork(4, 8, 2, threshold=0.1, dtype=torch.bfloat16)
    scores, (spikes,) = network(torch.rand(2, 6, 4, dtype=torch.bfloat16))
    scores.sum().backward()
    assert scores.dtype == spikes.dtype == torch.bfloat16
    assert network.maps[0].weight.grad.isfinite().all()


def test_the_fast_form_says_that_it_has_no_second_derivative_and_the_loop_has_one():
    current = torch.rand(1, 5, 2, dtype=DOUBLE, requires_grad=True)
    _, voltages = LIF()(current)
    with refuses(RuntimeError, "has no second derivative: take LIF.loop, which has"):
        torch.autograd.grad(voltages.square().sum(), current, create_graph=True)
    _, voltages = LIF().loop(current)
    (slope,) = torch.autograd.grad(voltages.square().sum(), current, create_graph=True)
    assert torch.autograd.grad(slope.sum(), current)[0].any()


def test_an_adaptive_neuron_takes_a_slope_by_its_name():
    current = torch.rand(1, 6, 3)
    named = adaptive_lif(current, surrogate="arctan")
    torch.testing.assert_close(named, adaptive_lif(current, surrogate=surrogate("arctan")))


def drawn(*shape: int, rate: float = 0.2, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=draw, dtype=DOUBLE) < rate).to(DOUBLE)


# --------------------------------------------------------------------------------- continuous time
@pytest.mark.equation("spiking-ode", "spiking-membrane")
def test_the_closed_form_solves_the_differential_equation():
    t = np.linspace(0, 90, 40)
    solved = solve_ivp(
        lambda _, v: (-(v + 60) + 12 * 1.3) / 15, (0, 90), [-70.0], t_eval=t, rtol=1e-10, atol=1e-10
    )
    got = membrane(torch.tensor(t), 1.3, tau=15.0, resistance=12.0, rest=-60.0, start=-70.0)
    np.testing.assert_allclose(got, solved.y[0], atol=1e-7)


def test_it_begins_at_rest_and_settles_where_leak_and_current_balance():
    v = membrane(torch.tensor([0.0, 1e4], dtype=DOUBLE), 2.0)
    assert v.tolist() == pytest.approx([-65, -45])


@pytest.mark.equation("spiking-decay")
def test_a_step_of_the_discrete_membrane_is_exact_for_a_current_that_stands_still():
    beta, steps = decay(tau=20.0, dt=0.5), 60
    assert beta == pytest.approx(math.exp(-1 / 40))
    level = 8.0  # RI, below a threshold of 15
    current = torch.full((1, steps, 1), (1 - beta) * level, dtype=DOUBLE)
    _, v = LIF(beta, threshold=15.0)(current)
    time = 0.5 * torch.arange(1, steps + 1, dtype=DOUBLE)
    torch.testing.assert_close(v[0, :, 0], membrane(time, 0.8, rest=0.0), **TIGHT)


def by_events(current, duration):
    """Follow the equation with a solver that stops at the threshold, spike after spike."""

    def reached(_, v):
        return v[0] + 50

    reached.terminal, reached.direction = True, 1
    found, now, v = [], 0.0, -65.0
    while now < duration:
        run = solve_ivp(lambda _, v: (-(v + 65) + 10 * current) / 20, (now, duration), [v],
                        events=reached, rtol=1e-10, atol=1e-10, max_step=5.0)  # fmt: skip
        if not run.t_events[0].size:
            break
        found.append(run.t_events[0][0])
        now, v = found[-1] + 2.0, -65.0
    return found


@pytest.mark.equation("spiking-rate")
def test_spikes_and_rates_are_those_of_a_solver_that_finds_the_threshold():
    wanted = by_events(2.1, 200.0)
    got = spike_times(2.1, 200.0)
    assert len(wanted) > 4
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    rate = firing_rate(torch.tensor(2.1, dtype=DOUBLE))
    assert float(rate) == pytest.approx(1 / np.diff(wanted).mean(), rel=1e-8)


@pytest.mark.equation("spiking-fire")
def test_the_first_spike_starts_from_rest_and_the_next_ones_from_the_reset():
    got = spike_times(2.5, 100.0, rest=-65.0, reset=-75.0, refractory=3.0)
    first, period = 20 * math.log(25 / 10), 3 + 20 * math.log(35 / 10)
    np.testing.assert_allclose(got[:3], [first, first + period, first + 2 * period])


def test_below_the_threshold_nothing_fires_and_far_above_it_the_pause_decides():
    current = torch.tensor([0.0, 1.5, 1e9], dtype=DOUBLE)
    rates = firing_rate(current, refractory=4.0)
    assert rates.tolist() == pytest.approx([0, 0, 0.25], abs=1e-6)
    assert len(spike_times(1.5, 1e4)) == len(spike_times(1.6, 10.0)) == 0


def test_the_discrete_neuron_with_hard_reset_has_nearly_the_rate_of_the_continuous_one():
    """With steps of 1/100 of the time constant; it can only fire late, by up to a step."""
    beta, refractory, dt = decay(20.0, 0.2), 10, 0.2
    rest_to_threshold = 20.0 / 15
    current = torch.full((1, 20_000, 1), (1 - beta) * rest_to_threshold, dtype=DOUBLE)
    spikes, _ = LIF(beta, reset="zero", refractory=refractory)(current)
    rate = float(spikes.mean()) / dt
    assert rate == pytest.approx(float(firing_rate(torch.tensor(2.0, dtype=DOUBLE))), rel=0.01)


# ------------------------------------------------------------------------------------ other neurons
def huxley_by_scipy(current, duration):
    def rates(v):
        am = 0.1 * (v + 40) / (1 - math.exp(-(v + 40) / 10))
        an = 0.01 * (v + 55) / (1 - math.exp(-(v + 55) / 10))
        ah = 0.07 * math.exp(-(v + 65) / 20)
        return am, 4 * math.exp(-(v + 65) / 18), ah, 1 / (1 + math.exp(-(v + 35) / 10)), an, \
            0.125 * math.exp(-(v + 65) / 80)  # fmt: skip

    def flow(_, y):
        v, m, h, n = y
        am, bm, ah, bh, an, bn = rates(v)
        sodium, potassium = 120 * m**3 * h * (v - 50), 36 * n**4 * (v + 77)
        dv = current - sodium - potassium - 0.3 * (v + 54.387)
        return [dv, am * (1 - m) - bm * m, ah * (1 - h) - bh * h, an * (1 - n) - bn * n]

    am, bm, ah, bh, an, bn = rates(-65.0)
    start = [-65.0, am / (am + bm), ah / (ah + bh), an / (an + bn)]
    at = np.linspace(0, duration, int(duration / 0.025) + 1)[1:]
    return solve_ivp(flow, (0, duration), start, t_eval=at, rtol=1e-9, atol=1e-9).y[0]


@pytest.mark.equation("spiking-hodgkin-huxley")
def test_hodgkin_and_huxleys_axon_is_that_of_scipys_solver():
    v = hodgkin_huxley(torch.full((800, 1), 10.0, dtype=DOUBLE), 0.025)
    wanted = huxley_by_scipy(10.0, 20.0)
    assert wanted.max() > 30
    np.testing.assert_allclose(v[:, 0], wanted, atol=0.02)


def test_the_axon_rests_without_a_current_and_answers_all_or_nothing():
    current = torch.zeros(600, 3, dtype=DOUBLE)
    current[100:120, 1], current[100:120, 2] = 3.0, 20.0  # a millisecond of each
    v = hodgkin_huxley(current)
    assert float((v[:, 0] + 65).abs().max()) < 0.1
    assert float(v[:, 1].max()) < -50
    assert float(v[:, 2].max()) > 20


def test_gates_are_smooth_where_their_formulas_divide_zero_by_zero():
    at = torch.zeros(1, 1, dtype=DOUBLE)
    values = [hodgkin_huxley(at, 0.01, start=v0).item() for v0 in (-40.0, -40 + 1e-5, -55.0)]
    assert all(map(math.isfinite, values))
    assert values[0] == pytest.approx(values[1], abs=1e-3)


@pytest.mark.equation("spiking-izhikevich")
def test_a_step_of_izhikevichs_neuron_by_hand():
    current = torch.tensor([[10.0], [10.0]], dtype=DOUBLE)
    v, spikes = izhikevich(current, 0.5)
    first = -65 + 0.5 * (0.04 * 65**2 - 5 * 65 + 140 + 13 + 10)
    recovery = -13 + 0.5 * 0.02 * (0.2 * -65 + 13)
    second = first + 0.5 * (0.04 * first**2 + 5 * first + 140 - recovery + 10)
    assert v.flatten().tolist() == pytest.approx([first, second])
    assert not spikes.any()


def test_its_spike_resets_the_membrane_and_adds_to_the_recovery():
    current = torch.zeros(2, 1, dtype=DOUBLE)
    current[0] = 400.0
    v, spikes = izhikevich(current, 0.5, a=0.0, c=-50.0, d=6.0)
    assert spikes.flatten().tolist() == [1, 0]
    assert v[0] == 30
    wanted = -50 + 0.5 * (0.04 * 2500 - 250 + 140 - (-13 + 6))
    assert float(v[1]) == pytest.approx(wanted)


def test_neurons_side_by_side_have_their_own_numbers():
    current = torch.full((600, 2), 10.0, dtype=DOUBLE)
    d = torch.tensor([8.0, 2.0], dtype=DOUBLE)
    _, both = izhikevich(current, d=d)
    _, alone = izhikevich(current[:, :1], d=2.0)
    assert torch.equal(both[:, 1:], alone)
    assert both[:, 1].sum() > both[:, 0].sum() > 3


# ------------------------------------------------------------------------------------------- codes
@pytest.mark.equation("spiking-poisson")
def test_a_rate_code_fires_as_often_as_its_input_says():
    x = torch.tensor([[0.0, 0.25, 0.8, 1.0]])
    spikes = poisson_code(x, 10_000, generator=torch.Generator().manual_seed(0))
    # four standard deviations of a mean of 10 000 coins: 0.02
    torch.testing.assert_close(spikes.mean(1), x, rtol=0, atol=0.02)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    half = poisson_code(x, 10_000, most=0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half.mean(1), x / 2, rtol=0, atol=0.02)


def test_its_steps_do_not_know_of_each_other():
    spikes = poisson_code(torch.full((1, 1), 0.3), 40_000)[0, :, 0] - 0.3
    assert abs(float((spikes[1:] * spikes[:-1]).mean())) < 0.01


@pytest.mark.equation("spiking-latency")
def test_a_latency_code_fires_once_the_strongest_first():
    x = torch.tensor([[1.0, 0.7, 0.4, 0.05, 0.0]])
    spikes = latency_code(x, 20, least=0.05)
    assert spikes.sum(1).tolist() == [[1, 1, 1, 1, 0]]
    times = spikes.argmax(1)[0, :4].tolist()
    assert times == [round((1 - value) / 0.95 * 19) for value in (1.0, 0.7, 0.4, 0.05)]


def test_it_is_snntorchs_linear_latency():
    x = torch.tensor([[1.0, 0.83, 0.51, 0.27, 0.11]])
    theirs = spikegen.latency(
        x, num_steps=12, threshold=1e-6, linear=True, normalize=True, tau=1.0
    )  # t b d
    assert torch.equal(latency_code(x, 12, least=1e-6), theirs.transpose(0, 1))


def test_a_delta_code_sends_changes_and_nothing_else():
    x = torch.tensor([[0.0, 0.3, 1.1, 1.1, 1.1, 0.2]])
    events = delta_code(x, 0.5)
    assert events[0, :, 0].tolist() == [0, 0, 1, 1, 0, 0]  # what 1.1 leaves over comes next
    assert events[0, :, 1].tolist() == [0, 0, 0, 0, 0, 1]
    assert not delta_code(torch.full((1, 9), 0.7), 0.1).any()


def test_the_sum_of_a_delta_codes_events_follows_the_signal_up_and_down():
    time = torch.linspace(0, 4 * math.pi, 400, dtype=DOUBLE)
    x = torch.stack([time.sin(), (0.7 * time).cos()])
    events = delta_code(x, 0.1)
    followed = x[:, :1] + 0.1 * (events[..., 0] - events[..., 1]).cumsum(1)
    assert (followed - x).abs().max() < 0.1 + 1e-12


# -------------------------------------------------------------------------------------------- STDP
@pytest.mark.equation("spiking-stdp")
def test_the_window_is_its_formula_on_both_sides():
    delta = [-30.0, -1.0, 0.0, 1.0, 30.0]
    got = stdp_window(torch.tensor(delta, dtype=DOUBLE), a_plus=2.0, a_minus=3.0, tau_plus=10.0,
                      tau_minus=40.0)  # fmt: skip
    wanted = [-3 * math.exp(-0.75), -3 * math.exp(-1 / 40), 0, 2 * math.exp(-0.1),
              2 * math.exp(-3)]  # fmt: skip
    assert got.tolist() == pytest.approx(wanted)


@pytest.mark.equation("spiking-trace", "spiking-traces")
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 63, 64, 150]), st.floats(1, 50))
def test_traces_add_up_all_pairs(seed, steps, tau):
    pre, post = drawn(2, steps, 4, seed=seed), drawn(2, steps, 3, seed=seed + 1)
    how = {"a_plus": 0.7, "a_minus": 0.4, "tau_plus": tau, "tau_minus": 2 * tau, "dt": 0.5}
    torch.testing.assert_close(stdp(pre, post, **how), stdp_reference(pre, post, **how), **TIGHT)


def test_a_trace_jumps_by_one_and_fades():
    spikes = torch.tensor([1.0, 0, 1, 0, 0], dtype=DOUBLE).view(1, -1, 1)
    half = 1 / math.log(2)  # after one step, a half is left
    got = traces(spikes, half)
    assert got.flatten().tolist() == pytest.approx([1, 0.5, 1.25, 0.625, 0.3125])
    nearest = traces(spikes, half, pairs="nearest")
    assert nearest.flatten().tolist() == pytest.approx([1, 0.5, 1, 0.5, 0.25])
    late = traces(spikes.roll(1, 1), half, pairs="nearest")
    assert late.flatten().tolist() == pytest.approx([0, 1, 0.5, 1, 0.5])


def test_nearest_pairs_are_those_of_a_loop():
    pre, post = drawn(1, 80, 3), drawn(1, 80, 2, seed=1)
    got = stdp(pre, post, pairs="nearest", a_plus=0.7, a_minus=0.4, tau_plus=9.0, tau_minus=14.0)
    wanted = torch.zeros(2, 3, dtype=DOUBLE)
    for j in range(2):
        for i in range(3):
            ins, outs = (x.nonzero()[:, 0].tolist() for x in (pre[0, :, i], post[0, :, j]))
            for t in outs:
                earlier = [s for s in ins if s < t]
                wanted[j, i] += 0.7 * math.exp(-(t - earlier[-1]) / 9) if earlier else 0
            for t in ins:
                earlier = [s for s in outs if s < t]
                wanted[j, i] -= 0.4 * math.exp(-(t - earlier[-1]) / 14) if earlier else 0
    torch.testing.assert_close(got, wanted, **TIGHT)


@pytest.mark.parametrize("pairs", ["all", "nearest"])
def test_a_neuron_that_learns_changes_as_the_rule_says(pairs):
    """With changes too small to matter for its spikes, all of them together are `stdp`."""
    pre = drawn(2, 300, 20, rate=0.1)
    start = torch.full((2, 20), 0.5, dtype=DOUBLE)
    how = {"a_plus": 1e-7, "a_minus": 2e-7, "tau_plus": 12.0, "tau_minus": 17.0, "pairs": pairs}
    run = stdp_neuron(pre, start, threshold=2.0, **how)
    assert run.spikes.sum() > 20
    for at in range(2):
        wanted = stdp(pre[at : at + 1], run.spikes[at, None, :, None], **how)[0]
        torch.testing.assert_close(run.weight[at] - start[at], wanted, rtol=1e-6, atol=1e-13)


def test_its_spikes_are_those_of_a_lif_behind_a_delay_of_one_step():
    pre = drawn(1, 200, 20, rate=0.1)
    weight = torch.full((1, 20), 0.5, dtype=DOUBLE)
    run = stdp_neuron(pre, weight, threshold=2.0, refractory=3, a_plus=0.0, a_minus=0.0)
    drive = torch.cat([torch.zeros(1, 1, 1, dtype=DOUBLE), 0.5 * pre[:, :-1].sum(-1, True)], 1)
    spikes, _ = LIF(decay(10.0), 2.0, "zero", refractory=3)(drive)
    assert torch.equal(run.spikes, spikes[..., 0])
    assert torch.equal(run.weight, weight)


def test_weights_stay_within_bounds_and_are_recorded():
    pre = drawn(2, 400, 20, rate=0.2)
    run = stdp_neuron(pre, torch.full((2, 20), 0.9, dtype=DOUBLE), threshold=3.0, every=100)
    assert run.history.shape == (2, 4, 20)
    assert torch.equal(run.history[:, -1], run.weight)
    assert float(run.history.min()) >= 0
    assert float(run.history.max()) == 1


def test_an_input_that_comes_first_wins_over_one_that_comes_after():
    pre = torch.zeros(1, 2000, 2, dtype=DOUBLE)
    pre[0, 5::40, 0] = 1  # drives the neuron
    pre[0, 10::40, 1] = 1  # too late
    run = stdp_neuron(pre, torch.tensor([[0.6, 0.4]], dtype=DOUBLE), threshold=0.5)
    assert run.weight[0].tolist() == [1, 0]


# ------------------------------------------------------------------------ low precision, extremes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_codes_in_half_precision_keep_small_rates_and_one_spike_an_input(dtype):
    draw = torch.Generator().manual_seed(0)
    rate = torch.full((1, 10_000), 0.001, dtype=dtype)
    spikes = poisson_code(rate, 50, generator=draw).float()
    assert float(spikes.mean()) == pytest.approx(float(rate[0, 0]), rel=0.15)  # five deviations
    sent = latency_code(torch.tensor([[0.1, 0.3, 0.5, 0.9]], dtype=dtype), 3000)
    assert sent.dtype == dtype and sent.float().sum(1).tolist() == [[1, 1, 1, 1]]


def test_the_period_under_a_huge_current_is_not_rounded_to_zero():
    times = spike_times(1e17, 1e-15, refractory=0.0)  # one every 20 · 15 / 1e18 ms
    torch.testing.assert_close(times, 3e-16 * torch.arange(1, 4, dtype=DOUBLE))


def test_spikes_of_two_precisions_are_refused_by_name():
    with refuses(TypeError, "post must be torch.float64, as pre is, got torch.float32"):
        stdp(torch.ones(1, 3, 2, dtype=DOUBLE), torch.ones(1, 3, 2))


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("tau=0 must be a finite number > 0", lambda: decay(0)),
        ("dt=-1 must be", lambda: decay(1, -1)),
        ("time must be ≥ 0 and must not fall", lambda: membrane(torch.tensor([1.0, 0.5]), 1.0)),
        ("time must be ≥ 0 and must not fall", lambda: membrane(torch.tensor([-1.0, 0.5]), 1.0)),
        ("time must be ≥ 0 and must not fall", lambda: membrane(torch.tensor([math.nan]), 1.0)),
        ("tau=-3 must be", lambda: membrane(torch.zeros(2), 1.0, tau=-3)),
        ("resistance=0 must be", lambda: spike_times(1.0, 5.0, resistance=0)),
        ("duration=0 must be", lambda: spike_times(1.0, 0)),
        ("rest=-50 must lie below threshold=-50.0", lambda: spike_times(1.0, 5.0, rest=-50)),
        ("reset=-40 must lie below threshold=-50.0",
         lambda: firing_rate(torch.zeros(2), reset=-40)),
        ("refractory=-1 must be", lambda: firing_rate(torch.zeros(2), refractory=-1)),
        ("dt=0.2 must be a finite number > 0 and ≤ 0.1",
         lambda: hodgkin_huxley(torch.zeros(3, 1), 0.2)),
        ("drives the membrane beyond what dt=0.05 can follow: no finite value from step 0 on",
         lambda: hodgkin_huxley(torch.zeros(3, 1), start=-2000.0)),
        ("dt=2 must be", lambda: izhikevich(torch.zeros(3, 1), 2)),
        ("a must have shape (1)", lambda: izhikevich(torch.zeros(3, 1), a=torch.zeros(2))),
        ("x must be within 0 … 1, got 0 … 2", lambda: poisson_code(torch.tensor([[0.0, 2]]), 3)),
        ("x must be within 0 … 1", lambda: latency_code(torch.tensor([[-1.0, 0]]), 3)),
        ("x must be within 0 … 1", lambda: latency_code(torch.tensor([[math.nan]]), 3)),
        ("num_steps=0 must be", lambda: poisson_code(torch.zeros(1, 2), 0)),
        ("most=1.5 must be", lambda: poisson_code(torch.zeros(1, 2), 3, most=1.5)),
        ("least=1 must be", lambda: latency_code(torch.zeros(1, 2), 3, least=1)),
        ("threshold=0 must be", lambda: delta_code(torch.zeros(1, 2), 0)),
        ("tau_plus=0 must be", lambda: stdp_window(torch.zeros(1), tau_plus=0)),
        ("a_minus=-1 must be", lambda: stdp(drawn(1, 3, 2), drawn(1, 3, 2), a_minus=-1)),
        ("tau_minus=0 must be", lambda: stdp(drawn(1, 3, 2), drawn(1, 3, 2), tau_minus=0)),
        ("post must have shape (1, 3, any)".replace("any", "j"),
         lambda: stdp(drawn(1, 3, 2), drawn(1, 4, 2))),
        ("pairs='some' must be one of", lambda: traces(drawn(1, 3, 2), pairs="some")),
        ("tau=0 must be", lambda: traces(drawn(1, 3, 2), 0)),
        ("weight must be within 0 … 1, got 0 … 2",
         lambda: stdp_neuron(drawn(1, 3, 2), torch.tensor([[0.0, 2]]), threshold=1.0)),
        ("weight must have shape (1, 2)",
         lambda: stdp_neuron(drawn(1, 3, 2), torch.zeros(1, 3), threshold=1.0)),
        ("threshold=0 must be",
         lambda: stdp_neuron(drawn(1, 3, 2), torch.zeros(1, 2), threshold=0)),
        ("every=-1 must be",
         lambda: stdp_neuron(drawn(1, 3, 2), torch.zeros(1, 2), threshold=1, every=-1)),
    ],
)  # fmt: skip
def test_what_a_neuron_or_a_code_cannot_be_is_refused_by_name(message, call):
    with refuses(ValueError, message):
        call()
