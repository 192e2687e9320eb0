"""Rules of storage against closed forms, loops, and each other where they must agree."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlib.memory.hopfield import HopfieldNetwork


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


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
