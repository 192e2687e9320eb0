"""Advantages against double sums and returns, the clipped objective against its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlib.blocks.policy_optimization import clipped_surrogate, gae
from tests.support import refuses


def rollout(steps=9, batch=3, seed=0, ends=0.2):
    g = torch.Generator().manual_seed(seed)
    rewards = torch.randn(steps, batch, generator=g, dtype=torch.float64)
    values = torch.randn(steps, batch, generator=g, dtype=torch.float64)
    last = torch.randn(batch, generator=g, dtype=torch.float64)
    dones = torch.rand(steps, batch, generator=g) < ends
    return rewards, values, last, dones


def as_a_double_sum(rewards, values, last, dones, gamma, lam):
    """The sum over later steps of (γλ)^l δ, which ends with the episode, in plain numbers."""
    steps, batch = rewards.shape
    out = torch.zeros(steps, batch, dtype=torch.float64)
    for b in range(batch):
        for t in range(steps):
            for later in range(t, steps):
                end = bool(dones[later, b])
                after = values[later + 1, b] if later + 1 < steps else last[b]
                delta = rewards[later, b] + (0 if end else gamma * after) - values[later, b]
                out[t, b] += (gamma * lam) ** (later - t) * delta
                if end:
                    break
    return out


@pytest.mark.equation("policy-gradient-gae")
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_gae_is_the_sum_of_discounted_errors(seed, gamma, lam, ends):
    given_ = rollout(seed=seed, ends=ends)
    got, returns = gae(*given_, gamma, lam)
    torch.testing.assert_close(got, as_a_double_sum(*given_, gamma, lam))
    torch.testing.assert_close(returns, got + given_[1])


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_at_lambda_1_the_returns_are_the_discounted_rewards(gamma):
    rewards, values, last, dones = rollout(steps=12, ends=0.3)
    _, returns = gae(rewards, values, last, dones, gamma, 1.0)
    for b in range(rewards.shape[1]):
        wanted = last[b].item()
        for t in reversed(range(len(rewards))):
            wanted = rewards[t, b].item() + (0 if dones[t, b] else gamma * wanted)
            assert returns[t, b].item() == pytest.approx(wanted)


def test_at_lambda_0_the_returns_look_one_step_ahead():
    rewards, values, last, dones = rollout()
    _, returns = gae(rewards, values, last, dones, 0.9, 0.0)
    after = torch.cat([values[1:], last[None]]).masked_fill(dones, 0)
    torch.testing.assert_close(returns, rewards + 0.9 * after)


def test_estimates_mix_looks_of_every_length():
    """The definition of Schulman et al.: weights (1 − λ) λ^(k−1) on the k-step advantages."""
    rewards, values, last, _ = rollout(steps=200, batch=2)
    never = torch.zeros(200, 2, dtype=torch.bool)
    gamma, lam = 0.9, 0.8
    got, _ = gae(rewards, values, last, never, gamma, lam)
    mixed = torch.zeros(2, dtype=torch.float64)
    seen = torch.zeros(2, dtype=torch.float64)
    for k in range(1, 200):  # what is left out has weight 0.8 ** 199
        seen += gamma ** (k - 1) * rewards[k - 1]
        mixed += (1 - lam) * lam ** (k - 1) * (seen + gamma**k * values[k] - values[0])
    torch.testing.assert_close(got[0], mixed)


def test_nothing_comes_through_the_end_of_an_episode():
    rewards, values, last, dones = rollout()
    dones[4] = True
    before, _ = gae(rewards, values, last, dones, 0.99, 0.95)
    rewards[5:], values[5:], last[:] = 100.0, -7.0, 1e6
    after, _ = gae(rewards, values, last, dones, 0.99, 0.95)
    assert torch.equal(before[:5], after[:5])


def test_an_episode_of_one_step_is_worth_its_reward():
    """Also where every step ends one: environments that end at once."""
    rewards, values, last, _ = rollout()
    always = torch.ones(9, 3, dtype=torch.bool)
    advantages, returns = gae(rewards, values, last, always, 0.99, 0.95)
    torch.testing.assert_close(advantages, rewards - values)
    torch.testing.assert_close(returns, rewards)


def test_dones_may_be_numbers_and_nothing_at_all_may_have_happened():
    rewards, values, last, dones = rollout()
    by_flag = gae(rewards, values, last, dones, 0.9, 0.9)
    by_number = gae(rewards, values, last, dones.double(), 0.9, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(by_flag, by_number, strict=True))
    empty = gae(rewards[:0], values[:0], last, dones[:0], 0.9, 0.9)
    assert [tuple(x.shape) for x in empty] == [(0, 3), (0, 3)]


def test_gae_refuses():
    rewards, values, last, dones = rollout()
    bad = rewards.clone()
    bad[2, 1] = math.nan
    with refuses(ValueError, "rewards must be finite, got 1 values"):
        gae(bad, values, last, dones, 0.9, 0.9)
    for gamma in (-0.1, 1.1, math.nan):
        with refuses(ValueError, "gamma="):
            gae(rewards, values, last, dones, gamma, 0.9)
    with refuses(ValueError, "lam=1.5 must be a finite number ≥ 0 and ≤ 1"):
        gae(rewards, values, last, dones, 0.9, 1.5)
    with refuses(ValueError, "values must have shape (9, 3), got (3, 9)"):
        gae(rewards, values.T, last, dones, 0.9, 0.9)
    with refuses(ValueError, "dones must be True or False"):
        gae(rewards, values, last, dones.double() / 2, 0.9, 0.9)


# ---------------------------------------------------------------------------- the clipped objective
def actions(n=4000, spread=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    then, now, advantages = torch.randn(3, n, generator=g, dtype=torch.float64)
    return then + spread * now, then, advantages


@pytest.mark.equation("policy-gradient-clip")
@pytest.mark.parametrize("clip", [0.1, 0.2, 0.9])
def test_the_objective_is_the_smaller_of_two(clip):
    now, then, advantages = actions()
    ratio = (now - then).exp()
    wanted = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    torch.testing.assert_close(clipped_surrogate(now, then, advantages, clip), wanted)


def test_its_slope_is_that_of_a_difference_and_0_where_it_is_clipped():
    now, then, advantages = actions(400)
    now.requires_grad_()
    (slope,) = torch.autograd.grad(clipped_surrogate(now, then, advantages).sum(), now)
    with torch.no_grad():
        high = clipped_surrogate(now + 1e-6, then, advantages)
        low = clipped_surrogate(now - 1e-6, then, advantages)
        ratio = (now - then).exp()
    torch.testing.assert_close(slope, (high - low) / 2e-6, atol=1e-6, rtol=1e-6)
    flat = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    assert flat.any() and not flat.all()
    assert bool((slope[flat] == 0).all())
    assert bool((slope[~flat] == (ratio * advantages)[~flat]).all())


def test_at_the_old_policy_it_is_the_policy_gradient():
    """The ratio is 1, so its slope is that of log π times the advantage."""
    _, then, advantages = actions(50)
    now = then.clone().requires_grad_()
    out = clipped_surrogate(now, then, advantages)
    torch.testing.assert_close(out.detach(), advantages)
    (slope,) = torch.autograd.grad(out.sum(), now)
    torch.testing.assert_close(slope, advantages)


def test_no_gradient_reaches_the_old_policy_or_the_advantages():
    now, then, advantages = (x.requires_grad_() for x in actions(5))
    clipped_surrogate(now, then, advantages).sum().backward()
    assert now.grad is not None
    assert then.grad is None
    assert advantages.grad is None


def test_a_ratio_that_overflows_leaves_a_gradient():
    """min(∞ · A, 1.2 A) is 1.2 A; the slope of exp there would be 0 · ∞."""
    now = torch.tensor([200.0, 200.0, -200.0], requires_grad=True)
    then, advantages = torch.zeros(3), torch.tensor([1.0, 0.0, -1.0])
    out = clipped_surrogate(now, then, advantages)
    torch.testing.assert_close(out.detach(), torch.tensor([1.2, 0.0, -0.8]))
    out.sum().backward()
    assert torch.equal(now.grad, torch.zeros(3))


def test_the_objective_refuses():
    now, then, advantages = actions(4)
    with refuses(ValueError, "advantages must be finite, got 4 values"):
        clipped_surrogate(now, then, torch.full_like(advantages, math.nan))
    with refuses(ValueError, "old_log_probs must have shape (4), got (3,)"):
        clipped_surrogate(now, then[:3], advantages)
    with refuses(ValueError, "advantages must have shape (4), got (4, 1)"):
        clipped_surrogate(now, then, advantages[:, None])
    for clip in (0, 1, -0.2, math.nan):
        with refuses(ValueError, "clip="):
            clipped_surrogate(now, then, advantages, clip)
