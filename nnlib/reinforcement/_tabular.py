r"""Decision processes small enough for a table, where every value can be known exactly.

Axes: s states, n states that follow, a actions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.reinforcement._environment import Transition

SWEEPS = 100_000  # of value iteration, at most


def tables(
    transitions: Mapping[int, Mapping[int, list[tuple[Any, ...]]]],
) -> tuple[Float[Tensor, "s a n"], Float[Tensor, "s a"]]:
    """Return probabilities and mean rewards of what gymnasium keeps as `env.unwrapped.P`.

    An outcome that ends the episode leads nowhere, so a row's sum is the probability of going on.

    Args:
        transitions: state → action → outcomes (probability, next state, reward, whether it ends).

    Example:
        >>> going, paid = tables({0: {0: [(0.5, 0, 0.0, False), (0.5, 0, 1.0, True)]}})
        >>> going.tolist(), paid.tolist()
        ([[[0.5]]], [[0.5]])
    """
    if not isinstance(transitions, Mapping) or not transitions:
        raise TypeError("transitions must map each state to its actions' outcomes")
    states, actions = len(transitions), len(transitions[0])
    going = torch.zeros(states, actions, states, dtype=torch.float64)
    paid = torch.zeros(states, actions, dtype=torch.float64)
    for state, outcomes_of in transitions.items():
        for action, outcomes in outcomes_of.items():
            for probability, after, reward, ends in outcomes:
                paid[state, action] += probability * reward
                going[state, action, after] += 0.0 if ends else probability
    return going, paid


def value_iteration(
    transitions: Float[Tensor, "s a n"],
    rewards: Float[Tensor, "s a"],
    gamma: float,
    tolerance: float = 1e-10,
) -> tuple[Float[Tensor, " s"], Float[Tensor, "s a"]]:
    r"""Return the best values of states and of actions, by repeating Bellman's optimality equation.

    $Q(s, a) = r(s, a) + \gamma \sum_{s'} P(s' \mid s, a) \max_{a'} Q(s', a')$.

    Args:
        transitions: probabilities of going on, each row at most 1 in sum; see `tables`.
        rewards: mean reward of each action in each state.
        gamma: discount in [0, 1); at 1 values may never settle where nothing ends.
        tolerance: largest change of a value at which it stops.

    Example:
        >>> stay = torch.tensor([[[1.0], [0.0]]])  # stay for 1, or leave for 5
        >>> value_iteration(stay, torch.tensor([[1.0, 5.0]]), 0.9)[0].round()
        tensor([10.])

    Source: Bellman 1957.
    """
    _check_process(transitions, rewards)
    gamma = checks.number("gamma", gamma, least=0, below=1)
    tolerance = checks.number("tolerance", tolerance, above=0)
    values = rewards.new_zeros(len(rewards))
    for _ in range(SWEEPS):
        q = rewards + gamma * transitions @ values
        values, before = q.max(1).values, values
        if bool((values - before).abs().max() <= tolerance):
            break
    return values, q


def policy_values(
    transitions: Float[Tensor, "s a n"],
    rewards: Float[Tensor, "s a"],
    policy: Float[Tensor, "s a"],
    gamma: float,
) -> tuple[Float[Tensor, " s"], Float[Tensor, "s a"]]:
    r"""Return what a policy's states and actions are worth: Bellman's equation, solved at once.

    $V = (I - \gamma P_\pi)^{-1} r_\pi$ and $Q = r + \gamma P V$. Gradients flow to the policy.

    Args:
        transitions: as for `value_iteration`.
        rewards: likewise.
        policy: probability of each action in each state, 1 in sum.
        gamma: discount in [0, 1).

    Example:
        >>> stay = torch.tensor([[[1.0], [0.0]]])
        >>> half = torch.tensor([[0.5, 0.5]])
        >>> policy_values(stay, torch.tensor([[1.0, 5.0]]), half, 0.5)[0]
        tensor([4.])
    """
    _check_process(transitions, rewards)
    gamma = checks.number("gamma", gamma, least=0, below=1)
    checks.tensor("policy", policy, shape=tuple(rewards.shape), floating=True)
    sums = policy.detach().sum(1)
    if checks.readable(policy) and not bool(((sums - 1).abs() < 1e-4).all()):
        raise ValueError("policy must hold probabilities, 1 in sum, in each row")
    going = torch.einsum("sa,san->sn", policy, transitions)
    system = torch.eye(len(rewards), dtype=rewards.dtype) - gamma * going
    values = torch.linalg.solve(system, (policy * rewards).sum(1))
    return values, rewards + gamma * transitions @ values


class TabularEnv:
    """A table's process, acted in many times side by side; a new episode follows each that ends.

    Args:
        transitions: as for `value_iteration`.
        rewards: likewise; each step pays this mean.
        num_envs: how many.
        start: the state in which episodes begin.
        max_steps: steps after which an episode is cut off.
        generator: source of what happens; torch's own if None.

    Attributes:
        states: the number of the state in which each next action is taken.

    Example:
        >>> leave = TabularEnv(torch.zeros(1, 2, 1), torch.tensor([[1.0, 5.0]]), 3)
        >>> happened = leave.step(torch.tensor([1, 0, 1]))
        >>> happened.rewards.tolist(), happened.terminated.all().item()
        ([5.0, 1.0, 5.0], True)
    """

    def __init__(
        self,
        transitions: Float[Tensor, "s a n"],
        rewards: Float[Tensor, "s a"],
        num_envs: int,
        *,
        start: int = 0,
        max_steps: int = 100,
        generator: torch.Generator | None = None,
    ):
        _check_process(transitions, rewards)
        ends = 1 - transitions.sum(-1, keepdim=True)
        self._outcomes = torch.cat([transitions, ends.clamp(min=0)], -1)
        self._rewards = rewards
        self.num_states, self.num_actions = rewards.shape
        self.num_envs = checks.count("num_envs", num_envs)
        self.start = checks.count("start", start, least=0)
        if start >= self.num_states:
            raise ValueError(
                f"start={start} must be below {self.num_states}, the states"
            )
        self.max_steps = checks.count("max_steps", max_steps)
        self.generator = generator
        self.reset()

    def reset(self) -> Int[Tensor, " b"]:
        """Begin all episodes anew, and return their states."""
        self.states = torch.full((self.num_envs,), self.start)
        self._steps = torch.zeros(self.num_envs, dtype=torch.long)
        return self.states

    def step(self, actions: Int[Tensor, " b"]) -> Transition:
        """Take an action in each environment."""
        shape = (self.num_envs,)
        checks.tokens("actions", actions, self.num_actions, shape=shape, of="actions")
        odds = self._outcomes[self.states, actions]
        after = torch.multinomial(odds, 1, generator=self.generator)[:, 0]
        rewards = self._rewards[self.states, actions]
        self._steps += 1
        terminated = after == self.num_states
        truncated = (self._steps >= self.max_steps) & ~terminated
        done = terminated | truncated
        final = torch.where(terminated, self.states, after)
        self.states = torch.where(done, self.start, after)
        self._steps = self._steps.masked_fill(done, 0)
        return Transition(self.states, rewards, terminated, truncated, final)


def _check_process(transitions: Tensor, rewards: Tensor) -> None:
    checks.tensor(
        "rewards", rewards, shape=("s", "a"), floating=True, finite=True, empty=False
    )
    states, actions = rewards.shape
    shape = (states, actions, states)
    checks.tensor("transitions", transitions, shape=shape, floating=True, finite=True)
    if transitions.dtype != rewards.dtype:
        raise TypeError(
            f"transitions must be {rewards.dtype} as rewards are, got {transitions.dtype}"
        )
    if bool((transitions < 0).any() or (transitions.sum(-1) > 1 + 1e-5).any()):
        raise ValueError("transitions must be ≥ 0, and at most 1 in sum over s'")
