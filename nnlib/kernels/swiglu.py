r"""Gated units: $y = \mathrm{SiLU}(a)\, b$ (SwiGLU) and $y = \mathrm{GELU}(a)\, b$ (GEGLU).

Chapter: chapters/language/llm.md     Source: Shazeer 2020
Axes: any; both inputs have one shape.

$\mathrm{SiLU}(a) = a\,\sigma(a)$. GELU is the exact one, $a\,\Phi(a)$ with the normal distribution
$\Phi(a) = \tfrac12 (1 + \operatorname{erf}(a/\sqrt2))$, not the approximation by tanh.
Plain torch makes a tensor of the gate's values and keeps it for the backward pass. The kernels keep
only a and b: the gate is computed anew where its slope is needed, which costs no memory traffic.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def swiglu_reference(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`swiglu` as its equation reads; halves are computed in float32 and rounded at the end."""
    gate, value = _wide(a), _wide(b)
    return (gate / (1 + (-gate).exp()) * value).to(a.dtype)


def geglu_reference(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`geglu` as its equation reads; halves are computed in float32 and rounded at the end."""
    gate, value = _wide(a), _wide(b)
    return (0.5 * gate * (1 + (gate / math.sqrt(2)).erf()) * value).to(a.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


@jit
def _forward_kernel(
    a_ptr, b_ptr, y_ptr, columns, a_stride, b_stride, blocks, GELU: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // blocks).to(tl.int64)  # one program a block of a row
    at = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < columns
    a = tl.load(a_ptr + row * a_stride + at, mask=live, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + row * b_stride + at, mask=live, other=0.0).to(tl.float32)
    share = 0.5 + 0.5 * tl.erf(a * 0.7071067811865476) if GELU else 1 / (1 + tl.exp(-a))
    tl.store(y_ptr + row * columns + at, a * share * b, mask=live)


@jit
def _backward_kernel(
    a_ptr, b_ptr, dy_ptr, da_ptr, db_ptr, columns, a_stride, b_stride, dy_stride, blocks,
    GELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < columns
    a = tl.load(a_ptr + row * a_stride + at, mask=live, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + row * b_stride + at, mask=live, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + row * dy_stride + at, mask=live, other=0.0).to(tl.float32)
    if GELU:
        share = 0.5 + 0.5 * tl.erf(a * 0.7071067811865476)
        slope = share + a * tl.exp(-0.5 * a * a) * 0.3989422804014327  # Φ + a φ
    else:
        share = 1 / (1 + tl.exp(-a))
        slope = share * (1 + a * (1 - share))
    tl.store(da_ptr + row * columns + at, dy * b * slope, mask=live)
    tl.store(db_ptr + row * columns + at, dy * a * share, mask=live)


def _launch(kernel, *tensors: Tensor, outputs: int, gelu: bool) -> list[Tensor]:
    """Run a kernel over tensors of one shape, into new ones.

    The halves of one wide tensor, which is how models make a and b, are read where they stand.
    """
    shape = tensors[0].shape
    made = [
        torch.empty(shape, dtype=t.dtype, device=t.device) for t in tensors[:outputs]
    ]
    columns = shape[-1] if shape else 1
    if all(t.is_contiguous() for t in tensors):
        columns = math.prod(shape)  # one long row
    if math.prod(shape):
        rows = [t.reshape(-1, columns) for t in tensors]
        rows = [t if t.stride(1) == 1 or columns == 1 else t.contiguous() for t in rows]
        blocks = -(-columns // _BLOCK)
        kernel[(len(rows[0]) * blocks,)](
            *rows, *made, columns, *(t.stride(0) for t in rows), blocks,
            GELU=gelu, BLOCK=_BLOCK, num_warps=4,
        )  # fmt: skip
    return made


_BLOCK = 1024  # numbers a program: eight a thread


@operation("nnlib::gated")
def _gated(a: Tensor, b: Tensor, gelu: bool) -> Tensor:
    if _dispatch.runs_kernel(a):
        return _launch(_forward_kernel, a, b, outputs=1, gelu=gelu)[0]
    return ((F.gelu(a) if gelu else F.silu(a)) * b).contiguous()


@operation("nnlib::gated_backward")
def _gated_backward(
    a: Tensor, b: Tensor, dy: Tensor, gelu: bool
) -> tuple[Tensor, Tensor]:
    if _dispatch.runs_kernel(a):
        da, db = _launch(_backward_kernel, a, b, dy, outputs=2, gelu=gelu)
        return da, db
    if gelu:
        share = 0.5 + 0.5 * (a / math.sqrt(2)).erf()
        slope = share + a * (-0.5 * a * a).exp() / math.sqrt(2 * math.pi)
    else:
        share = a.sigmoid()
        slope = share + a * share * (1 - share)
    return (dy * b * slope).contiguous(), (dy * a * share).contiguous()


def _save(ctx, inputs, output):
    *kept, ctx.gelu = inputs
    ctx.save_for_backward(*kept)


def _differentiate(ctx, dy):
    return *torch.ops.nnlib.gated_backward(*ctx.saved_tensors, dy, ctx.gelu), None


_gated.register_autograd(_differentiate, setup_context=_save)


def swiglu_triton(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`swiglu` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _check(a, b)
    _dispatch.require("swiglu_triton", a)
    return torch.ops.nnlib.gated(a, b, False)


def geglu_triton(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """`geglu` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _check(a, b)
    _dispatch.require("geglu_triton", a)
    return torch.ops.nnlib.gated(a, b, True)


def swiglu(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""SwiGLU's middle: $\mathrm{SiLU}(a)\, b$ with $\mathrm{SiLU}(a) = a\,\sigma(a)$.

    Args:
        a: the gate's scores, floating point.
        b: what is let through, of the shape and dtype of `a`. Both may be halves of one tensor,
            as `chunk` returns them. Kernels compute in float32 and round at the end.

    Returns:
        A tensor like `a`.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: the shapes or devices differ.

    Example:
        >>> swiglu(torch.tensor([-100.0, 0.0, 100.0]), torch.full((3,), 2.0)).tolist()
        [-0.0, 0.0, 200.0]

    Source: Shazeer 2020; SiLU: Hendrycks and Gimpel 2016.
    """
    _check(a, b)
    return (
        torch.ops.nnlib.gated(a, b, False) if _dispatch.use_triton(a) else F.silu(a) * b
    )


def geglu(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""GEGLU's middle: $\mathrm{GELU}(a)\, b$ with the exact $\mathrm{GELU}(a) = a\,\Phi(a)$.

    Arguments and errors as for `swiglu`.

    Example:
        >>> let = geglu(torch.tensor([-100.0, 0.0, 100.0]), torch.full((3,), 2.0))
        >>> (let + 0).tolist()  # without the sign of a zero, which is not the same everywhere
        [0.0, 0.0, 200.0]

    Source: Shazeer 2020; GELU: Hendrycks and Gimpel 2016.
    """
    _check(a, b)
    return (
        torch.ops.nnlib.gated(a, b, True) if _dispatch.use_triton(a) else F.gelu(a) * b
    )


def swiglu_cost(
    shape: tuple[int, ...], element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost of a gated unit: two reads and one write, or three and two backwards.

    Args:
        shape: of `a`.
        element_size: bytes a number.
        backward: whether to count the gradients instead.
    """
    numbers = math.prod(shape)
    # minus, exp, add, divide, multiply, multiply; backwards the gate, its slope, and two products
    flops, passes = (12, 5) if backward else (6, 3)
    return Cost(flops * numbers, passes * numbers * element_size)


geglu_cost = swiglu_cost  # erf counts as the four operations of σ


def _check(a: Tensor, b: Tensor) -> None:
    checks.tensor("a", a, floating=True)
    checks.tensor("b", b, shape=tuple(a.shape), floating=True)
    _dispatch.alike(a=a, b=b)
