"""What kernels that give each row a program share: block sizes, and how many programs there are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

WIDEST = 8192  # numbers of a row that are kept in registers; wider rows are read again, in blocks


class Tiling(NamedTuple):
    """How one row is cut: `blocks` of `size`, worked on by `warps` of 32 threads."""

    size: int
    blocks: int
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
    busy = torch.cuda.get_device_properties(x.device).multi_processor_count * max(
        1, 32 // warps
    )
    return min(rows, busy)


def rows_of(x: Tensor) -> int:
    """Return the number of rows: what stands before the last axis."""
    return math.prod(x.shape[:-1])


def packed(t: Tensor | None) -> Tensor | None:
    """Return `t` as kernels read it, one number after the other."""
    return None if t is None else t.contiguous()
