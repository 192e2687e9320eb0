r"""Layer norm over the last axis: $y_i = w_i (s_i - \mu)/\sqrt{\sigma^2 + \epsilon} + b_i$.

Chapter: chapters/foundations/regularization.md     Source: Ba, Kiros and Hinton 2016
Axes: n rows, c columns; the norm is over the last axis, whatever stands before it.

`add_layer_norm` forms $s = x + r$ on the way and returns it too. The kernels, with their gradient,
are those of `nnlib.kernels._norm`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib.kernels import _dispatch, _norm
from nnlib.kernels.cost import Cost


def layer_norm_reference(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> Float[Tensor, "*n c"]:
    """`layer_norm` as its equation reads; halves are computed in float32 and rounded at the end."""
    s = x.float() if x.dtype in _norm.HALVES else x
    mean = s.mean(-1, keepdim=True)  # eq. regularization-layernorm-statistics
    variance = (s - mean).square().mean(-1, keepdim=True)
    y = (s - mean) / (variance + eps).sqrt()  # eq. regularization-layernorm
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(x.dtype)


def add_layer_norm_reference(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> _norm.Added:
    """`add_layer_norm` in two steps."""
    total = x + residual
    return _norm.Added(layer_norm_reference(total, weight, bias, eps), total)


def layer_norm_triton(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> Float[Tensor, "*n c"]:
    """`layer_norm` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _norm.check(x, eps, weight=weight, bias=bias)
    _dispatch.require("layer_norm_triton", x)
    return _norm.norm(x, weight, bias, eps, center=True)


def add_layer_norm_triton(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> _norm.Added:
    """`add_layer_norm` by the Triton kernel, as `layer_norm_triton`."""
    _norm.check(x, eps, residual, weight=weight, bias=bias)
    _dispatch.require("add_layer_norm_triton", x)
    return _norm.add_norm(x, residual, weight, bias, eps, center=True)


def layer_norm(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> Float[Tensor, "*n c"]:
    r"""Layer norm over the last axis, $y_i = w_i (x_i - \mu)/\sqrt{\sigma^2 + \epsilon} + b_i$.

    Args:
        x: floating point, one axis or more, the last of one feature or more.
        weight: $w$, one a feature, or None for 1; float32 beside a half `x` is taken too.
        bias: $b$, one a feature, or None for 0; likewise.
        eps: ε ≥ 0, added to the variance.

    Kernels compute in float32 and round at the end.

    Example:
        >>> layer_norm(torch.tensor([10001.0, 10003.0]), None, None).round(decimals=3).tolist()
        [-1.0, 1.0]

    Source: Ba, Kiros and Hinton 2016.
    """
    _norm.check(x, eps, weight=weight, bias=bias)
    if _dispatch.use_triton(x):
        return _norm.norm(x, weight, bias, eps, center=True)
    return _torch(x, weight, bias, eps)


def add_layer_norm(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
) -> _norm.Added:
    r"""Layer norm of $s = x + r$, and s itself; a kernel reads and writes each tensor once.

    Args:
        x: as for `layer_norm`, and so the rest.
        residual: r, of the shape of `x`.
        weight: one a feature, or None for 1.
        bias: one a feature, or None for 0.
        eps: ε ≥ 0.

    Example:
        >>> y, s = add_layer_norm(torch.ones(2), torch.tensor([1.0, 3.0]), None, None)
        >>> y.round(decimals=3).tolist(), s.tolist()
        ([-1.0, 1.0], [2.0, 4.0])

    Source: Ba, Kiros and Hinton 2016.
    """
    _norm.check(x, eps, residual, weight=weight, bias=bias)
    if _dispatch.use_triton(x):
        return _norm.add_norm(x, residual, weight, bias, eps, center=True)
    total = x + residual
    return _norm.Added(_torch(total, weight, bias, eps), total)


def _torch(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    weight, bias = _norm.beside(weight, x), _norm.beside(bias, x)
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def layer_norm_cost(
    shape: tuple[int, ...],
    element_size: int = 4,
    backward: bool = False,
    residual: bool = False,
) -> Cost:
    """Return the cost of layer norm: the rows once in, once out, two vectors, two numbers a row.

    Backwards: the rows and the gradient of y are read and one gradient is written. With a residual
    each way reads one tensor more, and the way forward writes one more.

    Args:
        shape: of the input.
        element_size: bytes a number, of weight and bias too; means and scales have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
    """
    # add, subtract, square, add, multiply, multiply, add; backwards twice that
    return _norm.cost(
        shape, element_size, backward, residual, vectors=2, scales=2, flops=(7, 14)
    )
