r"""RMSNorm over the last axis: $y_i = w_i s_i / \sqrt{\tfrac1c \sum_j s_j^2 + \epsilon}$.

Chapter: chapters/foundations/regularization.md     Source: Zhang and Sennrich 2019
Axes: n rows, c columns; the norm is over the last axis, whatever stands before it.

`add_rms_norm` forms $s = x + r$ on the way and returns it too: a block of a transformer then reads
two tensors and writes two, where the sum and the norm apart read three and write two. The kernels,
with their gradient, are those of `nnlib.kernels._norm`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels import _dispatch, _norm
from nnlib.kernels.cost import Cost


def default_eps(x: Tensor) -> float:
    """Return torch's ε: the smallest step of the dtype it computes in, float32 for halves."""
    return torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps


def rms_norm_reference(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> Float[Tensor, "*n c"]:
    """`rms_norm` as its equation reads; halves are computed in float32 and rounded at the end."""
    eps = default_eps(x) if eps is None else eps
    s = x.float() if x.dtype in _norm.HALVES else x
    square = s.square().mean(-1, keepdim=True)
    y = s / (square + eps).sqrt()  # eq. regularization-rms, eq. regularization-rmsnorm
    return (y if weight is None else y * weight).to(x.dtype)


def add_rms_norm_reference(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> _norm.Added:
    """`add_rms_norm` in two steps."""
    total = x + residual
    return _norm.Added(rms_norm_reference(total, weight, eps), total)


def rms_norm_triton(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> Float[Tensor, "*n c"]:
    """`rms_norm` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    eps = _checked(x, eps, weight=weight)
    _dispatch.require("rms_norm_triton", x)
    return _norm.norm(x, weight, None, eps, center=False)


def add_rms_norm_triton(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> _norm.Added:
    """`add_rms_norm` by the Triton kernel, as `rms_norm_triton`."""
    eps = _checked(x, eps, residual, weight=weight)
    _dispatch.require("add_rms_norm_triton", x)
    return _norm.add_norm(x, residual, weight, None, eps, center=False)


def rms_norm(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> Float[Tensor, "*n c"]:
    r"""RMSNorm over the last axis, $y_i = w_i x_i / \sqrt{\tfrac1c \sum_j x_j^2 + \epsilon}$.

    Args:
        x: floating point, one axis or more, the last of one feature or more.
        weight: $w$, one a feature, or None for 1; float32 beside a half `x` is taken too.
        eps: ε ≥ 0, added to the mean square; None is torch's: the smallest step of the dtype,
            float32's for halves.

    Kernels compute in float32 and round at the end.

    Example:
        >>> rms_norm(torch.tensor([3.0, -3.0]), torch.ones(2)).round(decimals=3).tolist()
        [1.0, -1.0]

    Source: Zhang and Sennrich 2019, with the ε that every implementation adds.
    """
    eps = _checked(x, eps, weight=weight)
    if _dispatch.use_triton(x):
        return _norm.norm(x, weight, None, eps, center=False)
    return _torch(x, weight, eps)


def add_rms_norm(
    x: Float[Tensor, "*n c"],
    residual: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float | None = None,
) -> _norm.Added:
    r"""RMSNorm of $s = x + r$, and s itself; a kernel reads and writes each tensor once.

    Args:
        x: as for `rms_norm`, and so the rest.
        residual: r, of the shape of `x`.
        weight: one a feature, or None for 1.
        eps: ε ≥ 0, or None for torch's.

    Example:
        >>> y, s = add_rms_norm(torch.zeros(1), torch.tensor([-2.0]), None)
        >>> y.round(decimals=3).tolist(), s.tolist()
        ([-1.0], [-2.0])

    Source: Zhang and Sennrich 2019.
    """
    eps = _checked(x, eps, residual, weight=weight)
    if _dispatch.use_triton(x):
        return _norm.add_norm(x, residual, weight, None, eps, center=False)
    total = x + residual
    return _norm.Added(_torch(total, weight, eps), total)


def _checked(
    x: Tensor,
    eps: float | None,
    residual: Tensor | None = None,
    *,
    weight: Tensor | None,
) -> float:
    """Return ε, and refuse what the norm cannot work on."""
    _norm.check(x, 0.0 if eps is None else eps, residual, weight=weight)
    return default_eps(x) if eps is None else eps


_WORTH = 1 << 15  # numbers from which on the class below saves more than it costs


class _Explicit(torch.autograd.Function):
    """RMSNorm on the CPU with its gradient written out: the output of `F.rms_norm`, bit for bit.

    Autograd walks back through each of its steps and makes a tensor of the input's size at each,
    which takes two to three times as long.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        return (x * scale).mul_(weight), scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], output[1])

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dscale: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        c, along = (
            x.shape[-1],
            0 if dscale is None else dscale,
        )  # of a second derivative
        if dy is None:
            return -x * scale**3 / c * along, None, None
        products = dy * x
        dweight = (products.reshape(-1, c).mT @ scale.reshape(-1, 1))[:, 0]
        along = along + (products @ weight)[..., None]
        # in place from here: memory is what takes the time
        dx = x * (scale.square() * along / -c)
        return dx.addcmul_(dy, weight).mul_(scale), dweight, None


def _torch(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    weight = _norm.beside(weight, x)
    learns = torch.is_grad_enabled() and weight is not None and x.requires_grad
    large = x.is_cpu and x.numel() >= _WORTH and x.dtype not in _norm.HALVES
    if learns and large and not torch.compiler.is_compiling():
        return _Explicit.apply(x, weight, eps)[0]
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rms_norm_cost(
    shape: tuple[int, ...],
    element_size: int = 4,
    backward: bool = False,
    residual: bool = False,
) -> Cost:
    """Return the cost of RMSNorm: one read and one write of the rows, the weight, and the scales.

    Backwards: the rows and the gradient of y are read and one gradient is written. With a residual
    each way reads one tensor more, and the way forward writes one more.

    Args:
        shape: of the input.
        element_size: bytes a number, of the weight too; scales have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
    """
    # square, add, multiply, multiply; backwards twice that
    return _norm.cost(
        shape, element_size, backward, residual, vectors=1, scales=1, flops=(4, 8)
    )
