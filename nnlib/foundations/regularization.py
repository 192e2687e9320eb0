"""Regularization and normalization: penalties and dropout here, the norms by name.

Chapter: chapters/foundations/regularization.md     Papers: Tibshirani 1996; Hoerl and Kennard
1970; Srivastava et al. 2014

Batch norm, layer norm and RMSNorm stand in `nnlib.blocks`, where other chapters share them; early
stopping in `nnlib.train`, shifted images in `nnlib.data.augment`.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks

# Names of this chapter in the book's table of contents, which promises them here.
from nnlib.blocks.batch_norm import BatchNorm1d as BatchNorm1d
from nnlib.blocks.batch_norm import BatchNorm2d as BatchNorm2d
from nnlib.blocks.layer_norm import LayerNorm as LayerNorm
from nnlib.blocks.rms_norm import RMSNorm as RMSNorm


def l1_penalty(parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
    r"""Return $\sum |w|$ over all parameters (equation `regularization-l1`, before λ).

    Args:
        parameters: floating-point tensors, one or more; pass weights only to leave biases free.

    Example:
        >>> l1_penalty([torch.tensor([3.0, -4.0])])
        tensor(7.)

    Source: Tibshirani 1996.
    """
    sizes = torch.stack([w.abs().sum() for w in _tensors(parameters)])
    return sizes.sum()  # eq. regularization-l1


def l2_penalty(parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
    r"""Return $\tfrac12 \sum w^2$ over all parameters (equation `regularization-l2`, before λ).

    The half is part of it, so that λ times the gradient is λw: for plain SGD the same step as
    `weight_decay=λ`.

    Args:
        parameters: floating-point tensors, one or more; pass weights only to leave biases free.

    Example:
        >>> l2_penalty([torch.tensor([3.0, -4.0])])
        tensor(12.5000)

    Source: Hoerl and Kennard 1970; for networks, Krogh and Hertz 1991.
    """
    squares = torch.stack([w.square().sum() for w in _tensors(parameters)])
    return 0.5 * squares.sum()  # eq. regularization-l2


def soft_threshold(w: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    r"""Return $\mathrm{sign}(w)\max(|w| - a, 0)$: what an L1 penalty of strength a leaves of w.

    Args:
        w: any floating-point tensor.
        amount: the strength a ≥ 0.

    Example:
        >>> soft_threshold(torch.tensor([-2.0, 0.5]), 1.0).tolist()
        [-1.0, 0.0]
    """
    checks.tensor("w", w, floating=True)
    amount = checks.number("amount", amount, least=0)
    return w.sign() * (w.abs() - amount).clamp_min(
        0
    )  # eq. regularization-soft-threshold


class Dropout(nn.Module):
    r"""Drop each value with probability p in training and scale up the rest; do nothing in use.

    $\tilde h = m \odot h / (1 - p)$ with $m \sim \text{Bernoulli}(1 - p)$ (equation
    `regularization-dropout-inverted`). Same seed, same mask as `torch.nn.Dropout` on the CPU.

    Args:
        p: probability of dropping a value, 0 … 1; at 1 everything is dropped.
        inplace: whether to overwrite the input.

    Example:
        >>> sorted(set(Dropout(0.75)(torch.ones(1000)).tolist()))
        [0.0, 4.0]

    Source: Srivastava et al. 2014, who write p for the probability of *keeping* a value and
    scale the weights at test time instead.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = checks.number("p", p, least=0, most=1)
        self.inplace = checks.flag("inplace", inplace)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with a fresh mask in training, `x` itself in evaluation."""
        checks.tensor("x", x, floating=True)
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x).bernoulli_(
            1 - self.p
        )  # eq. regularization-dropout-mask
        if self.p < 1:
            mask.div_(1 - self.p)  # eq. regularization-dropout-inverted
        return x.mul_(mask) if self.inplace else x * mask

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"p={self.p:g}, inplace={self.inplace}"


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not parameters:
        raise ValueError("parameters must hold one tensor or more, got none")
    return [
        checks.tensor(f"parameters[{i}]", w, floating=True)
        for i, w in enumerate(parameters)
    ]
