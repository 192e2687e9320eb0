"""Regularization and normalization: penalties, dropout, layer norm, RMSNorm; the rest by name.

Chapter: chapters/foundations/regularization.md     Papers: Tibshirani 1996; Hoerl and Kennard
1970; Srivastava et al. 2014; Ba et al. 2016; Zhang and Sennrich 2019

`layer_norm` and `rms_norm` are the equations, readable; the modules `LayerNorm` and `RMSNorm` take
torch.nn's arguments and state and run its fused operations. Batch norm, early stopping and shifted
images stand where other chapters share them, and can be imported from here.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm1d as BatchNorm1d
from nnlib.blocks.batch_norm import BatchNorm2d as BatchNorm2d
from nnlib.blocks.batch_norm import batch_norm as batch_norm
from nnlib.blocks.batch_norm import fold_batch_norm as fold_batch_norm
from nnlib.data.augment import shift_images as shift_images
from nnlib.train.early_stopping import EarlyStopping as EarlyStopping


def l1_penalty(parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
    r"""Return $\sum |w|$ over all parameters (equation `regularization-l1`, before λ).

    Args:
        parameters: floating-point tensors, one or more; pass weights only to leave biases free.

    Raises:
        TypeError: one of them is no floating-point tensor.
        ValueError: there is none.

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

    Raises:
        TypeError: one of them is no floating-point tensor.
        ValueError: there is none.

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

    Raises:
        TypeError: `w` is no floating-point tensor, `amount` no number.
        ValueError: `amount` is negative or not finite.

    Example:
        >>> soft_threshold(torch.tensor([-2.0, 0.5]), 1.0).tolist()
        [-1.0, 0.0]
    """
    checks.tensor("w", w, floating=True)
    amount = checks.number("amount", amount, least=0)
    return w.sign() * (w.abs() - amount).clamp_min(0)  # eq. regularization-soft-threshold


class Dropout(nn.Module):
    r"""Drop each value with probability p in training and scale up the rest; do nothing in use.

    $\tilde h = m \odot h / (1 - p)$ with $m \sim \text{Bernoulli}(1 - p)$ (equation
    `regularization-dropout-inverted`). Same seed, same mask as `torch.nn.Dropout` on the CPU.

    Args:
        p: probability of dropping a value, 0 … 1; at 1 everything is dropped.
        inplace: whether to overwrite the input.

    Raises:
        TypeError: `p` is no number.
        ValueError: `p` is outside 0 … 1, or `inplace` is no bool.

    Example:
        >>> sorted(set(Dropout(0.75)(torch.ones(1000)).tolist()))
        [0.0, 4.0]

    Source: Srivastava et al. 2014, who write p for the probability of *keeping* a value and
    scale the weights at test time instead.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = checks.number("p", p, least=0, most=1)
        self.inplace = checks.one_of("inplace", inplace, (True, False))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with a fresh mask in training, `x` itself in evaluation."""
        checks.tensor("x", x, floating=True)
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x).bernoulli_(1 - self.p)  # eq. regularization-dropout-mask
        if self.p < 1:
            mask.div_(1 - self.p)  # eq. regularization-dropout-inverted
        return x.mul_(mask) if self.inplace else x * mask

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"p={self.p:g}, inplace={self.inplace}"


def layer_norm(
    x: Float[Tensor, "..."],
    normalized_shape: int | tuple[int, ...],
    weight: Float[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "..."]:
    """Return layer norm over the last axes: the readable twin of `LayerNorm`.

    Args:
        x: floating point; its last axes are `normalized_shape`.
        normalized_shape: the axes that are averaged together.
        weight: γ of that shape, or None for 1.
        bias: β of that shape, or None for 0.
        eps: ε, added to the variance.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: its last axes are not `normalized_shape`.
    """
    _check_last_axes(x, _shape(normalized_shape))
    axes = _axes(normalized_shape)
    mean = x.mean(axes, keepdim=True)  # eq. regularization-layernorm-statistics
    variance = (x - mean).square().mean(axes, keepdim=True)
    y = (x - mean) / (variance + eps).sqrt()  # eq. regularization-layernorm
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Float[Tensor, "..."],
    normalized_shape: int | tuple[int, ...],
    weight: Float[Tensor, "..."] | None = None,
    eps: float | None = None,
) -> Float[Tensor, "..."]:
    """Return RMSNorm over the last axes: the readable twin of `RMSNorm`.

    Args:
        x: floating point; its last axes are `normalized_shape`.
        normalized_shape: the axes that are averaged together.
        weight: γ of that shape, or None for 1.
        eps: ε, added to the mean square; None is the smallest step of the dtype.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: its last axes are not `normalized_shape`.
    """
    _check_last_axes(x, _shape(normalized_shape))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    square = x.square().mean(_axes(normalized_shape), keepdim=True)
    y = x / (square + eps).sqrt()  # eq. regularization-rms, eq. regularization-rmsnorm
    return y if weight is None else y * weight


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

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named.

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
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = checks.number("eps", eps, least=0)
        affine = self.elementwise_affine = checks.one_of(
            "elementwise_affine", elementwise_affine, (True, False)
        )
        shift = checks.one_of("bias", bias, (True, False)) and affine
        like = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(self.normalized_shape, **like)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.normalized_shape, **like)) if shift else None

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with each example's features centred and scaled.

        Raises:
            TypeError: `x` is no floating-point tensor.
            ValueError: its last axes are not `normalized_shape`.
        """
        _check_last_axes(x, self.normalized_shape)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.normalized_shape}, eps={self.eps:g}"


class RMSNorm(nn.Module):
    r"""RMSNorm: $y_i = \gamma_i h_i / \sqrt{\tfrac1H \sum_j h_j^2 + \epsilon}$; no mean, no shift.

    Args:
        normalized_shape: the last axes, averaged together: an integer or several, each ≥ 1.
        eps: ε ≥ 0, added to the mean square; None is the smallest step of the input's dtype.
        elementwise_affine: whether γ (`weight`) is learned.
        device: of the weight.
        dtype: of the weight.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named.

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
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.normalized_shape = shape = _shape(normalized_shape)
        self.eps = None if eps is None else checks.number("eps", eps, least=0)
        affine = self.elementwise_affine = checks.one_of(
            "elementwise_affine", elementwise_affine, (True, False)
        )
        self.weight = (
            nn.Parameter(torch.ones(shape, device=device, dtype=dtype)) if affine else None
        )

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return `x` with each example's features scaled to a root mean square of one.

        Raises:
            TypeError: `x` is no floating-point tensor.
            ValueError: its last axes are not `normalized_shape`.
        """
        _check_last_axes(x, self.normalized_shape)
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.normalized_shape}, eps={self.eps}"


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not parameters:
        raise ValueError("parameters must hold one tensor or more, got none")
    return [checks.tensor(f"parameters[{i}]", w, floating=True) for i, w in enumerate(parameters)]


def _shape(shape: int | Iterable[int]) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if not sizes:
        raise ValueError("normalized_shape must hold one size or more, got none")
    return tuple(checks.count("normalized_shape", size) for size in sizes)


def _axes(normalized_shape: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(range(-len(_shape(normalized_shape)), 0))


def _check_last_axes(x: Tensor, shape: tuple[int, ...]) -> None:
    checks.tensor("x", x, floating=True)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(f"x must end in normalized_shape={shape}, got {tuple(x.shape)}")
