"""Neurons in continuous time, codes and STDP against solvers, enumeration and snnTorch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from nnlib.dynamics.spiking import (
    LIF,
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
    traces,
)
from tests.support import Peer, refuses

spikegen = Peer("snntorch.spikegen")
DOUBLE = torch.float64
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


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
def test_what_cannot_be_is_refused_by_name(message, call):
    with refuses(ValueError, message):
        call()
