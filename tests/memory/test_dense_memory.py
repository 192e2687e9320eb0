"""Dense associative memories against brute force, and against Hebb's rule where they are it."""

import math
from itertools import product

import pytest
import torch

from nnlib.memory.hopfield import HopfieldNetwork, dense_memory, dense_memory_energy
from tests.support import refuses

KINDS = [("polynomial", 2), ("polynomial", 3), ("polynomial", 4), ("rectified", 3),
         ("exponential", 3)]  # fmt: skip
kinds = pytest.mark.parametrize(("interaction", "degree"), KINDS)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


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


def test_bad_arguments_are_refused_by_name():
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
