r"""A product with a weight of four bits: $x W^\top$, W put back together in the tile that needs it.

Chapter: chapters/kernels/quantized_matmul.md     Source: Dettmers et al. 2023
Axes: m rows of x (tokens), k features, n rows of the weight (outputs).

A weight is a level of NF4's table times the scale of its block:

$$y_{ij} = \sum_c x_{ic}\, a_{\beta(j, c)}\, \ell_{k_{jc}}$$

Each program reads bytes, looks up two levels a byte, multiplies by the scale, and gives the tile to
the tensor cores. The weight in 16 bits never reaches main memory, so that a step of decoding, which
waits for weights alone, moves 4.5 bits a weight. The gradient with respect to x walks over the same
bytes; the weight is frozen and has none, which is how QLoRA trains adapters beside it.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._nf4_kernels import backward, forward
from nnlib.kernels._triton import operation
from nnlib.kernels.cost import Cost
from nnlib.kernels.quantization import ABSMAX_GROUP, NF4, nf4_levels, nf4_values


def nf4_matmul_reference(
    x: Float[Tensor, "... k"], nf4_weight: NF4, bias: Float[Tensor, "n"] | None = None
) -> Float[Tensor, "... n"]:
    """`nf4_matmul` as its equation reads; holds the whole weight in the dtype of x."""
    _check(x, nf4_weight, bias)
    y = x @ nf4_values(nf4_weight).to(x.dtype).T
    return y if bias is None else y + bias


# ------------------------------------------------------------------------------- registration
@operation("nnlib::nf4_matmul")
def _nf4_matmul(
    x: Tensor, codes: Tensor, levels: Tensor, absmax: Tensor, group: Tensor | None,
    offset: Tensor | None, n: int, block_size: int, bias: Tensor | None, kernel: bool,
) -> Tensor:  # fmt: skip
    if kernel and _dispatch.runs_kernel(x):
        return forward(x, codes, levels, absmax, group, offset, n, block_size, bias)
    shape = (n, x.shape[1])
    weight = _values(codes, levels, absmax, group, offset, shape, block_size)
    return F.linear(x, weight.to(x.dtype), bias).contiguous()


@operation("nnlib::nf4_matmul_backward")
def _nf4_matmul_backward(
    dy: Tensor, codes: Tensor, levels: Tensor, absmax: Tensor, group: Tensor | None,
    offset: Tensor | None, k: int, block_size: int, kernel: bool,
) -> Tensor:  # fmt: skip
    if kernel and _dispatch.runs_kernel(dy):
        return backward(dy, codes, levels, absmax, group, offset, k, block_size)
    shape = (dy.shape[1], k)
    weight = _values(codes, levels, absmax, group, offset, shape, block_size)
    return (dy @ weight.to(dy.dtype)).contiguous()


def _values(codes, levels, absmax, group, offset, shape, block_size) -> Tensor:
    kept = NF4(codes, absmax, group, offset, shape, torch.float32, block_size)
    return nf4_values(kept, levels)


def _save(ctx, inputs, output):
    x, codes, levels, absmax, group, offset, _, ctx.block_size, bias, ctx.kernel = (
        inputs
    )
    ctx.k, ctx.with_bias = x.shape[1], bias is not None
    ctx.save_for_backward(codes, levels, absmax, group, offset)


def _differentiate(ctx, dy):
    dx = dbias = None
    if ctx.needs_input_grad[0]:
        dx = torch.ops.nnlib.nf4_matmul_backward(
            dy, *ctx.saved_tensors, ctx.k, ctx.block_size, ctx.kernel
        )
    if ctx.with_bias and ctx.needs_input_grad[8]:
        dbias = dy.sum(0)
    return dx, None, None, None, None, None, None, None, dbias, None


_nf4_matmul.register_autograd(_differentiate, setup_context=_save)


# ------------------------------------------------------------------------------------- public
def nf4_matmul_triton(
    x: Float[Tensor, "... k"], nf4_weight: NF4, bias: Float[Tensor, "n"] | None = None
) -> Float[Tensor, "... n"]:
    """`nf4_matmul` by the Triton kernels, on a GPU or in the interpreter."""
    _check(x, nf4_weight, bias)
    _dispatch.require("nf4_matmul_triton", x)
    # its bfloat16 is silently wrong
    if _triton.interpreting() and x.dtype == torch.bfloat16:
        wide = None if bias is None else bias.float()
        return nf4_matmul_triton(x.float(), nf4_weight, wide).bfloat16()
    return _product(x, nf4_weight, bias, True)


def nf4_matmul(
    x: Float[Tensor, "... k"], nf4_weight: NF4, bias: Float[Tensor, "n"] | None = None
) -> Float[Tensor, "... n"]:
    r"""$x W^\top + b$ with W in four bits a number, two levels looked up for each byte.

    A level times the scale of its block is rounded to the dtype of x, and products are summed in
    float32. $\mathrm{d}x = \mathrm{d}y\, W$; the weight has no gradient. On a GPU the 16-bit
    weight is never in main memory; plain torch, which runs elsewhere, makes it for the moment.

    Args:
        x: floating point.
        nf4_weight: what `nf4_quantize(w)` returns for w of shape n k, its scales doubled or not.
            Kernels are fastest where its block size divides k.
        bias: of the dtype of `x`.

    Returns:
        Of the dtype of `x`.

    Raises:
        TypeError: `nf4_weight` is not an `NF4`, or dtypes differ.
        ValueError: shapes or devices that do not fit.

    Example:
        >>> from nnlib.kernels.quantization import nf4_quantize
        >>> x, w = torch.tensor([[1.0, 1.0]]), torch.tensor([[4.0, -2.0], [1.0, 0.0]])
        >>> nf4_matmul(x, nf4_quantize(w)), x @ w.T
        (tensor([[1.8997, 0.9844]]), tensor([[2., 1.]]))

    Source: Dettmers et al. 2023 (QLoRA).
    """
    _check(x, nf4_weight, bias)
    if _dispatch.use_triton(x):
        return nf4_matmul_triton(x, nf4_weight, bias)
    return _product(x, nf4_weight, bias, False)


def nf4_matmul_cost(
    m: int,
    k: int,
    n: int,
    element_size: int = 2,
    *,
    block_size: int = 64,
    double: bool = False,
    backward: bool = False,
) -> Cost:
    """Return the cost: half a byte a weight and its scales, x and y once.

    Args:
        m: rows of x.
        k: features.
        n: rows of the weight.
        element_size: bytes a number of x and of the result.
        block_size: weights that share a scale.
        double: whether the scales are in eight bits.
        backward: whether to count the gradient of x instead: the same, the other way round.

    Example:
        >>> 8 * nf4_matmul_cost(1, 4096, 4096).bytes / 4096**2  # bits a weight, and x and y
        4.5078125
    """
    blocks = -(-n * k // block_size)
    scales = blocks + 4 * -(-blocks // ABSMAX_GROUP) + 4 if double else 4 * blocks
    moved = -(-n * k // 2) + scales + element_size * (m * k + m * n)
    return Cost(2 * m * k * n, moved)


_held: dict[torch.device, Tensor] = {}


def _levels_on(device: torch.device) -> Tensor:
    """Return the table; copying it to a GPU at each call would wait for the GPU."""
    if torch.compiler.is_compiling():
        return nf4_levels().to(device)
    if device not in _held:
        _held[device] = nf4_levels().to(device)
    return _held[device]


def _product(x: Tensor, weight: NF4, bias: Tensor | None, kernel: bool) -> Tensor:
    """Bring x into rows, and the result back into the shape of x."""
    if _dispatch.mixed_precision(x):  # as a linear layer would
        narrow = torch.get_autocast_dtype(x.device.type)
        x, bias = x.to(narrow), None if bias is None else bias.to(narrow)
    n, k = weight.shape
    if not (x.numel() and n):
        return F.linear(x, nf4_values(weight).to(x.dtype), bias)
    rows = x.reshape(math.prod(x.shape[:-1]), k)
    y = torch.ops.nnlib.nf4_matmul(
        rows, weight.codes, _levels_on(x.device), weight.absmax, weight.absmax_scale,
        weight.absmax_offset, n, weight.block_size, bias, kernel,
    )  # fmt: skip
    return y.reshape(*x.shape[:-1], n)


def _check(x: Any, weight: Any, bias: Any) -> None:
    checks.tensor("x", x, floating=True)
    if not isinstance(weight, NF4):
        raise TypeError(f"nf4_weight must be an NF4, got {type(weight).__name__}")
    shape = tuple(weight.shape)
    if len(shape) != 2:
        raise ValueError(f"nf4_weight must have shape (n, k), got {shape}")
    if x.ndim == 0 or x.shape[-1] != shape[1]:
        raise ValueError(
            f"x must have {shape[1]} features like nf4_weight {shape}, got {tuple(x.shape)}"
        )
    if weight.codes.device != x.device:
        raise ValueError(
            f"nf4_weight must be on {x.device} like x, got {weight.codes.device}"
        )
    if bias is not None:
        checks.tensor("bias", bias, shape=(shape[0],), floating=True)
        if not _dispatch.mixed_precision(x):  # which casts both
            _dispatch.alike(x=x, bias=bias)
