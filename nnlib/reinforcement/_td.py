r"""Targets that a network gives itself, how far it is from them, and what that costs.

Axes: b transitions, a actions.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks


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
        checks.tensor(
            "chosen_by", chosen_by, shape=tuple(next_values.shape), floating=True
        )
        after = next_values.gather(1, chosen_by.argmax(1, keepdim=True))[
            :, 0
        ]  # eq. dqn-double
    target = rewards + gamma * after
    return torch.where(terminated, rewards, target).detach()


def td_errors(
    model: Callable[[Tensor], Tensor],
    states: Tensor,
    actions: Int[Tensor, " b"],
    targets: Tensor,
) -> Float[Tensor, " b"]:
    r"""Return $\delta = y - Q(s, a)$ of the actions that were taken.

    Args:
        model: gives each state the values of its actions.
        states: one a row.
        actions: what was done.
        targets: from `td_target`.

    Example:
        >>> table = torch.nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0]]))
        >>> td_errors(table, torch.tensor([0]), torch.tensor([1]), torch.tensor([5.0])).item()
        3.0
    """
    checks.tensor("targets", targets, shape=("b",), floating=True)
    values = model(states)
    checks.tokens(
        "actions", actions, values.shape[-1], shape=tuple(targets.shape), of="actions"
    )
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
        >>> table = torch.nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0]]))
        >>> td_loss(table, torch.tensor([0]), torch.tensor([1]), torch.tensor([5.0])).item()
        2.5

    Source: Mnih et al. 2015.
    """
    return huber(td_errors(model, states, actions, targets.detach()), weights)


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
        >>> table = torch.nn.Embedding.from_pretrained(torch.zeros(1, 2))
        >>> round(conservative_loss(table, torch.tensor([0]), torch.tensor([1])).item(), 3)
        0.693

    Source: Kumar, Zhou, Tucker and Levine 2020.
    """
    values = model(states)
    checks.tokens(
        "actions", actions, values.shape[-1], shape=(len(values),), of="actions"
    )
    taken = values.gather(1, actions[:, None].long())[:, 0]
    return (values.logsumexp(1) - taken).mean()  # eq. dqn-conservative


def huber(errors: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean Huber loss of errors, each times its weight."""
    each = F.huber_loss(errors, torch.zeros_like(errors), reduction="none")
    return (each if weights is None else weights * each).mean()  # eq. dqn-loss
