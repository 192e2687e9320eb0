"""Policy gradients, held to enumeration of every episode, finite differences, and gymnasium."""

import itertools
import math

import gymnasium
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.reinforcement.policy_gradient import (
    ActorCritic,
    CartPole,
    TabularEnv,
    Transition,
    cartpole_step,
    entropies,
    fallen,
    gae,
    play,
    policy_values,
    ppo_loss,
    ppo_terms,
    reinforce_loss,
    rewards_to_go,
    rollout,
    sample_actions,
    standardize,
    tables,
    value_iteration,
)
from nnlib.train.update import update
from tests.support import Example, refuses


def example():
    return Example({"state_size": 3, "num_actions": 5, "hidden_size": 6}, (torch.randn(2, 3),))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------ a process for a pencil
def process(states=3, actions=2, seed=0, ends=0.2):
    """Probabilities of going on, rewards, and the logits of a policy, all drawn."""
    g = dice(seed)
    going = torch.rand(states, actions, states, generator=g, dtype=torch.float64)
    going = (1 - ends) * going / going.sum(-1, keepdim=True)
    rewards = torch.randn(states, actions, generator=g, dtype=torch.float64)
    logits = torch.randn(states, actions, generator=g, dtype=torch.float64)
    return going, rewards, logits


def every_episode(going, steps, start=0):
    """Yield actions, states and the probability that the world alone gives them."""
    states, actions, _ = going.shape
    for chosen in itertools.product(range(actions), repeat=steps):
        for passed in itertools.product(range(states), repeat=steps - 1):
            seen = (start, *passed)
            odds = 1.0
            for t in range(steps - 1):
                odds = odds * going[seen[t], chosen[t], seen[t + 1]]
            yield seen, chosen, odds


def differences(function, at, step=1e-6):
    """The gradient by central differences."""
    out = torch.zeros_like(at)
    for k in range(at.numel()):
        move = torch.zeros_like(at)
        move.view(-1)[k] = step
        out.view(-1)[k] = (function(at + move) - function(at - move)) / (2 * step)
    return out


@pytest.mark.equation("policy-gradient-return")
@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_rewards_to_go_are_discounted_sums(seed, gamma):
    rewards = torch.randn(7, 3, generator=dice(seed), dtype=torch.float64)
    got = rewards_to_go(rewards, gamma)
    for t in range(7):
        wanted = sum(gamma**k * rewards[t + k] for k in range(7 - t))
        torch.testing.assert_close(got[t], wanted)


@pytest.mark.equation("policy-gradient-values", "policy-gradient-bellman")
def test_values_are_what_long_sums_over_the_future_say():
    going, rewards, logits = process()
    policy, gamma = logits.softmax(-1), 0.9
    values, q = policy_values(going, rewards, policy, gamma)
    walk, paid = torch.einsum("sa,san->sn", policy, going), (policy * rewards).sum(1)
    by_sum, reach = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    for t in range(200):
        by_sum += gamma**t * reach @ paid
        reach = reach @ walk
    torch.testing.assert_close(values, by_sum)
    for s, a in itertools.product(range(3), range(2)):
        wanted = rewards[s, a] + gamma * sum(going[s, a, n] * by_sum[n] for n in range(3))
        torch.testing.assert_close(q[s, a], wanted)
    torch.testing.assert_close(values, (policy * q).sum(1))


@pytest.mark.equation("policy-gradient-objective", "policy-gradient-values")
def test_values_are_the_mean_return_of_episodes_that_are_played():
    going, rewards, logits = process(ends=0.3)
    policy, gamma = logits.softmax(-1), 0.9
    env = TabularEnv(going, rewards, 4000, generator=dice(1))
    episodes = play(lambda s: policy[s].log(), env, dice(2))
    first = rewards_to_go(episodes.rewards, gamma)[0]
    error = first.std() / len(first) ** 0.5
    assert abs(first.mean() - policy_values(going, rewards, policy, gamma)[0][0]) < 4 * error


@pytest.mark.equation("policy-gradient-optimality")
@pytest.mark.parametrize("seed", range(3))
def test_value_iteration_finds_the_best_of_all_policies(seed):
    going, rewards, _ = process(seed=seed)
    best = torch.full((3,), -math.inf, dtype=torch.float64)
    for choice in itertools.product(range(2), repeat=3):
        policy = nn.functional.one_hot(torch.tensor(choice), 2).double()
        best = torch.maximum(best, policy_values(going, rewards, policy, 0.9)[0])
    values, q = value_iteration(going, rewards, 0.9)
    torch.testing.assert_close(values, best)
    after = (going * values).sum(-1)
    torch.testing.assert_close(q, rewards + 0.9 * after)


def test_tables_are_gymnasiums():
    lake = gymnasium.make("FrozenLake-v1", is_slippery=True).unwrapped.P
    going, paid = tables(lake)
    assert going.shape == (16, 4, 16)
    for s, a, n in itertools.product(range(16), range(4), range(16)):
        wanted = sum(p for p, after, _, ends in lake[s][a] if after == n and not ends)
        assert going[s, a, n].item() == pytest.approx(wanted)
    assert paid[14, 2].item() == pytest.approx(1 / 3)  # beside the goal, on ice
    assert going[5].sum() == 0  # a hole


@pytest.mark.equation("policy-gradient-advantage")
def test_advantages_are_0_on_average():
    going, rewards, logits = process()
    policy = logits.softmax(-1)
    values, q = policy_values(going, rewards, policy, 0.9)
    advantage = q - values[:, None]
    torch.testing.assert_close((policy * advantage).sum(1), torch.zeros(3, dtype=torch.float64))


@pytest.mark.equation("policy-gradient-td")
def test_the_error_of_true_values_is_the_advantage_on_average():
    going, rewards, logits = process(ends=0.0)
    policy = logits.softmax(-1)
    values, q = policy_values(going, rewards, policy, 0.9)
    env = TabularEnv(going, rewards, 20_000, generator=dice(3))
    before = values[env.states]
    happened = env.step(torch.ones(20_000, dtype=torch.long))
    errors, _ = gae(
        happened.rewards[None], before[None], values[happened.states], happened.dones[None],
        0.9, 0.0,
    )  # fmt: skip
    wanted = q[0, 1] - values[0]
    assert abs(errors.mean() - wanted) < 4 * errors.std() / 20_000**0.5


@pytest.mark.equation("policy-gradient-gae-mean")
@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_the_mean_of_gae_under_a_wrong_critic_is_known(lam):
    """Drawn estimates against the linear system, and at λ = 1 against the truth, centred."""
    going, rewards, logits = process(ends=0.3)
    policy, gamma = logits.softmax(-1), 0.9
    wrong = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    errors = rewards + gamma * going @ wrong - wrong[:, None]
    walk = torch.einsum("sa,san->sn", policy, going)
    system = torch.eye(3, dtype=torch.float64) - gamma * lam * walk
    mean = errors + gamma * lam * going @ torch.linalg.solve(system, (policy * errors).sum(1))

    env = TabularEnv(going, rewards, 6000, max_steps=10**6, generator=dice(4))
    seen = rollout(lambda s: (policy[s].log(), wrong[s]), env, 60, gamma, dice(5))
    got, _ = gae(seen.rewards, seen.values, seen.last_value, seen.dones, gamma, lam)
    for action in range(2):  # in the first step, where all are in state 0
        estimates = got[0][seen.actions[0] == action]
        error = estimates.std() / len(estimates) ** 0.5
        assert abs(estimates.mean() - mean[0, action]) < 4 * error
    if lam == 1:
        values, q = policy_values(going, rewards, policy, gamma)
        centred = mean - (policy * mean).sum(1, keepdim=True)
        torch.testing.assert_close(centred, q - values[:, None])


# ------------------------------------------------------------------------------- the score function
@pytest.mark.equation("policy-gradient-softmax", "policy-gradient-softmax-score")
def test_the_score_of_a_softmax_is_one_less_its_probability():
    logits = torch.randn(4, generator=dice(), dtype=torch.float64)
    for action in range(4):
        slope = torch.func.grad(lambda z, a=action: z.log_softmax(0)[a])(logits)
        one = nn.functional.one_hot(torch.tensor(action), 4)
        torch.testing.assert_close(slope, one - logits.exp() / logits.exp().sum())


@pytest.mark.equation("policy-gradient-score", "policy-gradient-bandit")
def test_the_score_trick_gives_the_slope_of_a_mean_on_a_bandit():
    g = dice()
    logits = torch.randn(5, generator=g, dtype=torch.float64)
    paid = torch.randn(5, generator=g, dtype=torch.float64)
    by_difference = differences(lambda z: z.softmax(0) @ paid, logits)
    p = logits.softmax(0)
    scores = torch.eye(5, dtype=torch.float64) - p  # a row for each action
    torch.testing.assert_close((p * paid) @ scores, by_difference, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(p * (paid - p @ paid), by_difference, rtol=1e-7, atol=1e-9)


@pytest.mark.equation(
    "policy-gradient-trajectory",
    "policy-gradient-reinforce",
    "policy-gradient-causality",
    "policy-gradient-baseline",
)
@pytest.mark.parametrize("weight", ["return", "to go", "less a baseline", "whole, less a baseline"])
def test_reinforce_is_the_gradient_on_average_over_every_episode(weight):
    """No baseline of the state, however odd, changes the mean; nor does leaving out the past."""
    steps, gamma = 3, 0.8
    going, rewards, logits = process(ends=0.0)
    odd = torch.tensor([3.0, -7.0, 11.0], dtype=torch.float64)
    table = nn.Embedding.from_pretrained(logits, freeze=False)

    def objective(z):
        log_pi, total = z.log_softmax(-1), 0.0
        for seen, chosen, odds in every_episode(going, steps):
            pairs = list(zip(seen, chosen, strict=True))
            of_policy = sum(log_pi[s, a] for s, a in pairs).exp()
            paid = sum(gamma**t * rewards[s, a] for t, (s, a) in enumerate(pairs))
            total = total + odds * of_policy * paid
        return total

    mean = torch.zeros_like(logits)
    log_pi = logits.log_softmax(-1)
    for seen, chosen, odds in every_episode(going, steps):
        at, did = torch.tensor(seen)[:, None], torch.tensor(chosen)[:, None]
        to_go = rewards_to_go(rewards[at, did], gamma)
        discounted = gamma ** torch.arange(steps, dtype=torch.float64)[:, None]
        weights = {
            "return": to_go[:1].expand(steps, 1),
            "to go": discounted * to_go,
            "less a baseline": discounted * (to_go - odd[at]),
            "whole, less a baseline": to_go[:1] - odd[at],
        }[weight]
        (slope,) = torch.autograd.grad(reinforce_loss(table, at, did, weights), table.weight)
        mean -= odds * log_pi[at, did].sum().exp() * slope
    torch.testing.assert_close(mean, differences(objective, logits), rtol=1e-6, atol=1e-8)


@pytest.mark.equation("policy-gradient-theorem", "policy-gradient-exact")
def test_the_theorem_gives_the_slope_of_the_value():
    going, rewards, logits = process()
    gamma = 0.9

    def value(z):
        return policy_values(going, rewards, z.softmax(-1), gamma)[0][0]

    policy = logits.softmax(-1)
    values, q = policy_values(going, rewards, policy, gamma)
    walk = torch.einsum("sa,san->sn", policy, going)
    visits, reach = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[0]
    for t in range(300):
        visits += gamma**t * reach
        reach = reach @ walk
    by_theorem = visits[:, None] * policy * (q - values[:, None])
    torch.testing.assert_close(by_theorem, differences(value, logits), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.func.grad(value)(logits), by_theorem)


@pytest.mark.equation("policy-gradient-optimal-baseline")
def test_no_baseline_has_less_variance_than_the_optimal_one():
    g = dice()
    p = torch.randn(4, generator=g, dtype=torch.float64).softmax(0)
    paid = 3 + torch.randn(4, generator=g, dtype=torch.float64)
    scores = torch.eye(4, dtype=torch.float64) - p

    def variance(baseline):
        estimates = scores * (paid - baseline)[:, None]
        mean = p @ estimates
        return (p @ (estimates - mean).square()).sum()

    square = scores.square().sum(1)
    best = (p * square) @ paid / (p @ square)
    grid = torch.linspace(-2, 8, 2001, dtype=torch.float64)
    least = grid[torch.stack([variance(b) for b in grid]).argmin()]
    assert abs(least - best) <= 0.0051
    assert variance(best) < variance(p @ paid) < variance(torch.tensor(0.0))


def test_reinforce_counts_what_the_mask_leaves_and_means_over_episodes():
    table = nn.Embedding.from_pretrained(torch.randn(3, 2, generator=dice()), freeze=False)
    at = torch.tensor([[0, 1], [2, 1]])
    did, weights = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    mask = torch.tensor([[True, True], [True, False]])
    log_p = table.weight.log_softmax(-1)
    wanted = -(log_p[0, 0] + 2 * log_p[1, 1] + 3 * log_p[2, 1]) / 2
    torch.testing.assert_close(reinforce_loss(table, at, did, weights, mask), wanted)


# ---------------------------------------------------------------------------------------------- PPO
def batch(n=40, seed=0):
    g = dice(seed)
    model = ActorCritic(3, 4, 8).double()
    nn.init.normal_(model.actor[-1].weight, generator=g)
    states = torch.randn(n, 3, generator=g, dtype=torch.float64)
    actions = torch.randint(4, (n,), generator=g)
    old = torch.randn(n, 4, generator=g, dtype=torch.float64).log_softmax(-1)
    old = old.gather(1, actions[:, None])[:, 0]
    advantages, returns = torch.randn(2, n, generator=g, dtype=torch.float64)
    return model, states, actions, old, advantages, returns


@pytest.mark.equation("policy-gradient-ppo-loss", "policy-gradient-entropy", "policy-gradient-clip")
def test_the_loss_is_its_three_terms():
    model, states, actions, old, advantages, returns = given_ = batch()
    logits, values = model(states)
    by_torch = torch.distributions.Categorical(logits=logits)
    ratio = (by_torch.log_prob(actions) - old).exp()
    error, entropy = ((values - returns) ** 2).mean(), by_torch.entropy().mean()

    def surrogate(clip):
        cut = ratio.clamp(1 - clip, 1 + clip)
        return torch.minimum(ratio * advantages, cut * advantages).mean()

    wanted = -surrogate(0.2) + 0.5 * error - 0.01 * entropy
    torch.testing.assert_close(ppo_loss(*given_), wanted)
    other = ppo_loss(*given_, clip=0.5, value_weight=2.0, entropy_weight=0.3)
    torch.testing.assert_close(other, -surrogate(0.5) + 2 * error - 0.3 * entropy)
    wanted = ((ratio - 1).abs() > 0.2).double().mean()
    torch.testing.assert_close(ppo_terms(*given_).clipped, wanted)


@pytest.mark.equation("policy-gradient-surrogate")
def test_the_surrogate_is_the_new_policys_mean_and_its_slope_the_gradient():
    g = dice()
    old, new = torch.randn(2, 5, generator=g, dtype=torch.float64)
    advantages = torch.randn(5, generator=g, dtype=torch.float64)
    p, q = old.softmax(0), new.softmax(0)
    torch.testing.assert_close(p @ (q / p * advantages), q @ advantages)
    slope = torch.func.grad(lambda z: p @ ((z.log_softmax(0) - p.log()).exp() * advantages))(old)
    torch.testing.assert_close(slope, differences(lambda z: z.softmax(0) @ advantages, old))


@pytest.mark.equation("policy-gradient-kl")
def test_the_estimate_of_the_divergence_is_right_on_average_and_never_negative():
    g = dice()
    old, new = torch.randn(2, 6, generator=g, dtype=torch.float64).log_softmax(-1)
    terms = (new - old).exp() - 1 - (new - old)
    assert (terms >= 0).all()
    torch.testing.assert_close(old.exp() @ terms, old.exp() @ (old - new))
    model = ActorCritic(1, 6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.actor[-1].bias.copy_(new)
    states, actions = torch.zeros(6, 1, dtype=torch.float64), torch.arange(6)
    zeros = torch.zeros(6, dtype=torch.float64)
    got = ppo_terms(model, states, actions, old, zeros, zeros).kl
    torch.testing.assert_close(got, terms.mean())


def test_entropy_of_an_action_that_is_ruled_out_is_0_and_its_slope_finite():
    logits = torch.tensor([[0.0, 1.0, -math.inf]], requires_grad=True)
    got = entropies(logits)
    got.sum().backward()
    wanted = torch.distributions.Categorical(logits=torch.tensor([0.0, 1.0])).entropy()
    torch.testing.assert_close(got[0].detach(), wanted)
    assert torch.isfinite(logits.grad).all()


def test_standardized_advantages_have_mean_0_and_deviation_1():
    got = standardize(torch.randn(50, generator=dice()) * 7 + 3)
    assert got.mean().item() == pytest.approx(0, abs=1e-6)
    assert got.std(correction=0).item() == pytest.approx(1)
    assert standardize(torch.tensor([5.0])).tolist() == [0.0]
    assert standardize(torch.full((4,), 2.0)).tolist() == [0.0] * 4


@pytest.mark.equation("policy-gradient-actor-critic")
def test_actor_and_critic_are_chains_of_their_own_as_ppos_code_begins_them():
    torch.manual_seed(0)
    model, states = ActorCritic(4, 3, 16), torch.randn(5, 4)
    logits, values = model(states)
    for chain, got in ((model.actor, logits), (model.critic, values[:, None])):
        h = states
        for at in (0, 2):
            h = torch.tanh(h @ chain[at].weight.T + chain[at].bias)
        torch.testing.assert_close(got, h @ chain[4].weight.T + chain[4].bias)
    for at, gain in ((0, 2.0), (2, 2.0), (4, 1e-4)):
        w = model.actor[at].weight
        square = w @ w.T if len(w) <= w.shape[1] else w.T @ w
        torch.testing.assert_close(square, gain * torch.eye(len(square)), atol=1e-5, rtol=1e-5)
        assert not model.actor[at].bias.any()
    assert (logits.softmax(-1) - 1 / 3).abs().max() < 0.02
    assert model.critic[4].weight.norm().item() == pytest.approx(1)


@pytest.mark.equation("policy-gradient-fisher", "policy-gradient-natural")
def test_the_natural_gradient_of_a_softmax_is_the_advantage():
    """F = diag π − π πᵀ is the mean square of scores and the curvature of the divergence."""
    g = dice()
    logits = torch.randn(5, generator=g, dtype=torch.float64)
    paid = torch.randn(5, generator=g, dtype=torch.float64)
    p = logits.softmax(0)
    scores = torch.eye(5, dtype=torch.float64) - p
    fisher = torch.einsum("k,ki,kj->ij", p, scores, scores)
    torch.testing.assert_close(fisher, torch.diag(p) - p[:, None] * p)
    curvature = torch.func.hessian(lambda z: p @ (p.log() - z.log_softmax(0)))(logits)
    torch.testing.assert_close(curvature, fisher)
    slope = differences(lambda z: z.softmax(0) @ paid, logits)
    step = torch.linalg.pinv(fisher) @ slope
    advantage = paid - p @ paid
    torch.testing.assert_close(
        step - step.mean(), advantage - advantage.mean(), rtol=1e-5, atol=1e-7
    )


@pytest.mark.equation("policy-gradient-gaussian")
def test_a_gaussian_policys_score_pulls_its_mean_towards_good_actions():
    mean, log_std, action = torch.randn(3, generator=dice(), dtype=torch.float64)

    def log_prob(m):
        return torch.distributions.Normal(m, log_std.exp()).log_prob(action)

    scaled = (action - mean) / log_std.exp()
    by_hand = -(scaled**2) / 2 - log_std - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(by_hand, log_prob(mean))
    slope = torch.func.grad(log_prob)(mean)
    torch.testing.assert_close(slope, (action - mean) / log_std.exp() ** 2)


@pytest.mark.equation("policy-gradient-soft")
def test_the_soft_value_is_the_best_of_reward_and_entropy():
    g = dice()
    q, alpha = torch.randn(4, generator=g, dtype=torch.float64), 0.3
    soft = alpha * torch.logsumexp(q / alpha, 0)

    def worth(p):
        return p @ q - alpha * (p * p.log()).sum(-1)

    assert worth((q / alpha).softmax(0)).item() == pytest.approx(soft.item())
    others = torch.randn(2000, 4, generator=g, dtype=torch.float64).mul(3).softmax(-1)
    assert (worth(others) <= soft + 1e-12).all()


# ------------------------------------------------------------------------------------- environments
@pytest.mark.parametrize("seed", range(4))
def test_cart_poles_are_gymnasiums_step_for_step(seed):
    theirs = gymnasium.make("CartPole-v1")
    seen, _ = theirs.reset(seed=seed)
    state = torch.tensor(theirs.unwrapped.state, dtype=torch.float64)
    for step in range(1, 501):
        lean = seen[2] + 0.3 * seen[3] + 0.02 * seen[0] > 0
        action = int(lean) if seed % 2 else step // 3 % 2
        seen, reward, terminated, truncated, _ = theirs.step(action)
        state = cartpole_step(state, torch.tensor(action))
        torch.testing.assert_close(
            state, torch.tensor(theirs.unwrapped.state, dtype=torch.float64), rtol=0, atol=1e-12
        )
        assert bool(fallen(state)) == terminated
        assert reward == 1.0
        if terminated or truncated:
            break
    assert truncated == bool(seed % 2)
    assert not truncated or step == 500


def test_side_by_side_they_are_the_same_and_begin_anew():
    env = CartPole(3, max_steps=12, generator=dice())
    assert (env.states.abs() <= 0.05).all()
    before, lengths = env._exact.clone(), torch.zeros(3)
    ended = []
    for _ in range(40):
        actions = torch.tensor([0, 1, 0])
        actions[2] = int(before[2, 2] + 0.3 * before[2, 3] > 0)  # the third one stands
        happened = env.step(actions)
        lengths += 1
        after = cartpole_step(before, actions)
        torch.testing.assert_close(happened.final, after.float())
        assert torch.equal(happened.terminated, fallen(after))
        assert torch.equal(happened.truncated, (lengths == 12) & ~happened.terminated)
        done = happened.dones
        ended += lengths[done].tolist()
        assert (happened.states[done].abs() <= 0.05).all()
        assert torch.equal(happened.states[~done], happened.final[~done])
        lengths[done] = 0
        before = env._exact.clone()
    assert min(ended) < 12 == max(ended)
    assert happened.rewards.tolist() == [1.0] * 3


class EndsAtOnce:
    """Every episode has one step."""

    def __init__(self):
        self.states = torch.zeros(2, 3)

    def reset(self):
        return self.states

    def step(self, actions):
        yes = torch.ones(2, dtype=torch.bool)
        return Transition(self.states, torch.ones(2), yes, ~yes, self.states)


def test_environments_that_end_at_once_are_experience_like_any_other():
    model = ActorCritic(3, 5)
    episodes = play(model.actor, EndsAtOnce())
    assert episodes.lengths.tolist() == [1, 1]
    loss = reinforce_loss(model.actor, episodes.states, episodes.actions, episodes.rewards)
    assert torch.isfinite(loss)
    seen = rollout(model, EndsAtOnce(), 4, 0.9)
    advantages, returns = gae(seen.rewards, seen.values, seen.last_value, seen.dones, 0.9, 0.95)
    assert (returns - 1).abs().max() < 1e-6
    loss = ppo_loss(
        model, seen.states.flatten(0, 1), seen.actions.flatten(), seen.log_probs.flatten(),
        standardize(advantages).flatten(), returns.flatten(),
    )  # fmt: skip
    assert torch.isfinite(loss)


def test_episodes_are_whole_and_hold_nothing_after_their_end():
    model = ActorCritic(4, 2)
    episodes = play(model.actor, CartPole(6, generator=dice()), dice(1))
    states, actions = episodes.states.double(), episodes.actions
    assert torch.equal(episodes.rewards, episodes.mask.float())
    assert episodes.mask[0].all()
    assert (episodes.mask[1:] <= episodes.mask[:-1]).all()
    assert episodes.lengths.max() == len(episodes.mask)
    for b, length in enumerate(episodes.lengths.tolist()):
        followed = cartpole_step(states[:length, b], actions[:length, b])
        assert fallen(followed).tolist() == [False] * (length - 1) + [True]
        torch.testing.assert_close(followed[:-1], states[1:length, b], atol=1e-5, rtol=0)


def test_a_rollout_goes_on_and_adds_the_value_of_what_was_cut_off():
    torch.manual_seed(0)
    model = ActorCritic(4, 2)
    env = CartPole(5, max_steps=7, generator=dice())
    first, second = (rollout(model, env, 6, 0.9, dice(1)) for _ in range(2))
    assert torch.equal(first.last_value, second.values[0])
    assert (first.rewards == 1).all()  # nobody falls, and nothing is cut off, within six steps
    assert second.dones[0].all()  # the seventh
    state = cartpole_step(second.states[0].double(), second.actions[0]).float()
    with torch.no_grad():
        beyond = model(state)[1]
        logits, values = model(second.states)
    torch.testing.assert_close(second.rewards[0], 1 + 0.9 * beyond, atol=1e-5, rtol=0)
    torch.testing.assert_close(second.values, values)
    by_torch = torch.distributions.Categorical(logits=logits).log_prob(second.actions)
    torch.testing.assert_close(second.log_probs, by_torch)


class OneOfEach(EndsAtOnce):
    """The first episode ends for good, the second is cut off."""

    def step(self, actions):
        first = torch.tensor([True, False])
        return Transition(self.states, torch.ones(2), first, ~first, self.states)


def test_nothing_is_added_where_an_episode_ended_for_good():
    def five(states):
        return torch.zeros(2, 4), torch.full((2,), 5.0)

    assert rollout(five, OneOfEach(), 1, 0.9).rewards.tolist() == [[1.0, 5.5]]
    seen = rollout(ActorCritic(4, 2), CartPole(5, generator=dice()), 90, 0.9, dice(1))
    assert seen.dones.any()
    assert (seen.rewards == 1).all()


def test_actions_are_drawn_from_their_probabilities():
    p = torch.tensor([0.1, 0.6, 0.3])
    drawn = sample_actions(p.log().expand(20_000, 3), dice())
    share = torch.bincount(drawn, minlength=3) / 20_000
    assert ((share - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()


def test_a_table_env_walks_as_its_table_says_and_pays():
    going, rewards, _ = process(ends=0.4)
    env = TabularEnv(going, rewards, 30_000, start=1, generator=dice())
    happened = env.step(torch.zeros(30_000, dtype=torch.long))
    odds = torch.cat([going[1, 0], 1 - going[1, 0].sum(0, keepdim=True)])
    went = torch.where(happened.terminated, 3, happened.final)
    share = torch.bincount(went, minlength=4) / 30_000
    assert ((share - odds).abs() < 4 * (odds * (1 - odds) / 30_000).sqrt()).all()
    assert (happened.states[happened.terminated] == 1).all()
    assert torch.equal(happened.rewards, rewards[1, 0].expand(30_000))


def test_a_table_env_that_is_cut_off_begins_anew_and_tells_where_it_was():
    on = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])  # from 0 to 1, and stay there
    env = TabularEnv(on, torch.zeros(2, 1), 3, max_steps=2)
    steps = [env.step(torch.zeros(3, dtype=torch.long)) for _ in range(3)]
    assert [bool(step.truncated.all()) for step in steps] == [False, True, False]
    assert [step.states[0].item() for step in steps] == [1, 0, 1]
    assert [step.final[0].item() for step in steps] == [1, 1, 1]
    assert not any(step.terminated.any() for step in steps)


def test_ppo_learns_to_hold_the_pole_longer():
    torch.manual_seed(0)
    model, env = ActorCritic(4, 2, 32), CartPole(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, eps=1e-5)
    ends = []
    for _ in range(14):
        seen = rollout(model, env, 32, 0.98)
        ends.append(seen.dones.sum().item())
        advantages, returns = gae(
            seen.rewards, seen.values, seen.last_value, seen.dones, 0.98, 0.95
        )  # fmt: skip
        parts = (seen.states, seen.actions, seen.log_probs, standardize(advantages), returns)
        flat = [part.flatten(0, 1) for part in parts]
        for _ in range(6):
            update(ppo_loss(model, *flat), optimizer, clip=0.5)
    assert sum(ends[-3:]) < 0.5 * sum(ends[:3])


# ---------------------------------------------------------------------------------------- refusals
def test_bad_input_is_refused_by_name():
    model, states = ActorCritic(3, 5), torch.zeros(2, 2, 3)
    did, weights = torch.zeros(2, 2, dtype=torch.long), torch.ones(2, 2)
    bad = weights.clone()
    bad[0, 1] = math.nan
    with refuses(ValueError, "weights must be finite, got 1 values"):
        reinforce_loss(model.actor, states, did, bad)
    with refuses(ValueError, "rewards must be finite, got 1 values"):
        rewards_to_go(bad, 0.9)
    for gamma in (-0.5, 1.5, math.nan):
        with refuses(ValueError, "gamma="):
            rewards_to_go(weights, gamma)
        with refuses(ValueError, "gamma="):
            rollout(model, EndsAtOnce(), 2, gamma)
    with refuses(ValueError, "actions must be 0 … 4 (the logits), got 5 … 5"):
        reinforce_loss(model.actor, states, did + 5, weights)
    with refuses(ValueError, "states must have (2, 2) as their first axes"):
        reinforce_loss(model.actor, states[:1], did, weights)
    with refuses(ValueError, "states must have state_size=3 columns, got shape (2, 4)"):
        model(torch.zeros(2, 4))
    with refuses(ValueError, "num_steps=0 must be an integer ≥ 1"):
        rollout(model, EndsAtOnce(), 0, 0.9)
    flat = (states[0], did[0], weights[0].log(), weights[0], weights[0])
    with refuses(ValueError, "advantages must be finite"):
        ppo_loss(model, *flat[:3], bad[0], weights[0])
    with refuses(ValueError, "returns must be finite"):
        ppo_loss(model, *flat[:4], bad[0])
    with refuses(ValueError, "clip=0"):
        ppo_loss(model, *flat, clip=0)
    with refuses(ValueError, "entropy_weight=-1"):
        ppo_loss(model, *flat, entropy_weight=-1)
    with refuses(ValueError, "states must have 2 rows, got shape (1, 3)"):
        ppo_loss(model, states[0, :1], *flat[1:])


def test_bad_processes_and_environments_are_refused_by_name():
    going, rewards, logits = process()
    with refuses(ValueError, "gamma=1 must be a finite number ≥ 0 and < 1"):
        value_iteration(going, rewards, 1)
    with refuses(ValueError, "policy must hold probabilities"):
        policy_values(going, rewards, logits, 0.9)
    with refuses(ValueError, "transitions must be ≥ 0"):
        value_iteration(2 * going, rewards, 0.9)
    with refuses(ValueError, "rewards must be finite"):
        value_iteration(going, rewards * math.nan, 0.9)
    with refuses(ValueError, "start=3 must be below 3"):
        TabularEnv(going, rewards, 2, start=3)
    with refuses(ValueError, "num_envs=0"):
        CartPole(0)
    with refuses(ValueError, "max_steps=0"):
        CartPole(2, max_steps=0)
    with refuses(ValueError, "actions must be 0 … 1 (two ways), got 2 … 2"):
        CartPole(2).step(torch.tensor([2, 2]))
    with refuses(TypeError, "transitions must map"):
        tables({})


def test_an_episode_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("nnlib.reinforcement._rollout.LONGEST", 20)
    stay = TabularEnv(torch.ones(1, 2, 1), torch.ones(1, 2), 2, max_steps=10**6)
    with refuses(ValueError, "env must end: an episode had 20 steps"):
        play(nn.Embedding(1, 2), stay)
