r"""The travelling salesman's problem as the energy of a Hopfield network.

Axes: n units, one for each city at each time.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def travelling_salesman(
    distances: Float[Tensor, "cities cities"],
    *,
    once: float = 500.0,
    visits: float = 200.0,
    length: float = 500.0,
    target: float = 15.0,
) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    r"""Return weights and bias of a network whose valleys are tours, for outputs -1 … 1.

    Unit $x \cdot n + i$ says whether city $x$ is visited at time $i$; with $V = (1 + v)/2$ the
    energy is, but for a constant, that of equation `hopfield-salesman`. For
    `continuous_hopfield`.

    Args:
        distances: between each two cities, symmetric; three cities or more.
        once: A ≥ 0, against a city twice, and against two cities at a time.
        visits: C ≥ 0, against more or fewer visits than `target`.
        length: D ≥ 0, the weight of the tour's length.
        target: number of visits; more than there are cities helps against the other terms.

    Example:
        >>> weight, bias = travelling_salesman(torch.ones(4, 4) - torch.eye(4))
        >>> weight.shape, bias.shape
        (torch.Size([16, 16]), torch.Size([16]))

    Source: Hopfield and Tank 1985, whose constants for ten cities are the defaults.
    """
    d = checks.tensor(
        "distances", distances, shape=("n", "n"), floating=True, finite=True
    )
    cities = len(d)
    if d.shape != (cities, cities) or cities < 3:
        raise ValueError(
            f"distances must be square, of 3 cities or more, got {tuple(d.shape)}"
        )
    if checks.readable(d) and not torch.allclose(d, d.mT):
        raise ValueError("distances must be symmetric")
    once, visits = (
        checks.number("once", once, least=0),
        checks.number("visits", visits, least=0),
    )
    length = checks.number("length", length, least=0)
    target = checks.number("target", target, above=0)
    same = torch.eye(cities).to(d)
    beside = same.roll(1, 0) + same.roll(
        -1, 0
    )  # times that follow each other, in a ring
    twice = torch.einsum("xy,ij->xiyj", same, 1 - same)
    together = torch.einsum("xy,ij->xiyj", 1 - same, same)
    way = torch.einsum("xy,ij->xiyj", d, beside)
    t = -(once * (twice + together) + visits + length * way)
    t = t.reshape(cities**2, cities**2)
    return t / 2, t.sum(
        1
    ) / 2 + visits * target  # eqs. hopfield-salesman, hopfield-binary
