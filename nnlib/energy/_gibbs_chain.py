r"""Gibbs sampling as a matrix: where each update leads, and how long a chain remembers its start.

Axes: s states of all n units.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.energy._binary import all_states

if TYPE_CHECKING:
    from nnlib.energy.boltzmann import BoltzmannMachine

MOST = 12
"""Units whose matrix of updates is written out: it has 4ⁿ entries."""


@torch.no_grad()
def update_matrix(
    machine: "BoltzmannMachine", temperature: float = 1.0
) -> Float[Tensor, "s s"]:
    r"""Return $P(\mathbf s \to \mathbf s')$ when a unit is chosen by a fair die and drawn anew.

    Args:
        machine: of at most 12 units.
        temperature: T > 0.

    Raises:
        ValueError: more units, with the number of entries that there would be.

    Example:
        >>> from nnlib.energy.boltzmann import BoltzmannMachine
        >>> coin = BoltzmannMachine.from_weights(torch.zeros(1, 1))
        >>> update_matrix(coin).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    n = machine.units
    if n > MOST:
        raise ValueError(
            f"machine has {n} units, so 4^{n} = {4**n:,} entries; at most {MOST} units"
        )
    states = all_states(n).to(machine.bias)
    on = machine.conditional(states, temperature) / n
    here = torch.arange(2**n, device=on.device)
    matrix = on.new_zeros(2**n, 2**n)
    for i in range(n):
        bit = 1 << (n - 1 - i)
        matrix[here, here | bit] += on[:, i]
        matrix[here, here & ~bit] += 1 / n - on[:, i]
    return matrix


def relaxation(machine: "BoltzmannMachine", temperature: float = 1.0) -> float:
    r"""Return the sweeps in which what a chain remembers shrinks to 1/e, in the long run.

    $\tau = -1 / (n \log \lambda_2)$ with the second largest eigenvalue of `update_matrix` (equation
    `boltzmann-relaxation`); n updates of units chosen at random count as one sweep.

    Args:
        machine: of at most 12 units.
        temperature: T > 0.

    Example:
        >>> from nnlib.energy.boltzmann import BoltzmannMachine
        >>> free = BoltzmannMachine.from_weights(torch.zeros(3, 3))
        >>> round(relaxation(free), 3)  # nothing couples: λ₂ = 1 − 1/3
        0.822
    """
    checks.number("temperature", temperature, above=0)
    moves = update_matrix(machine, temperature).double()
    # Balance makes √(P Pᵀ), entry by entry, similar to P, and it is symmetric.
    values = torch.linalg.eigvalsh((moves * moves.T).sqrt())
    second = float(values[-2])
    if second >= 1:
        return math.inf
    return -1 / (machine.units * math.log(second)) if second > 0 else 0.0
