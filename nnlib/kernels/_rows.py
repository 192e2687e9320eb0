"""What kernels that give each row a program share: block sizes, and how many programs there are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nnlib import checks
from nnlib.kernels.cost import Cost

WIDEST = 8192  # numbers of a row that are kept in registers; wider rows are read again, in blocks
HALVES = (torch.float16, torch.bfloat16)


class Tiling(NamedTuple):
    """How one row is cut: `count` blocks of `size`, worked on by `warps` of 32 threads."""

    size: int
    count: int
    warps: int


def tiling(columns: int) -> Tiling:
    """Return the blocks of a row: one that stays in registers, or several; 8 numbers a thread."""
    if columns > WIDEST:
        return Tiling(2048, -(-columns // 2048), 8)
    size = 1 << max(columns - 1, 0).bit_length()  # the least power of two that holds it
    return Tiling(size, 1, min(32, max(1, size // 256)))


def programs(x: Tensor, rows: int, warps: int) -> int:
    """Return how many programs share the rows in a backward pass, each with sums of its own.

    About 32 warps for each of the GPU's multiprocessors keep its memory busy; more would only make
    more sums to add up in the end. The interpreter gets two, so that there is something to add.
    """
    if not x.is_cuda:
        return min(rows, 2)
    busy = torch.cuda.get_device_properties(x.device).multi_processor_count * max(1, 32 // warps)
    return min(rows, busy)


def rows_of(x: Tensor) -> int:
    """Return the number of rows: what stands before the last axis."""
    return math.prod(x.shape[:-1])


def packed(t: Tensor | None) -> Tensor | None:
    """Return `t` as kernels read it, one number after the other."""
    return None if t is None else t.contiguous()


def beside(learned: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a learned vector in a dtype that torch takes beside `x`: the same, or float32."""
    return learned if learned is None or learned.dtype == x.dtype else learned.float()


def shares_of(learned: Tensor | None, shares: int, columns: int, blocks: int) -> Tensor | None:
    """Return room for each program's share of a vector's gradient, or None without the vector.

    A row of one block has its share stored when all is done; wider rows add to it as they go.
    """
    if learned is None:
        return None
    make = torch.empty if blocks == 1 else torch.zeros
    return make((shares, columns), dtype=torch.float32, device=learned.device)


def added(shares: Tensor | None, learned: Tensor | None, like: Tensor) -> Tensor:
    """Return the gradient of a learned vector, or an empty tensor where there is none."""
    if shares is None or learned is None:
        return like.new_empty(0)
    return shares.sum(0).to(learned.dtype)


def check_norm(x: Tensor, eps: float, residual: Tensor | None, **learned: Tensor | None) -> None:
    """Refuse what no norm over the last axis can work on; `learned` are its weight and bias.

    Raises:
        TypeError: no floating-point tensors of dtypes that fit, or `eps` is no number.
        ValueError: a shape or device that does not fit, or a negative `eps`.
    """
    checks.tensor("x", x, floating=True)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must end in an axis of one feature or more, got {tuple(x.shape)}")
    if type(eps) is not float or not 0 <= eps < math.inf:
        checks.number("eps", eps, least=0)
    for name, t in learned.items():
        if t is not None:
            _check_beside(x, name, t, x.shape[-1:])
    if residual is not None:
        _check_beside(x, "residual", residual, x.shape)


def _check_beside(x: Tensor, name: str, t: Tensor, shape: torch.Size) -> None:
    alike = isinstance(t, Tensor) and t.shape == shape
    if alike and t.dtype == x.dtype and t.device == x.device:  # the usual case, without delay
        return
    checks.tensor(name, t, shape=tuple(shape), floating=True)
    if t.dtype != x.dtype and not (t.dtype == torch.float32 and x.dtype in HALVES):
        raise TypeError(
            f"{name} must have the dtype of x, {x.dtype}, or float32 beside a half, got {t.dtype}"
        )
    if t.device != x.device:
        raise ValueError(f"{name} must be on {x.device} like x, got {t.device}")


def norm_cost(
    shape: tuple[int, ...],
    element_size: int,
    backward: bool,
    residual: bool,
    *,
    vectors: int,
    scales: int,
    flops: tuple[int, int],
) -> Cost:
    """Return the cost of a norm with `vectors` learned vectors and `scales` saved numbers a row.

    Args:
        shape: of the input.
        element_size: bytes a number; saved numbers have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
        vectors: learned vectors, read forwards; read and written backwards, but for a shift, which
            backwards is written alone.
        scales: numbers saved for each row.
        flops: operations a number, forwards and backwards.
    """
    numbers, columns = math.prod(shape), shape[-1]
    passes = 3 + residual if backward else 2 + 2 * residual
    learned = vectors + 1 if backward else vectors
    size = element_size * (passes * numbers + learned * columns) + 4 * scales * (numbers // columns)
    return Cost((flops[backward] + residual) * numbers, size)
