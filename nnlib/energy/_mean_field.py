r"""Mean-field theory: every unit sees the averages of the others instead of their values.

Axes: n units.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

if TYPE_CHECKING:
    from nnlib.energy.boltzmann import BoltzmannMachine


class MeanField(NamedTuple):
    """Independent units that imitate a machine as well as independent units can, locally."""

    means: Float[Tensor, " n"]
    """How often each unit is on."""
    free_energy: Float[Tensor, ""]
    """Never less than the true one, −T log Z."""


@torch.no_grad()
def mean_field(
    machine: "BoltzmannMachine",
    start: Float[Tensor, " n"] | None = None,
    temperature: float = 1.0,
    rounds: int = 100,
) -> MeanField:
    r"""Solve $m_i = \sigma\bigl((\sum_j W_{ij} m_j + b_i) / T\bigr)$ by going round the units.

    Equation `boltzmann-mean-field`. Each step sets one mean to its best value, given the others,
    so the free energy of independent units (`boltzmann-mean-field-bound`) never rises.

    Args:
        machine: to be imitated.
        start: means to begin with, each in [0, 1]; ½ if None.
        temperature: T > 0.
        rounds: how often each mean is set, ≥ 0.

    Example:
        >>> from nnlib.energy.boltzmann import BoltzmannMachine
        >>> alone = BoltzmannMachine.from_weights(torch.zeros(2, 2), torch.tensor([0.0, 2.0]))
        >>> [round(mean, 4) for mean in mean_field(alone).means.tolist()]
        [0.5, 0.8808]

    Source: Peterson and Anderson 1987.
    """
    temperature = checks.number("temperature", temperature, above=0)
    rounds = checks.count("rounds", rounds, least=0)
    weight, bias = machine.weight, machine.bias
    if start is None:
        start = torch.full_like(bias, 0.5)
    checks.tensor("start", start, shape=(machine.units,), floating=True, finite=True)
    if bool(((start < 0) | (start > 1)).any()):
        raise ValueError("start must hold means in [0, 1]")
    means = start.to(bias, copy=True)
    for _ in range(rounds):
        for i in range(machine.units):
            means[i] = ((weight[i] @ means + bias[i]) / temperature).sigmoid()
    energy = -(means * (0.5 * weight @ means + bias)).sum()
    entropy = torch.special.entr(means).sum() + torch.special.entr(1 - means).sum()
    return MeanField(means, energy - temperature * entropy)
