"""How well a map keeps neighbourhoods, seen from its units alone.

Axes: u units, d features, p pairs of units.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def ranks(values: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return the rank of each value, 1 for the least; equal values share the mean of theirs.

    Example:
        >>> ranks(torch.tensor([5.0, 2.0, 5.0, 7.0]))
        tensor([2.5000, 1.0000, 2.5000, 4.0000], dtype=torch.float64)
    """
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]


def order_correlation(
    weight: Float[Tensor, "u d"], distance: Float[Tensor, "u u"]
) -> Float[Tensor, ""]:
    """Return Spearman's correlation of all distances on the grid with those in the data's space."""
    first, second = torch.triu_indices(
        len(weight), len(weight), 1, device=weight.device
    )
    there = torch.nn.functional.pdist(weight)
    a, b = (ranks(values) for values in (distance[first, second], there))
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (a.norm() * b.norm())  # eq. self-organizing-map-order


def topographic_product(
    weight: Float[Tensor, "u d"], distance: Float[Tensor, "u u"]
) -> Float[Tensor, ""]:
    """Return Bauer and Pawelzik's measure: 0 where orders of neighbours agree.

    For each unit, its neighbours are sorted by distance on the grid and by distance in the data's
    space; the mean logarithm of the ratios says whether the grid has too few dimensions (below 0)
    or too many (above 0). NaN where two units are equal.
    """
    far = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
    by_grid = distance.argsort(dim=1, stable=True)[:, 1:]
    by_data = far.fill_diagonal_(-1).argsort(dim=1, stable=True)[:, 1:]
    data_ratio = far.gather(1, by_grid).log() - far.gather(1, by_data).log()
    grid_ratio = distance.gather(1, by_grid).log() - distance.gather(1, by_data).log()
    many = torch.arange(1, len(weight), device=weight.device)
    return ((data_ratio + grid_ratio).cumsum(1) / (2 * many)).mean()
