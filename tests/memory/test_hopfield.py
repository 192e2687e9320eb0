"""The Hopfield network and its relatives against loops, enumeration, attention and theory."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.optimize import minimize_scalar
from scipy.special import erf, erfc
from scipy.stats import norm
from torch.nn import functional as F

from nnlib.attention.attention import dot_product_attention, scaled_dot_product_attention
from nnlib.kernels.attention import attention_reference
from nnlib.memory.hopfield import (
    HopfieldNetwork,
    HopfieldPooling,
    continuous_hopfield,
    continuous_hopfield_energy,
    dense_memory,
    dense_memory_energy,
    modern_hopfield,
    modern_hopfield_energy,
    separation,
    travelling_salesman,
)
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


# -------------------------------------------------------------------------------- rules of storage
def stored(rule: str, *portions: torch.Tensor) -> HopfieldNetwork:
    network = HopfieldNetwork(portions[0].shape[1], rule, dtype=portions[0].dtype)
    for patterns in portions:
        network.store(patterns)
    return network


@pytest.mark.equation("hopfield-pseudo-inverse")
@pytest.mark.parametrize("p", [1, 7, 19, 30])
def test_the_projection_is_that_of_the_pseudo_inverse(p):
    patterns = drawn(p, 20)  # thirty of twenty units: more than can be independent
    wanted = torch.linalg.pinv(patterns) @ patterns
    network = stored("pseudo_inverse", patterns[: p // 2 + 1], patterns[p // 2 :])
    torch.testing.assert_close(network.memory, wanted, atol=1e-10, rtol=0)
    if p <= 19:  # the same through the patterns' overlaps
        overlap = patterns @ patterns.mT / 20
        by_overlaps = patterns.mT @ torch.linalg.inv(overlap) @ patterns / 20
        torch.testing.assert_close(network.memory, by_overlaps, atol=1e-9, rtol=0)


@given(seed=st.integers(0, 10**6), p=st.integers(1, 12))
def test_the_pseudo_inverse_holds_any_patterns_that_are_independent(seed, p):
    patterns = drawn(p, 24, seed=seed)
    patterns[:, :16] = 1.0  # very much alike
    network = stored("pseudo_inverse", patterns)
    assert network.stable(patterns).all()  # the field is 1 − P_ii times the pattern, never against
    assert network.memory.trace().item() == pytest.approx(int(torch.linalg.matrix_rank(patterns)))


def test_what_is_stored_twice_changes_nothing_and_single_precision_will_do():
    patterns = drawn(6, 50).float()
    once = stored("pseudo_inverse", patterns)
    again = stored("pseudo_inverse", patterns, patterns, -patterns[:2])
    torch.testing.assert_close(again.memory, once.memory, rtol=0, atol=1e-6)
    assert once.memory.trace().item() == pytest.approx(6, abs=1e-4)


@pytest.mark.equation("hopfield-storkey")
def test_storkeys_rule_is_that_of_four_loops():
    patterns, n = drawn(4, 6), 6
    w = torch.zeros(n, n, dtype=torch.float64)
    for x in patterns:
        h = torch.zeros(n, n, dtype=torch.float64)
        for i, j in product(range(n), repeat=2):
            h[i, j] = sum(w[i, k] * x[k] for k in range(n) if k not in (i, j))
        new = w.clone()
        for i, j in product(range(n), repeat=2):
            if i != j:
                new[i, j] += (x[i] * x[j] - x[i] * h[j, i] - h[i, j] * x[j]) / n
        w = new
    torch.testing.assert_close(stored("storkey", patterns).weight, w)
    in_two = stored("storkey", patterns[:2], patterns[2:])
    torch.testing.assert_close(in_two.weight, w)


def test_on_orthogonal_patterns_hebb_projects():
    rows = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(4):
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    hebb, projected = (stored(rule, rows[:5]) for rule in ("hebb", "pseudo_inverse"))
    torch.testing.assert_close(hebb.memory, projected.memory)


@pytest.mark.parametrize("rule", ["hebb", "pseudo_inverse", "storkey"])
def test_weights_are_symmetric_and_have_no_diagonal(rule):
    weight = stored(rule, drawn(5, 30)).weight
    assert torch.equal(weight.diagonal(), torch.zeros(30, dtype=torch.float64))
    torch.testing.assert_close(weight, weight.mT, rtol=0, atol=1e-12)


def test_storkey_keeps_more_random_patterns_than_hebb():
    kept = {}
    for rule in ("hebb", "storkey"):
        each = [stored(rule, x).stable(x) for x in (drawn(22, 100, seed=s) for s in range(4))]
        kept[rule] = torch.cat(each).double().mean().item()
    assert kept["storkey"] > 0.95 and kept["hebb"] < 0.5


# --------------------------------------------------------------------------------- modern networks
def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# ---------------------------------------------------------------------------------------- attention
@pytest.mark.equation("hopfield-attention")
@pytest.mark.parametrize("d", [5, 64, 256])  # the last is wider than the kernels' heads
def test_an_update_is_attention_with_the_patterns_as_keys_and_values(d):
    patterns, query, beta = normal(9, d), normal(4, d, seed=1), 0.7
    got = modern_hopfield(patterns, query, beta)
    q, k = query[None, None], patterns[None, None]
    exact = {"rtol": 0, "atol": 1e-12}
    written_out = (beta * query @ patterns.mT).softmax(-1) @ patterns
    torch.testing.assert_close(got, written_out, **exact)
    torch.testing.assert_close(got, attention_reference(q, k, k, scale=beta)[0, 0], **exact)
    module = scaled_dot_product_attention(q, k, k, scale=beta)[0, 0]
    torch.testing.assert_close(got, module, **exact)
    chapter, weights = dot_product_attention(query[None], k[0], k[0], scale=beta)
    torch.testing.assert_close(got, chapter[0], **exact)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4).double(), **exact)
    torchs = F.scaled_dot_product_attention(q, k, k, scale=beta)[0, 0]
    torch.testing.assert_close(got, torchs, **exact)


def test_single_precision_takes_the_kernel_and_agrees():
    patterns, query = normal(9, 64), normal(4, 64, seed=1)
    got = modern_hopfield(patterns.float(), query.float(), 0.7, num_steps=3)
    torch.testing.assert_close(got.double(), modern_hopfield(patterns, query, 0.7, num_steps=3),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_steps_and_leading_axes():
    patterns, query = normal(6, 4), normal(2, 3, 4, seed=1)
    twice = modern_hopfield(patterns, modern_hopfield(patterns, query, 2.0), 2.0)
    torch.testing.assert_close(modern_hopfield(patterns, query, 2.0, num_steps=2), twice)
    alone = modern_hopfield(patterns, query[1, 2], 2.0, num_steps=2)
    torch.testing.assert_close(alone, twice[1, 2])


def test_gradients_reach_patterns_and_queries():
    patterns, query = normal(3, 2).requires_grad_(), normal(2, 2, seed=1).requires_grad_()

    def call(x, q):
        return modern_hopfield(x, q, 1.5, num_steps=2)

    assert torch.autograd.gradcheck(call, (patterns, query))


# ------------------------------------------------------------------------------------------- energy
@pytest.mark.equation("hopfield-modern-energy", "hopfield-lse")
def test_the_energy_is_the_formula_written_out():
    patterns, state, beta = normal(5, 3), normal(1, 3, seed=1)[0], 1.7
    lse = math.log(sum(math.exp(beta * float(x @ state)) for x in patterns)) / beta
    longest = max(float(x @ x) for x in patterns)
    wanted = -lse + float(state @ state) / 2 + math.log(5) / beta + longest / 2
    got = modern_hopfield_energy(patterns, state, beta).item()
    assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.equation("hopfield-gradient")
def test_an_update_is_a_step_of_one_down_the_gradient():
    patterns, state = normal(5, 3), normal(2, 3, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(modern_hopfield_energy(patterns, state, 1.7).sum(), state)
    step = state - modern_hopfield(patterns, state, 1.7)
    torch.testing.assert_close(slope, step, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6), log_beta=st.floats(-4, 4), p=st.integers(1, 12))
def test_no_update_raises_the_energy_and_it_is_never_negative(seed, log_beta, p):
    patterns, state, beta = normal(p, 6, seed=seed), 3 * normal(8, 6, seed=seed + 1), 10**log_beta
    energies = [modern_hopfield_energy(patterns, state, beta)]
    for _ in range(5):
        state = modern_hopfield(patterns, state, beta)
        energies.append(modern_hopfield_energy(patterns, state, beta))
    falls = torch.stack(energies).diff(dim=0)
    assert (falls <= 1e-10).all()
    # from the first update on the state is among the patterns, so the bound of twice M² holds
    longest = patterns.square().sum(-1).amax()
    assert (energies[-1] >= -1e-10).all() and (energies[-1] <= 2 * longest + 1e-10).all()


def test_half_a_step_lowers_the_energy_too():
    patterns, state = normal(9, 6), normal(50, 6, seed=1)
    half = (state + modern_hopfield(patterns, state, 2.0)) / 2
    before, after = (modern_hopfield_energy(patterns, x, 2.0) for x in (state, half))
    assert (after < before).all()


def test_without_the_temperature_before_the_logarithm_the_energy_can_rise():
    """The formula as it is often printed: the update descends another one."""
    patterns, state, beta = normal(6, 4), normal(500, 4, seed=1), 8.0

    def printed(x):
        return -(beta * x @ patterns.mT).logsumexp(-1) + x.square().sum(-1) / 2

    after = modern_hopfield(patterns, state, beta)
    rose = (printed(after) > printed(state) + 1e-9).sum()
    right = [modern_hopfield_energy(patterns, x, beta) for x in (state, after)]
    assert rose > 20 and not (right[1] > right[0] + 1e-12).any()


# ---------------------------------------------------------------------------------------- retrieval
@pytest.mark.equation("hopfield-separation")
def test_the_separation_is_that_of_loops():
    patterns = normal(6, 4)
    for i, got in enumerate(separation(patterns)):
        others = [float(patterns[i] @ patterns[j]) for j in range(6) if j != i]
        assert got.item() == pytest.approx(float(patterns[i] @ patterns[i]) - max(others))


@pytest.mark.equation("hopfield-retrieval")
@given(seed=st.integers(0, 10**6), log_beta=st.floats(-2, 1))
def test_an_update_from_a_pattern_stays_within_the_bound(seed, log_beta):
    patterns, beta = normal(7, 12, seed=seed), 10**log_beta
    error = (modern_hopfield(patterns, patterns, beta) - patterns).norm(dim=-1)
    longest = patterns.norm(dim=-1).amax()
    bound = 2 * longest * 6 * torch.exp(-beta * separation(patterns))
    assert (error <= bound + 1e-12).all()


def test_the_bound_is_reached_to_a_factor_of_the_number_of_patterns():
    """Two patterns: the error is exactly twice the length, times the weight of the other one."""
    patterns = torch.tensor([[3.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    error = (modern_hopfield(patterns, patterns, 0.9) - patterns).norm(dim=-1)
    bound = 2 * 3 * torch.exp(-0.9 * separation(patterns))
    torch.testing.assert_close(error, bound / (1 + (-0.9 * separation(patterns)).exp()))


def test_a_small_beta_averages_and_a_large_one_picks_the_nearest():
    patterns, query = normal(20, 8), normal(5, 8, seed=1)
    cold, warm = modern_hopfield(patterns, query, 1e6), modern_hopfield(patterns, query, 1e-9)
    torch.testing.assert_close(cold, patterns[(query @ patterns.mT).argmax(-1)])
    torch.testing.assert_close(warm, patterns.mean(0).expand(5, 8), rtol=0, atol=1e-7)


# -------------------------------------------------------------------------------------------- layer
@pytest.mark.equation("hopfield-pooling")
def test_pooling_is_a_loop_over_bags_and_ignores_what_is_masked():
    torch.manual_seed(0)
    layer = HopfieldPooling(6, num_queries=2, beta=0.8, dtype=torch.float64)
    bags, mask = normal(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    got = layer(bags, mask)
    for b in range(3):
        bag = bags[b][mask[b]]
        keys, values = layer.key_proj(bag), layer.value_proj(bag)
        wanted = (0.8 * layer.query @ keys.mT).softmax(-1) @ values
        torch.testing.assert_close(got[b], wanted)
    order = torch.randperm(5)
    torch.testing.assert_close(layer(bags[:, order], mask[:, order]), got)
    assert HopfieldPooling(16).beta == 0.25


def test_pooling_that_only_knows_one_query_is_an_update_of_the_network():
    layer = HopfieldPooling(4, beta=2.0, dtype=torch.float64)
    with torch.no_grad():
        for part in (layer.key_proj, layer.value_proj):
            part.weight.copy_(torch.eye(4))
            part.bias.zero_()
    bag = normal(7, 4)
    torch.testing.assert_close(layer(bag[None])[0], modern_hopfield(bag, layer.query, 2.0))


# ---------------------------------------------------------------------------------------- bad input
def test_bad_arguments_of_modern_hopfield_are_refused_by_name():
    x = torch.randn(3, 4)
    for beta in (0.0, -1.0, math.nan, math.inf):
        with refuses(ValueError, "beta="):
            modern_hopfield(x, x, beta)
        with refuses(ValueError, "beta="):
            modern_hopfield_energy(x, x, beta)
    with refuses(ValueError, "patterns must hold at least one pattern, got (0, 4)"):
        modern_hopfield(torch.zeros(0, 4), x, 1.0)
    with refuses(ValueError, "query must be as wide as patterns, 4, got (2, 3)"):
        modern_hopfield(x, torch.zeros(2, 3), 1.0)
    with refuses(ValueError, "patterns must be finite"):
        modern_hopfield(x / 0, x, 1.0)
    with refuses(ValueError, "num_steps=0"):
        modern_hopfield(x, x, 1.0, num_steps=0)
    with refuses(ValueError, "patterns must hold two or more, got (1, 4)"):
        separation(x[:1])
    with refuses(ValueError, "bags must have shape (b, n, 4), got (3, 4)"):
        HopfieldPooling(4)(x)


def test_patterns_of_zeros_are_a_pattern_like_others():
    patterns = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    at_zero = modern_hopfield(patterns, torch.zeros(3).double(), 50.0)
    torch.testing.assert_close(at_zero, torch.full((3,), 0.25).double())


# ---------------------------------------------------------------------------------- dense memories
KINDS = [("polynomial", 2), ("polynomial", 3), ("polynomial", 4), ("rectified", 3),
         ("exponential", 3)]  # fmt: skip
kinds = pytest.mark.parametrize(("interaction", "degree"), KINDS)


def function(interaction, degree, x):
    if interaction == "exponential":
        return math.exp(x)
    return max(x, 0.0) ** degree if interaction == "rectified" else x**degree


@pytest.mark.equation("hopfield-dense-energy")
@kinds
def test_the_energy_is_a_sum_of_the_function_of_each_overlap(interaction, degree):
    patterns, states = drawn(5, 7), drawn(6, 7, seed=1)
    got = dense_memory_energy(patterns, states, interaction, degree)
    for energy, s in zip(got.tolist(), states, strict=True):
        total = sum(function(interaction, degree, float(x @ s)) for x in patterns)
        wanted = -math.log(total) if interaction == "exponential" else -total
        assert energy == pytest.approx(wanted, rel=1e-12)


@pytest.mark.equation("hopfield-dense")
@kinds
def test_each_unit_takes_the_sign_of_lower_energy(interaction, degree):
    """A loop that computes both energies afresh at each unit."""
    patterns = drawn(6, 8)
    for s in drawn(12, 8, seed=1):
        wanted = s.clone()
        for i in range(8):
            both = wanted.repeat(2, 1)
            both[:, i] = torch.tensor([1.0, -1.0])
            up, down = dense_memory_energy(patterns, both, interaction, degree)
            if (up - down).abs() > 1e-9 * (up.abs() + down.abs()):
                wanted[i] = 1.0 if up < down else -1.0
        got = dense_memory(patterns, s, interaction, degree, max_sweeps=1)
        assert got.tolist() == wanted.tolist()


@kinds
def test_its_energy_never_rises_and_it_settles(interaction, degree):
    patterns, state = drawn(9, 10), drawn(200, 10, seed=1)
    before = dense_memory_energy(patterns, state, interaction, degree)
    for _ in range(20):
        state = dense_memory(patterns, state, interaction, degree, max_sweeps=1)
        after = dense_memory_energy(patterns, state, interaction, degree)
        assert (after <= before + 1e-9 * before.abs()).all()
        before = after
    assert torch.equal(dense_memory(patterns, state, interaction, degree), state)


def test_degree_two_is_hebbs_network():
    patterns, states = drawn(3, 11), drawn(300, 11, seed=1)
    network = HopfieldNetwork(11, dtype=torch.float64)
    network.store(patterns)
    assert torch.equal(dense_memory(patterns, states, degree=2), network.recall(states))
    twice = -22 * (network.energy(states) - 3 / 2)  # E is −½ of the squares over N, less P
    torch.testing.assert_close(-dense_memory_energy(patterns, states, degree=2), twice)


@pytest.mark.equation("hopfield-dense-capacity")
@pytest.mark.parametrize(("degree", "double_factorial"), [(2, 1), (3, 3), (4, 15)])
def test_the_noise_of_other_patterns_has_the_variance_that_the_capacity_rests_on(
    degree, double_factorial
):
    """Flipping a unit: signal 2kN^(k−1), variance 4k²(2k−3)!! (P − 1) N^(k−1); so P_max follows."""
    n, p, trials = 60, 20, 4000
    generator = torch.Generator().manual_seed(0)
    shape = (trials, p - 1, n)
    others = torch.randint(0, 2, shape, generator=generator).double() * 2 - 1
    rest = others[..., 1:].sum(-1)  # the pattern in question is all ones: any is as good
    noise = ((rest + others[..., 0]) ** degree - (rest - others[..., 0]) ** degree).sum(-1)
    theory = 4 * degree**2 * double_factorial * (p - 1) * n ** (degree - 1)
    assert noise.var().item() == pytest.approx(theory, rel=0.15)
    signal = n**degree - (n - 2) ** degree
    assert signal == pytest.approx(2 * degree * n ** (degree - 1), rel=0.06)
    # P at which one unit of N is wrong: N Φ(−√(N^(k−1) / (2k−3)!! P)) ~ 1 where P is the capacity
    capacity = n ** (degree - 1) / (2 * double_factorial * math.log(n))
    ratio = (2 * degree * n ** (degree - 1)) ** 2 / (theory / (p - 1) * capacity)
    assert ratio == pytest.approx(2 * math.log(n))
    assert n * math.erfc(math.sqrt(ratio / 2)) / 2 < 1


def test_steeper_functions_hold_more_patterns():
    """Twenty units, three hundred patterns: fifteen times as many as there are units."""
    patterns = drawn(300, 20)
    kept = [
        (dense_memory(patterns, patterns[:60], *kind, max_sweeps=1) == patterns[:60])
        .all(1).double().mean().item()
        for kind in [("polynomial", 2), ("polynomial", 6), ("exponential", 3)]
    ]  # fmt: skip
    assert kept[0] < 0.1 and kept[1] > 0.75 and kept[2] > 0.9


def test_large_networks_do_not_overflow():
    patterns = drawn(4, 900)
    noisy = patterns.clone()
    noisy[:, :200] *= -1
    for kind in (("polynomial", 10), ("exponential", 3)):
        assert torch.equal(dense_memory(patterns, noisy, *kind, max_sweeps=2), patterns)


def test_bad_arguments_of_dense_memory_are_refused_by_name():
    x = torch.ones(2, 4)
    with refuses(ValueError, "interaction='cubic' must be one of"):
        dense_memory(x, x, "cubic")
    with refuses(ValueError, "degree=1 must be an integer ≥ 2"):
        dense_memory(x, x, degree=1)
    with refuses(ValueError, "patterns must hold -1 and 1 alone, got 0"):
        dense_memory(0 * x, x)
    with refuses(ValueError, "state must have rows of 4 units, got (2, 3)"):
        dense_memory(x, x[:, :3])
    with refuses(ValueError, "patterns must all have one length, got [4, 3]"):
        dense_memory([x[0], x[0, :3]], x)


def test_all_states_of_a_small_memory_settle_in_minima():
    patterns = drawn(4, 8)
    states = torch.tensor(list(product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    ends = dense_memory(patterns, states, degree=3)
    energy = dense_memory_energy(patterns, ends, degree=3)
    for i in range(8):
        other = ends.clone()
        other[:, i] *= -1
        assert (dense_memory_energy(patterns, other, degree=3) >= energy).all()


# ---------------------------------------------------------------------------- graded units of 1984
def circuit(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(n, n, generator=generator, dtype=torch.float64)
    bias = 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    return half + half.mT, bias, torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.equation("hopfield-graded")
def test_it_follows_scipys_solution_of_the_equation():
    weight, bias, u = circuit()
    w, b = weight.numpy(), bias.numpy()
    wanted = solve_ivp(lambda _, x: -x + w @ np.tanh(1.5 * x) + b, (0, 2), u.numpy(),
                       rtol=1e-9, atol=1e-9).y[:, -1]  # fmt: skip
    got = continuous_hopfield(weight, bias, u, 1.5, dt=1e-4, num_steps=20_000)
    np.testing.assert_allclose(got.numpy(), wanted, atol=2e-3)


@pytest.mark.equation("hopfield-graded-energy")
def test_its_energy_has_the_integral_and_the_motion_as_its_slope():
    weight, bias, u = circuit()
    v = (1.5 * u).tanh().requires_grad_()
    energy = continuous_hopfield_energy(weight, bias, v, 1.5)
    areas = sum(quad(np.arctanh, 0, x)[0] for x in v.tolist())
    wanted = float((-v @ weight @ v / 2 - bias @ v).detach()) + areas / 1.5
    assert energy.item() == pytest.approx(wanted, rel=1e-8)
    (slope,) = torch.autograd.grad(energy, v)
    motion = -u + weight @ v.detach() + bias
    torch.testing.assert_close(-slope, motion)


@pytest.mark.parametrize("gain", [0.3, 1.0, 5.0])
def test_its_energy_falls_until_it_rests(gain):
    weight, bias, u = circuit(8, seed=2)
    before = torch.inf
    for _ in range(60):
        u = continuous_hopfield(weight, bias, u, gain, dt=0.01, num_steps=100)
        energy = continuous_hopfield_energy(weight, bias, (gain * u).tanh(), gain)
        assert energy <= before + 1e-9
        before = energy
    torch.testing.assert_close(u, weight @ (gain * u).tanh() + bias, atol=1e-3, rtol=0)


def test_a_steep_unit_is_one_of_two_values_and_rests_where_the_network_is_stable():
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randint(0, 2, (3, 40), generator=generator).double() * 2 - 1
    network = HopfieldNetwork(40, dtype=torch.float64)
    network.store(patterns)
    start = 0.1 * patterns * torch.where(torch.rand(3, 40, generator=generator) < 0.15, -1, 1)
    u = continuous_hopfield(network.weight, network.bias, start, 50.0, num_steps=3000)
    assert torch.equal((50 * u).tanh().sign(), patterns)
    assert (50 * u).tanh().abs().min() > 0.99 and network.stable(u.sign()).all()


def test_with_a_gain_below_the_largest_eigenvalue_it_forgets():
    """One attractor, at zero: nothing is stored in units that are too gentle."""
    weight, bias, u = circuit()
    gain = 0.9 / torch.linalg.eigvalsh(weight).abs().max().item()
    rest = continuous_hopfield(weight, 0 * bias, u, gain, dt=0.05, num_steps=4000)
    assert rest.abs().max() < 1e-3


def test_bad_arguments_of_continuous_hopfield_are_refused_by_name():
    weight, bias, u = torch.eye(3), torch.zeros(3), torch.zeros(3)
    with refuses(ValueError, "weight must be symmetric"):
        continuous_hopfield(torch.ones(3, 3).triu(), bias, u)
    with refuses(ValueError, "weight must be square, got (3, 2)"):
        continuous_hopfield(torch.ones(3, 2), bias, u)
    with refuses(ValueError, "gain=0.0 must be a finite number > 0"):
        continuous_hopfield(weight, bias, u, 0.0)
    with refuses(ValueError, "u must have rows of 3 units, got (2,)"):
        continuous_hopfield(weight, bias, u[:2])
    with refuses(ValueError, "v must lie in -1 … 1, got 2"):
        continuous_hopfield_energy(weight, bias, u + 2)


# ----------------------------------------------------------------------------- travelling salesman
CITIES = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).double()
D = torch.cdist(CITIES, CITIES)


def of_the_paper(v, a=500.0, c=200.0, d=500.0, n=15.0):
    """Loops over cities x, y and times i, j, for outputs of 0 and 1 (or between)."""
    size = range(len(v))
    rows = sum(v[x, i] * v[x, j] for x in size for i in size for j in size if i != j)
    columns = sum(v[x, i] * v[y, i] for i in size for x in size for y in size if x != y)
    total = (v.sum() - n) ** 2
    way = sum(
        D[x, y] * v[x, i] * (v[y, (i + 1) % 4] + v[y, (i - 1) % 4])
        for x in size for y in size for i in size
    )  # fmt: skip
    return a / 2 * (rows + columns) + c / 2 * total + d / 2 * way


@pytest.mark.equation("hopfield-salesman")
@pytest.mark.parametrize(
    "constants", [{}, {"once": 3.0, "visits": 2.0, "length": 7.0, "target": 5}]
)
def test_the_networks_energy_is_the_papers_but_for_a_constant(constants):
    weight, bias = travelling_salesman(D, **constants)
    names = {"once": "a", "visits": "c", "length": "d", "target": "n"}
    own = {names[name]: value for name, value in constants.items()}
    generator = torch.Generator().manual_seed(1)
    states = torch.rand(6, 4, 4, generator=generator).double()
    wanted = torch.stack([of_the_paper(v, **own) for v in states])
    # with v from −1 to 1 the energy is twice as large, and the gain is infinite: no integral
    flat = 2 * states.flatten(1) - 1
    got = 0.5 * (-((flat @ weight) * flat).sum(1) / 2 - flat @ bias)
    torch.testing.assert_close(got - got[0], wanted - wanted[0])
    graded = continuous_hopfield_energy(weight, bias, flat, gain=1e12)
    torch.testing.assert_close(graded, 2 * got, rtol=1e-6, atol=1e-3)


def test_of_all_tours_the_shortest_has_the_lowest_energy():
    weight, bias = travelling_salesman(D)
    energies, lengths = [], []
    for tour in permutations(range(4)):
        v = -torch.ones(4, 4).double()
        v[list(tour), range(4)] = 1
        energies.append(continuous_hopfield_energy(weight, bias, v.flatten(), 1e9).item())
        lengths.append(sum(D[tour[i], tour[i - 1]].item() for i in range(4)))
    assert min(energies) == pytest.approx(energies[lengths.index(min(lengths))])


def test_bad_arguments_of_salesman_are_refused_by_name():
    with refuses(ValueError, "distances must be square, of 3 cities or more, got (2, 2)"):
        travelling_salesman(torch.zeros(2, 2))
    with refuses(ValueError, "distances must be symmetric"):
        travelling_salesman(torch.rand(4, 4))
    with refuses(ValueError, "once=-1 must be a finite number ≥ 0"):
        travelling_salesman(D, once=-1)
    with refuses(ValueError, "target=nan"):
        travelling_salesman(D, target=math.nan)
