"""The kernels of `nf4_matmul`: pairs of columns leave their bytes in the tile that needs them.

Axes: m rows of x, k features, n rows of the weight; a byte holds two neighbouring columns.

Columns with even numbers lie in the high halves of bytes, odd ones in the low halves. So a tile is
never put together again: the product is that of the even columns plus that of the odd ones. The
weight is the left, tall factor of each product, because tensor cores take 64 rows or more at once,
and in decoding x has but a few.
"""

from typing import Any

import torch
from torch import Tensor

from nnlib.kernels import _triton
from nnlib.kernels._dispatch import processors
from nnlib.kernels._triton import jit, tl


@jit
def block_scales(
    absmax_ptr, group_ptr, offset_ptr, block, inside, DOUBLE: tl.constexpr
):
    """Read the scales of blocks, as they are or from their own eight bits."""
    scale = tl.load(absmax_ptr + block, mask=inside, other=0)
    if DOUBLE:
        group = tl.load(group_ptr + block // 256, mask=inside, other=0.0)
        scale = scale.to(tl.float32) * group + tl.load(offset_ptr)
    return scale


@jit
def weight_pairs(
    codes_ptr, levels_ptr, absmax_ptr, group_ptr, offset_ptr, rows, at, pairs, n, k, block_size,
    WHOLE_BYTES: tl.constexpr, ONE_BLOCK: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Return the weights of even and of odd columns, two tiles of rows by pairs, in float32.

    The rows are those given, of n; the pairs those from column `at` on. If WHOLE_BYTES, no pair
    lies across two bytes; if ONE_BLOCK, all of a row lies in one block, with one scale.
    """
    rows = rows.to(tl.int64)
    even = at + 2 * pairs
    inside = (rows < n)[:, None] & (even < k)[None, :]
    place = rows[:, None] * k + even[None, :]
    half = place // 2
    if WHOLE_BYTES:  # the same, and plain to the compiler that bytes are neighbours
        half = rows[:, None] * (k // 2) + at // 2 + pairs[None, :]
    byte = tl.load(codes_ptr + half, mask=inside, other=0)
    first, second = byte >> 4, byte & 15
    if not WHOLE_BYTES:  # k is odd, and every second row begins in the middle of a byte
        more = inside & (even + 1 < k)[None, :]
        after = tl.load(codes_ptr + (place + 1) // 2, mask=more, other=0)
        shifted = place % 2 == 1
        first, second = (
            tl.where(shifted, second, first),
            tl.where(shifted, after >> 4, second),
        )
    first = tl.load(levels_ptr + first.to(tl.int32))
    second = tl.load(levels_ptr + second.to(tl.int32))
    if ONE_BLOCK:
        block = rows * (k // block_size) + at // block_size
        scale = block_scales(
            absmax_ptr, group_ptr, offset_ptr, block, rows < n, DOUBLE
        )[:, None]
        scale_after = scale
    else:
        scale = block_scales(
            absmax_ptr, group_ptr, offset_ptr, place // block_size, inside, DOUBLE
        )
        scale_after = scale
        if not WHOLE_BYTES:
            scale_after = block_scales(
                absmax_ptr,
                group_ptr,
                offset_ptr,
                (place + 1) // block_size,
                more,
                DOUBLE,
            )
    return first * scale, second * scale_after


@jit
def _forward_kernel(
    x_ptr, codes_ptr, levels_ptr, absmax_ptr, group_ptr, offset_ptr, bias_ptr, y_ptr, m, n, k,
    part, block_size, x_m, x_k, tiles, BIAS: tl.constexpr, WHOLE_BYTES: tl.constexpr,
    ONE_BLOCK: tl.constexpr, DOUBLE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program a tile of y and a piece of the columns, each piece into a y of its own."""
    rows = tl.program_id(0) // tiles * BLOCK_N + tl.arange(0, BLOCK_N)  # of the weight
    tokens = (tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    pairs = tl.arange(0, BLOCK_K // 2)
    begin = tl.program_id(1) * part
    total = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for at in range(begin, tl.minimum(begin + part, k), BLOCK_K):
        first, second = weight_pairs(
            codes_ptr, levels_ptr, absmax_ptr, group_ptr, offset_ptr, rows, at, pairs, n, k,
            block_size, WHOLE_BYTES, ONE_BLOCK, DOUBLE,
        )  # fmt: skip
        even = at + 2 * pairs
        x_at = x_ptr + even[:, None] * x_k + tokens[None, :] * x_m
        some = (tokens < m)[None, :]
        x = tl.load(x_at, mask=some & (even < k)[:, None], other=0.0)
        total = tl.dot(first.to(x.dtype), x, total, input_precision=PRECISION)
        x = tl.load(x_at + x_k, mask=some & (even + 1 < k)[:, None], other=0.0)
        total = tl.dot(second.to(x.dtype), x, total, input_precision=PRECISION)
    if BIAS:
        total += tl.load(bias_ptr + rows, mask=rows < n, other=0.0).to(tl.float32)[
            :, None
        ]
    y_at = (tl.program_id(1).to(tl.int64) * m + tokens[None, :]) * n + rows[:, None]
    tl.store(y_ptr + y_at, total, mask=(rows < n)[:, None] & (tokens < m)[None, :])


@jit
def _backward_kernel(
    dy_ptr, codes_ptr, levels_ptr, absmax_ptr, group_ptr, offset_ptr, dx_ptr, m, n, k, block_size,
    dy_m, dy_n, tiles, WHOLE_BYTES: tl.constexpr, ONE_BLOCK: tl.constexpr, DOUBLE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program a tile of dx: the even columns and the odd ones, over all rows of the weight."""
    at = tl.program_id(0) // tiles * BLOCK_K
    tokens = (tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    pairs = tl.arange(0, BLOCK_K // 2)
    evens = tl.zeros([BLOCK_M, BLOCK_K // 2], tl.float32)
    odds = tl.zeros([BLOCK_M, BLOCK_K // 2], tl.float32)
    for start in range(0, n, BLOCK_N):
        rows = start + tl.arange(0, BLOCK_N)
        first, second = weight_pairs(
            codes_ptr, levels_ptr, absmax_ptr, group_ptr, offset_ptr, rows, at, pairs, n, k,
            block_size, WHOLE_BYTES, ONE_BLOCK, DOUBLE,
        )  # fmt: skip
        dy_at = dy_ptr + tokens[:, None] * dy_m + rows[None, :] * dy_n
        dy = tl.load(dy_at, mask=(tokens < m)[:, None] & (rows < n)[None, :], other=0.0)
        evens = tl.dot(dy, first.to(dy.dtype), evens, input_precision=PRECISION)
        odds = tl.dot(dy, second.to(dy.dtype), odds, input_precision=PRECISION)
    columns = at + tl.arange(0, BLOCK_K)
    dx_at = dx_ptr + tokens[:, None] * k + columns[None, :]
    inside = (tokens < m)[:, None] & (columns < k)[None, :]
    tl.store(dx_at, tl.interleave(evens, odds), mask=inside)


# ----------------------------------------------------------------------------------- launches
def sizes(m: int, k: int, dtype: torch.dtype, backward: bool = False) -> dict[str, Any]:
    """Return tile sizes, chosen so that nothing spills out of registers.

    Args:
        m: rows of x.
        k: features; an odd number of them takes more registers.
        dtype: of x.
        backward: whether for the gradient.
    """
    wide = dtype == torch.float32
    most = 32 if wide else 64
    # the interpreter takes its time over each step, not over each number
    if _triton.interpreting():
        tokens, rows, depth, warps, stages = 32, 64, 64, 4, 1
    elif backward:
        tokens, rows, depth, warps, stages = (16 if m <= 16 else most), 32, 64, 4, 2
    elif m <= 16:
        tokens, rows, depth, warps, stages = 16, 64, 64, 4, 3
    else:
        tokens, rows, depth, warps, stages = most, 64, 64, 8, 2
    if k % 2 and not _triton.interpreting():
        rows, stages, warps = rows // 2, (2 if backward else 1), (4 if backward else 8)
    return {
        "PRECISION": "tf32x3" if wide else "tf32", "BLOCK_M": tokens, "BLOCK_N": rows,
        "BLOCK_K": depth, "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


def pieces_of(programs: int, steps: int, device: torch.device) -> int:
    """Return into how many pieces to cut the columns, so that each processor has two programs.

    Args:
        programs: how many there are for one piece.
        steps: tiles along the columns; a piece has four or more.
        device: of the tensors.
    """
    if _triton.interpreting():  # enough to have some
        return max(1, min(2, steps // 2))
    return max(1, min(-(-2 * processors(device) // programs), steps // 4))


def _flags(
    k: int, block_size: int, group: Tensor | None, depth: int
) -> dict[str, bool]:
    return {
        "WHOLE_BYTES": k % 2 == 0,
        "ONE_BLOCK": k % block_size == 0 and block_size % depth == 0,
        "DOUBLE": group is not None,
    }


def forward(
    x: Tensor, codes: Tensor, levels: Tensor, absmax: Tensor, group: Tensor | None,
    offset: Tensor | None, n: int, block_size: int, bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return y, one row a row of x."""
    m, k = x.shape
    constants = sizes(m, k, x.dtype)
    depth, tiles = constants["BLOCK_K"], -(-m // constants["BLOCK_M"])
    programs, steps = tiles * -(-n // constants["BLOCK_N"]), -(-k // depth)
    pieces = pieces_of(programs, steps, x.device)
    part = -(-steps // pieces) * depth
    pieces = -(-k // part)
    whole = pieces == 1
    y = torch.empty(
        (pieces, m, n), dtype=x.dtype if whole else torch.float32, device=x.device
    )
    _forward_kernel[(programs, pieces)](
        x, codes, levels, absmax, group, offset, bias, y, m, n, k, part, block_size, *x.stride(),
        tiles, BIAS=bias is not None and whole, **_flags(k, block_size, group, depth), **constants,
    )  # fmt: skip
    if whole:
        return y[0]
    y = y.sum(0)
    return (y if bias is None else y + bias).to(x.dtype)


def backward(
    dy: Tensor, codes: Tensor, levels: Tensor, absmax: Tensor, group: Tensor | None,
    offset: Tensor | None, k: int, block_size: int,
) -> Tensor:  # fmt: skip
    """Return dx, one row a row of dy."""
    m, n = dy.shape
    constants = sizes(m, k, dy.dtype, backward=True)
    tiles, depth = -(-m // constants["BLOCK_M"]), constants["BLOCK_K"]
    dx = torch.empty((m, k), dtype=dy.dtype, device=dy.device)
    _backward_kernel[(tiles * -(-k // depth),)](
        dy, codes, levels, absmax, group, offset, dx, m, n, k, block_size, *dy.stride(), tiles,
        **_flags(k, block_size, group, depth), **constants,
    )  # fmt: skip
    return dx
