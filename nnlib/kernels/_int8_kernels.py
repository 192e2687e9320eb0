"""The kernels of `int8_matmul`: rows to codes, then tiles of the product.

Axes: m rows of x, k features, n rows of the weight; q codes and scales of x, p codes and steps of
the weight.
"""

from typing import Any

import torch
from torch import Tensor

from nnlib.kernels import _triton
from nnlib.kernels._attention_tiles import load_tile
from nnlib.kernels._triton import jit, tl


@jit
def _codes_kernel(
    x_ptr, apart_ptr, codes_ptr, scale_ptr, k, x_m, x_k, OUTLIERS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row: once over it for its largest magnitude, once more for its codes."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_m
    peak = tl.zeros([BLOCK], tl.float32)
    strange = tl.zeros([BLOCK], tl.int32)
    for at in range(0, k, BLOCK):
        place = at + tl.arange(0, BLOCK)
        live = place < k
        if OUTLIERS:
            live = live & (tl.load(apart_ptr + place, mask=live, other=1) == 0)
        x = tl.load(x_ptr + place * x_k, mask=live, other=0.0).to(tl.float32)
        peak = tl.maximum(peak, tl.abs(x))
        strange = strange | ((x != x) | (tl.abs(x) == float("inf"))).to(tl.int32)
    scale = tl.div_rn(tl.max(peak, 0), 127.0)
    scale = tl.where(scale == 0, 1.0, scale)
    broken = tl.max(strange, 0) > 0
    tl.store(scale_ptr + row, tl.where(broken, float("nan"), scale))
    for at in range(0, k, BLOCK):
        place = at + tl.arange(0, BLOCK)
        live = place < k
        own = live
        if OUTLIERS:
            own = live & (tl.load(apart_ptr + place, mask=live, other=1) == 0)
        x = tl.load(x_ptr + place * x_k, mask=own, other=0.0).to(tl.float32)
        # so large a number has no room for a fraction: half to even
        code = (tl.div_rn(x, scale) + 12582912.0) - 12582912.0
        code = tl.where(broken, 0.0, code)
        tl.store(codes_ptr + row * k + place, code.to(tl.int8), mask=live)


@jit
def _product_kernel(
    q_ptr, scale_ptr, x_ptr, p_ptr, step_ptr, bias_ptr, columns_ptr, count_ptr, y_ptr, m, n, k,
    x_m, x_k, tiles, OUTLIERS: tl.constexpr, BIAS: tl.constexpr, PADDED: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program a tile of y: integers over all columns, then the outliers among them."""
    first = (tl.program_id(0) % tiles * BLOCK_M).to(tl.int64)
    left = (tl.program_id(0) // tiles * BLOCK_N).to(tl.int64)
    rows, cols = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    for at in range(0, k, BLOCK_K):
        q = load_tile(
            q_ptr + first * k + at, rows, depth, k, 1, m - first, k - at, True, PADDED
        )
        p = load_tile(
            p_ptr + left * k + at, cols, depth, k, 1, n - left, k - at, True, PADDED
        )
        total = tl.dot(q, tl.trans(p), total, out_dtype=tl.int32)
    inside_m, inside_n = first + rows < m, left + cols < n
    scale = tl.load(scale_ptr + first + rows, mask=inside_m, other=0.0)
    step = tl.load(step_ptr + left + cols, mask=inside_n, other=0.0)
    y = total.to(tl.float32) * scale[:, None]
    if OUTLIERS:
        count = tl.load(count_ptr)
        for at in range(0, count, BLOCK_C):
            nth = at + tl.arange(0, BLOCK_C)
            column = tl.load(columns_ptr + nth, mask=nth < count, other=0)
            x_at = (first + rows)[:, None] * x_m + column[None, :] * x_k
            x_in = inside_m[:, None] & (nth < count)[None, :]
            few = tl.load(x_ptr + x_at, mask=x_in, other=0.0)
            p_at = (left + cols)[:, None] * k + column[None, :]
            p_in = inside_n[:, None] & (nth < count)[None, :]
            theirs = tl.load(p_ptr + p_at, mask=p_in, other=0).to(few.dtype)
            y = tl.dot(few, tl.trans(theirs), y, input_precision=PRECISION)
    y = y * step[None, :]
    if BIAS:
        y += tl.load(bias_ptr + left + cols, mask=inside_n, other=0.0).to(tl.float32)[
            None, :
        ]
    place = (first + rows)[:, None] * n + (left + cols)[None, :]
    tl.store(y_ptr + place, y, mask=inside_m[:, None] & inside_n[None, :])


def sizes(m: int, k: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return the tile sizes of the product, chosen so that nothing spills out of registers."""
    # the interpreter takes its time over each step, not over each number
    if _triton.interpreting():
        rows, cols, depth, warps, stages = 32, 64, 128, 4, 2
    elif m <= 16:
        rows, cols, depth, warps, stages = 16, 32, 256, 4, 4
    elif m <= 64 or dtype == torch.float32:
        rows, cols, depth, warps, stages = 64, 64, 128, 4, 4
    else:
        rows, cols, depth, warps, stages = 128, 128, 128, 8, 3
    return {
        "PADDED": k % depth != 0, "PRECISION": "tf32x3" if dtype == torch.float32 else "tf32",
        "BLOCK_M": rows, "BLOCK_N": cols, "BLOCK_K": depth, "BLOCK_C": 16,
        "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


def launch(
    x: Tensor, values: Tensor, steps: Tensor, bias: Tensor | None, apart: Tensor | None
) -> Tensor:
    """Return the product of rows x; columns that are `apart` are not rounded."""
    (m, k), n = x.shape, len(values)
    y = torch.empty((m, n), dtype=x.dtype, device=x.device)
    codes = torch.empty((m, k), dtype=torch.int8, device=x.device)
    scale = torch.empty(m, dtype=torch.float32, device=x.device)
    values, steps, columns, count = values.contiguous(), steps.contiguous(), None, None
    if (
        apart is not None
    ):  # those columns first, and how many: nothing waits for the number
        columns = apart.to(torch.int8).argsort(descending=True, stable=True)
        count = apart.sum(dtype=torch.int32)
    _codes_kernel[(m,)](
        x, apart, codes, scale, k, *x.stride(), OUTLIERS=apart is not None,
        BLOCK=min(2048, max(16, 1 << (k - 1).bit_length())), num_warps=4,
    )  # fmt: skip
    constants = sizes(m, k, x.dtype)
    tiles = -(-m // constants["BLOCK_M"])
    _product_kernel[(tiles * -(-n // constants["BLOCK_N"]),)](
        codes, scale, x, values, steps, bias, columns, count, y, m, n, k, *x.stride(), tiles,
        OUTLIERS=apart is not None, BIAS=bias is not None, **constants,
    )  # fmt: skip
    return y
