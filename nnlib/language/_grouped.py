r"""Products of runs of rows with a matrix each: what experts are computed with."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

_ALIGNED = 16  # bytes, of which torch's own product wants rows to be a multiple
_FAST = (torch.float32, torch.bfloat16, torch.float16)


def grouped_linear(
    x: Float[Tensor, "n i"], weight: Float[Tensor, "m o i"], ends: Int[Tensor, " m"]
) -> Float[Tensor, "n o"]:
    """Multiply each run of rows with a matrix of its own: `mixture-of-experts-grouped`.

    Args:
        x: rows, those of the first matrix first.
        weight: one matrix for each run; its rows are outputs.
        ends: where each run ends, int32: never falling, at most n, the last one n.

    Example:
        >>> ends = torch.tensor([1, 3], dtype=torch.int32)  # one row, then two
        >>> weight = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]])
        >>> grouped_linear(torch.ones(3, 2), weight, ends).flatten().tolist()
        [2.0, 4.0, 4.0]
    """
    checks.tensor("weight", weight, shape=("m", "o", "i"), floating=True)
    checks.tensor("x", x, shape=("n", weight.shape[2]), floating=True)
    checks.tensor("ends", ends, shape=(len(weight),), floating=False)
    if ends.dtype != torch.int32:
        raise TypeError(f"ends must hold int32, got {ends.dtype}")
    if checks.readable(ends):
        told = [0, *ends.tolist()]
        if told != sorted(told) or told[-1] != len(x):
            raise ValueError(f"ends must rise from 0 to {len(x)}, got {told[1:]}")
    if not _torch_takes(x, weight):
        return torch.ops.nnlib.grouped_linear(x, weight, ends)
    y = F.grouped_mm(x, weight.mT, offs=ends)
    if y.requires_grad:  # its own backward cannot read a gradient that is expanded
        y.register_hook(Tensor.contiguous)
    return y


def _torch_takes(x: Tensor, weight: Tensor) -> bool:
    """Return whether torch has a product for these; it fails on others, and when compiled."""
    rows = [size * x.element_size() % _ALIGNED == 0 for size in weight.shape[1:]]
    return (
        x.dtype == weight.dtype
        and x.dtype in _FAST
        and x.device.type in ("cpu", "cuda")
        and not torch.compiler.is_compiling()
        and len(x) > 0
        and all(rows)
        and x.is_contiguous()
        and weight.is_contiguous()
        and x.data_ptr() % _ALIGNED == 0
        and weight.data_ptr() % _ALIGNED == 0
    )


def _runs(ends: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield the number of each run that is not empty, and its rows."""
    start = 0
    for number, end in enumerate(ends.tolist()):
        if end > start:
            yield number, slice(start, end)
        start = end


@torch.library.custom_op("nnlib::grouped_linear", mutates_args=())
def _grouped(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    y = x.new_empty(len(x), weight.shape[1])
    for number, rows in _runs(ends):
        torch.mm(x[rows], weight[number].T, out=y[rows])
    return y


@torch.library.custom_op("nnlib::grouped_linear_backward", mutates_args=())
def _grouped_backward(
    dy: Tensor, x: Tensor, weight: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor]:
    dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
    for number, rows in _runs(ends):
        torch.mm(dy[rows], weight[number], out=dx[rows])
        torch.mm(dy[rows].T, x[rows], out=dweight[number])
    return dx, dweight


@_grouped.register_fake
def _(x, weight, ends):
    return x.new_empty(x.shape[0], weight.shape[1])


@_grouped_backward.register_fake
def _(dy, x, weight, ends):
    return torch.empty_like(x), torch.empty_like(weight)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, dy):
    return *torch.ops.nnlib.grouped_linear_backward(dy, *ctx.saved_tensors), None


_grouped.register_autograd(_differentiate, setup_context=_save)
