r"""What an agent remembers, and how it is drawn again.

Axes: b transitions, d numbers of a state, n steps of a multi-step transition.
"""

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from nnlib import checks


class Memories(NamedTuple):
    """Transitions, a row each: what was seen, done, paid, and where it led."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    """Of several steps: their discounted sum."""
    next_states: Tensor
    """Where the action led, or the last of several."""
    terminated: Tensor
    """The episode ended there for good; not where it was merely cut off."""
    discounts: Tensor
    """What the value of the next state is multiplied by: γ, or γⁿ after n steps."""
    weights: Tensor
    """How much each counts in the loss; 1 where all were drawn with the same probability."""
    rows: Tensor
    """Where they stand in the memory."""


class ReplayBuffer:
    r"""The last `capacity` transitions, in a ring, drawn with the same probability each.

    A draw is with replacement (equation `dqn-replay`), as in the paper: out of many thousands the
    same one hardly ever comes twice.

    Args:
        capacity: transitions that are kept; the oldest go first.
        generator: source of the draws; torch's own if None.

    Example:
        >>> memory = ReplayBuffer(100)
        >>> rows = torch.zeros(3, 4), torch.tensor([0, 1, 1]), torch.ones(3), torch.zeros(3, 4)
        >>> memory.add(*rows, torch.zeros(3, dtype=torch.bool), 0.9)
        >>> len(memory), memory.sample(2).states.shape
        (3, torch.Size([2, 4]))

    Source: Lin 1992; Mnih et al. 2013.
    """

    def __init__(self, capacity: int, *, generator: torch.Generator | None = None):
        self.capacity = checks.count("capacity", capacity)
        self.generator = generator
        self._columns: list[Tensor] = []
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(
        self,
        states: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_states: Tensor,
        terminated: Tensor,
        discounts: Tensor | float,
    ) -> None:
        """Keep transitions, one a row; of more than `capacity` the last.

        Args:
            states: what was seen, of any shape after the first axis.
            actions: what was done.
            rewards: what it brought, finite.
            next_states: where it led.
            terminated: True where nothing comes after.
            discounts: what the next state's value is multiplied by: γ, or a number a row.
        """
        checks.tensor("rewards", rewards, shape=("b",), floating=True, finite=True)
        count = len(rewards)
        if isinstance(discounts, Tensor):
            checks.tensor(
                "discounts", discounts, shape=(count,), floating=True, finite=True
            )
        else:
            gamma = checks.number("discounts", discounts, least=0, most=1)
            discounts = torch.full_like(rewards, gamma)
        named = {"states": states, "next_states": next_states, "actions": actions}
        for name, column in named.items():
            checks.tensor(name, column)
            if column.ndim == 0 or len(column) != count:
                got = tuple(column.shape)
                raise ValueError(
                    f"{name} must have {count} rows as rewards have, got {got}"
                )
        checks.key_mask("terminated", terminated, (count,))
        given = [states, actions, rewards, next_states, terminated, discounts]
        if not self._columns:
            self._columns = [
                part.new_zeros(self.capacity, *part.shape[1:]) for part in given
            ]
        self._check_like_before(given)
        rows = (self._added + torch.arange(count))[-self.capacity :] % self.capacity
        begin = self._added % self.capacity
        whole = (
            begin + count <= self.capacity
        )  # then one stretch of the ring, copied at once
        at = slice(begin, begin + count) if whole else rows
        for kept, part in zip(self._columns, given, strict=True):
            kept[at] = part[-self.capacity :].to(kept.dtype)
        self._added += count
        self._arrived(rows)

    def _check_like_before(self, given: list[Tensor]) -> None:
        for name, kept, part in zip(
            Memories._fields, self._columns, given, strict=False
        ):
            if kept.shape[1:] != part.shape[1:]:
                got, wanted = tuple(part.shape[1:]), tuple(kept.shape[1:])
                raise ValueError(
                    f"{name} must have rows of shape {wanted} as before, got {got}"
                )

    def _arrived(self, rows: Tensor) -> None:
        """Take note of new transitions; for those that weigh them."""

    def sample(self, batch_size: int) -> Memories:
        """Draw transitions, with replacement.

        Args:
            batch_size: how many, at most as many as there are.
        """
        batch_size = self._check_batch_size(batch_size)
        rows = torch.randint(len(self), (batch_size,), generator=self.generator)
        return self._at(rows, torch.ones(batch_size))  # eq. dqn-replay

    def _check_batch_size(self, batch_size: int) -> int:
        batch_size = checks.count("batch_size", batch_size)
        if batch_size > len(self):
            raise ValueError(
                f"batch_size={batch_size} must be at most {len(self)}, the transitions held"
            )
        return batch_size

    def _at(self, rows: Tensor, weights: Tensor) -> Memories:
        drawn = (column[rows] for column in self._columns)
        return Memories._make([*drawn, weights, rows])


class SeveralSteps:
    r"""Makes of single steps transitions over n steps: $R = \sum_k \gamma^k r_{t+k}$.

    Where an episode ends earlier, fewer steps are summed, and the value after them is discounted by
    as many (equation `dqn-n-step`).

    Args:
        num_steps: n ≥ 1.
        gamma: the discount, in [0, 1].

    Example:
        >>> two, here = SeveralSteps(2, 0.5), torch.zeros(1, 1)
        >>> for reward in (1.0, 4.0):
        ...     paid, going = torch.tensor([reward]), torch.tensor([False])
        ...     made = two.add(here, torch.tensor([0]), paid, here, going, going)
        >>> made[2].tolist(), made[5].tolist()  # 1 + 0.5 · 4, and 0.5²
        ([3.0], [0.25])

    Source: Watkins 1989; Sutton 1988.
    """

    def __init__(self, num_steps: int, gamma: float):
        self.num_steps = checks.count("num_steps", num_steps)
        self.gamma = checks.number("gamma", gamma, least=0, most=1)
        self._kept: deque[tuple[Tensor, ...]] = deque(maxlen=self.num_steps)

    def add(
        self,
        states: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_states: Tensor,
        terminated: Tensor,
        truncated: Tensor,
    ) -> tuple[Tensor, ...]:
        """Take one step of all environments; return what `ReplayBuffer.add` takes.

        That begins n − 1 steps ago; until there are as many, nothing is returned.
        """
        checks.tensor("rewards", rewards, shape=("b",), floating=True, finite=True)
        checks.key_mask("terminated", terminated, tuple(rewards.shape))
        checks.key_mask("truncated", truncated, tuple(rewards.shape))
        ended = terminated | truncated
        self._kept.append((states, actions, rewards, next_states, terminated, ended))
        if len(self._kept) < self.num_steps:
            return ()
        began, acted, total, last, over, ended = self._kept[0]
        discount = torch.full_like(total, self.gamma)
        for _, _, reward, after, ends, done in list(self._kept)[1:]:
            going = ~ended
            total = total + discount * reward * going  # eq. dqn-n-step
            last = torch.where(going.reshape(-1, *[1] * (last.ndim - 1)), after, last)
            over = over | (going & ends)
            discount = torch.where(going, discount * self.gamma, discount)
            ended = ended | done
        return began, acted, total, last, over, discount
