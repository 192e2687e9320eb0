"""RMSNorm: the features of one example in units of their root mean square.

Chapter: chapters/foundations/regularization.md     Paper: Zhang and Sennrich 2019

The equation stands in `nnlib.kernels.rms_norm`, readable, and `rms_norm` takes it over several
axes. The module takes torch.nn's arguments and state; over one axis it runs that file's fast form,
over several torch's operation, and the tests hold both to the equation.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.layer_norm import check_last_axes, checked_shape
from nnlib.kernels import rms_norm as kernel


def rms_norm(
    x: Float[Tensor, "..."],
    normalized_shape: int | tuple[int, ...],
    weight: Float[Tensor, "..."] | None = None,
    eps: float | None = None,
) -> Float[Tensor, "..."]:
    """Return RMSNorm over the last axes by its equation, `rms_norm_reference`.

    Args:
        x: floating point; its last axes are `normalized_shape`.
        normalized_shape: the axes that are averaged together.
        weight: γ of that shape, or None for 1.
        eps: ε, added to the mean square; None is the smallest step of the dtype,
            float32's for halves.
    """
    shape = checked_shape(normalized_shape)
    check_last_axes(x, shape)
    weight = None if weight is None else weight.flatten()
    return kernel.rms_norm_reference(x.flatten(-len(shape)), weight, eps).reshape(
        x.shape
    )


class RMSNorm(nn.Module):
    r"""RMSNorm: $y_i = \gamma_i h_i / \sqrt{\tfrac1H \sum_j h_j^2 + \epsilon}$; no mean, no shift.

    Args:
        normalized_shape: the last axes, averaged together: an integer or several, each ≥ 1.
        eps: ε ≥ 0, added to the mean square; None is the smallest step of the input's dtype,
            float32's for halves.
        elementwise_affine: whether γ (`weight`) is learned.
        device: of the weight.
        dtype: of the weight.

    Example:
        >>> RMSNorm(2)(torch.tensor([3.0, -3.0])).detach().round(decimals=3).tolist()
        [1.0, -1.0]

    Source: Zhang and Sennrich 2019, with the ε that every implementation adds.
    """

    def __init__(
        self,
        normalized_shape: int | Iterable[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.normalized_shape = shape = checked_shape(normalized_shape)
        self.eps = None if eps is None else checks.number("eps", eps, least=0)
        affine = self.elementwise_affine = checks.flag(
            "elementwise_affine", elementwise_affine
        )
        self.weight = (
            nn.Parameter(torch.ones(shape, device=device, dtype=dtype))
            if affine
            else None
        )

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with each example's features scaled to a root mean square of one."""
        check_last_axes(x, self.normalized_shape)
        if len(self.normalized_shape) == 1:
            return kernel.rms_norm(x, self.weight, self.eps)
        eps = kernel.default_eps(x) if self.eps is None else self.eps
        return F.rms_norm(x, self.normalized_shape, self.weight, eps)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.normalized_shape}, eps={self.eps}"
