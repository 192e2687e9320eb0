r"""Simulated annealing: a Boltzmann machine that is cooled ends in a state of low energy.

Axes: b chains, n units.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.energy._binary import binary
from nnlib.energy._boltzmann_arguments import symmetric

if TYPE_CHECKING:
    from nnlib.energy.boltzmann import BoltzmannMachine


class Annealed(NamedTuple):
    """What `anneal` found."""

    states: Float[Tensor, "b n"]
    """The best state of each chain."""
    energies: Float[Tensor, " b"]
    """Their energies."""
    path: Float[Tensor, "sweeps b"]
    """The energy of each chain after each sweep."""


@torch.no_grad()
def anneal(
    machine: "BoltzmannMachine",
    states: Float[Tensor, "b n"],
    temperatures: Sequence[float] | Float[Tensor, " sweeps"],
    generator: torch.Generator | None = None,
) -> Annealed:
    """Sweep once at each temperature, usually a falling one, and keep the best state of each chain.

    Args:
        machine: whose energy is to become small.
        states: to begin with, of all units.
        temperatures: T ≥ 0 of each sweep; zeros are plain descent.
        generator: of the random numbers.

    Example:
        >>> from nnlib.energy.boltzmann import max_cut
        >>> square = torch.tensor([[0.0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
        >>> found = anneal(max_cut(square), torch.zeros(20, 4), [2.0, 1.0, 0.5, 0.0])
        >>> found.energies.min().item()  # all four edges are cut
        -4.0

    Source: Kirkpatrick, Gelatt and Vecchi 1983; here with Gibbs' moves instead of Metropolis'.
    """
    checks.tensor("states", states, shape=("b", "n"), floating=True, empty=False)
    heats = [
        checks.number("temperatures", float(heat), least=0) for heat in temperatures
    ]
    if not heats:
        raise ValueError("temperatures must hold a number or more")
    now = best = states.to(machine.bias.dtype)
    least, path = machine.energy(best), []
    for heat in heats:
        now = machine.gibbs(now, 1, heat, generator=generator)
        energy = machine.energy(now)
        best = torch.where((energy < least)[:, None], now, best)
        least = torch.minimum(energy, least)
        path.append(energy)
    return Annealed(best, least, torch.stack(path))


def cut_size(
    adjacency: Float[Tensor, "n n"], states: Float[Tensor, "*b n"]
) -> Float[Tensor, "*b"]:
    r"""Return $\sum_{i<j} A_{ij}\, (s_i - s_j)^2$: the weight of the edges between the two sides.

    Args:
        adjacency: the weight of each edge, symmetric, with a zero diagonal.
        states: the side, 0 or 1, of each node.
    """
    symmetric("adjacency", adjacency)
    states = binary("states", states, len(adjacency)).to(adjacency.dtype)
    return (states * ((1 - states) @ adjacency)).sum(-1)
