r"""Three rules that turn patterns into the weights of a Hopfield network.

Axes: n units, p patterns.

Each takes what is gathered so far, an n × n matrix, and new patterns, and returns the sum of both;
the network leaves out the diagonal.
"""

import torch
from jaxtyping import Float
from torch import Tensor

KNOWN = 1e-8
"""Squared share outside the span of others, below which a pattern counts as within it."""


def hebb(
    memory: Float[Tensor, "n n"], patterns: Float[Tensor, "p n"]
) -> Float[Tensor, "n n"]:
    r"""Add $\frac1n \sum_\mu \boldsymbol{\xi}^\mu (\boldsymbol{\xi}^\mu)^\top$."""
    return memory + patterns.mT @ patterns / patterns.shape[1]  # eq. hopfield-hebb


def pseudo_inverse(
    memory: Float[Tensor, "n n"], patterns: Float[Tensor, "p n"]
) -> Float[Tensor, "n n"]:
    r"""Widen the projection onto the span of what is stored, by one pattern after the other.

    Each adds $\mathbf{r}\mathbf{r}^\top / \lVert \mathbf{r} \rVert^2$ of what the projection
    leaves of it, $\mathbf{r} = \boldsymbol{\xi} - \mathbf{P} \boldsymbol{\xi}$.
    """
    projection = memory.double()
    for pattern in patterns.double():
        rest = pattern - projection @ pattern
        rest = rest - projection @ rest  # once more: what rounding left of the span
        square = rest @ rest
        new = square > KNOWN * len(pattern)
        scale = torch.where(new, square, 1.0)
        grown = torch.outer(rest, rest) / scale
        projection = projection + torch.where(
            new, grown, 0.0
        )  # eq. hopfield-pseudo-inverse
    return projection.to(memory.dtype)


def storkey(
    memory: Float[Tensor, "n n"], patterns: Float[Tensor, "p n"]
) -> Float[Tensor, "n n"]:
    r"""Add Hebb's term of each pattern, less what the fields of the others make of it already.

    With $h_{ij} = \sum_{k \ne i, j} w_{ik} \xi_k$ it adds
    $\frac1n(\xi_i\xi_j - \xi_i h_{ji} - h_{ij}\xi_j)$.
    """
    n = len(memory)
    weight = memory - memory.diagonal().diag_embed()
    for pattern in patterns:
        field = (weight @ pattern)[:, None] - weight * pattern  # h_ij: without j
        cross = field * pattern
        weight = weight + (torch.outer(pattern, pattern) - cross - cross.mT) / n
        weight = weight - weight.diagonal().diag_embed()  # eq. hopfield-storkey
    return weight


RULES = {"hebb": hebb, "pseudo_inverse": pseudo_inverse, "storkey": storkey}
