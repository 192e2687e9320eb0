r"""The loop of a deep Q-network: act, remember, learn, and renew the copy now and then.

Axes: b transitions or environments, a actions.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.reinforcement._environment import Environment
from nnlib.reinforcement._prioritized import PrioritizedReplayBuffer
from nnlib.reinforcement._replay import Memories, ReplayBuffer, SeveralSteps
from nnlib.reinforcement._td import huber, td_errors, td_target
from nnlib.train.evaluating import evaluate
from nnlib.train.history import History
from nnlib.train.schedules import Schedule, constant
from nnlib.train.update import optimizer_of, update


@torch.no_grad()
def epsilon_greedy(
    values: Float[Tensor, "b a"],
    exploration: float,
    generator: torch.Generator | None = None,
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
    steps, batch_size = (
        checks.count("steps", steps),
        checks.count("batch_size", batch_size),
    )
    every = checks.count("measure_every", measure_every or steps)
    copied = (
        None if target_every is None else checks.count("target_every", target_every)
    )
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
                chosen = (
                    model(batch.next_states) if double and target is not model else None
                )
                targets = td_target(
                    batch.rewards, batch.terminated, after, batch.discounts, chosen
                )
            errors = td_errors(model, batch.states, batch.actions, targets)
            loss = update(
                huber(errors, batch.weights), optimizer, clip=clip, rate=rate(step)
            )
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
    return Memories._make([*made, torch.ones_like(made[2]), torch.arange(len(made[2]))])
