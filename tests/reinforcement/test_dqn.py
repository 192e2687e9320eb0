"""Values against tables that are solved exactly, memories against plain lists, draws against χ²."""

import math
import random

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi2, norm
from torch import nn
from torch.nn import functional as F

from nnlib.reinforcement.dqn import (
    DQN,
    AtariDQN,
    Boards,
    DuelingDQN,
    NoisyLinear,
    PitGrid,
    PrioritizedReplayBuffer,
    ReplayBuffer,
    SeveralSteps,
    SumTree,
    categorical_target,
    conservative_loss,
    distances,
    draw_boards,
    epsilon_greedy,
    falling,
    move,
    q_learning,
    sarsa,
    td_errors,
    td_loss,
    td_target,
    train_dqn,
    view,
    walk,
)
from nnlib.reinforcement.policy_gradient import (
    TabularEnv,
    policy_values,
    value_iteration,
)
from tests.support import Example, refuses

FAR = 1e-4
"""A χ² test with right code fails once in ten thousand seeds; these are fixed."""
YES, NO = torch.tensor([True]), torch.tensor([False])


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"state_size": 4, "num_actions": 3, "hidden_size": 5, "num_layers": 2}
    return Example(arguments, (torch.randn(2, 4),))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def fits(counts, probabilities):
    """Hold counts to probabilities by χ²."""
    counts, wanted = torch.as_tensor(counts).double(), torch.as_tensor(probabilities).double()
    wanted = wanted * counts.sum()
    used = wanted > 0
    assert not counts[~used].any()
    distance = ((counts - wanted)[used] ** 2 / wanted[used]).sum().item()
    assert distance < chi2.isf(FAR, int(used.sum()) - 1)


# --------------------------------------------------------------------------- Bellman, and the truth
def process(states=3, actions=2, seed=0):
    """A random decision process that ends now and then."""
    odds = torch.rand(states, actions, states + 1, generator=dice(seed), dtype=torch.float64)
    odds = odds / odds.sum(-1, keepdim=True)
    paid = torch.randn(states, actions, generator=dice(seed + 1), dtype=torch.float64)
    return odds[..., :-1], paid


@pytest.mark.equation("dqn-bellman")
@pytest.mark.parametrize("seed", range(3))
def test_the_equations_solution_is_the_best_of_all_policies(seed):
    going, paid = process(seed=seed)
    values, q = value_iteration(going, paid, 0.9)
    every = torch.cartesian_prod(*[torch.arange(2)] * 3)
    worth = [policy_values(going, paid, F.one_hot(rule, 2).double(), 0.9)[0] for rule in every]
    torch.testing.assert_close(values, torch.stack(worth).amax(0), rtol=0, atol=1e-8)
    again = paid + 0.9 * torch.einsum("san,n->sa", going, q.amax(1))
    torch.testing.assert_close(q, again, rtol=0, atol=1e-8)


@pytest.mark.equation("dqn-value-iteration", "dqn-contraction")
def test_a_sweep_brings_any_two_tables_nearer_by_gamma():
    going, paid = process(4, 3)

    def sweep(q, gamma):
        return paid + gamma * torch.einsum("san,n->sa", going, q.amax(1))

    for gamma in (0.5, 0.9, 1.0):
        for seed in range(20):
            a, b = 3 * torch.randn(2, 4, 3, generator=dice(seed), dtype=torch.float64)
            moved = (sweep(a, gamma) - sweep(b, gamma)).abs().max()
            assert moved <= gamma * (a - b).abs().max() + 1e-12
    truth, q = value_iteration(going, paid, 0.9)[1], torch.zeros(4, 3, dtype=torch.float64)
    for k in range(1, 30):
        q = sweep(q, 0.9)
        assert (q - truth).abs().max() <= 0.9**k * truth.abs().max() + 1e-9


@pytest.mark.equation("dqn-return")
def test_the_return_of_a_steady_reward_is_the_geometric_series():
    several = SeveralSteps(60, 0.8)
    for _ in range(60):
        here = torch.zeros(1, 1, dtype=torch.float64)
        made = several.add(here, torch.tensor([0]), torch.ones(1).double(), here, NO, NO)
    assert made[2].item() == pytest.approx((1 - 0.8**60) / (1 - 0.8), abs=1e-12)


class Process:
    """A process with a table, in gymnasium's manner."""

    def __init__(self, going, paid, longest=30):
        outcomes = torch.cat([going, 1 - going.sum(-1, keepdim=True)], -1)
        self.outcomes, self.paid, self.longest = outcomes.tolist(), paid.tolist(), longest
        self.observation_space = type("Numbers", (), {"n": len(paid)})
        self.action_space = type("Numbers", (), {"n": paid.shape[1]})

    def reset(self, seed=None):
        if seed is not None:
            self.dice = random.Random(seed)
        self.state, self.steps = self.dice.randrange(len(self.paid)), 0
        return self.state, {}

    def step(self, action):
        odds = self.outcomes[self.state][action]
        reward = self.paid[self.state][action] + self.dice.gauss(0, 1)
        after = self.dice.choices(range(len(odds)), odds)[0]
        self.steps += 1
        ended = after == len(self.paid)
        self.state = 0 if ended else after
        return self.state, reward, ended, not ended and self.steps >= self.longest, {}


@pytest.mark.equation("dqn-q-learning")
def test_q_learning_finds_the_best_values_whatever_it_does_meanwhile():
    going, paid = process()
    truth = value_iteration(going, paid, 0.8)[1]
    for exploration in (0.5, 1.0):
        table, totals = q_learning(Process(going, paid), 15_000, 0.8, lr=lambda n: n**-0.7,
                                   exploration=exploration)  # fmt: skip
        torch.testing.assert_close(table, truth, rtol=0, atol=0.2)
        assert len(totals) > 1000


@pytest.mark.equation("dqn-sarsa")
def test_sarsa_finds_what_its_own_policy_is_worth():
    going, paid = process()
    paid = 3 * paid
    table, _ = sarsa(Process(going, paid), 20_000, 0.8, lr=lambda n: n**-0.7, exploration=0.6)
    policy = torch.full((3, 2), 0.3, dtype=torch.float64)
    policy[torch.arange(3), table.argmax(1)] += 0.4
    wanted = policy_values(going, paid, policy, 0.8)[1]
    torch.testing.assert_close(table, wanted, rtol=0, atol=0.2)
    best = value_iteration(going, paid, 0.8)[1]
    assert (table - best).abs().max() > 0.4, "nothing tells the two apart here"


def test_a_constant_rate_never_settles():
    """Robbins and Monro's conditions: of one noisy reward, only falling rates find the mean."""
    once = Process(torch.zeros(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1).double())
    ends = {rate: [q_learning(once, 400, 0.9, lr=lr, seed=seed)[0].item() for seed in range(25)]
            for rate, lr in (("constant", 0.5), ("falling", lambda n: 1 / n))}  # fmt: skip
    spread = {rate: torch.tensor(found).square().mean().sqrt() for rate, found in ends.items()}
    assert spread["constant"] == pytest.approx(math.sqrt(0.5 / 1.5), rel=0.5)  # η / (2 − η)
    assert spread["falling"] == pytest.approx(1 / math.sqrt(400), rel=0.5)


# ------------------------------------------------------------------------------ targets and losses
def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


@pytest.mark.equation("dqn-target", "dqn-double")
@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_targets_are_those_of_a_loop(double):
    g = dice(3)
    rewards, gamma = torch.randn(50, generator=g), torch.rand(50, generator=g)
    ended = torch.rand(50, generator=g) < 0.3
    target, online = torch.randn(2, 50, 4, generator=g)
    got = td_target(rewards, ended, target, gamma, online if double else None)
    for at in range(50):
        chosen = max(range(4), key=lambda a, at=at: (online if double else target)[at, a])
        after = 0 if ended[at] else gamma[at] * target[at, chosen]
        assert got[at] == pytest.approx(float(rewards[at] + after), abs=1e-6)


def test_by_hand():
    target, online = row(1.0, 4.0, 2.0), row(0.0, 1.0, 3.0)
    assert td_target(torch.ones(1).double(), NO, target, 0.5).item() == 3.0
    assert td_target(torch.ones(1).double(), NO, target, 0.5, online).item() == 2.0
    assert td_target(torch.ones(1).double(), YES, target, 0.5, online).item() == 1.0


def test_what_comes_after_an_end_does_not_matter_even_if_it_is_nothing():
    target = torch.full((1, 2), math.nan)
    assert td_target(torch.ones(1), YES, target, 0.9).item() == 1.0


@pytest.mark.equation("dqn-loss")
def test_the_loss_is_hubers_and_its_gradient_the_clipped_error():
    values = nn.Parameter(torch.tensor([[0.0, 0.3], [2.0, 0.0], [5.0, 0.0]], dtype=torch.float64))
    targets = torch.tensor([-4.0, 2.5, 1.0], dtype=torch.float64, requires_grad=True)
    actions = torch.tensor([1, 0, 0])
    loss = td_loss(lambda _: values, torch.zeros(3, 1), actions, targets)
    taken = values[torch.arange(3), actions]
    torch.testing.assert_close(loss, F.smooth_l1_loss(taken, targets.detach()))
    loss.backward()
    wanted = torch.zeros_like(values)
    wanted[torch.arange(3), actions] = (taken - targets).clamp(-1, 1).detach() / 3
    torch.testing.assert_close(values.grad, wanted)
    assert targets.grad is None, "the target is held still"


def test_weights_of_the_loss_count():
    table = nn.Embedding.from_pretrained(torch.zeros(2, 2))
    at, targets = torch.tensor([0, 1]), torch.tensor([0.5, 1.0])
    got = td_loss(table, at, at, targets, torch.tensor([2.0, 0.0]))
    assert got.item() == pytest.approx(2 * 0.125 / 2)


@pytest.mark.equation("dqn-exploration")
def test_a_greedy_choice_with_so_much_chance():
    values = torch.tensor([0.0, 3.0, 1.0, 2.0]).expand(40_000, 4)
    drawn = epsilon_greedy(values, 0.3, dice())
    wanted = torch.full((4,), 0.3 / 4)
    wanted[1] += 0.7
    fits(torch.bincount(drawn, minlength=4), wanted)
    assert epsilon_greedy(values[:100], 0.0).eq(1).all()


@pytest.mark.equation("dqn-divergence")
@pytest.mark.parametrize("gamma", [0.3, 0.5, 0.9])
def test_two_states_and_one_weight_run_away_when_gamma_is_above_a_half(gamma):
    """Features 1 and 2, no reward: only the step from the first to the second is learned."""
    weight, eta = nn.Parameter(torch.ones(1, 1, dtype=torch.float64)), 0.1

    def model(features):
        return features @ weight

    for k in range(1, 20):
        target = td_target(torch.zeros(1).double(), NO, model(row(2.0)), gamma)
        error = td_errors(model, row(1.0), torch.tensor([0]), target)
        (grad,) = torch.autograd.grad(0.5 * error.square().sum(), weight)
        with torch.no_grad():
            weight -= eta * grad
        assert weight.item() == pytest.approx((1 + eta * (2 * gamma - 1)) ** k, rel=1e-9)


@pytest.mark.equation("dqn-bias")
def test_the_largest_of_several_noisy_zeros_is_above_zero():
    def mean_of_largest(m):
        return quad(lambda z: m * z * norm.pdf(z) * norm.cdf(z) ** (m - 1), -9, 9)[0]

    assert mean_of_largest(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-8)
    assert mean_of_largest(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-8)
    noise, judge = torch.randn(2, 200_000, 10, generator=dice())
    single = td_target(torch.zeros(200_000), torch.zeros(200_000) > 0, noise, 1.0)
    double = td_target(torch.zeros(200_000), torch.zeros(200_000) > 0, judge, 1.0, noise)
    assert single.mean().item() == pytest.approx(mean_of_largest(10), abs=4 * 0.6 / 447)
    assert double.mean().item() == pytest.approx(0, abs=4 / 447)


@pytest.mark.equation("dqn-conservative")
def test_the_conservative_term_pushes_down_what_was_not_done():
    values = nn.Parameter(torch.randn(5, 3, generator=dice(), dtype=torch.float64))
    actions = torch.tensor([0, 1, 2, 2, 1])
    loss = conservative_loss(lambda _: values, torch.zeros(5, 1), actions)
    torch.testing.assert_close(loss, F.cross_entropy(values, actions))
    loss.backward()
    softmax = values.detach().exp() / values.detach().exp().sum(1, keepdim=True)
    torch.testing.assert_close(values.grad, (softmax - F.one_hot(actions, 3)) / 5)


# ------------------------------------------------------------------------------------- the networks
@pytest.mark.equation("dqn-network")
def test_a_network_is_affine_maps_with_relu_between():
    model, states = DQN(6, 3, 7, 2), torch.randn(5, 6, generator=dice())
    h = states
    for part in model.layers:
        h = (h @ part.weight.T + part.bias).clamp(min=0)
    wanted = h @ model.values.weight.T + model.values.bias
    torch.testing.assert_close(model(states), wanted)
    assert sum(p.numel() for p in model.parameters()) == 6 * 7 + 7 + 7 * 7 + 7 + 7 * 3 + 3


@pytest.mark.equation("dqn-dueling")
def test_two_streams_are_told_apart_by_the_mean():
    model, states = DuelingDQN(4, 3), torch.randn(6, 4, generator=dice())
    h = model.features(states)
    advantages, value = model.values(h), model.state_value(h)
    got = model(states)
    torch.testing.assert_close(got.mean(1), value[:, 0], msg="the mean is the state's value")
    torch.testing.assert_close(got[:, 0] - got[:, 2], advantages[:, 0] - advantages[:, 2])
    with torch.no_grad():
        model.values.bias += 5.0
    torch.testing.assert_close(model(states), got)


def test_the_network_of_atari_has_the_papers_sizes():
    model = AtariDQN(18)
    assert sum(p.numel() for p in model.parameters()) == 1_693_362
    shapes, x = [], torch.zeros(1, 4, 84, 84)
    for part in model.layers:
        x = part(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[::2][:3] == [(32, 20, 20), (64, 9, 9), (64, 7, 7)]
    assert x.shape == (1, 512)
    with refuses(ValueError, "states must be 84 by 84"):
        model(torch.zeros(1, 4, 96, 96))
    with refuses(ValueError, "state_size=4 columns"):
        DQN(4, 2)(torch.zeros(3, 5))


@pytest.mark.equation("dqn-noisy")
def test_noise_has_the_mean_and_the_variance_that_were_learned():
    layer, x = NoisyLinear(3, 2, noise=0.8), torch.tensor([1.0, -2.0, 0.5])
    with torch.no_grad():
        layer.weight_noise.copy_(torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
        layer.bias_noise.copy_(torch.tensor([0.7, 0.8]))
    drawn, g = [], dice()
    for _ in range(5_000):
        layer.redraw(g)
        drawn.append(layer(x).detach())
    drawn = torch.stack(drawn)
    plain = F.linear(x, layer.weight, layer.bias)
    # f(ε)² = |ε|, whose mean is √(2/π); the two factors are independent
    size = math.sqrt(2 / math.pi)
    of_weights = (size**2 * layer.weight_noise**2 * x**2).sum(1)
    variance = (of_weights + size * layer.bias_noise**2).detach()
    error = variance.sqrt() / math.sqrt(5_000)
    assert ((drawn.mean(0) - plain).abs() < 4 * error).all()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.12, atol=0)
    torch.testing.assert_close(layer.eval()(x), plain)


@pytest.mark.equation("dqn-categorical")
def test_a_moved_distribution_is_put_back_atom_by_atom():
    g, support = dice(5), torch.linspace(-2, 3, 11, dtype=torch.float64)
    chance = torch.rand(8, 11, generator=g, dtype=torch.float64).softmax(1)
    rewards = torch.randn(8, generator=g, dtype=torch.float64)
    ended, gamma = torch.rand(8, generator=g) < 0.3, torch.rand(8, generator=g).double()
    got = categorical_target(chance, rewards, ended, gamma, support)
    wanted, step = torch.zeros(8, 11, dtype=torch.float64), 0.5
    for b in range(8):
        for j in range(11):
            to = float(rewards[b]) + (0 if ended[b] else float(gamma[b] * support[j]))
            at = (min(max(to, -2.0), 3.0) + 2) / step
            low, high = math.floor(at), math.ceil(at)
            wanted[b, low] += chance[b, j] * (1 - (at - low))
            wanted[b, high] += chance[b, j] * (at - low)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.sum(1), torch.ones(8).double())


def test_the_mean_of_a_moved_distribution_is_the_plain_target():
    support, g = torch.linspace(-10, 10, 51, dtype=torch.float64), dice()
    chance = torch.zeros(6, 51, dtype=torch.float64)
    chance[:, 20:31] = torch.rand(6, 11, generator=g, dtype=torch.float64)
    chance = chance / chance.sum(1, keepdim=True)
    rewards, ended = torch.randn(6, generator=g).double(), torch.tensor([True, False] * 3)
    half = torch.full((6,), 0.5, dtype=torch.float64)
    moved = categorical_target(chance, rewards, ended, half, support)
    wanted = td_target(rewards, ended, (chance @ support)[:, None], 0.5)
    torch.testing.assert_close(moved @ support, wanted)


# ------------------------------------------------------------------------------------- the training
def leaving(num_envs=8):
    """One state, two actions, and every episode ends at once."""
    paid = torch.tensor([[1.0, -0.5]])
    return TabularEnv(torch.zeros(1, 2, 1), paid, num_envs, generator=dice())


def table(states, actions=2):
    return nn.Embedding.from_pretrained(torch.zeros(states, actions), freeze=False)


@pytest.mark.parametrize("kind", ["even", "prioritised", "none"])
def test_where_episodes_end_at_once_values_are_the_rewards(kind):
    memory = {"even": ReplayBuffer(50, generator=dice()), "none": None,
              "prioritised": PrioritizedReplayBuffer(50, generator=dice())}[kind]  # fmt: skip
    model = table(1)
    history = train_dqn(model, leaving(), steps=150, memory=memory, batch_size=16, lr=0.05,
                        exploration=lambda step: 0.5, generator=dice(),
                        measures={"left": lambda m: m.weight[0, 0].item()},
                        measure_every=50)  # fmt: skip
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[1.0, -0.5]]), rtol=0,
                               atol=0.02)  # fmt: skip
    assert history.at == [50, 100, 150] and len(history.measures["left"]) == 3


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_walk_is_learned_and_cut_off_episodes_are_no_ends(num_steps):
    """Three cells in a row, 1 at the end; episodes of two steps are cut off, and have values."""
    going = torch.zeros(3, 2, 3)
    going[0, 1, 1] = going[1, 1, 2] = going[0, 0, 0] = going[1, 0, 0] = going[2, 0, 1] = 1.0
    paid = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    truth = value_iteration(going.double(), paid.double(), 0.8)[1]
    starts = [TabularEnv(going, paid, 6, start=at, max_steps=2, generator=dice(at))
              for at in range(3)]  # fmt: skip

    class All:
        """From all three beginnings."""

        states = torch.cat([env.states for env in starts])

        def reset(self):
            raise NotImplementedError

        def step(self, actions):
            made = [env.step(some) for env, some in zip(starts, actions.chunk(3), strict=True)]
            self.states = torch.cat([one.states for one in made])
            return type(made[0])(*(torch.cat(part) for part in zip(*made, strict=True)))

    model = table(3)
    train_dqn(model, All(), steps=250, memory=ReplayBuffer(600, generator=dice()), gamma=0.8,
              batch_size=64, lr=0.05, target_every=10, num_steps=num_steps,
              exploration=falling(1.0, 0.3, 100), generator=dice())  # fmt: skip
    best = model.weight.detach().argmax(1)
    assert best.tolist() == [1, 1, 1]
    torch.testing.assert_close(model.weight.detach()[:, 1].double(), truth[:, 1], rtol=0,
                               atol=0.05 if num_steps == 1 else 0.15)  # fmt: skip


def test_a_run_depends_on_its_seeds_alone():
    def run():
        model = table(1)
        return train_dqn(model, leaving(), steps=20, memory=ReplayBuffer(50, generator=dice()),
                         batch_size=8, generator=dice()).loss  # fmt: skip

    assert run() == run()


# ---------------------------------------------------------------------------------------- bad input
def test_bad_input_is_refused_by_name():
    rewards, values = torch.ones(2), torch.ones(2, 3)
    ended = torch.tensor([False, True])
    for gamma in (-0.1, 1.1, math.nan):
        with refuses(ValueError, "gamma="):
            td_target(rewards, ended, values, gamma)
        with refuses(ValueError, "gamma="):
            SeveralSteps(2, gamma)
        with refuses(ValueError, "gamma="):
            q_learning(Process(*process()), 10, gamma)
        with refuses(ValueError, "gamma="):
            train_dqn(table(1), leaving(), steps=2, memory=None, gamma=gamma)
    with refuses(ValueError, "gamma must be in [0, 1]"):
        td_target(rewards, ended, values, torch.tensor([0.5, 1.5]))
    with refuses(ValueError, "rewards must be finite"):
        td_target(torch.tensor([1.0, math.nan]), ended, values, 0.9)
    with refuses(ValueError, "next_values must have an action"):
        td_target(rewards, ended, torch.ones(2, 0), 0.9)
    with refuses(TypeError, "terminated"):
        td_target(rewards, ended.float(), values, 0.9)
    with refuses(ValueError, "actions must be 0 … 2"):
        td_errors(lambda _: values, rewards, torch.tensor([0, 3]), rewards)
    with refuses(ValueError, "exploration=1.5"):
        epsilon_greedy(values, 1.5)
    with refuses(ValueError, "alpha"):
        PrioritizedReplayBuffer(3, alpha=-1.0)
    with refuses(ValueError, "in equal steps upwards"):
        uneven = torch.tensor([0.0, 1.0, 3.0])
        categorical_target(torch.ones(2, 3) / 3, rewards, ended, rewards, uneven)


def test_a_reward_that_is_not_a_number_stops_the_run_by_name():
    class Broken(Process):
        def step(self, action):
            return 0, math.nan, False, False, {}

    with refuses(ValueError, "reward=nan"):
        q_learning(Broken(*process()), 10, 0.9)


def test_a_tree_is_needed_for_priorities():
    assert SumTree(1).total == 0
    with refuses(ValueError, "places need a leaf above 0"):
        SumTree(3).find(torch.tensor([0.0]))


# ---------------------------------------------------------------------------------------- memories
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
            assert paid.item() == pytest.approx(total) and last.item() == k + 1
            assert bool(over) == bool(terminated[k, b])
            assert discount.item() == pytest.approx(gamma ** (k - (t - n + 1) + 1))


# ------------------------------------------------------------------------------------- priorities
@given(st.lists(st.floats(0, 5), min_size=1, max_size=20), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_a_tree_finds_what_running_sums_find(numbers, seed):
    tree, leaves = SumTree(len(numbers)), torch.tensor(numbers, dtype=torch.float64)
    order = torch.randperm(len(numbers), generator=dice(seed))
    tree.set(order, leaves[order])
    assert tree.total == pytest.approx(sum(numbers), abs=1e-9)
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
    assert (share * (1 / (6 * share)) * torch.arange(6)).sum() == pytest.approx(2.5)
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
    assert memory.probabilities.tolist() == pytest.approx([1 / 3] * 3)


# ------------------------------------------------------------------------------------------ boards
WAYS = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def test_boards_have_everything_in_a_cell_of_its_own():
    boards = draw_boards(4000, 4, 3, dice())
    cells = torch.cat([boards.agents[:, None], boards.goals[:, None], boards.pits], 1)
    assert all(len(set(row)) == 5 for row in cells.tolist())
    share = torch.bincount(boards.agents, minlength=16) / 4000
    assert ((share - 1 / 16).abs() < 4 * (15 / 256 / 4000) ** 0.5).all()
    with refuses(ValueError, "num_pits=15 must leave two of 16 cells free"):
        draw_boards(1, 4, 15)


def test_a_wall_holds():
    for cell in range(9):
        for action, (down, right) in enumerate(WAYS):
            row, column = cell // 3 + down, cell % 3 + right
            inside = 0 <= row < 3 and 0 <= column < 3
            wanted = row * 3 + column if inside else cell
            assert move(torch.tensor(cell), torch.tensor(action), 3) == wanted


@pytest.mark.parametrize("size", [3, 5])
def test_a_view_is_what_stands_at_each_place_around_the_agent(size):
    boards = draw_boards(20, size, 2, dice())
    seen = view(boards, size).reshape(20, 3, 2 * size - 1, 2 * size - 1)
    above = view(boards, size, egocentric=False).reshape(20, 3, size, size)
    for b in range(20):
        at, goal = int(boards.agents[b]), int(boards.goals[b])
        pits = boards.pits[b].tolist()
        for down in range(1 - size, size):
            for right in range(1 - size, size):
                row, column = at // size + down, at % size + right
                inside = 0 <= row < size and 0 <= column < size
                cell = row * size + column if inside else -1
                wanted = [cell == goal, cell in pits, not inside]
                assert seen[b, :, down + size - 1, right + size - 1].bool().tolist() == wanted
        for cell in range(size**2):
            wanted = [cell == goal, cell in pits, cell == at]
            assert above[b, :, cell // size, cell % size].bool().tolist() == wanted


def test_distances_are_networkxs():
    boards = draw_boards(30, 5, 6, dice(1))
    got = distances(boards)
    for b in range(30):
        grid = networkx.grid_2d_graph(5, 5)
        pits = [(cell // 5, cell % 5) for cell in boards.pits[b].tolist()]
        grid.remove_nodes_from(pits)
        goal = int(boards.goals[b])
        known = networkx.single_source_shortest_path_length(grid, (goal // 5, goal % 5))
        assert got[b].tolist() == [known.get((cell // 5, cell % 5), -1) for cell in range(25)]


def test_an_environment_pays_ends_and_begins_anew():
    env = PitGrid(64, max_steps=6, generator=dice())
    g, ends = dice(2), torch.zeros(3)
    for _ in range(60):
        before, steps = env.boards, env._steps.clone()
        torch.testing.assert_close(env.states, view(before))
        agents, goals, pits = (part.clone() for part in before)
        actions = torch.randint(4, (64,), generator=g)
        happened = env.step(actions)
        after = move(agents, actions, 5)
        won, lost = after == goals, (pits == after[:, None]).any(1)
        assert (happened.rewards == won.float() - lost.float()).all()
        assert (happened.terminated == (won | lost)).all()
        assert (happened.truncated == ((steps + 1 >= 6) & ~won & ~lost)).all()
        torch.testing.assert_close(happened.final, view(Boards(after, goals, pits)))
        torch.testing.assert_close(happened.states, view(env.boards))
        assert (env._steps == torch.where(happened.dones, 0, steps + 1)).all()
        assert (env.boards.agents[~happened.dones] == after[~happened.dones]).all()
        ends += torch.stack([won.sum(), lost.sum(), happened.truncated.sum()])
    assert (ends > 10).all(), "each way of ending was seen"


def test_seen_from_above_it_is_the_same_game():
    both = [PitGrid(8, egocentric=flag, generator=dice()) for flag in (True, False)]
    for _ in range(20):
        first, second = (env.step(torch.full((8,), 1)) for env in both)
        assert (first.rewards == second.rewards).all() and (first.dones == second.dones).all()
        torch.testing.assert_close(second.states, view(both[0].boards, egocentric=False))


def test_a_walk_by_the_shortest_way_takes_as_many_steps():
    boards = draw_boards(200, 5, 3, dice(3))
    far = distances(boards)

    def shortest(now):
        around = torch.stack([far.gather(1, move(now.agents, torch.full_like(now.agents, way), 5)
                                         [:, None])[:, 0] for way in range(4)], 1)  # fmt: skip
        return torch.where(around < 0, 99, around).argmin(1)

    played, begin = walk(shortest, boards), far.gather(1, boards.agents[:, None])[:, 0]
    assert (played.reached == (begin >= 0)).all()
    assert (played.steps == begin)[played.reached].all()
    assert (played.cells[0] == boards.agents).all()
    assert (played.cells[-1] == boards.goals)[played.reached].all()


def test_bad_boards_are_refused_by_name():
    with refuses(ValueError, "num_envs"):
        PitGrid(0)
    with refuses(ValueError, "size"):
        PitGrid(2, size=1)
    with refuses(ValueError, "actions must be 0 … 3"):
        PitGrid(2).step(torch.tensor([0, 4]))
    with refuses(ValueError, "max_steps"):
        PitGrid(2, max_steps=0)
