r"""Row softmax: $y_j = e^{x_j - m} / \sum_k e^{x_k - m}$ with $m = \max_k x_k$; and its logarithm.

Chapter: chapters/kernels/roofline.md     Source: Milakov and Gimelshein 2018 (online softmax)
Axes: n rows, c columns; softmax is over the last axis, whatever stands before it.

Written out in torch, step by step, the row is read five times and written three times. The kernel
keeps it in registers: one read, one write. Rows wider than a block are read twice, with the maximum
and the sum mended as the walk goes on.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def softmax_reference(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """Softmax over the last axis, as the equation reads; a row of −∞ is 0/0, as in torch."""
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def log_softmax_reference(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """Logarithm of softmax over the last axis."""
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


@jit
def _forward_kernel(x_ptr, y_ptr, columns, LOG: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * columns  # one program a row
    cols = tl.arange(0, BLOCK)
    m, total = -float("inf"), 0.0  # largest value so far, sum of e^(x - m) so far
    x = tl.zeros([BLOCK], tl.float32)
    for at in range(0, columns, BLOCK):
        live = at + cols < columns
        x = tl.load(x_ptr + start + at + cols, mask=live, other=-float("inf")).to(
            tl.float32
        )
        larger = tl.maximum(m, tl.max(x, 0))
        base = tl.where(
            larger == -float("inf"), 0.0, larger
        )  # else -inf - -inf, in the first blocks
        total = total * tl.exp(m - base) + tl.sum(tl.exp(x - base), 0)
        m = larger
    base = tl.where(m == -float("inf"), 0.0, m)
    for at in range(0, columns, BLOCK):
        live = at + cols < columns
        if columns > BLOCK:  # else the row is still in registers
            x = tl.load(x_ptr + start + at + cols, mask=live, other=-float("inf")).to(
                tl.float32
            )
        y = x - base - tl.log(total) if LOG else tl.exp(x - base) / total
        tl.store(y_ptr + start + at + cols, y, mask=live)


@jit
def _backward_kernel(
    y_ptr, dy_ptr, dx_ptr, columns, LOG: tl.constexpr, BLOCK: tl.constexpr
):
    start = tl.program_id(0).to(tl.int64) * columns
    cols = tl.arange(0, BLOCK)
    y, dy = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    total = 0.0  # of dy·y for softmax, of dy for its logarithm
    for at in range(0, columns, BLOCK):
        live = at + cols < columns
        y = tl.load(y_ptr + start + at + cols, mask=live, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + start + at + cols, mask=live, other=0.0).to(tl.float32)
        total += tl.sum(dy if LOG else dy * y, 0)
    for at in range(0, columns, BLOCK):
        live = at + cols < columns
        if columns > BLOCK:
            y = tl.load(y_ptr + start + at + cols, mask=live, other=0.0).to(tl.float32)
            dy = tl.load(dy_ptr + start + at + cols, mask=live, other=0.0).to(
                tl.float32
            )
        dx = dy - tl.exp(y) * total if LOG else y * (dy - total)
        tl.store(dx_ptr + start + at + cols, dx, mask=live)


def _launch(kernel, *tensors: Tensor, log: bool) -> Tensor:
    """Run a kernel over the rows of `tensors`, of one shape, into a new tensor."""
    tensors = tuple(t.contiguous() for t in tensors)
    out, columns = torch.empty_like(tensors[0]), tensors[0].shape[-1]
    rows = out.numel() // columns if columns else 0
    if rows:
        block = min(
            8192, 1 << (columns - 1).bit_length()
        )  # the least power of two that holds it
        warps = 4 if block <= 2048 else 8
        kernel[(rows,)](*tensors, out, columns, LOG=log, BLOCK=block, num_warps=warps)
    return out


@operation("nnlib::softmax")
def _softmax(x: Tensor, log: bool) -> Tensor:
    if _dispatch.runs_kernel(x):
        return _launch(_forward_kernel, x, log=log)
    return (x.log_softmax(-1) if log else x.softmax(-1)).contiguous()


@operation("nnlib::softmax_backward")
def _softmax_backward(y: Tensor, dy: Tensor, log: bool) -> Tensor:
    if _dispatch.runs_kernel(y):
        return _launch(_backward_kernel, y, dy, log=log)
    if log:
        return (dy - y.exp() * dy.sum(-1, keepdim=True)).contiguous()
    return (y * (dy - (dy * y).sum(-1, keepdim=True))).contiguous()


def _save(ctx, inputs, output):
    ctx.log = inputs[1]
    ctx.save_for_backward(output)


def _differentiate(ctx, dy):
    (y,) = ctx.saved_tensors
    return torch.ops.nnlib.softmax_backward(y, dy, ctx.log), None


_softmax.register_autograd(_differentiate, setup_context=_save)


def softmax_triton(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """`softmax` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _check(x)
    _dispatch.require("softmax_triton", x)
    return torch.ops.nnlib.softmax(x, False)


def log_softmax_triton(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """`log_softmax` by the Triton kernel, on a GPU or in the interpreter."""
    _check(x)
    _dispatch.require("log_softmax_triton", x)
    return torch.ops.nnlib.softmax(x, True)


def softmax(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    r"""Softmax over the last axis, $y_j = e^{x_j} / \sum_k e^{x_k}$, stable for any finite row.

    Args:
        x: floating point, one axis or more. Kernels compute in float32 and round at the end.

    Returns:
        A tensor like `x` whose rows are ≥ 0 and sum to 1.

    Example:
        >>> softmax(torch.tensor([[0.0, 1000.0], [1.0, 1.0]])).tolist()
        [[0.0, 1.0], [0.5, 0.5]]

    Source: Bridle 1990; one pass over a row: Milakov and Gimelshein 2018.
    """
    _check(x)
    return (
        torch.ops.nnlib.softmax(x, False) if _dispatch.use_triton(x) else x.softmax(-1)
    )


def log_softmax(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    r"""Logarithm of softmax over the last axis, $x_j - \log\sum_k e^{x_k}$; as `softmax`.

    Example:
        >>> log_softmax(torch.tensor([0.0, 1000.0])).tolist()
        [-1000.0, 0.0]
    """
    _check(x)
    return (
        torch.ops.nnlib.softmax(x, True)
        if _dispatch.use_triton(x)
        else x.log_softmax(-1)
    )


def softmax_cost(
    shape: tuple[int, ...], element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost of softmax: one read and one write, or two reads and one write backwards.

    Args:
        shape: of the input.
        element_size: bytes a number.
        backward: whether to count the gradient instead.
    """
    numbers = math.prod(shape)
    # max, subtract, exp, add, divide; backwards: multiply, add, subtract, multiply
    flops, passes = (4, 3) if backward else (5, 2)
    return Cost(flops * numbers, passes * numbers * element_size)


def _check(x: Tensor) -> None:
    checks.tensor("x", x, floating=True)
    if x.ndim == 0:
        raise ValueError("x must have one axis or more, got a single number")
