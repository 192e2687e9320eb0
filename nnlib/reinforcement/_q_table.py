r"""Q-learning and SARSA: a value for each state and action in a table, one step at a time.

Plain numbers in plain lists: for one table entry at a time, nothing is faster in Python.
Axes: s states, a actions.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

Rate = Callable[[int], float] | float
"""The step size η, or what gives it for the n-th visit to a state and action, n from 1."""


def q_update(
    value: float,
    reward: float,
    next_values: list[float],
    terminated: bool,
    lr: float,
    gamma: float,
) -> float:
    r"""Return $Q + \eta\,(r + \gamma \max_{a'} Q(s', a') - Q)$ (equation `dqn-q-learning`).

    Example:
        >>> q_update(0.0, 1.0, [2.0, 4.0], False, lr=0.5, gamma=0.5)
        1.5
    """
    following = 0.0 if terminated else max(next_values)
    return value + lr * (reward + gamma * following - value)  # eq. dqn-q-learning


def sarsa_update(
    value: float,
    reward: float,
    next_value: float,
    terminated: bool,
    lr: float,
    gamma: float,
) -> float:
    r"""Return $Q + \eta\,(r + \gamma\, Q(s', a') - Q)$, $a'$ as taken (equation `dqn-sarsa`).

    Example:
        >>> sarsa_update(0.0, 1.0, 2.0, False, lr=0.5, gamma=0.5)
        1.0
    """
    following = 0.0 if terminated else next_value
    return value + lr * (reward + gamma * following - value)  # eq. dqn-sarsa


def q_learning(
    env: Any,
    steps: int,
    gamma: float,
    *,
    lr: Rate = 0.1,
    exploration: float = 0.1,
    seed: int = 0,
) -> tuple[Float[Tensor, "s a"], list[float]]:
    r"""Return a table of values learned by Q-learning, and what each episode brought.

    It learns what the best policy is worth, whatever it does meanwhile (off-policy).

    Args:
        env: one of gymnasium's, with numbered states and actions, such as `FrozenLake-v1`.
        steps: in all, through the ends of episodes.
        gamma: the discount, in [0, 1].
        lr: η in (0, 1], or what gives it for the n-th visit to a state and action.
        exploration: ε in [0, 1].
        seed: of the environment and of the dice.

    Source: Watkins 1989.
    """
    return _learned(env, steps, gamma, lr, exploration, seed, on_policy=False)


def sarsa(
    env: Any,
    steps: int,
    gamma: float,
    *,
    lr: Rate = 0.1,
    exploration: float = 0.1,
    seed: int = 0,
) -> tuple[Float[Tensor, "s a"], list[float]]:
    r"""Return a table of values learned by SARSA, and what each episode brought.

    It learns what its own policy is worth, exploration included (on-policy). Arguments as of
    `q_learning`.

    Source: Rummery and Niranjan 1994.
    """
    return _learned(env, steps, gamma, lr, exploration, seed, on_policy=True)


def _learned(
    env: Any,
    steps: int,
    gamma: float,
    lr: Rate,
    exploration: float,
    seed: int,
    on_policy: bool,
) -> tuple[Tensor, list[float]]:
    steps = checks.count("steps", steps)
    gamma = checks.number("gamma", gamma, least=0, most=1)
    exploration = checks.number("exploration", exploration, least=0, most=1)
    if not callable(lr):
        lr = checks.number("lr", lr, above=0, most=1)
    states, actions = int(env.observation_space.n), int(env.action_space.n)
    q = [[0.0] * actions for _ in range(states)]
    visits = [[0] * actions for _ in range(states)]
    dice = random.Random(seed)

    def chosen(state: int) -> int:
        if dice.random() < exploration:
            return dice.randrange(actions)
        best = max(q[state])
        return dice.choice([a for a in range(actions) if q[state][a] == best])

    state, _ = env.reset(seed=seed)
    action, total, totals = chosen(state), 0.0, []
    for _ in range(steps):
        after, reward, terminated, truncated, _ = env.step(action)
        reward = checks.number("reward", float(reward))
        visits[state][action] += 1
        eta = lr(visits[state][action]) if callable(lr) else lr
        total, old, then = total + reward, q[state][action], None
        if on_policy:
            then = chosen(after)
            q[state][action] = sarsa_update(
                old, reward, q[after][then], terminated, eta, gamma
            )
        else:
            q[state][action] = q_update(old, reward, q[after], terminated, eta, gamma)
        if terminated or truncated:
            totals.append(total)
            total, then = 0.0, None
            after, _ = env.reset()
        state, action = after, chosen(after) if then is None else then
    return torch.tensor(q, dtype=torch.float64), totals
