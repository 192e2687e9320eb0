r"""A product in eight bits with outlier columns split off: the $x W^\top$ of LLM.int8().

Chapter: chapters/kernels/quantized_matmul.md     Source: Dettmers et al. 2022
Axes: m rows of x (tokens), k features, n rows of the weight (outputs).

Each row of x and each row of W is a vector of integers times a scale. So an entry of the product is

$$y_{ij} = s_i t_j \sum_{c \notin O} q_{ic}\, p_{jc} + t_j \sum_{c \in O} x_{ic}\, p_{jc}$$

The first sum is one of integers, exact in 32 bits, and tensor cores take two 8-bit numbers in the
time of one of 16. Columns of x with a magnitude of `threshold` or more are the set O: they would
stretch the grid of every row that has them, so they are left out of it and multiplied in the
precision of x. They are few, and nobody waits to learn how many: they are sorted to the front, and
the kernel reads their number.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._int8_kernels import launch
from nnlib.kernels._triton import operation
from nnlib.kernels.cost import Cost
from nnlib.kernels.quantization import Quantized, dequantize

TOP = 127  # the largest code
INTEGERS = (
    torch.backends.cpu.get_cpu_capability() == "AVX512"
)  # elsewhere they are slower
EXACT = 1024  # products of codes whose sum float32 holds exactly: 1024 · 127² < 2²⁴


def int8_matmul_reference(
    x: Float[Tensor, "... k"],
    weight: Quantized,
    bias: Float[Tensor, "n"] | None = None,
    threshold: float | None = 6.0,
) -> Float[Tensor, "... n"]:
    """`int8_matmul` as its equation reads; backwards, rounding counts as the identity."""
    _check(x, weight, bias, threshold)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    apart = outlier_columns(rows, threshold)
    codes, scale = row_codes(rows, apart)
    near = dequantize(weight).to(x.dtype)
    product = codes.double() @ weight.values.double().T  # exact up to 2⁵³
    y = (product.to(scale.dtype) * scale * weight.scale.T).to(x.dtype)
    y = y + torch.where(apart, rows, 0) @ near.T
    straight = rows @ near.T
    y = y.detach() + (
        straight - straight.detach()
    )  # the value of y, the gradient of straight
    y = y if bias is None else y + bias
    return y.reshape(*x.shape[:-1], near.shape[0])


def outlier_columns(x: Tensor, threshold: float | None) -> Tensor:
    """Return, for each column of x, whether some magnitude in it reaches the threshold."""
    if threshold is None or not x.numel():
        return torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
    return (x.detach().abs() >= threshold).any(0)


def row_codes(x: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int8 codes and the scale of each row; columns that are `apart` count as 0.

    Whatever is not finite makes the scale of its row NaN, and with it all that this row becomes.
    """
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    x = torch.where(apart, 0, x)
    peak = x.abs().amax(1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)
    scale = peak / TOP
    scale = torch.where(peak.isfinite(), torch.where(scale == 0, 1, scale), math.nan)
    return (x / scale).round().nan_to_num(0).to(torch.int8), scale


def _plain(
    x: Tensor, values: Tensor, steps: Tensor, bias: Tensor | None, threshold: float | None
) -> Tensor:  # fmt: skip
    """Plain torch, for rows x; where numbers can be read, only outlier columns are gathered."""
    apart = outlier_columns(x, threshold)
    codes, scale = row_codes(x, apart)
    y = _integers(codes, values).to(scale.dtype) * scale
    read = checks.readable(x) and type(x) is Tensor  # a trace has no numbers to read
    if threshold is not None and not (read and not bool(apart.any())):
        at = apart.nonzero()[:, 0] if read else slice(None)
        few = x[:, at] if read else torch.where(apart, x, 0)
        theirs = values[:, at]
        y = y + few.to(y.dtype) @ theirs.to(y.dtype).T
    y = y * steps.T
    return (y if bias is None else y + bias).to(x.dtype).contiguous()


def _integers(q: Tensor, p: Tensor) -> Tensor:
    """Return q times p transposed, exactly: as integers, or as floats that hold them."""
    if (
        q.device.type == "cpu" and INTEGERS and q.shape[1] > 1
    ):  # of one, torch's is wrong
        return torch._int_mm(q, p.T)
    total = torch.zeros((), device=q.device)
    for at in range(0, q.shape[1], EXACT):
        part = q[:, at : at + EXACT].float() @ p[:, at : at + EXACT].float().T
        total = part if at == 0 else total.double() + part
    return total


# ------------------------------------------------------------------------------- registration
@operation("nnlib::int8_matmul")
def _int8_matmul(
    x: Tensor, values: Tensor, steps: Tensor, bias: Tensor | None, threshold: float | None,
    kernel: bool,
) -> Tensor:  # fmt: skip
    if kernel and _dispatch.runs_kernel(x):
        apart = None if threshold is None else outlier_columns(x, threshold)
        return launch(x, values, steps, bias, apart)
    return _plain(x, values, steps, bias, threshold)


def _save(ctx, inputs, output):
    _, values, steps, bias, _, _ = inputs
    ctx.with_bias = bias is not None
    ctx.save_for_backward(values, steps)


def _differentiate(ctx, dy):
    """Return dx = (dy · t) p: rounding counts as the identity, whose slope is 1."""
    values, steps = ctx.saved_tensors
    wants = ctx.needs_input_grad
    dx = (dy * steps.T.to(dy.dtype)) @ values.to(dy.dtype) if wants[0] else None
    dbias = dy.sum(0) if ctx.with_bias and wants[3] else None
    return dx, None, None, dbias, None, None


_int8_matmul.register_autograd(_differentiate, setup_context=_save)


# ------------------------------------------------------------------------------------- public
def int8_matmul_triton(
    x: Float[Tensor, "... k"],
    weight: Quantized,
    bias: Float[Tensor, "n"] | None = None,
    threshold: float | None = 6.0,
) -> Float[Tensor, "... n"]:
    """`int8_matmul` by the Triton kernels, on a GPU or in the interpreter."""
    _check(x, weight, bias, threshold)
    _dispatch.require("int8_matmul_triton", x)
    # its bfloat16 is silently wrong
    if _triton.interpreting() and x.dtype == torch.bfloat16:
        wide = None if bias is None else bias.float()
        return int8_matmul_triton(x.float(), weight, wide, threshold).bfloat16()
    return _product(x, weight, bias, threshold, True)


def int8_matmul(
    x: Float[Tensor, "... k"],
    weight: Quantized,
    bias: Float[Tensor, "n"] | None = None,
    threshold: float | None = 6.0,
) -> Float[Tensor, "... n"]:
    r"""$x W^\top + b$ in eight bits: codes for each row of x, for each row of W, outliers apart.

    $y_{ij} = s_i t_j \sum_{c \notin O} q_{ic} p_{jc} + t_j \sum_{c \in O} x_{ic} p_{jc} + b_j$ with
    integer codes q, p, scales s, t, and O the columns of x with a magnitude of `threshold` or
    more. The sum over integers is exact. Backwards, rounding counts as the identity:
    $\mathrm{d}x = \mathrm{d}y\, W$ with the rounded W, which itself gets no gradient.

    Args:
        x: floating point. On a GPU its own precision is used for outliers; scales are float32.
        weight: what `quantize(w)` returns for w of shape n k: symmetric, a scale a row.
        bias: of the dtype of `x`.
        threshold: above 0; None splits nothing off.

    Returns:
        Of the dtype of `x`. A row of x with NaN (or infinity that is not split off) gives a row
        of NaN, and changes no other.

    Raises:
        TypeError: `weight` is not a `Quantized`, or dtypes differ.
        ValueError: shapes that do not fit, or a weight of another granularity.

    Example:
        >>> from nnlib.kernels.quantization import quantize
        >>> x, w = torch.tensor([[1.0, -0.5, 60.0]]), torch.tensor([[2.0, 4.0, 1.0]])
        >>> int8_matmul(x, quantize(w)), x @ w.T
        (tensor([[60.4724]]), tensor([[60.]]))

    Source: Dettmers et al. 2022.
    """
    _check(x, weight, bias, threshold)
    if _dispatch.use_triton(x):
        return int8_matmul_triton(x, weight, bias, threshold)
    return _product(x, weight, bias, threshold, False)


def int8_matmul_cost(
    m: int, k: int, n: int, element_size: int = 2, outliers: int = 0
) -> Cost:
    """Return the cost of the product: a byte a weight, a scale a row, x and y once.

    Args:
        m: rows of x.
        k: features.
        n: rows of the weight.
        element_size: bytes a number of x and of the result.
        outliers: columns that are split off; their products are counted beside.

    Example:
        >>> int8_matmul_cost(1, 4096, 4096).bytes / (2 * 4096 * 4096)  # of a 16-bit weight
        0.50097...
    """
    flops = 2 * m * n * (k + outliers)
    return Cost(flops, n * k + 4 * n + element_size * (m * k + m * n))


def _product(
    x: Tensor, weight: Quantized, bias: Tensor | None, threshold: float | None, kernel: bool
) -> Tensor:  # fmt: skip
    """Bring x into rows, and the result back into the shape of x."""
    if _dispatch.mixed_precision(x):  # as a linear layer would
        narrow = torch.get_autocast_dtype(x.device.type)
        x, bias = x.to(narrow), None if bias is None else bias.to(narrow)
    if not (x.numel() and weight.values.numel()):  # nothing to round
        return F.linear(x, dequantize(weight).to(x.dtype), bias)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    limit = None if threshold is None else float(threshold)
    y = torch.ops.nnlib.int8_matmul(
        rows, weight.values, weight.scale, bias, limit, kernel
    )
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _check(x: Any, weight: Any, bias: Any, threshold: Any) -> None:
    checks.tensor("x", x, floating=True)
    if not isinstance(weight, Quantized):
        raise TypeError(f"weight must be a Quantized, got {type(weight).__name__}")
    shape = tuple(weight.values.shape)
    if len(shape) != 2:
        raise ValueError(f"weight must have shape (n, k), got {shape}")
    if weight.zero_point is not None or weight.values.dtype != torch.int8:
        raise ValueError("weight must be symmetric: quantize(w, symmetric=True)")
    if tuple(weight.scale.shape) != (shape[0], 1) or weight.group_size is not None:
        raise ValueError(
            "weight must have a scale a row: quantize(w, granularity='row')"
        )
    if x.ndim == 0 or x.shape[-1] != shape[1]:
        raise ValueError(
            f"x must have {shape[1]} features like weight {shape}, got {tuple(x.shape)}"
        )
    if weight.values.device != x.device:
        raise ValueError(
            f"weight must be on {x.device} like x, got {weight.values.device}"
        )
    if bias is not None:
        checks.tensor("bias", bias, shape=(shape[0],), floating=True)
        if not _dispatch.mixed_precision(x):  # which casts both
            _dispatch.alike(x=x, bias=bias)
    if threshold is not None:
        checks.number("threshold", threshold, above=0)
