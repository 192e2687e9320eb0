r"""Memories drawn as often as they were surprising: a tree of sums, and weights that make it fair.

Axes: b transitions.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.reinforcement._replay import Memories, ReplayBuffer


class SumTree:
    """Numbers ≥ 0 in the leaves of a binary tree whose inner nodes hold the sums below them.

    To change one, or to find where a running sum passes a value, takes a step for each level.

    Args:
        size: leaves.

    Example:
        >>> tree = SumTree(4)
        >>> tree.set(torch.tensor([0, 1, 3]), torch.tensor([1.0, 2.0, 5.0]))
        >>> tree.total, tree.find(torch.tensor([0.5, 2.9, 3.0])).tolist()
        (8.0, [0, 1, 3])
    """

    def __init__(self, size: int):
        self.size = checks.count("size", size)
        self._levels = max(1, (self.size - 1).bit_length())
        self._first = 2**self._levels  # where the leaves begin; node 1 is the root
        self._sums = torch.zeros(2 * self._first, dtype=torch.float64)

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return self._sums[1].item()

    def get(self, rows: Int[Tensor, " b"]) -> Tensor:
        """Return these leaves."""
        return self._sums[self._first + rows]

    def set(self, rows: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """Give these leaves their values, and bring the sums above them up to date."""
        checks.tokens(
            "rows", rows, self.size, shape=("b",), empty=True, of="the leaves"
        )
        checks.tensor(
            "values", values, shape=tuple(rows.shape), floating=True, finite=True
        )
        if bool((values < 0).any()):
            raise ValueError("values must be ≥ 0")
        at = self._first + rows
        self._sums[at] = values.double()
        for _ in range(self._levels):
            at = at // 2
            self._sums[at] = self._sums[2 * at] + self._sums[2 * at + 1]

    def find(self, places: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return the leaf in whose stretch each place, from 0 to below the total, lies."""
        checks.tensor("places", places, shape=("b",), floating=True, finite=True)
        if self.total <= 0:
            raise ValueError("places need a leaf above 0")
        at, rest = torch.ones_like(places, dtype=torch.long), places.double()
        for _ in range(self._levels):
            left = self._sums[2 * at]
            # a stretch that holds nothing is never entered, however sums were rounded
            right = (rest >= left) & (self._sums[2 * at + 1] > 0)
            at, rest = 2 * at + right, torch.where(right, rest - left, rest)
        return at - self._first


class PrioritizedReplayBuffer(ReplayBuffer):
    r"""Draws a transition with probability $P_i = p_i^\alpha / \sum_k p_k^\alpha$.

    Its priority $p_i = |\delta_i| + 0.01$ is its last temporal-difference error (equation
    `dqn-priority`). What is drawn more often than $1/N$ counts for less,
    $w_i \propto (N P_i)^{-\beta}$, with the largest weight of the batch 1 (equation
    `dqn-importance`). A new one has the largest priority so far, so that it is drawn soon.

    Args:
        capacity: transitions that are kept.
        alpha: 0 draws all alike, 1 in proportion to their errors.
        beta: 0 corrects nothing, 1 makes the mean gradient that of an even draw.
        generator: source of the draws; torch's own if None.

    Attributes:
        beta: may be changed, as the paper raises it to 1 in the course of training.

    Example:
        >>> memory = PrioritizedReplayBuffer(4)
        >>> rows = torch.zeros(2, 1), torch.tensor([0, 1]), torch.ones(2), torch.zeros(2, 1)
        >>> memory.add(*rows, torch.zeros(2, dtype=torch.bool), 0.9)
        >>> memory.update(torch.tensor([0, 1]), torch.tensor([5.0, 0.0]))
        >>> [round(share, 3) for share in memory.probabilities.tolist()]
        [0.977, 0.023]

    Source: Schaul, Quan, Antonoglou and Silver 2015.
    """

    def __init__(
        self,
        capacity: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__(capacity, generator=generator)
        self.alpha = checks.number("alpha", alpha, least=0)
        self.beta = checks.number("beta", beta, least=0, most=1)
        self._tree, self._largest = SumTree(self.capacity), 1.0

    def _arrived(self, rows: Tensor) -> None:
        self._tree.set(rows, torch.full(rows.shape, self._largest, dtype=torch.float64))

    @property
    def probabilities(self) -> Float[Tensor, " b"]:
        """How probable each transition that is held is to be drawn."""
        return (
            self._tree.get(torch.arange(len(self))) / self._tree.total
        )  # eq. dqn-priority

    def sample(self, batch_size: int) -> Memories:
        """Draw one transition from each of `batch_size` equal stretches of the sum."""
        batch_size = self._check_batch_size(batch_size)
        jitter = torch.rand(batch_size, dtype=torch.float64, generator=self.generator)
        places = (torch.arange(batch_size) + jitter) / batch_size * self._tree.total
        rows = self._tree.find(places)
        share = self._tree.get(rows) / self._tree.total
        weights = (len(self) * share) ** -self.beta  # eq. dqn-importance
        return self._at(rows, (weights / weights.max()).float())

    def update(self, rows: Int[Tensor, " b"], errors: Float[Tensor, " b"]) -> None:
        """Give transitions that were just learned from their new errors."""
        checks.tensor(
            "errors", errors, shape=tuple(rows.shape), floating=True, finite=True
        )
        priorities = (errors.detach().abs().double() + 0.01) ** self.alpha
        self._tree.set(rows, priorities)
        self._largest = max(self._largest, priorities.max().item())
