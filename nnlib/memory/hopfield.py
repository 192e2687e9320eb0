r"""The Hopfield network: patterns are stored as valleys of an energy, and recalled by descending.

Chapter: chapters/memory/hopfield.md     Paper: Hopfield 1982; modern: Ramsauer et al. 2021
Axes: n units, p patterns, b batch of states, q queries, d width of a continuous pattern.

Rows are patterns, $\boldsymbol{\Xi}$ of shape (p, n). Ramsauer et al. write them as columns.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.memory._continuous_hopfield import (
    continuous_hopfield,
    continuous_hopfield_energy,
)
from nnlib.memory._dense_memory import dense_memory, dense_memory_energy
from nnlib.memory._learning_rules import RULES
from nnlib.memory._modern_hopfield import (
    HopfieldPooling,
    modern_hopfield,
    modern_hopfield_energy,
    separation,
)
from nnlib.memory._salesman import travelling_salesman
from nnlib.memory._signs import ROUNDING, no_patterns, rows_of_signs, signs

STRIDE = 64
"""Units that are looked at together for one that changes."""

__all__ = [
    "HopfieldNetwork",
    "HopfieldPooling",
    "continuous_hopfield",
    "continuous_hopfield_energy",
    "dense_memory",
    "dense_memory_energy",
    "modern_hopfield",
    "modern_hopfield_energy",
    "separation",
    "travelling_salesman",
]


class HopfieldNetwork(nn.Module):
    r"""Units of -1 or 1, all connected, that settle into the stored pattern nearest to them.

    A unit takes the sign of its field, $s_i \leftarrow \mathrm{sgn}(\sum_j w_{ij} s_j +
    \theta_i)$, and keeps its value where the field is zero (equation `hopfield-update`). With
    symmetric weights and $w_{ii} = 0$ no such step raises the energy $E = -\tfrac12
    \mathbf{s}^\top\mathbf{W}\mathbf{s} - \boldsymbol{\theta}^\top\mathbf{s}$ (`hopfield-energy`),
    as long as units are updated one at a time.

    Args:
        n: number of units, ≥ 1.
        rule: how patterns become weights: `hebb`, the sum of their outer products over n
            (`hopfield-hebb`); `pseudo_inverse`, the projection onto their span, for patterns that
            are alike (`hopfield-pseudo-inverse`); `storkey`, local like Hebb's, with a larger
            capacity (`hopfield-storkey`).
        device: of the weights.
        dtype: of the weights.

    Attributes:
        memory: what the rule has gathered, of shape (n, n), diagonal included.
        bias: $\boldsymbol{\theta}$ of shape (n,), zero at first; yours to set.

    Example:
        >>> network = HopfieldNetwork(4)
        >>> network.store(torch.tensor([[1.0, 1.0, -1.0, -1.0]]))
        >>> damaged = torch.tensor([[1.0, -1.0, -1.0, -1.0]])
        >>> found = network.recall(damaged)
        >>> found, network.energy(found)
        (tensor([[ 1.,  1., -1., -1.]]), tensor([-1.5000]))

    Source: Hopfield 1982, who wrote units of 0 and 1 and thresholds $U = -\theta$ of the other
    sign; the form with ±1 is that of Amit, Gutfreund and Sompolinsky 1985.
    """

    memory: Tensor
    bias: Tensor

    def __init__(
        self,
        n: int,
        rule: str = "hebb",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.n = checks.count("n", n)
        self.rule = checks.one_of("rule", rule, RULES)
        self.register_buffer("memory", torch.zeros(n, n, device=device, dtype=dtype))
        self.register_buffer("bias", torch.zeros(n, device=device, dtype=dtype))

    @property
    def weight(self) -> Float[Tensor, "n n"]:
        r"""The weights $\mathbf{W}$: what is in the memory, without its diagonal."""
        return self.memory - self.memory.diagonal().diag_embed()  # eq. hopfield-hebb

    def store(self, patterns: Float[Tensor, "p n"] | Sequence[Tensor]) -> None:
        """Add patterns to what is stored; those that are there already stay.

        Args:
            patterns: one a row, of -1 and 1; or a list of such rows.
        """
        rows = rows_of_signs("patterns", patterns, self.n).to(self.memory)
        no_patterns("patterns", rows)
        self.memory.copy_(RULES[self.rule](self.memory, rows))

    def field(self, state: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        r"""Return $\mathbf{W}\mathbf{s} + \boldsymbol{\theta}$, what each unit is driven by."""
        s = signs("state", state, self.n).to(self.memory)
        return s @ self.weight + self.bias  # eq. hopfield-field

    def energy(self, state: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
        r"""Return the energy of each state (equation `hopfield-energy`)."""
        s = signs("state", state, self.n).to(self.memory)
        quadratic = ((s @ self.weight) * s).sum(-1)
        return -quadratic / 2 - s @ self.bias  # eq. hopfield-energy

    def stable(self, state: Float[Tensor, "*b n"]) -> Bool[Tensor, "*b"]:
        """Return whether no unit of a state wants to change."""
        against = -self.field(state) * state.to(self.memory)
        return (against <= self._zero()).all(-1)

    def recall(
        self,
        state: Float[Tensor, "*b n"],
        max_sweeps: int = 100,
        *,
        synchronous: bool = False,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*b n"]:
        """Update units until none changes, and return where each state has settled.

        Args:
            state: of -1 and 1.
            max_sweeps: the most updates of each unit, ≥ 1.
            synchronous: whether all units change at once, as in Little 1974. The energy may then
                rise, and states may swap with another one for ever.
            generator: draws an order of the units for each sweep; None: the first unit first.
                All states of a batch have the same order.

        Returns:
            The states after the last update, in the dtype of `state`.
        """
        s = signs("state", state, self.n)
        max_sweeps = checks.count("max_sweeps", max_sweeps)
        checks.flag("synchronous", synchronous)
        rows = s.reshape(-1, self.n).to(self.memory, copy=True)
        rows = self._settle(rows, max_sweeps, synchronous, generator, None)
        return rows.reshape(s.shape).to(s.dtype)

    def path(
        self,
        state: Float[Tensor, " n"],
        max_sweeps: int = 100,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "k n"]:
        """Return a state and all that `recall` makes of it, one change of a unit after another.

        Args:
            state: of -1 and 1.
            max_sweeps: as `recall` takes it.
            generator: likewise.
        """
        checks.tensor("state", state, shape=(self.n,))
        s = signs("state", state, self.n)
        seen = [s.to(self.memory)[None]]
        rows = s[None].to(self.memory, copy=True)
        max_sweeps = checks.count("max_sweeps", max_sweeps)
        self._settle(rows, max_sweeps, False, generator, seen)
        return torch.cat(seen).to(s.dtype)

    def forward(
        self, state: Float[Tensor, "*b n"], max_sweeps: int = 100
    ) -> Float[Tensor, "*b n"]:
        """Recall, unit by unit, from the first to the last."""
        return self.recall(state, max_sweeps)

    def _settle(
        self,
        s: Tensor,
        max_sweeps: int,
        synchronous: bool,
        generator: torch.Generator | None,
        seen: list[Tensor] | None,
    ) -> Tensor:
        """Update rows of states in place until none changes, or the sweeps are used up."""
        weight, zero = self.weight, self._zero()
        for _ in range(max_sweeps):
            before, field = s.clone(), s @ weight + self.bias
            if synchronous:
                s = _turned(s, field, zero)
            else:
                order = _order(self.n, generator)
                at = _next(s, field, zero, order, 0)
                while at < self.n:
                    i = order[at]
                    new = _turned(s[:, i], field[:, i], zero[i])
                    field = field + (new - s[:, i])[:, None] * weight[i]
                    s[:, i] = new  # eq. hopfield-update
                    if seen is not None:
                        seen.append(s.clone())
                    at = _next(s, field, zero, order, at + 1)
            if checks.readable(s) and torch.equal(s, before):
                break
        return s

    def _zero(self) -> Tensor:
        """Return the field of each unit that is zero but for rounding."""
        size = self.memory.abs().sum(0) + self.bias.abs()
        return ROUNDING * torch.finfo(size.dtype).eps * size

    def extra_repr(self) -> str:
        """Tell size and rule."""
        return f"{self.n}, rule={self.rule!r}"


def _turned(s: Tensor, field: Tensor, zero: Tensor) -> Tensor:
    """Return the sign of the field, and the unit as it was where that is zero."""
    return torch.where(field.abs() <= zero, s, field.sign())


def _order(n: int, generator: torch.Generator | None) -> list[int]:
    if generator is None:
        return list(range(n))
    return torch.randperm(n, generator=generator).tolist()


def _next(s: Tensor, field: Tensor, zero: Tensor, order: list[int], at: int) -> int:
    """Return the place in the order, from `at` on, of the first unit that changes in any state.

    All others would keep their values, so nothing is lost by passing them over; where numbers
    cannot be read, none is.
    """
    if not checks.readable(field):
        return at
    for start in range(at, len(order), STRIDE):
        line = order[start : start + STRIDE]
        now = s[:, line]
        places = (_turned(now, field[:, line], zero[line]) != now).any(0).nonzero()
        if len(places):
            return start + int(places[0])
    return len(order)
