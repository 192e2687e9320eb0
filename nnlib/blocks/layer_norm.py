"""Layer norm: the features of one example in units of their own spread, around their own mean.

Chapter: chapters/foundations/regularization.md     Paper: Ba, Kiros and Hinton 2016

The equation stands in `nnlib.kernels.layer_norm`, readable, and `layer_norm` takes it over several
axes. The module takes torch.nn's arguments and state; over one axis it runs that file's fast form,
over several torch's fused operation, and the tests hold both to the equation.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import layer_norm as kernel


def layer_norm(
    x: Float[Tensor, "..."],
    normalized_shape: int | tuple[int, ...],
    weight: Float[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "..."]:
    """Return layer norm over the last axes by its equation, `layer_norm_reference`.

    Args:
        x: floating point; its last axes are `normalized_shape`.
        normalized_shape: the axes that are averaged together.
        weight: γ of that shape, or None for 1.
        bias: β of that shape, or None for 0.
        eps: ε, added to the variance.
    """
    shape = checked_shape(normalized_shape)
    check_last_axes(x, shape)
    weight, bias = (None if t is None else t.flatten() for t in (weight, bias))
    y = kernel.layer_norm_reference(x.flatten(-len(shape)), weight, bias, eps)
    return y.reshape(x.shape)


class LayerNorm(nn.Module):
    r"""Layer norm: $y_i = \gamma_i (h_i - \mu)/\sqrt{\sigma^2 + \epsilon} + \beta_i$.

    μ and σ² are those of one example's features (equation `regularization-layernorm`).

    Args:
        normalized_shape: the last axes, averaged together: an integer or several, each ≥ 1.
        eps: ε ≥ 0, added to the variance.
        elementwise_affine: whether γ (`weight`) and, with `bias`, β (`bias`) are learned.
        bias: whether there is a β.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> LayerNorm(2)(torch.tensor([1.0, 3.0])).detach().round(decimals=3).tolist()
        [-1.0, 1.0]

    Source: Ba, Kiros and Hinton 2016. Their $g$ and $b$ are our γ and β.
    """

    def __init__(
        self,
        normalized_shape: int | Iterable[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.normalized_shape = checked_shape(normalized_shape)
        self.eps = checks.number("eps", eps, least=0)
        affine = self.elementwise_affine = checks.flag(
            "elementwise_affine", elementwise_affine
        )
        shift = checks.flag("bias", bias) and affine
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = (
            nn.Parameter(torch.ones(self.normalized_shape, **like)) if affine else None
        )
        self.bias = (
            nn.Parameter(torch.zeros(self.normalized_shape, **like)) if shift else None
        )

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with each example's features centred and scaled."""
        shape = self.normalized_shape
        if not isinstance(x, Tensor) or x.shape[-len(shape) :] != shape:
            check_last_axes(x, shape)
        if len(shape) == 1:  # which looks at the rest
            return kernel.layer_norm(x, self.weight, self.bias, self.eps)
        check_last_axes(x, shape)
        return F.layer_norm(x, shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.normalized_shape}, eps={self.eps:g}"


def checked_shape(shape: int | Iterable[int]) -> tuple[int, ...]:
    """Return a `normalized_shape` as a tuple; each size must be an integer ≥ 1."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if not sizes:
        raise ValueError("normalized_shape must hold one size or more, got none")
    return tuple(checks.count("normalized_shape", size) for size in sizes)


def check_last_axes(x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse an `x` that is not floating point, or does not end in `shape`."""
    checks.tensor("x", x, floating=True)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"x must end in normalized_shape={shape}, got {tuple(x.shape)}"
        )
