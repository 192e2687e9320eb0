r"""Centres chosen for what they explain: orthogonal least squares, one centre after the other."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.approximation._rbf_functions import alike


class Selection(NamedTuple):
    """Columns in the order in which they were chosen, and the share of the targets' energy of each.

    Attributes:
        indices: of the columns.
        shares: error reduction ratios; together at most 1.
    """

    indices: Int[Tensor, " k"]
    shares: Float[Tensor, " k"]


def orthogonal_least_squares(
    features: Float[Tensor, "n m"],
    targets: Float[Tensor, "n o"],
    num_centers: int,
    *,
    tolerance: float = 0.0,
) -> Selection:
    r"""Choose, of candidate columns, the one that explains most of what is left, again and again.

    Each candidate is kept orthogonal to the columns that are chosen, so what it would add is its
    error reduction ratio, $(\mathbf{q}^\top\mathbf{y})^2 / (\mathbf{q}^\top\mathbf{q}\;
    \mathbf{y}^\top\mathbf{y})$ (equation `rbf-network-ols`).

    Args:
        features: a column for each candidate, such as a bump on every point.
        targets: what is to be explained.
        num_centers: columns to choose at most.
        tolerance: stop when the share that is not explained is at most this, in [0, 1).

    Raises:
        ValueError: more columns are asked for than there are.

    Source: Chen, Cowan and Grant 1991.
    """
    checks.tensor(
        "features", features, shape=("n", "m"), floating=True, finite=True, empty=False
    )
    checks.tensor(
        "targets", targets, shape=(len(features), "o"), floating=True, finite=True
    )
    alike("targets", targets, "features", features)
    tolerance = checks.number("tolerance", tolerance, least=0, below=1)
    num_centers = checks.count("num_centers", num_centers)
    if num_centers > features.shape[1]:
        raise ValueError(f"num_centers={num_centers} is more than the columns of features, "
                         f"{features.shape[1]}")  # fmt: skip
    left, energy = features.clone(), targets.square().sum()
    whole = left.square().sum(0)
    taken: list[Tensor] = []
    shares: list[Tensor] = []
    for _ in range(num_centers):
        size = left.square().sum(0)
        gain = (left.mT @ targets).square().sum(1) / (
            size * energy
        )  # eq. rbf-network-ols
        dependent = size <= whole * features.shape[0] * torch.finfo(left.dtype).eps
        gain = gain.masked_fill(dependent, 0.0).nan_to_num(0.0)
        best = gain.argmax()
        if not gain[best] > 0:  # nothing more to explain, or nothing to explain it with
            break
        taken.append(best)
        shares.append(gain[best])
        chosen = left[:, best] / size[best].sqrt()
        left = left - torch.outer(chosen, chosen @ left)
        if 1 - torch.stack(shares).sum() <= tolerance:
            break
    if not taken:
        return Selection(
            features.new_zeros(0, dtype=torch.int64), features.new_zeros(0)
        )
    return Selection(torch.stack(taken), torch.stack(shares))
