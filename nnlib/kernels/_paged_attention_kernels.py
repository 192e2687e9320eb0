"""The kernels of paged attention: pieces of each context side by side, then their sum.

Axes: b batch, h heads, g heads of keys and values, d head width, n blocks of c positions, m blocks
that a sequence may have.

A step of decoding has one query a sequence and head, so that a program a query would leave most of
a GPU idle. So each context is cut into as many pieces as keep it busy, and a second kernel brings
their maxima, sums and mixtures together. The h/g queries that share a head of keys are the rows of
one product, which reads each key once for all of them.
"""

from typing import Any

import torch
from torch import Tensor

from nnlib.kernels import _triton
from nnlib.kernels._attention_tiles import LOG2_E, load_tile
from nnlib.kernels._dispatch import processors
from nnlib.kernels._triton import jit, tl


@jit
def _piece_kernel(
    q_ptr, cache_ptr, table_ptr, lengths_ptr, mixed_ptr, peak_ptr, total_ptr, q_b, q_h, q_d, side,
    c_n, c_g, c_c, c_d, heads, group, tiles, pieces, blocks, d, window, scale,
    WINDOW: tl.constexpr, WHOLE: tl.constexpr, BLOCK_SIZE: tl.constexpr, PRECISION: tl.constexpr,
    PADDED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a piece of a context, for the queries of one head of keys.

    Leaves a maximum, a sum and a mixture not yet divided by it; or, if WHOLE, the result.
    """
    tile, pair = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    batch = (pair // (heads // group)).to(tl.int64)
    shared = pair % (heads // group)
    length = tl.load(lengths_ptr + batch).to(tl.int32)
    begin = 0
    if WINDOW:
        begin = tl.maximum(length - window, 0)
    part = tl.cdiv(tl.cdiv(length - begin, pieces), BLOCK_S) * BLOCK_S
    first = begin + tl.program_id(1) * part
    end = tl.minimum(first + part, length)

    rows, cols, depth = (
        tl.arange(0, BLOCK_H),
        tl.arange(0, BLOCK_S),
        tl.arange(0, BLOCK_D),
    )
    nth = tile * BLOCK_H  # of the group
    q_ptr += batch * q_b + (shared * group + nth).to(tl.int64) * q_h
    q = load_tile(q_ptr, rows, depth, q_h, q_d, group - nth, d, True, PADDED)
    k_ptr = cache_ptr + shared.to(tl.int64) * c_g
    v_ptr = k_ptr + side
    table_ptr += batch * blocks
    peak = tl.full([BLOCK_H], -float("inf"), tl.float32)  # largest score so far
    total = tl.zeros([BLOCK_H], tl.float32)  # sum of 2^(score - peak) so far
    mixed = tl.zeros([BLOCK_H, BLOCK_D], tl.float32)  # the same sum, of the values
    for n in range(first, end, BLOCK_S):
        at = n + cols
        held = at < end
        block = tl.load(table_ptr + at // BLOCK_SIZE, mask=held, other=0).to(tl.int64)
        places = (block * c_n + (at % BLOCK_SIZE) * c_c)[:, None] + depth[None, :] * c_d
        inside = held[:, None]
        if PADDED:
            inside = inside & (depth[None, :] < d)
        k = tl.load(k_ptr + places, mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        scores = tl.where(held[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        base = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        mend = tl.exp2(
            peak - base
        )  # what was summed under the old maximum, under the new one
        total = total * mend + tl.sum(weights, 1)
        v = tl.load(v_ptr + places, mask=inside, other=0.0)
        mixed = tl.dot(
            weights.to(v.dtype), v, mixed * mend[:, None], input_precision=PRECISION
        )
        peak = higher

    row = batch * heads + shared * group + nth + rows
    at = row * pieces + tl.program_id(1)
    live = rows < group - nth
    if WHOLE:
        mixed = mixed / tl.where(total == 0, 1.0, total)[:, None]
    else:
        tl.store(peak_ptr + at, peak, mask=live)
        tl.store(total_ptr + at, total, mask=live)
    inside = live[:, None] & (depth[None, :] < d)
    tl.store(mixed_ptr + at[:, None] * d + depth[None, :], mixed, mask=inside)


@jit
def _sum_kernel(
    mixed_ptr, peak_ptr, total_ptr, out_ptr, pieces, d, PIECES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a query: the pieces of its context, each brought under the largest maximum."""
    row = tl.program_id(0).to(tl.int64)
    nth, depth = tl.arange(0, PIECES), tl.arange(0, BLOCK_D)
    made = nth < pieces
    peak = tl.load(peak_ptr + row * pieces + nth, mask=made, other=-float("inf"))
    total = tl.load(total_ptr + row * pieces + nth, mask=made, other=0.0)
    top = tl.max(peak, 0)
    mend = tl.exp2(peak - tl.where(top == -float("inf"), 0.0, top))
    mixed = load_tile(
        mixed_ptr + row * pieces * d, nth, depth, d, 1, pieces, d, True, True
    )
    total = tl.sum(total * mend, 0)
    out = tl.sum(mixed * mend[:, None], 0) / tl.where(total == 0, 1.0, total)
    tl.store(out_ptr + row * d + depth, out, mask=depth < d)


# ---------------------------------------------------------------------------------- launches
def sizes(q: Tensor, group: int) -> dict[str, Any]:
    """Return the tile sizes of the first kernel, chosen so that nothing spills out of registers.

    Args:
        q: the queries.
        group: how many of their heads share one of keys; a matrix product has 16 rows or more.
    """
    d = q.shape[-1]
    block_d = max(16, 1 << (d - 1).bit_length())
    wide = 4 if q.dtype == torch.float32 else 2
    keys, most, warps, stages = _TILES[wide, max(64, block_d)]
    if d != block_d and wide == 2:  # the mask of the columns takes registers
        keys, most = keys // 2, 16
    rows = min(max(16, 1 << (group - 1).bit_length()), most)
    if rows > 16 and d == block_d:
        warps = 8
    if (
        _triton.interpreting()
    ):  # which takes its time over each step, not over each number
        keys = 64
    return {
        "PRECISION": "tf32x3" if wide == 4 else "tf32", "PADDED": d != block_d, "BLOCK_H": rows,
        "BLOCK_S": keys, "BLOCK_D": block_d, "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


_TILES = {  # (bytes a number, head width): keys, most queries, warps, stages
    (2, 64): (128, 64, 4, 3),
    (2, 128): (64, 64, 4, 3),
    (2, 256): (32, 64, 4, 3),
    (4, 64): (32, 16, 4, 2),
    (4, 128): (32, 32, 8, 2),
    (4, 256): (16, 16, 8, 2),
}
MOST_PIECES = 128  # of a context; the second kernel holds them all at once
LEAST_KEYS = (
    256  # of a piece, on average: a shorter one costs more to begin than to read
)


def pieces_of(programs: int, context: int, device: torch.device) -> int:
    """Return into how many pieces to cut contexts, so that each processor has two programs.

    Args:
        programs: how many there are for one piece.
        context: the longest that the block table has room for. (Lengths lie on the GPU, and
            reading one would wait for it.)
        device: of the tensors.
    """
    if _triton.interpreting():  # enough to have some
        return max(1, min(3, context // 64))
    wanted = -(-2 * processors(device) // programs)
    return max(1, min(wanted, -(-context // LEAST_KEYS), MOST_PIECES))


def launch(
    q: Tensor,
    cache: Tensor,
    table: Tensor,
    lengths: Tensor,
    window: int | None,
    scale: float,
) -> Tensor:
    """Return the mixtures, one a query."""
    (b, h, d), (g, c) = q.shape, cache.shape[2:4]
    out = torch.empty((b, h, d), dtype=q.dtype, device=q.device)
    if not q.numel():
        return out
    table, lengths = table.contiguous(), lengths.contiguous()
    constants = sizes(q, h // g)
    tiles = -(-h // g // constants["BLOCK_H"])
    pieces = pieces_of(b * g * tiles, table.shape[1] * c, q.device)
    whole = pieces == 1
    mixed, peak, total = out, None, None
    if not whole:
        like: dict[str, Any] = {"dtype": torch.float32, "device": q.device}
        mixed = torch.empty((b, h, pieces, d), **like)
        peak, total = (torch.empty((b, h, pieces), **like) for _ in range(2))
    _piece_kernel[(b * g * tiles, pieces)](
        q, cache, table, lengths, mixed, peak, total, *q.stride(), *cache.stride(), h, h // g,
        tiles, pieces, table.shape[1], d, window or 0, scale * LOG2_E, WINDOW=window is not None,
        WHOLE=whole, BLOCK_SIZE=c, **constants,
    )  # fmt: skip
    if not whole:
        _sum_kernel[(b * h,)](
            mixed, peak, total, out, pieces, d, PIECES=1 << (pieces - 1).bit_length(),
            BLOCK_D=constants["BLOCK_D"], num_warps=4 if pieces <= 32 else 8,
        )  # fmt: skip
    return out
