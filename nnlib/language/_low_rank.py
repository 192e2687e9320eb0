"""A matrix as the product of two narrow ones.

Part of `nnlib.language.compression`, with its axes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def low_rank(
    weight: Float[Tensor, "o d"], rank: int, hessian: Float[Tensor, "d d"] | None = None
) -> tuple[Float[Tensor, "o r"], Float[Tensor, "r d"]]:
    r"""Return two matrices of rank r whose product is nearest to a weight: `compression-svd`.

    Nearest means the least squared error of the weights, or, with a Hessian, of the outputs.

    Args:
        weight: of a layer, finite.
        rank: r, from 1 to the smaller side.
        hessian: of what the layer reads, from `input_hessian`, positive definite.

    Example:
        >>> left, right = low_rank(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), rank=1)
        >>> (left @ right).round(decimals=4).abs()
        tensor([[3., 0.],
                [0., 0.]])

    Source: Eckart and Young 1936; for outputs: Wang et al. 2024.
    """
    checks.tensor(
        "weight", weight, shape=("o", "d"), floating=True, finite=True, empty=False
    )
    rank = checks.count("rank", rank)
    if rank > min(weight.shape):
        raise ValueError(
            f"rank={rank} is more than the {min(weight.shape)} that weight can have"
        )
    if hessian is None:
        u, s, v = torch.linalg.svd(weight.detach(), full_matrices=False)
        return u[:, :rank] * s[:rank], v[:rank]
    d = weight.shape[1]
    checks.tensor("hessian", hessian, shape=(d, d), floating=True, finite=True)
    factor, failed = torch.linalg.cholesky_ex(hessian.double())
    if bool(failed):
        raise ValueError(
            "hessian must be positive definite: add a little to its diagonal"
        )
    u, s, v = torch.linalg.svd(weight.detach().double() @ factor, full_matrices=False)
    right = torch.linalg.solve_triangular(factor, v[:rank], upper=False, left=False)
    return (u[:, :rank] * s[:rank]).to(weight.dtype), right.to(weight.dtype)
