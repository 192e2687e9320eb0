"""What is remembered, against plain lists; how it is drawn, against χ² and running sums."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx
from scipy.stats import chi2

from nnlib.reinforcement.dqn import (
    PrioritizedReplayBuffer,
    ReplayBuffer,
    SeveralSteps,
    SumTree,
)
from tests.support import refuses

FAR = 1e-4
"""A χ² test with right code fails once in ten thousand seeds; these are fixed."""


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(first, count):
    """Transitions that are told apart by their states and rewards."""
    number = torch.arange(first, first + count)
    ended = number % 3 == 0
    return number[:, None].float(), number % 2, number.float(), number[:, None] + 1.0, ended


@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(0, 12), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_ring_holds_the_last_ones(capacity, sizes):
    memory, told = ReplayBuffer(capacity, generator=dice()), []
    for size in sizes:
        memory.add(*numbered(len(told), size), 0.9)
        told += range(len(told), len(told) + size)
        assert len(memory) == min(len(told), capacity)
        if len(memory):
            drawn = memory.sample(len(memory))
            assert set(drawn.rewards.tolist()) <= set(map(float, told[-capacity:]))
            assert (drawn.states[:, 0] == drawn.rewards).all()
            assert (drawn.next_states[:, 0] == drawn.rewards + 1).all()
            assert (drawn.terminated == (drawn.rewards % 3 == 0)).all()


@pytest.mark.equation("dqn-replay")
def test_each_is_drawn_with_the_same_probability():
    memory = ReplayBuffer(8, generator=dice())
    memory.add(*numbered(0, 13), 0.9)  # 5 … 12 are left
    drawn = torch.cat([memory.sample(8).rewards for _ in range(500)]).long()
    counts = torch.bincount(drawn, minlength=13)
    assert not counts[:5].any()
    distance = ((counts[5:] - 500.0) ** 2 / 500).sum().item()
    assert distance < chi2.isf(FAR, 7)


def test_more_than_there_is_cannot_be_drawn():
    memory = ReplayBuffer(5)
    with refuses(ValueError, "batch_size=1 must be at most 0, the transitions held"):
        memory.sample(1)
    memory.add(*numbered(0, 3), 0.9)
    with refuses(ValueError, "batch_size=4 must be at most 3"):
        memory.sample(4)
    with refuses(ValueError, "capacity"):
        ReplayBuffer(0)


def test_what_does_not_fit_is_refused_by_name():
    memory, good = ReplayBuffer(5), list(numbered(0, 3))
    memory.add(*good, 0.9)
    with refuses(ValueError, "rewards must be finite"):
        memory.add(good[0], good[1], torch.tensor([1.0, torch.nan, 0.0]), *good[3:], 0.9)
    with refuses(ValueError, "states must have rows of shape (1,) as before, got (2,)"):
        memory.add(torch.zeros(3, 2), *good[1:], 0.9)
    with refuses(ValueError, "actions must have 3 rows"):
        memory.add(good[0], good[1][:2], *good[2:], 0.9)
    with refuses(ValueError, "discounts=1.5"):
        memory.add(*good, 1.5)
    assert len(memory) == 3, "nothing was kept of what was refused"


@pytest.mark.equation("dqn-n-step")
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_several_steps_are_summed_until_an_episode_ends(n):
    g, steps, gamma = dice(n), 40, 0.7
    rewards = torch.randn(steps, 3, generator=g, dtype=torch.float64)
    terminated = torch.rand(steps, 3, generator=g) < 0.15
    truncated = (torch.rand(steps, 3, generator=g) < 0.15) & ~terminated
    several = SeveralSteps(n, gamma)
    for t in range(steps):
        at = torch.full((3, 1), float(t))
        made = several.add(at, torch.full((3,), t), rewards[t], at + 1, terminated[t],
                           truncated[t])  # fmt: skip
        assert bool(made) == (t >= n - 1)
        for b in range(3) if made else ():
            total, k = 0.0, t - n + 1
            while True:
                total += gamma ** (k - (t - n + 1)) * rewards[k, b].item()
                if terminated[k, b] or truncated[k, b] or k == t:
                    break
                k += 1
            began, acted, paid, last, over, discount = (part[b] for part in made)
            assert began.item() == acted.item() == t - n + 1
            assert paid.item() == approx(total) and last.item() == k + 1
            assert bool(over) == bool(terminated[k, b])
            assert discount.item() == approx(gamma ** (k - (t - n + 1) + 1))


# ------------------------------------------------------------------------------------- priorities
@given(st.lists(st.floats(0, 5), min_size=1, max_size=20), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_a_tree_finds_what_running_sums_find(numbers, seed):
    tree, leaves = SumTree(len(numbers)), torch.tensor(numbers, dtype=torch.float64)
    order = torch.randperm(len(numbers), generator=dice(seed))
    tree.set(order, leaves[order])
    assert tree.total == approx(sum(numbers), abs=1e-9)
    if sum(numbers) < 1e-3:
        return
    places = torch.rand(50, generator=dice(seed), dtype=torch.float64) * sum(numbers)
    found, ends = tree.find(places), leaves.cumsum(0)
    assert (places <= ends[found] + 1e-9).all()
    assert (places >= ends[found] - leaves[found] - 1e-9).all()
    assert (leaves[found] > 0).all()


def filled(count=6, **how):
    memory = PrioritizedReplayBuffer(8, generator=dice(), **how)
    memory.add(*numbered(0, count), 0.9)
    return memory


@pytest.mark.equation("dqn-priority")
def test_what_surprised_is_drawn_as_often_as_its_power():
    memory, errors = filled(alpha=0.7), torch.tensor([0.0, 1.0, -2.0, 0.5, 4.0, 0.1])
    memory.update(torch.arange(6), errors)
    wanted = (errors.abs().double() + 0.01) ** 0.7
    wanted = wanted / wanted.sum()
    torch.testing.assert_close(memory.probabilities, wanted)
    drawn = torch.cat([memory.sample(1).rows for _ in range(2000)])
    counts = torch.bincount(drawn, minlength=6)
    distance = ((counts - 2000 * wanted) ** 2 / (2000 * wanted)).sum().item()
    assert distance < chi2.isf(FAR, 5)


def test_a_batch_takes_one_of_each_equal_stretch():
    memory = filled(alpha=1.0)
    memory.update(torch.arange(6), torch.tensor([2.99] + [0.59] * 5))  # 3, and five times 0.6
    for _ in range(20):
        rows = memory.sample(6).rows
        assert (rows[:3] == 0).all() and (rows[3:] > 0).all()


@pytest.mark.equation("dqn-importance")
def test_with_full_weights_the_mean_is_that_of_an_even_draw():
    memory = filled(alpha=0.9, beta=1.0)
    memory.update(torch.arange(6), torch.tensor([0.1, 1.0, 2.0, 0.5, 4.0, 0.1]))
    share = memory.probabilities
    batch = memory.sample(6)
    raw = 1 / (6 * share[batch.rows])
    torch.testing.assert_close(batch.weights, (raw / raw.max()).float())
    assert batch.weights.max() == 1
    assert (share * (1 / (6 * share)) * torch.arange(6)).sum() == approx(2.5)
    half = filled(alpha=0.9, beta=0.5)
    half.update(torch.arange(6), torch.tensor([0.1, 1.0, 2.0, 0.5, 4.0, 0.1]))
    batch = half.sample(6)
    raw = (6 * half.probabilities[batch.rows]) ** -0.5
    torch.testing.assert_close(batch.weights, (raw / raw.max()).float())


def test_a_new_one_has_the_largest_priority_so_far():
    memory = filled(5, alpha=1.0)
    memory.update(torch.arange(5), torch.tensor([9.0, 1.0, 0.0, 0.0, 0.0]))
    memory.add(*numbered(5, 1), 0.9)
    shares = memory.probabilities
    assert shares[5] == shares.max() == shares[0]


def test_what_is_overwritten_is_never_drawn_by_its_old_priority():
    memory = PrioritizedReplayBuffer(3, generator=dice(), alpha=1.0)
    memory.add(*numbered(0, 3), 0.9)
    memory.update(torch.arange(3), torch.tensor([50.0, 1.0, 1.0]))
    memory.add(*numbered(3, 4), 0.9)  # 4, 5, 6 are left, all new
    assert memory.probabilities.tolist() == approx([1 / 3] * 3)
