"""A stack of restricted Boltzmann machines, learned one after the other."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.energy._binary import drawn
from nnlib.energy._bipartite import Bipartite
from nnlib.energy._rbm_learning import Recipe, fit
from nnlib.energy._rbm_partition import LogPartition, value_of

Generator = torch.Generator


class DeepBeliefNetwork(nn.Module):
    r"""A stack of machines: each reads the hidden units of the one below.

    The top two layers stay a restricted Boltzmann machine; below them arrows point down, so a
    sample is drawn at the top and handed down once. Its likelihood has a lower bound
    (equation `rbm-stack-bound`), which a machine put on top raises if it is better than the one
    that the lower machine implies.

    Args:
        machines: from the data upwards; the hidden units of each are the visible ones of the next.

    Example:
        >>> from nnlib.energy.rbm import RBM
        >>> stack = DeepBeliefNetwork([RBM(6, 4), RBM(4, 3)])
        >>> v = torch.bernoulli(torch.full((5, 6), 0.5))
        >>> stack(v).shape, stack.sample(2, steps=10).shape
        (torch.Size([5, 3]), torch.Size([2, 6]))

    Source:
        Hinton et al. 2006.
    """

    def __init__(self, machines: Sequence[Bipartite]):
        super().__init__()
        machines = list(machines)
        if not machines or not all(
            isinstance(machine, Bipartite) for machine in machines
        ):
            raise TypeError("machines must be one RBM or more")
        for at, (lower, upper) in enumerate(pairwise(machines)):
            if lower.hidden != upper.visible or not upper.sums_over_visible:
                raise ValueError(
                    f"machines[{at + 1}] must be an RBM of visible={lower.hidden}, got {upper}"
                )
        self.machines = nn.ModuleList(machines)

    @property
    def stacked(self) -> list[Bipartite]:
        """The machines, from the data upwards."""
        return cast("list[Bipartite]", list(self.machines))

    def forward(self, v: Float[Tensor, "n v"]) -> Float[Tensor, "n h"]:
        """Return the probabilities of the topmost units, each layer reading the last one's."""
        for machine in self.stacked:
            v = machine.hidden_probs(v)
        return v

    def fit(self, data: Float[Tensor, "n v"], **how: Any) -> None:
        """Fit one machine after the other, each to what the last one makes of the data.

        Args:
            data: a row an example.
            **how: as in `RBM.fit`, for every machine alike.
        """
        recipe = Recipe(**how)
        for machine in self.stacked:
            fit(machine, data, recipe)
            data = machine.hidden_probs(data).detach()

    def sample(
        self, count: int, steps: int = 500, generator: Generator | None = None
    ) -> Float[Tensor, "n v"]:
        """Draw at the top from coins, `steps` of Gibbs sampling long, and hand it down.

        Returns:
            The probabilities of the lowest units, or means of real numbers.
        """
        *lower, top = self.stacked
        coins = torch.full((checks.count("count", count), top.visible), 0.5)
        h = drawn(coins.to(top.weight), generator)
        with torch.no_grad():
            h = top.gibbs(h, steps, generator)
            for machine in reversed(lower):
                mean = machine.visible_probs(h)
                h = drawn(mean, generator) if machine is not lower[0] else mean
        return h

    def bound(
        self,
        v: Float[Tensor, "n v"],
        log_partition: float | LogPartition,
        generator: Generator | None = None,
    ) -> Float[Tensor, " n"]:
        """Return a lower bound of each row's log-likelihood, with one draw of hidden units.

        Args:
            v: a row each, bits.
            log_partition: of the topmost machine.
            generator: source of the randomness; torch's own if None.
        """
        total = torch.zeros(len(v), dtype=v.dtype, device=v.device)
        *lower, top = self.stacked
        with torch.no_grad():
            for machine in lower:  # eq. rbm-stack-bound
                q = machine.hidden_probs(v)
                h = drawn(q, generator)
                total += machine.visible_log_prob(v, h) + _entropy(q)
                v = h
            return total - top.free_energy(v) - value_of(log_partition)


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy of independent bits in a row, in nats."""
    return F.binary_cross_entropy(p, p, reduction="none").sum(1)
