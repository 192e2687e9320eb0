"""The Hopfield network against loops, enumeration and the theory of its capacity."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import erf, erfc
from scipy.stats import norm

from nnlib.memory.hopfield import HopfieldNetwork
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    states = torch.randint(0, 2, (5, 6)) * 2.0 - 1

    def prepare(network):
        patterns = torch.tensor([[1.0, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        network.store(patterns.to(network.memory))
        return network

    return Example({"n": 6}, (states,), {"max_sweeps": 3}, prepare)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Signs from a coin, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def every_state(n: int) -> torch.Tensor:
    return torch.tensor(list(product((-1.0, 1.0), repeat=n)), dtype=torch.float64)


def network_of(weight, bias=None, rule="hebb") -> HopfieldNetwork:
    made = HopfieldNetwork(len(weight), rule, dtype=torch.float64)
    made.memory.copy_(torch.as_tensor(weight))
    if bias is not None:
        made.bias.copy_(torch.as_tensor(bias))
    return made


def whole_numbers(seed: int, n: int) -> HopfieldNetwork:
    """Small whole weights and thresholds, so that fields of exactly zero are common."""
    generator = torch.Generator().manual_seed(seed)
    upper = torch.randint(-2, 3, (n, n), generator=generator).triu(1).double()
    bias = torch.randint(-2, 3, (n,), generator=generator).double()
    return network_of(upper + upper.mT, bias)


# --------------------------------------------------------------------------------- energy, weights
@pytest.mark.equation("hopfield-energy")
def test_the_energy_is_the_sum_over_pairs():
    network = whole_numbers(3, 6)
    w, theta = network.weight, network.bias
    for s in every_state(6)[::7]:
        pairs = sum(w[i, j] * s[i] * s[j] for i in range(6) for j in range(6) if i != j)
        wanted = -pairs / 2 - sum(theta[i] * s[i] for i in range(6))
        torch.testing.assert_close(network.energy(s), wanted)


@pytest.mark.equation("hopfield-hebb")
def test_hebbs_rule_is_a_mean_of_products_without_its_diagonal():
    patterns = drawn(3, 5)
    network = HopfieldNetwork(5, dtype=torch.float64)
    network.store(patterns[:1])
    network.store(list(patterns[1:]))  # one after the other, as a list
    for i, j in product(range(5), repeat=2):
        wanted = 0 if i == j else sum(x[i] * x[j] for x in patterns) / 5
        assert network.weight[i, j].item() == pytest.approx(float(wanted), abs=1e-14)
    as_matrices = patterns.mT @ patterns / 5 - 3 / 5 * torch.eye(5).double()
    torch.testing.assert_close(network.weight, as_matrices, rtol=0, atol=1e-14)


# ----------------------------------------------------------------------------------------- updates
def by_hand(w, theta, s, sweeps):
    s = list(s)
    for _ in range(sweeps):
        for i in range(len(s)):
            field = sum(w[i][j] * s[j] for j in range(len(s))) + theta[i]
            s[i] = s[i] if field == 0 else math.copysign(1, field)
    return s


@pytest.mark.equation("hopfield-update", "hopfield-field")
@pytest.mark.parametrize("seed", range(6))
def test_updates_are_those_of_a_loop_and_a_field_of_zero_keeps_the_unit(seed):
    network = whole_numbers(seed, 7)
    states = every_state(7)[::5]
    got = network.recall(states, max_sweeps=2)
    w, theta = network.weight.tolist(), network.bias.tolist()
    wanted = [by_hand(w, theta, s, 2) for s in states.tolist()]
    assert got.tolist() == wanted
    ties = (network.field(states) == 0).double().mean().item()
    assert ties > 0.02, "no field was zero, so nothing was seen of it"


def test_a_zero_that_rounding_blurs_is_still_a_zero():
    """Two patterns that disagree on a unit: their votes cancel, whatever the order of adding."""
    patterns = drawn(2, 49, seed=4).float()
    patterns[:, 0], patterns[1] = 1.0, patterns[1] * torch.where(torch.arange(49) % 2 == 0, 1, -1)
    network = HopfieldNetwork(49)
    network.store(patterns)
    field = network.field(drawn(400, 49, seed=1).float()).abs()
    tiny = field[(field > 0) & (field < 1e-3)]  # the least that is no zero is 2/49
    assert len(tiny) and (tiny <= network._zero().amax()).all()
    assert network._zero().amax() < 1e-4


@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), blurred=st.booleans())
def test_no_single_update_raises_the_energy_with_thresholds_or_without(seed, n, blurred):
    network = whole_numbers(seed, n)
    if blurred:  # any symmetric weights, not only whole numbers
        noise = torch.randn(n, n, generator=torch.Generator().manual_seed(seed)).double()
        network.memory += noise + noise.mT
    start = drawn(n, seed=seed)
    way = network.path(start)
    energy = network.energy(way)
    assert (energy[1:] < energy[:-1]).all()  # each change of a unit lowers it
    assert ((way[1:] != way[:-1]).sum(1) == 1).all()
    assert network.stable(way[-1])
    assert torch.equal(way[-1], network.recall(start))


@pytest.mark.equation("hopfield-descent")
def test_a_flip_changes_the_energy_by_twice_the_field_against_it():
    network = whole_numbers(5, 8)
    s = drawn(8, seed=2)
    for i in range(8):
        flipped = s.clone()
        flipped[i] *= -1
        by_formula = -(flipped[i] - s[i]) * network.field(s)[i]
        torch.testing.assert_close(network.energy(flipped) - network.energy(s), by_formula)


def test_stable_states_are_the_local_minima_found_by_enumeration():
    network, states = whole_numbers(8, 9), every_state(9)
    energy = network.energy(states)
    lowest = torch.ones(len(states), dtype=torch.bool)
    for i in range(9):
        other = states.clone()
        other[:, i] *= -1
        lowest &= network.energy(other) >= energy
    assert torch.equal(network.stable(states), lowest)
    assert network.stable(network.recall(states)).all()


def test_an_order_of_units_is_drawn_from_a_generator():
    network, states = whole_numbers(8, 9), every_state(9)
    ends = [network.recall(states, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert network.stable(ends[2]).all()


def test_all_at_once_two_units_swap_for_ever():
    pair = network_of([[0.0, 1.0], [1.0, 0.0]])
    state = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert pair.recall(state, 1, synchronous=True).tolist() == [-1, 1]
    assert pair.recall(state, 100, synchronous=True).tolist() == [1, -1]
    assert pair.stable(pair.recall(state))


@pytest.mark.equation("hopfield-little")
@pytest.mark.parametrize("seed", range(5))
def test_all_at_once_an_energy_of_two_states_falls_and_periods_are_one_or_two(seed):
    network, now = whole_numbers(seed, 9), every_state(9)
    w, theta = network.weight, network.bias
    before = now
    now = network.recall(before, 1, synchronous=True)
    rose = False
    for _ in range(60):
        after = network.recall(now, 1, synchronous=True)
        rose |= bool((network.energy(now) > network.energy(before)).any())
        two = [-((a @ w) * b).sum(1) - (a + b) @ theta for a, b in ((before, now), (now, after))]
        assert (two[1] <= two[0]).all()
        before, now = now, after
    assert torch.equal(network.recall(now, 2, synchronous=True), now)
    assert rose, "the plain energy did not rise anywhere, so the test shows nothing"


def test_leading_axes_of_states_are_kept():
    network = whole_numbers(1, 6)
    states = every_state(6).reshape(8, 8, 6)
    flat = network.recall(states.reshape(-1, 6))
    assert torch.equal(network.recall(states).reshape(-1, 6), flat)
    assert network.energy(states).shape == network.stable(states).shape == (8, 8)


# ---------------------------------------------------------------------------------------- capacity
@pytest.mark.equation("hopfield-crosstalk")
def test_a_units_field_is_its_pattern_and_the_crosstalk_of_the_others():
    patterns = drawn(6, 40)
    network = HopfieldNetwork(40, dtype=torch.float64)
    network.store(patterns)
    for i in range(0, 40, 9):
        others = [j for j in range(40) if j != i]
        crosstalk = sum(
            x[i] * (x[others] @ patterns[0][others]) for x in patterns[1:]
        ) / 40  # fmt: skip
        wanted = 39 / 40 * patterns[0, i] + crosstalk
        torch.testing.assert_close(network.field(patterns[0])[i], wanted)


@pytest.mark.equation("hopfield-error")
@pytest.mark.parametrize(("n", "p"), [(400, 60), (400, 100), (800, 130)])
def test_the_share_of_wrong_units_is_that_of_a_normal_crosstalk(n, p):
    wrong = []
    for seed in range(6):
        patterns = drawn(p, n, seed=seed)
        network = HopfieldNetwork(n, dtype=torch.float64)
        network.store(patterns)
        wrong.append(((network.field(patterns) * patterns) < 0).double().mean().item())
    theory = erfc(math.sqrt(n / (2 * p))) / 2
    assert theory == pytest.approx(norm.sf(math.sqrt(n / p)))
    assert np.mean(wrong) == pytest.approx(theory, rel=0.1)


@pytest.mark.equation("hopfield-capacity-one", "hopfield-capacity-all")
@pytest.mark.parametrize(("divisor", "among"), [(2, "one"), (4, "all")])
def test_below_the_capacity_errors_vanish_and_above_they_do_not(divisor, among):
    """The expected number of wrong units, as N grows, a little below and above each capacity."""

    def expected(logn, factor):
        log_p = logn - math.log(divisor * logn) + math.log(factor)
        units = logn + (log_p if among == "all" else 0)
        return units + norm.logsf(math.exp((logn - log_p) / 2))

    sizes = [50.0, 200.0, 800.0]  # logarithms of N
    below, above = ([expected(logn, f) for logn in sizes] for f in (0.95, 1.1))
    assert below[0] > below[1] > below[2] and below[2] < -20
    assert above[0] < above[1] < above[2] and above[2] > 20


@pytest.mark.equation("hopfield-mean-field")
def test_the_load_at_which_retrieval_ends_is_0138():
    """The one equation of the chapter against the three of Amit et al. that it came from."""

    def load(y):
        return (erf(y) / y - 2 / math.sqrt(math.pi) * math.exp(-y * y)) ** 2 / 2

    best = minimize_scalar(lambda y: -load(y), bounds=(0.5, 3), method="bounded")
    assert load(best.x) == pytest.approx(0.1379, abs=1e-4)
    assert erf(best.x) == pytest.approx(0.967, abs=1e-3)

    def settles(alpha):
        m, r = 1.0, 1.0
        for _ in range(5_000):
            width = math.sqrt(alpha * r)
            c = math.sqrt(2 / math.pi) / width * math.exp(-(m**2) / (2 * alpha * r))
            m += 0.02 * (erf(m / (math.sqrt(2) * width)) - m)
            r += 0.02 * (1 / (1 - c) ** 2 - r)
        return m

    assert settles(0.136) > 0.95 and abs(settles(0.141)) < 0.1


# ---------------------------------------------------------------------------------- spurious states
@pytest.mark.equation("hopfield-mixture")
def test_mixtures_of_three_are_stable_agree_by_half_and_lie_higher():
    rows = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(6):  # Sylvester: 64 orthogonal patterns
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    patterns, n = rows[[1, 2, 4]], 64
    network = HopfieldNetwork(n, dtype=torch.float64)
    network.store(patterns)
    for a, b, c in product((-1, 1), repeat=3):
        mixed = (a * patterns[0] + b * patterns[1] + c * patterns[2]).sign()
        agree = patterns @ mixed / n
        assert agree.tolist() == [a / 2, b / 2, c / 2]
        assert network.stable(mixed)
        assert network.energy(mixed).item() == pytest.approx(-n / 2 * 3 / 4 + 3 / 2)
    assert network.energy(patterns[0]).item() == pytest.approx(-n / 2 + 3 / 2)
    assert network.stable(-patterns).all()  # negatives, at the same energy
    torch.testing.assert_close(network.energy(-patterns), network.energy(patterns))


@pytest.mark.equation("hopfield-overlap")
def test_the_overlap_is_one_less_twice_the_share_that_differs():
    patterns, s = drawn(4, 30), drawn(30, seed=5)
    overlaps = (patterns * s).mean(1)
    for x, got in zip(patterns.tolist(), overlaps.tolist(), strict=True):
        differs = sum(a != b for a, b in zip(x, s.tolist(), strict=True)) / 30
        assert got == pytest.approx(1 - 2 * differs)


@pytest.mark.equation("hopfield-overlap-energy")
def test_the_energy_is_a_sum_of_squared_overlaps():
    patterns = drawn(4, 30)
    network = HopfieldNetwork(30, dtype=torch.float64)
    network.store(patterns)
    s = drawn(9, 30, seed=5)
    overlaps = s @ patterns.mT / 30
    wanted = -30 / 2 * overlaps.square().sum(1) + 4 / 2
    torch.testing.assert_close(network.energy(s), wanted)


# ------------------------------------------------------------------------------------ form of 1982
@pytest.mark.equation("hopfield-binary")
def test_units_of_zero_and_one_with_thresholds_make_the_same_steps():
    generator = torch.Generator().manual_seed(3)
    upper = torch.randn(6, 6, generator=generator, dtype=torch.float64).triu(1)
    t, u = upper + upper.mT, torch.randn(6, generator=generator, dtype=torch.float64)
    network = network_of(t / 2, t.sum(1) / 2 - u)
    for s in every_state(6):
        v = (s + 1) / 2
        on = t @ v > u  # Hopfield's rule
        assert torch.equal(on, network.field(s) > 0)
        energy = -sum(t[i, j] * v[i] * v[j] for i in range(6) for j in range(6)) / 2 + u @ v
        other = network.energy(s) / 2
        first = -t.sum() / 8 + u.sum() / 2
        torch.testing.assert_close(energy, other + first)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (torch.tensor([[1.0, 0.5, -1.0]]), "patterns must hold -1 and 1 alone, got 0.5"),
        (torch.zeros(1, 3), "patterns must hold -1 and 1 alone, got 0"),
        (torch.tensor([[1.0, 0.0, 1.0]]), "patterns must hold -1 and 1 alone, got 0"),
        (torch.ones(0, 3), "patterns must hold at least one pattern, got (0, 3)"),
        ([], "patterns must hold at least one pattern"),
        (torch.ones(2, 4), "patterns must have rows of 3 units, got (2, 4)"),
        ([torch.ones(3), torch.ones(2)], "patterns must all have one length, got [3, 2]"),
        (torch.full((1, 3), math.nan), "patterns must hold -1 and 1 alone, got nan"),
    ],
)
def test_patterns_that_cannot_be_stored_are_refused_by_name(patterns, told):
    with refuses(ValueError, told):
        HopfieldNetwork(3).store(patterns)


def test_what_is_no_pattern_at_all_is_refused_by_name():
    network = HopfieldNetwork(3)
    with refuses(TypeError, "patterns must be floating point, got torch.int64"):
        network.store(torch.ones(2, 3, dtype=torch.int64))
    with refuses(TypeError, "patterns[0] must be a torch.Tensor, got list"):
        network.store([[1.0, 1.0, 1.0]])
    with refuses(ValueError, "state must hold -1 and 1 alone, got 0"):
        network.recall(torch.zeros(3))
    with refuses(ValueError, "state must have shape (3), got (1, 3)"):
        network.path(torch.ones(1, 3))
    with refuses(ValueError, "rule='hebbian' must be one of"):
        HopfieldNetwork(3, rule="hebbian")
    with refuses(ValueError, "max_sweeps=0 must be an integer"):
        network.recall(torch.ones(3), max_sweeps=0)


def test_with_nothing_stored_every_state_stays():
    network, states = HopfieldNetwork(5, dtype=torch.float64), every_state(5)
    assert torch.equal(network.recall(states), states) and network.stable(states).all()
