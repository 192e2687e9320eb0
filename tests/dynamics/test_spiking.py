"""Spiking networks against loops, difference quotients, snnTorch and what was worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
    surrogate,
    synapse,
    synaptic_operations,
)
from tests.support import Example, Peer, refuses

peer = Peer("snntorch")
slopes = Peer("snntorch.surrogate")
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
    assert float(first.max()) == pytest.approx(1) == float(second.max())
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
        wanted = values.flatten().quantile(percentile / 100)
        torch.testing.assert_close(_scale(values, percentile), wanted, rtol=0, atol=0)


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
