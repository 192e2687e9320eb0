r"""Deep Q-networks: values of actions, learned from a memory against a copy that stands still.

Chapter: chapters/reinforcement/dqn.md
Papers: Watkins 1989; Mnih et al. 2013, 2015; van Hasselt, Guez and Silver 2015. The networks stand
in `_value_networks`, the memory in `_replay` and `_prioritized`, values in a table in `_q_table`,
and the boards that the chapter plays on in `_pit_grid`.
Axes: b transitions or environments, d numbers of a state, a actions.
"""

import copy
from collections.abc import Callable, Mapping
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.reinforcement._environment import Environment, Transition
from nnlib.reinforcement._pit_grid import (
    Boards,
    PitGrid,
    Played,
    distances,
    draw_boards,
    move,
    view,
    walk,
)
from nnlib.reinforcement._prioritized import PrioritizedReplayBuffer, SumTree
from nnlib.reinforcement._q_table import q_learning, q_update, sarsa, sarsa_update
from nnlib.reinforcement._replay import Memories, ReplayBuffer, SeveralSteps
from nnlib.reinforcement._tabular import TabularEnv, policy_values, tables, value_iteration
from nnlib.reinforcement._value_networks import (
    DQN,
    AtariDQN,
    DuelingDQN,
    NoisyLinear,
    categorical_target,
)
from nnlib.train.evaluating import evaluate
from nnlib.train.history import History
from nnlib.train.schedules import Schedule, constant
from nnlib.train.update import optimizer_of, update

__all__ = [
    "DQN",
    "AtariDQN",
    "Boards",
    "DuelingDQN",
    "Environment",
    "Memories",
    "NoisyLinear",
    "PitGrid",
    "Played",
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "SeveralSteps",
    "SumTree",
    "TabularEnv",
    "Transition",
    "categorical_target",
    "conservative_loss",
    "distances",
    "draw_boards",
    "epsilon_greedy",
    "falling",
    "move",
    "policy_values",
    "q_learning",
    "q_update",
    "sarsa",
    "sarsa_update",
    "tables",
    "td_errors",
    "td_loss",
    "td_target",
    "train_dqn",
    "value_iteration",
    "view",
    "walk",
]


def td_target(
    rewards: Float[Tensor, " b"],
    terminated: Bool[Tensor, " b"],
    next_values: Float[Tensor, "b a"],
    gamma: float | Float[Tensor, " b"],
    chosen_by: Float[Tensor, "b a"] | None = None,
) -> Float[Tensor, " b"]:
    r"""Return $y = r + \gamma \max_{a'} Q^-(s', a')$, and $y = r$ where the episode ended.

    Equation `dqn-target`. With `chosen_by`, the values of the network that learns, it chooses the
    action and the other network gives its value, $Q^-(s', \arg\max_{a'} Q(s', a'))$: double DQN
    (equation `dqn-double`). No gradient flows to either.

    Args:
        rewards: finite; of several steps their discounted sum.
        terminated: True where nothing comes after; not where an episode was merely cut off.
        next_values: the target network's values of the next states.
        gamma: the discount in [0, 1], or one for each row, such as γⁿ.
        chosen_by: the online network's values of the next states, or None.

    Example:
        >>> then = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
        >>> td_target(torch.ones(2), torch.tensor([False, True]), then, 0.5).tolist()
        [2.5, 1.0]

    Source: Mnih et al. 2015; van Hasselt, Guez and Silver 2015.
    """
    checks.tensor("rewards", rewards, shape=("b",), floating=True, finite=True)
    count = len(rewards)
    checks.key_mask("terminated", terminated, (count,))
    checks.tensor("next_values", next_values, shape=(count, "a"), floating=True)
    if next_values.shape[1] == 0:
        raise ValueError("next_values must have an action or more")
    if isinstance(gamma, Tensor):
        checks.tensor("gamma", gamma, shape=(count,), floating=True)
        if checks.readable(gamma) and not bool(((gamma >= 0) & (gamma <= 1)).all()):
            raise ValueError("gamma must be in [0, 1] in each row")
    else:
        gamma = checks.number("gamma", gamma, least=0, most=1)
    if chosen_by is None:
        after = next_values.max(1).values  # eq. dqn-target
    else:
        checks.tensor("chosen_by", chosen_by, shape=tuple(next_values.shape), floating=True)
        after = next_values.gather(1, chosen_by.argmax(1, keepdim=True))[:, 0]  # eq. dqn-double
    target = rewards + gamma * after
    return torch.where(terminated, rewards, target).detach()


def td_errors(
    model: Callable[[Tensor], Tensor], states: Tensor, actions: Int[Tensor, " b"], targets: Tensor
) -> Float[Tensor, " b"]:
    r"""Return $\delta = y - Q(s, a)$ of the actions that were taken.

    Args:
        model: gives each state the values of its actions.
        states: one a row.
        actions: what was done.
        targets: from `td_target`.

    Example:
        >>> table = nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0]]))
        >>> td_errors(table, torch.tensor([0]), torch.tensor([1]), torch.tensor([5.0])).item()
        3.0
    """
    checks.tensor("targets", targets, shape=("b",), floating=True)
    values = model(states)
    checks.tokens("actions", actions, values.shape[-1], shape=tuple(targets.shape), of="actions")
    return targets - values.gather(1, actions[:, None].long())[:, 0]


def td_loss(
    model: Callable[[Tensor], Tensor],
    states: Tensor,
    actions: Int[Tensor, " b"],
    targets: Float[Tensor, " b"],
    weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return the mean Huber loss of the errors (equation `dqn-loss`).

    $\tfrac12 \delta^2$ up to 1 and $|\delta| - \tfrac12$ beyond, so that the gradient of an error
    is at most 1: what the paper calls clipping the error.

    Args:
        model: gives each state the values of its actions.
        states: one a row.
        actions: what was done.
        targets: from `td_target`; no gradient flows to them.
        weights: how much each counts, from a prioritised memory; all alike if None.

    Example:
        >>> table = nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0]]))
        >>> td_loss(table, torch.tensor([0]), torch.tensor([1]), torch.tensor([5.0])).item()
        2.5

    Source: Mnih et al. 2015.
    """
    return _huber(td_errors(model, states, actions, targets.detach()), weights)


def conservative_loss(
    model: Callable[[Tensor], Tensor], states: Tensor, actions: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""Return the mean of $\log \sum_{a'} e^{Q(s, a')} - Q(s, a)$ (equation `dqn-conservative`).

    Added to `td_loss`, it keeps values low of actions that a fixed set of data does not hold.

    Args:
        model: gives each state the values of its actions.
        states: one a row.
        actions: what was done in the data.

    Example:
        >>> table = nn.Embedding.from_pretrained(torch.zeros(1, 2))
        >>> round(conservative_loss(table, torch.tensor([0]), torch.tensor([1])).item(), 3)
        0.693

    Source: Kumar, Zhou, Tucker and Levine 2020.
    """
    values = model(states)
    checks.tokens("actions", actions, values.shape[-1], shape=(len(values),), of="actions")
    taken = values.gather(1, actions[:, None].long())[:, 0]
    return (values.logsumexp(1) - taken).mean()  # eq. dqn-conservative


def _huber(errors: Tensor, weights: Tensor | None) -> Tensor:
    each = F.huber_loss(errors, torch.zeros_like(errors), reduction="none")
    return (each if weights is None else weights * each).mean()  # eq. dqn-loss


@torch.no_grad()
def epsilon_greedy(
    values: Float[Tensor, "b a"], exploration: float, generator: torch.Generator | None = None
) -> Int[Tensor, " b"]:
    """Return the best action of each row, or with probability ε any (equation `dqn-exploration`).

    Args:
        values: of the actions.
        exploration: ε in [0, 1].
        generator: source of the dice; torch's own if None.

    Example:
        >>> epsilon_greedy(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), 0.0).tolist()
        [1, 0]
    """
    checks.tensor("values", values, shape=("b", "a"), floating=True)
    exploration = checks.number("exploration", exploration, least=0, most=1)
    if values.shape[1] == 0:
        raise ValueError("values must have an action or more")
    count, actions = values.shape
    any_of_them = torch.randint(actions, (count,), generator=generator)
    explores = torch.rand(count, generator=generator) < exploration
    return torch.where(explores, any_of_them, values.argmax(1))


def falling(first: float, last: float, steps: int) -> Schedule:
    """Return a schedule that falls from `first` to `last` in a straight line, and stays there.

    Example:
        >>> [round(falling(1.0, 0.1, 10)(step), 2) for step in (0, 5, 10, 99)]
        [1.0, 0.55, 0.1, 0.1]
    """
    first, last = checks.number("first", first), checks.number("last", last)
    steps = checks.count("steps", steps)
    return lambda step: first + (last - first) * min(1.0, step / steps)


def train_dqn(
    model: nn.Module,
    env: Environment,
    *,
    steps: int,
    memory: ReplayBuffer | None,
    gamma: float = 0.95,
    batch_size: int = 64,
    target_every: int | None = 100,
    double: bool = True,
    num_steps: int = 1,
    lr: float = 1e-3,
    schedule: Schedule | None = None,
    exploration: Schedule | None = None,
    clip: float | None = None,
    measures: Mapping[str, Callable[[nn.Module], float]] | None = None,
    measure_every: int | None = None,
    generator: torch.Generator | None = None,
) -> History:
    """Let a network act, remember and learn: a step of every environment, then one update.

    Args:
        model: gives states the values of their actions; trained in place.
        env: environments side by side.
        steps: of each environment, and updates of the network.
        memory: what is learned from; None learns from the newest transitions only.
        gamma: the discount, in [0, 1].
        batch_size: transitions of an update; it waits until the memory holds as many.
        target_every: updates between copies to the target network; None for none: the targets are
            then the network's own values.
        double: whether the network chooses the action whose value the target network gives.
        num_steps: n of n-step targets.
        lr: Adam's learning rate.
        schedule: factor of the rate at each step.
        exploration: ε at each step; from 1 to 0.05 over the first half if None.
        clip: largest norm of the gradient, or None.
        measures: `measure(model)` for each name.
        measure_every: steps between measures; after the last step only if None.
        generator: source of the dice for actions; torch's own if None.

    Returns:
        Losses, the largest next value of each batch (`value`), and the measures.

    Raises:
        FloatingPointError: the loss became NaN or infinite, with the step.

    Source: Mnih et al. 2015, in many environments at once.
    """
    steps, batch_size = checks.count("steps", steps), checks.count("batch_size", batch_size)
    every = checks.count("measure_every", measure_every or steps)
    copied = None if target_every is None else checks.count("target_every", target_every)
    explore = exploration or falling(1.0, 0.05, max(1, steps // 2))
    rate = schedule or constant()
    several = SeveralSteps(num_steps, gamma)
    optimizer = optimizer_of(torch.optim.Adam, model.parameters(), lr)
    target = model if copied is None else copy.deepcopy(model).requires_grad_(False)
    history = History()
    for step in range(steps):
        states = env.states
        with torch.no_grad():
            actions = epsilon_greedy(model(states), explore(step), generator)
        happened = env.step(actions)
        made = several.add(states, actions, happened.rewards, happened.final,
                           happened.terminated, happened.truncated)  # fmt: skip
        if made and memory is not None:
            memory.add(*made)
        batch = _to_learn(made, memory, batch_size)
        if batch is not None:
            with torch.no_grad():
                after = target(batch.next_states)
                chosen = model(batch.next_states) if double and target is not model else None
                targets = td_target(
                    batch.rewards, batch.terminated, after, batch.discounts, chosen
                )
            errors = td_errors(model, batch.states, batch.actions, targets)
            loss = update(_huber(errors, batch.weights), optimizer, clip=clip, rate=rate(step))
            if isinstance(memory, PrioritizedReplayBuffer):
                memory.update(batch.rows, errors)
            history.add(loss=loss, value=after.max())
        if copied is not None and (step + 1) % copied == 0:
            target.load_state_dict(model.state_dict())
        if measures and ((step + 1) % every == 0 or step + 1 == steps):
            history.read()
            history.note(step + 1, **evaluate(model, measures))
    history.read()
    return history


def _to_learn(
    made: tuple[Tensor, ...], memory: ReplayBuffer | None, batch_size: int
) -> Memories | None:
    """Return a batch of memories, or without a memory what just happened; None for nothing yet."""
    if memory is not None:
        return memory.sample(batch_size) if len(memory) >= batch_size else None
    if not made:
        return None
    return Memories(*made, torch.ones_like(made[2]), torch.arange(len(made[2])))
