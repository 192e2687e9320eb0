r"""Dense associative memories: Hopfield's network with a steeper function of the overlaps.

Axes: p patterns, b states, n units.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.memory._signs import ROUNDING, no_patterns, rows_of_signs, signs

INTERACTIONS = ("polynomial", "rectified", "exponential")


def dense_memory(
    patterns: Float[Tensor, "p n"] | Sequence[Tensor],
    state: Float[Tensor, "*b n"],
    interaction: str = "polynomial",
    degree: int = 3,
    *,
    max_sweeps: int = 100,
) -> Float[Tensor, "*b n"]:
    r"""Recall from $E = -\sum_\mu F(\boldsymbol{\xi}^\mu \cdot \mathbf{s})$, unit by unit.

    Each unit takes the sign with the lower energy, all others held (equation `hopfield-dense`),
    and keeps its own where both are equal. The patterns themselves are kept, p·n numbers.

    Args:
        patterns: what is stored, of -1 and 1.
        state: to begin with, of -1 and 1.
        interaction: $F(x)$: `polynomial`, $x^k$; `rectified`, the same and 0 for negative x;
            `exponential`, $e^x$.
        degree: k ≥ 2; of no meaning to the exponential. Degree 2 is Hebb's rule.
        max_sweeps: the most updates of each unit, ≥ 1.

    Returns:
        Where each state has settled.

    Example:
        >>> patterns = torch.tensor([[1.0, 1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, -1.0]])
        >>> dense_memory(patterns, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), degree=3)
        tensor([[ 1.,  1.,  1., -1.]])

    Source: Krotov and Hopfield 2016; exponential: Demircigil et al. 2017.
    """
    rows, s = _both(patterns, state, interaction, degree)
    max_sweeps = checks.count("max_sweeps", max_sweeps)
    n = rows.shape[1]
    flat = s.reshape(-1, n).double()
    rows, flat = rows.double(), flat.clone()
    for _ in range(max_sweeps):
        before, overlap = flat.clone(), flat @ rows.mT
        for i in range(n):
            rest = overlap - flat[:, i : i + 1] * rows[:, i]  # of the other units
            up, down = (
                _total(rest + w * rows[:, i], interaction, degree) for w in (1, -1)
            )
            near = ROUNDING * n * torch.finfo(up.dtype).eps * (up.abs() + down.abs())
            new = torch.where((up - down).abs() <= near, flat[:, i], (up - down).sign())
            overlap = rest + new[:, None] * rows[:, i]
            flat[:, i] = new  # eq. hopfield-dense
        if checks.readable(flat) and torch.equal(flat, before):
            break
    return flat.reshape(s.shape).to(s.dtype)


def dense_memory_energy(
    patterns: Float[Tensor, "p n"] | Sequence[Tensor],
    state: Float[Tensor, "*b n"],
    interaction: str = "polynomial",
    degree: int = 3,
) -> Float[Tensor, "*b"]:
    r"""Return $-\sum_\mu F(\boldsymbol{\xi}^\mu \cdot \mathbf{s})$, eq. `hopfield-dense-energy`.

    Of the exponential it returns minus the logarithm of the sum, which falls where the energy
    does and does not overflow.

    Args:
        patterns: as `dense_memory` takes them.
        state: of which the energy is asked.
        interaction: as `dense_memory` takes it.
        degree: likewise.

    Example:
        >>> dense_memory_energy(torch.ones(1, 3), torch.ones(1, 3), degree=3)
        tensor([-27.])
    """
    rows, s = _both(patterns, state, interaction, degree)
    return -_total(s @ rows.to(s).mT, interaction, degree)  # eq. hopfield-dense-energy


def _total(overlap: Tensor, interaction: str, degree: int) -> Tensor:
    """Return the sum of F over the last axis; of the exponential its logarithm."""
    if interaction == "exponential":
        return overlap.logsumexp(-1)
    kept = overlap.clamp(min=0) if interaction == "rectified" else overlap
    return (kept**degree).sum(-1)


def _both(
    patterns: Tensor | Sequence[Tensor], state: Tensor, interaction: str, degree: int
) -> tuple[Tensor, Tensor]:
    checks.one_of("interaction", interaction, INTERACTIONS)
    checks.count("degree", degree, least=2)
    rows = rows_of_signs("patterns", patterns)
    no_patterns("patterns", rows)
    return rows, signs("state", state, rows.shape[1])
