"""What the kernels of attention share: how a tile is read, who sees whom, what is dropped, sizes.

Axes: b batch, h heads, g heads of keys and values, t queries, s keys, d head width.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnlib.kernels import _dropout, _triton
from nnlib.kernels._triton import jit, tl

LOG2_E = 1.4426950408889634


@jit
def load_tile(
    at, rows, columns, row_stride, column_stride, height, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Read a tile at `at`, with 0 beyond its `height` (if ROWS) and `width` (if COLUMNS)."""
    places = at + rows[:, None] * row_stride + columns[None, :] * column_stride
    if ROWS and COLUMNS:
        inside = (rows[:, None] < height) & (columns[None, :] < width)
        tile = tl.load(places, mask=inside, other=0.0)
    elif ROWS:
        tile = tl.load(places, mask=rows[:, None] < height, other=0.0)
    elif COLUMNS:
        tile = tl.load(places, mask=columns[None, :] < width, other=0.0)
    else:
        tile = tl.load(places)
    return tile


@jit
def seen_by(ahead, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):
    """Whether a query sees a key that many places ahead of it."""
    if CAUSAL:
        seen = ahead <= 0
        if WINDOW:
            seen = seen & (ahead > -window)
    elif WINDOW:
        seen = tl.abs(ahead) < window
    return seen


@jit
def real_keys(real_ptr, s, BLOCK_S: tl.constexpr, WIDTH: tl.constexpr):
    """Where the tile of the first real key begins, and where the last real key ends."""
    first, last = tl.full([WIDTH], 2147483647, tl.int32), tl.zeros([WIDTH], tl.int32)
    for n in range(0, s, WIDTH):
        at = n + tl.arange(0, WIDTH)
        real = tl.load(real_ptr + at, mask=at < s, other=0) != 0
        first = tl.minimum(first, tl.where(real, at, s))
        last = tl.maximum(last, tl.where(real, at + 1, 0))
    return tl.min(first, 0) // BLOCK_S * BLOCK_S, tl.max(last, 0)


@jit
def keys_in_reach(
    first, last, real_ptr, s, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    SPLIT: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Keys that positions first … last may see: begin, inner, outer, end.

    From `inner` to `outer` every position sees every key, and nothing need be masked. Unless SPLIT,
    that part is taken as empty, as it must be with a mask of keys.
    """
    begin, inner = 0, 0
    end, outer = s, s
    if CAUSAL:
        end, outer = tl.minimum(s, last + 1), tl.minimum(s, first + 1)
    elif WINDOW:
        end, outer = tl.minimum(s, last + window), tl.minimum(s, first + window)
    end, outer = tl.maximum(end, 0), tl.maximum(outer, 0) // BLOCK_S * BLOCK_S
    if WINDOW:
        begin = tl.maximum(first - window + 1, 0) // BLOCK_S * BLOCK_S
        inner = tl.cdiv(tl.maximum(last - window + 1, 0), BLOCK_S) * BLOCK_S
        inner = tl.minimum(inner, tl.cdiv(end, BLOCK_S) * BLOCK_S)
        outer = tl.maximum(outer, inner)
    if real_ptr is not None:  # tiles of nothing but padding are left out
        first_real, past_real = real_keys(real_ptr, s, BLOCK_S, 1024)
        begin, end = tl.maximum(begin, first_real), tl.minimum(end, past_real)
    if not SPLIT:
        inner, outer = begin, begin
    return begin, inner, outer, end


@jit
def stays(seed_ptr, key, position, row, dropout):
    """Whether dropout leaves a weight: a function of its place, as `_dropout.kept` has it."""
    number, _, _, _ = tl.philox(tl.load(seed_ptr), key, position, row, 0, 7)  # rounds
    return (number >> 8).to(
        tl.float32
    ) * 5.9604644775390625e-08 >= dropout  # 24 bits: [0, 1)


# -------------------------------------------------------------------------------- sizes of tiles
def tiles(kernel: str, x: Tensor, *, dropout: bool, padded: bool) -> dict[str, Any]:
    """Return the tile sizes of a kernel for heads and numbers like those of `x`.

    Chosen so that nothing spills out of the registers on an A100 or an H100: the tests compile
    each of them for both.

    Args:
        kernel: "forward", or what it makes the gradients of: "queries" or "keys".
        x: the queries.
        dropout: whether weights are dropped; finding out which takes registers.
        padded: whether there is a mask of keys, for which every tile is masked.
    """
    d = x.shape[-1]
    block_d = max(
        16, 1 << (d - 1).bit_length()
    )  # the least power of two that holds a head
    wide = 4 if x.dtype == torch.float32 else 2
    t, s, warps, stages = _TILES[kernel, wide, max(64, block_d)]
    if d != block_d and wide == 2:  # the mask of the columns takes registers
        t, s = (t // 2, s) if kernel == "keys" else (t, s // 2)
    if dropout and kernel == "keys":  # so do random numbers
        t = max(16, t // 2)
    elif (dropout or padded) and kernel != "keys":  # and a mask of keys
        t, s = (t // 2, s) if wide == 4 and t > 16 else (t, max(16, s // 2))
        stages = 1 if wide == 4 and kernel == "forward" else stages
    # which takes its time over each step, not over each number
    if _triton.interpreting():
        t, s = 64, 64
    # three products of the short form for float32
    precision = "tf32x3" if wide == 4 else "tf32"
    return {
        **({} if kernel == "keys" else {"SPLIT": wide == 2 and not padded}),
        "PRECISION": precision, "PADDED": d != block_d, "BLOCK_T": t, "BLOCK_S": s,
        "BLOCK_D": block_d, "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


_TILES = {  # (kernel, bytes a number, head width): queries, keys, warps, stages
    ("forward", 2, 64): (128, 128, 8, 3),
    ("forward", 2, 128): (128, 64, 8, 3),
    ("forward", 4, 64): (128, 32, 8, 2),
    ("forward", 4, 128): (32, 32, 4, 2),
    ("queries", 2, 64): (128, 64, 8, 3),
    ("queries", 2, 128): (128, 64, 8, 2),
    ("queries", 4, 64): (32, 32, 4, 2),
    ("queries", 4, 128): (16, 32, 4, 2),
    ("keys", 2, 64): (32, 128, 8, 3),
    ("keys", 2, 128): (32, 64, 8, 3),
    ("keys", 4, 64): (32, 32, 8, 1),
    ("keys", 4, 128): (32, 16, 8, 2),
}


class Options(NamedTuple):
    """What a call asks for, beside its tensors."""

    is_causal: bool
    window: int | None
    scale: float
    dropout: float

    def numbers(self, q: Tensor, k: Tensor) -> tuple[float, ...]:
        """Return heads, queries a head of keys, t, s, d and the rest, as the kernels take them.

        `scale` holds log2 e, because exp2 is what the chip has.
        """
        h, g = q.shape[1], k.shape[1]
        return (
            h, h // g, q.shape[2], k.shape[2], q.shape[3], self.window or 0, self.scale * LOG2_E,
            self.dropout, _dropout.rescale(self.dropout),
        )  # fmt: skip

    def flags(self) -> dict[str, bool]:
        """Return the constants by which a kernel is compiled anew."""
        return {"CAUSAL": self.is_causal, "WINDOW": self.window is not None}
