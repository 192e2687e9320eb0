"""Experience: what a policy does in environments side by side, kept for learning.

Axes: t steps, b environments, d numbers of a state.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nnlib import checks
from nnlib.reinforcement._environment import Environment

LONGEST = 100_000  # steps after which an episode is taken to have no end

Policy = Callable[[Tensor], Tensor]
"""Gives each state the logits of its actions."""


class Episodes(NamedTuple):
    """One whole episode of each environment, filled up to the longest."""

    states: Tensor
    """Of `t b` and the state's own shape."""
    actions: Tensor
    rewards: Tensor
    """0 after the end."""
    mask: Tensor
    """True at steps that were taken, False after the end."""

    @property
    def lengths(self) -> Tensor:
        """Steps of each episode."""
        return self.mask.sum(0)


class Rollout(NamedTuple):
    """So many steps of each environment, through the ends of episodes."""

    states: Tensor
    """Of `t b` and the state's own shape."""
    actions: Tensor
    rewards: Tensor
    """Where an episode was cut off, with the discounted value of what would have come after."""
    dones: Tensor
    log_probs: Tensor
    """Of the actions, under the policy that took them."""
    values: Tensor
    last_value: Tensor
    """Of the states after the last step, `b`."""


@torch.no_grad()
def sample_actions(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw an action for each row of logits.

    Example:
        >>> sample_actions(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])).tolist()
        [0, 1]
    """
    checks.tensor("logits", logits, shape=("b", "a"), floating=True)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


@torch.no_grad()
def play(
    policy: Policy, env: Environment, generator: torch.Generator | None = None
) -> Episodes:
    """Let a policy play one episode in each environment, from its beginning to its end.

    Args:
        policy: gives logits of actions for states.
        env: is begun anew.
        generator: source of the drawn actions; torch's own if None.
    """
    states = env.reset()
    seen: list[tuple[Tensor, ...]] = []
    done = torch.zeros(len(states), dtype=torch.bool)
    while not bool(done.all()):
        if len(seen) == LONGEST:
            raise ValueError(f"env must end: an episode had {LONGEST} steps")
        actions = sample_actions(policy(states), generator)
        happened = env.step(actions)
        seen.append((states, actions, happened.rewards.masked_fill(done, 0), ~done))
        states, done = happened.states, done | happened.dones
    return Episodes(*map(torch.stack, zip(*seen, strict=True)))


@torch.no_grad()
def rollout(
    model: Callable[[Tensor], tuple[Tensor, Tensor]],
    env: Environment,
    num_steps: int,
    gamma: float,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Take `num_steps` steps in each environment, going on where the last ones ended.

    Args:
        model: gives logits of actions and values for states, such as `ActorCritic`.
        env: goes on from its `states`.
        num_steps: t ≥ 1.
        gamma: the discount, for the value of what was cut off.
        generator: source of the drawn actions; torch's own if None.
    """
    num_steps = checks.count("num_steps", num_steps)
    gamma = checks.number("gamma", gamma, least=0, most=1)
    seen: list[tuple[Tensor, ...]] = []
    for _ in range(num_steps):
        states = env.states
        logits, values = model(states)
        actions = sample_actions(logits, generator)
        happened = env.step(actions)
        rewards = happened.rewards
        if bool(happened.truncated.any()):
            beyond = model(happened.final)[1]
            rewards = rewards + gamma * beyond * happened.truncated
        log_probs = taken(logits, actions)
        seen.append((states, actions, rewards, happened.dones, log_probs, values))
    columns = (torch.stack(column) for column in zip(*seen, strict=True))
    return Rollout._make([*columns, model(env.states)[1]])


def taken(logits: Tensor, actions: Tensor) -> Tensor:
    """Return the log-probabilities of the actions that were taken."""
    return logits.log_softmax(-1).gather(-1, actions[..., None])[..., 0]
