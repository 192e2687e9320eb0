"""A relative of the self-organizing map without a grid: neural gas.

Axes: n examples, u units, d features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.representation._som_nearest import squared_distances
from nnlib.representation._som_neighborhood import per_step


@torch.no_grad()
def neural_gas(
    x: Float[Tensor, "n d"],
    units: int,
    *,
    steps: int = 30,
    reach: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "u d"]:
    r"""Return prototypes that learn by their rank: the nearest most, the second nearest less.

    $$ \mathbf{w}_j \leftarrow \frac{\sum_i e^{-k_j(\mathbf{x}_i)/\lambda} \mathbf{x}_i}
    {\sum_i e^{-k_j(\mathbf{x}_i)/\lambda}} $$

    with $k_j(\mathbf{x})$ the number of units that are nearer to $\mathbf{x}$ than unit $j$
    (equation `self-organizing-map-neural-gas`): neighbours are found in the data, and no grid is
    needed.

    Args:
        x: examples.
        units: U ≥ 1, at most as many as examples.
        steps: passes over all examples, ≥ 1.
        reach: λ of the first and the last pass, > 0; None: from U/2 to 0.1.
        generator: draws the examples that the units begin at.

    Returns:
        The units, in no order.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> found = neural_gas(x, 2, generator=torch.Generator().manual_seed(0))
        >>> found.sort(0)[0].round(decimals=2)
        tensor([[0.0500],
                [5.0500]])

    Source: Martinetz, Berkovich and Schulten 1993; in batches Cottrell et al. 2006.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
    units = checks.count("units", units)
    checks.number("units", units, most=len(x))
    steps = checks.count("steps", steps)
    span = (max(units / 2, 0.2), 0.1) if reach is None else reach
    start = torch.randperm(len(x), generator=generator)[:units]
    weight = x[start.to(x.device)].clone()
    for radius in per_step("reach", span, steps, "exponential").tolist():
        rank = squared_distances(x, weight).argsort(1).argsort(1)
        shares = (-rank.to(x) / radius).softmax(0)  # eq. self-organizing-map-neural-gas
        weight = shares.mT @ x
    return weight
