r"""Attention: every query's mean of the values, weighted by $\mathrm{softmax}(q k^\top/\sqrt d)$.

Chapter: chapters/kernels/flash_attention.md     Source: Dao et al. 2022; Dao 2023
Axes: b batch, h heads, g heads of keys and values (g divides h), t queries, s keys, d head width.

Written out, attention makes a table of t·s scores and carries it to memory and back. The kernels
walk over tiles of that table, and no tile leaves the chip: the forward pass carries a maximum, a
sum and a weighted mean along each row, and leaves one number a row (the logarithm of its sum) from
which the backward pass computes any tile again.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.types import Device
from torch.utils.checkpoint import checkpoint

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._dropout import kept, new_seed
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost

WIDEST = 128  # of a head that the kernels take
LOG2_E = 1.4426950408889634
CHUNK = 256  # queries at a time, on the plain path, where all at once would cost more


def visible(
    t: int, s: int, *, is_causal: bool = False, window: int | None = None, device: Device = None
) -> Bool[Tensor, "t s"]:
    """Return which keys each query sees. The last query stands at the last key, whatever t and s.

    Args:
        t: number of queries.
        s: number of keys; query i stands at position p = i + s - t.
        is_causal: whether position p sees no key after it.
        window: the number of keys up to p that it sees, p among them; without `is_causal` as many
            after it.
        device: of the result.
    """
    ahead = torch.arange(s, device=device) - torch.arange(s - t, s, device=device)[:, None]
    seen = ahead <= 0 if is_causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


def attention_reference(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`attention` as its equation reads; holds all b·h·t·s scores at once."""
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    (b, h, t), s, group = q.shape[:3], k.shape[2], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = _scale(q, scale) * q @ k.mT
    seen = visible(t, s, is_causal=is_causal, window=window, device=q.device)
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
    if key_mask is not None:
        seen = seen & key_mask[:, None, None]
    scores = scores.masked_fill(~seen, -math.inf)
    top = scores.amax(-1, keepdim=True) if s else scores.new_zeros(())
    weights = (scores - torch.where(top == -math.inf, 0.0, top)).exp()
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total == 0, 1.0, total)  # a query that sees nothing gets 0
    if dropout:
        seed = new_seed(q.device) if seed is None else seed
        weights = weights * kept(seed, b, h, t, s, dropout) * _rescale(dropout)
    return weights @ v


# ------------------------------------------------------------------------ what the kernels share
@jit
def _load(
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
def _seen(ahead, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):
    """Whether a query sees a key that many places ahead of it."""
    if CAUSAL:
        seen = ahead <= 0
        if WINDOW:
            seen = seen & (ahead > -window)
    elif WINDOW:
        seen = tl.abs(ahead) < window
    return seen


@jit
def _keys_in_reach(
    first, last, s, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Keys that positions first … last may see: begin, inner, outer, end.

    From `inner` to `outer` every position sees every key, and nothing need be masked. Unless SPLIT,
    that part is taken as empty.
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
    if not SPLIT:
        inner, outer = begin, begin
    return begin, inner, outer, end


# ------------------------------------------------------------------------------------- forward
@jit
def _forward_walk(
    q, peak, total, mixed, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, begin, end, s, d, window,
    scale, MASKED: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Let a tile of queries meet the keys from `begin` to `end`, BLOCK_S at a time."""
    cols, depth = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    k_step, v_step = tl.cast(k_s, tl.int64), tl.cast(v_s, tl.int64)
    for n in range(begin, end, BLOCK_S):
        k = _load(k_ptr + n * k_step, cols, depth, k_s, k_d, s - n, d, MASKED, PADDED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if MASKED:
            key = n + cols[None, :]
            seen = key < s
            if CAUSAL or WINDOW:
                seen = seen & _seen(key - position[:, None], window, CAUSAL, WINDOW)
            scores = tl.where(seen, scores * scale, -float("inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            base = tl.where(higher == -float("inf"), 0.0, higher)  # nothing seen yet
            weights = tl.exp2(scores - base[:, None])
        else:
            higher = tl.maximum(peak, tl.max(scores, 1) * scale)
            base = higher
            weights = tl.exp2(scores * scale - base[:, None])
        mend = tl.exp2(peak - base)  # what was summed under the old maximum, under the new one
        total = total * mend + tl.sum(weights, 1)
        v = _load(v_ptr + n * v_step, cols, depth, v_s, v_d, s - n, d, MASKED, PADDED)
        mixed = tl.dot(weights.to(v.dtype), v, mixed * mend[:, None], input_precision=PRECISION)
        peak = higher
    return peak, total, mixed


@jit
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, q_b, q_h, q_t, q_d, k_b, k_g, k_s, k_d,
    v_b, v_g, v_s, v_d, o_b, o_h, o_t, o_d, heads, group, t, s, d, window, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
    PADDED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a tile of queries; `scale` holds log2 e, because exp2 is what the chip has."""
    tiles = tl.cdiv(t, BLOCK_T)
    tile, row = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    if CAUSAL:
        tile = tiles - 1 - tile  # the longest rows first
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    first = tile * BLOCK_T
    q_ptr += batch * q_b + head * q_h + first.to(tl.int64) * q_t
    k_ptr += batch * k_b + head // group * k_g
    v_ptr += batch * v_b + head // group * v_g
    out_ptr += batch * o_b + head * o_h + first.to(tl.int64) * o_t
    lse_ptr += row.to(tl.int64) * t + first

    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    q = _load(q_ptr, rows, depth, q_t, q_d, t - first, d, True, PADDED)
    position = first + rows + (s - t)
    last = tl.minimum(first + BLOCK_T, t) - 1 + (s - t)
    begin, inner, outer, end = _keys_in_reach(
        first + (s - t), last, s, window, CAUSAL, WINDOW, SPLIT, BLOCK_S
    )
    peak = tl.full([BLOCK_T], -float("inf"), tl.float32)  # largest score so far
    total = tl.zeros([BLOCK_T], tl.float32)  # sum of 2^(score - peak) so far
    mixed = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)  # the same sum, of the values
    if WINDOW and SPLIT:
        peak, total, mixed = _forward_walk(
            q, peak, total, mixed, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, begin, inner,
            s, d, window, scale, True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    if SPLIT:
        peak, total, mixed = _forward_walk(
            q, peak, total, mixed, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, inner, outer,
            s, d, window, scale, False, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    peak, total, mixed = _forward_walk(
        q, peak, total, mixed, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, outer, end,
        s, d, window, scale, True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
    )  # fmt: skip
    total = tl.where(total == 0, 1.0, total)
    out = mixed / total[:, None]  # a query that sees nothing gets 0
    lse = (peak + tl.log2(total)) * 0.6931471805599453  # -inf where it sees nothing
    inside = (rows[:, None] < t - first) & (depth[None, :] < d)
    tl.store(out_ptr + rows[:, None] * o_t + depth[None, :] * o_d, out, mask=inside)
    tl.store(lse_ptr + rows, lse, mask=rows < t - first)


# ------------------------------------------------------------------------------------ backward
@jit
def _query_walk(
    q, dout, lse, delta, dq, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, begin, end, s, d, window,
    scale, MASKED: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add what the keys from `begin` to `end` say to the gradient of a tile of queries."""
    cols, depth = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    k_step, v_step = tl.cast(k_s, tl.int64), tl.cast(v_s, tl.int64)
    for n in range(begin, end, BLOCK_S):
        k = _load(k_ptr + n * k_step, cols, depth, k_s, k_d, s - n, d, MASKED, PADDED)
        v = _load(v_ptr + n * v_step, cols, depth, v_s, v_d, s - n, d, MASKED, PADDED)
        weights = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        weights = tl.exp2(weights - lse[:, None])
        if MASKED:
            key = n + cols[None, :]
            seen = key < s
            if CAUSAL or WINDOW:
                seen = seen & _seen(key - position[:, None], window, CAUSAL, WINDOW)
            weights = tl.where(seen, weights, 0.0)
        dweights = tl.dot(dout, tl.trans(v), input_precision=PRECISION)
        dscores = weights * (dweights - delta[:, None])
        dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq


@jit
def _query_gradient_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, dout_ptr, lse_ptr, delta_ptr, dq_ptr,
    q_b, q_h, q_t, q_d, k_b, k_g, k_s, k_d, v_b, v_g, v_s, v_d, o_b, o_h, o_t, o_d,
    do_b, do_h, do_t, do_d, dq_b, dq_h, dq_t, dq_d, heads, group, t, s, d, window, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
    PADDED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a tile of queries. Leaves delta = rowsum(dout · out) for the other kernel."""
    tiles = tl.cdiv(t, BLOCK_T)
    tile, row = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    if CAUSAL:
        tile = tiles - 1 - tile
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    first = tile * BLOCK_T
    q_ptr += batch * q_b + head * q_h + first.to(tl.int64) * q_t
    k_ptr += batch * k_b + head // group * k_g
    v_ptr += batch * v_b + head // group * v_g
    out_ptr += batch * o_b + head * o_h + first.to(tl.int64) * o_t
    dout_ptr += batch * do_b + head * do_h + first.to(tl.int64) * do_t
    dq_ptr += batch * dq_b + head * dq_h + first.to(tl.int64) * dq_t
    lse_ptr += row.to(tl.int64) * t + first
    delta_ptr += row.to(tl.int64) * t + first

    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    out = _load(out_ptr, rows, depth, o_t, o_d, t - first, d, True, PADDED)
    dout = _load(dout_ptr, rows, depth, do_t, do_d, t - first, d, True, PADDED)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    tl.store(delta_ptr + rows, delta, mask=rows < t - first)
    q = _load(q_ptr, rows, depth, q_t, q_d, t - first, d, True, PADDED)
    lse = tl.load(lse_ptr + rows, mask=rows < t - first, other=0.0) * 1.4426950408889634
    position = first + rows + (s - t)
    last = tl.minimum(first + BLOCK_T, t) - 1 + (s - t)
    begin, inner, outer, end = _keys_in_reach(
        first + (s - t), last, s, window, CAUSAL, WINDOW, SPLIT, BLOCK_S
    )
    dq = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    if WINDOW and SPLIT:
        dq = _query_walk(
            q, dout, lse, delta, dq, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, begin, inner,
            s, d, window, scale, True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    if SPLIT:
        dq = _query_walk(
            q, dout, lse, delta, dq, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, inner, outer,
            s, d, window, scale, False, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    dq = _query_walk(
        q, dout, lse, delta, dq, k_ptr, v_ptr, k_s, k_d, v_s, v_d, position, outer, end,
        s, d, window, scale, True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
    )  # fmt: skip
    dq *= scale * 0.6931471805599453  # `scale` holds log2 e
    inside = (rows[:, None] < t - first) & (depth[None, :] < d)
    tl.store(dq_ptr + rows[:, None] * dq_t + depth[None, :] * dq_d, dq, mask=inside)


@jit
def _key_walk(
    k, v, dk, dv, q_ptr, dout_ptr, lse_ptr, delta_ptr, q_t, q_d, do_t, do_d, key, begin, end,
    t, s, d, window, scale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add what the queries from `begin` to `end` of one head say to the gradients of a tile."""
    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    q_step, do_step = tl.cast(q_t, tl.int64), tl.cast(do_t, tl.int64)
    for m in range(begin, end, BLOCK_T):
        # A row past the last query has q = dout = 0 and, by lse = inf, no weight.
        q = _load(q_ptr + m * q_step, rows, depth, q_t, q_d, t - m, d, True, PADDED)
        dout = _load(dout_ptr + m * do_step, rows, depth, do_t, do_d, t - m, d, True, PADDED)
        lse = tl.load(lse_ptr + m + rows, mask=rows < t - m, other=float("inf"))
        delta = tl.load(delta_ptr + m + rows, mask=rows < t - m, other=0.0)
        weights = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale  # keys × queries
        weights = tl.exp2(weights - lse[None, :] * 1.4426950408889634)
        if CAUSAL or WINDOW:  # a key past the last one may get anything: it is not stored
            position = m + rows + (s - t)
            ahead = key[:, None] - position[None, :]
            weights = tl.where(_seen(ahead, window, CAUSAL, WINDOW), weights, 0.0)
        dv = tl.dot(weights.to(dout.dtype), dout, dv, input_precision=PRECISION)
        dweights = tl.dot(v, tl.trans(dout), input_precision=PRECISION)
        dscores = weights * (dweights - delta[None, :])
        dk = tl.dot(dscores.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@jit
def _key_gradient_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    q_b, q_h, q_t, q_d, k_b, k_g, k_s, k_d, v_b, v_g, v_s, v_d, do_b, do_h, do_t, do_d,
    dk_b, dk_g, dk_s, dk_d, dv_b, dv_g, dv_s, dv_d, heads, group, t, s, d, window, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr,
    PADDED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a tile of keys: it meets the queries of every head that reads this one."""
    tiles = tl.cdiv(s, BLOCK_S)
    tile, row = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    readers = heads // group  # heads of keys and values
    batch, head = (row // readers).to(tl.int64), (row % readers).to(tl.int64)
    first = tile * BLOCK_S
    k_ptr += batch * k_b + head * k_g + first.to(tl.int64) * k_s
    v_ptr += batch * v_b + head * v_g + first.to(tl.int64) * v_s
    dk_ptr += batch * dk_b + head * dk_g + first.to(tl.int64) * dk_s
    dv_ptr += batch * dv_b + head * dv_g + first.to(tl.int64) * dv_s
    q_ptr += batch * q_b + head * group * q_h
    dout_ptr += batch * do_b + head * group * do_h
    lse_ptr += (batch * heads + head * group) * t
    delta_ptr += (batch * heads + head * group) * t

    cols, depth = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    k = _load(k_ptr, cols, depth, k_s, k_d, s - first, d, True, PADDED)
    v = _load(v_ptr, cols, depth, v_s, v_d, s - first, d, True, PADDED)
    last = tl.minimum(first + BLOCK_S, s) - 1
    begin, end = 0, t  # of the queries in reach; query i stands at i + s - t
    if CAUSAL:
        begin = first - (s - t)
    elif WINDOW:
        begin = first - window + 1 - (s - t)
    if WINDOW:
        end = tl.minimum(t, last + window - (s - t))
    begin = tl.maximum(begin, 0) // BLOCK_T * BLOCK_T
    dk = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    for _ in range(group):
        dk, dv = _key_walk(
            k, v, dk, dv, q_ptr, dout_ptr, lse_ptr, delta_ptr, q_t, q_d, do_t, do_d, first + cols,
            begin, end, t, s, d, window, scale, CAUSAL, WINDOW, PRECISION, PADDED,
            BLOCK_T, BLOCK_D,
        )  # fmt: skip
        q_ptr += q_h
        dout_ptr += do_h
        lse_ptr += t
        delta_ptr += t
    dk *= scale * 0.6931471805599453
    inside = (cols[:, None] < s - first) & (depth[None, :] < d)
    tl.store(dk_ptr + cols[:, None] * dk_s + depth[None, :] * dk_d, dk, mask=inside)
    tl.store(dv_ptr + cols[:, None] * dv_s + depth[None, :] * dv_d, dv, mask=inside)


# -------------------------------------------------------------------------------------- launch
def _tiles(kernel, x: Tensor) -> dict[str, int | str | bool]:
    """Return the tile sizes of a kernel for heads and numbers like those of `x`.

    Chosen so that nothing spills out of the registers on an A100 or an H100: the tests compile
    each of them for both.
    """
    d = x.shape[-1]
    block_d = max(16, 1 << (d - 1).bit_length())  # the least power of two that holds a head
    wide = 4 if x.dtype == torch.float32 else 2
    t, s, warps, stages = _TILES[kernel, wide, max(64, block_d)]
    if d != block_d and wide == 2:  # the mask of the columns takes registers
        t, s = (t // 2, s) if kernel is _key_gradient_kernel else (t, s // 2)
    if _triton.interpreting():  # which takes its time over each step, not over each number
        t, s = 64, 64
    precision = "tf32x3" if wide == 4 else "tf32"  # three products of the short form for float32
    return {
        **({} if kernel is _key_gradient_kernel else {"SPLIT": wide == 2}),
        "PRECISION": precision, "PADDED": d != block_d, "BLOCK_T": t, "BLOCK_S": s,
        "BLOCK_D": block_d, "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


_TILES = {  # (kernel, bytes a number, head width): queries, keys, warps, stages
    (_forward_kernel, 2, 64): (128, 128, 8, 3),
    (_forward_kernel, 2, 128): (128, 64, 8, 3),
    (_forward_kernel, 4, 64): (128, 32, 8, 2),
    (_forward_kernel, 4, 128): (32, 32, 4, 2),
    (_query_gradient_kernel, 2, 64): (128, 64, 8, 3),
    (_query_gradient_kernel, 2, 128): (128, 64, 8, 2),
    (_query_gradient_kernel, 4, 64): (32, 32, 4, 2),
    (_query_gradient_kernel, 4, 128): (16, 32, 4, 2),
    (_key_gradient_kernel, 2, 64): (32, 128, 8, 3),
    (_key_gradient_kernel, 2, 128): (32, 64, 8, 3),
    (_key_gradient_kernel, 4, 64): (32, 32, 8, 1),
    (_key_gradient_kernel, 4, 128): (32, 16, 8, 2),
}


def _shape(q: Tensor, k: Tensor) -> tuple[int, ...]:
    """Return heads, queries a head of keys, t, s, d, as the kernels take them."""
    return q.shape[1], q.shape[1] // k.shape[1], q.shape[2], k.shape[2], q.shape[3]


def _launch_forward(q, k, v, is_causal: bool, window: int | None, scale: float):
    b, h, t, _ = q.shape
    out = torch.empty_like(q)
    lse = torch.empty((b, h, t), dtype=torch.float32, device=q.device)
    tiles = _tiles(_forward_kernel, q)
    if q.numel():
        _forward_kernel[(-(-t // tiles["BLOCK_T"]) * b * h,)](
            q, k, v, out, lse, *q.stride(), *k.stride(), *v.stride(), *out.stride(),
            *_shape(q, k), window or 0, scale * LOG2_E,
            CAUSAL=is_causal, WINDOW=window is not None, **tiles,
        )  # fmt: skip
    return out, lse


def _launch_backward(q, k, v, out, lse, dout, is_causal: bool, window: int | None, scale: float):
    (b, h, t, _), (g, s) = q.shape, k.shape[1:3]
    dout = dout if dout.stride(-1) == 1 else dout.contiguous()  # a sum's is one number, expanded
    dq, dk, dv, delta = (torch.empty_like(x) for x in (q, k, v, lse))
    options = {"CAUSAL": is_causal, "WINDOW": window is not None}
    numbers = (*_shape(q, k), window or 0, scale * LOG2_E)
    tiles = _tiles(_query_gradient_kernel, q)
    if q.numel():
        _query_gradient_kernel[(-(-t // tiles["BLOCK_T"]) * b * h,)](
            q, k, v, out, dout, lse, delta, dq, *q.stride(), *k.stride(), *v.stride(),
            *out.stride(), *dout.stride(), *dq.stride(), *numbers, **options, **tiles,
        )  # fmt: skip
    tiles = _tiles(_key_gradient_kernel, q)
    if k.numel():
        _key_gradient_kernel[(-(-s // tiles["BLOCK_S"]) * b * g,)](
            q, k, v, dout, lse, delta, dk, dv, *q.stride(), *k.stride(), *v.stride(),
            *dout.stride(), *dk.stride(), *dv.stride(), *numbers, **options, **tiles,
        )  # fmt: skip
    return dq, dk, dv


# -------------------------------------------------------------------------------- registration
def _weights(q, k, lse, is_causal, window, scale) -> Tensor:
    """Return softmax's table in float32, b g (h/g) t s; its logarithms of sums where `lse` is None.

    The form of the operation that `torch.compile` traces without a GPU.
    """
    b, h, t, d = q.shape
    q = q.float().reshape(b, k.shape[1], -1, t, d)
    scores = scale * q @ k.float().unsqueeze(2).mT
    seen = visible(t, k.shape[2], is_causal=is_causal, window=window, device=q.device)
    scores = scores.masked_fill(~seen, -math.inf)
    if lse is None:
        return scores.logsumexp(-1).reshape(b, h, t)
    lse = lse.reshape(scores.shape[:-1])
    return (scores - torch.where(lse == -math.inf, math.inf, lse)[..., None]).exp()


@operation("nnlib::attention")
def _attention(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float
) -> tuple[Tensor, Tensor]:
    if _dispatch.runs_kernel(q):
        return _launch_forward(q, k, v, is_causal, window, scale)
    lse = _weights(q, k, None, is_causal, window, scale)
    weights = _weights(q, k, lse, is_causal, window, scale)
    out = weights @ v.float().unsqueeze(2)
    return torch.empty_like(q).copy_(out.reshape(q.shape)), lse


@operation("nnlib::attention_backward")
def _attention_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor,
    is_causal: bool, window: int | None, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if _dispatch.runs_kernel(q):
        return _launch_backward(q, k, v, out, lse, dout, is_causal, window, scale)
    weights = _weights(q, k, lse, is_causal, window, scale)
    dout5 = dout.float().reshape(*weights.shape[:-1], -1)
    delta = (dout5 * out.float().reshape(dout5.shape)).sum(-1, keepdim=True)
    dscores = weights * (dout5 @ v.float().unsqueeze(2).mT - delta) * scale
    dq = (dscores @ k.float().unsqueeze(2)).reshape(q.shape)
    dk = (dscores.mT @ q.float().reshape(dout5.shape)).sum(2)
    dv = (weights.mT @ dout5).sum(2)
    dq, dk, dv = (torch.empty_like(x).copy_(dx) for x, dx in ((q, dq), (k, dk), (v, dv)))
    return dq, dk, dv


def _save(ctx, inputs, output):
    q, k, v, *ctx.options = inputs
    out, lse = output
    ctx.save_for_backward(q, k, v, out, lse)
    ctx.mark_non_differentiable(lse)


def _differentiate(ctx, dout, _):
    q, k, v, out, lse = ctx.saved_tensors
    grads = torch.ops.nnlib.attention_backward(q, k, v, out, lse, dout, *ctx.options)
    return *grads, None, None, None


_attention.register_autograd(_differentiate, setup_context=_save)


# -------------------------------------------------------------------------------------- public
def attention_triton(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`attention` by the Triton kernels, on a GPU or in the interpreter; heads of at most 128.

    Raises:
        ValueError: a mask is given, which only plain torch takes, or heads are wider than 128.
    """
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    if mask is not None:
        raise ValueError("attention_triton takes no mask: attention() hands one to plain torch")
    if q.shape[-1] > WIDEST:
        raise ValueError(f"attention_triton takes heads of width ≤ {WIDEST}, got {q.shape[-1]}")
    _dispatch.require("attention_triton", q)
    return _with_lse(q, k, v, is_causal, window, scale)[0]


def _with_lse(q, k, v, is_causal: bool, window: int | None, scale: float | None):
    """Return what the kernels leave: the output, and log Σ e^score of each query in float32."""
    d, scale = q.shape[-1], _scale(q, scale)
    if scale < 0:  # the kernels multiply a maximum by it
        return _with_lse(-q, k, v, is_causal, window, -scale)
    if d % 16:  # else rows begin anywhere, and every number is fetched by itself
        q, k, v = (F.pad(x, (0, -d % 16)) for x in (q, k, v))
        out, lse = _with_lse(q, k, v, is_causal, window, scale)
        return out[..., :d], lse
    if _triton.interpreting() and q.dtype == torch.bfloat16:  # its bfloat16 is silently wrong
        out, lse = _with_lse(q.float(), k.float(), v.float(), is_causal, window, scale)
        return out.bfloat16(), lse
    return torch.ops.nnlib.attention(q, k, v, is_causal, window, scale)


def attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    r"""Scaled dot product attention, $\mathrm{softmax}(q k^\top / \sqrt d)\, v$ over visible keys.

    On a GPU the Triton kernels run, in tiles, with no t × s table in memory, when there is no
    `mask` and heads are at most 128 wide; else the fastest form that plain torch has.

    Args:
        q: queries.
        k: keys; with fewer heads than `q`, each serves h/g queries in a row.
        v: values, of the shape of `k`.
        is_causal: whether a query sees no later key. Query i stands at position i + s - t: the
            last query at the last key, as in decoding. (torch aligns the first with the first.)
        window: how many keys up to its own a query sees, its own among them; ≥ 1, or None.
        scale: what scores are multiplied by; None is 1/√d.
        mask: True where a query may look, or numbers added to the scores; broadcast to b h t s.
        key_mask: True at real keys, False at padding.
        dropout: probability of dropping a weight, 0 … 1; those that stay are divided by 1 − it.
        seed: an integer on the device of `q` that says which weights are dropped, the same in
            every form; None draws one from torch's generator.

    Returns:
        One mixture of values a query; 0 where a query sees nothing.

    Example:
        >>> q, k = torch.tensor([[[[2.0]]]]), torch.tensor([[[[0.0], [1.0], [2.0]]]])
        >>> v = torch.tensor([[[[1.0], [2.0], [3.0]]]])
        >>> attention(q, k, v).item(), attention(q, k, v, window=1).item()
        (2.8509..., 3.0)

    Source: Vaswani et al. 2017; computed in tiles: Dao et al. 2022.
    """
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    plain = mask is not None or key_mask is not None or dropout or q.shape[-1] > WIDEST
    if not plain and _dispatch.use_triton(q):
        return _with_lse(q, k, v, is_causal, window, scale)[0]
    return _attention_torch(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)


def _attention_torch(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float | None,
    mask: Tensor | None, key_mask: Tensor | None, dropout: float, seed: Tensor | None,
) -> Tensor:  # fmt: skip
    """The fastest plain torch: one fused call, or one for each chunk of queries."""
    (b, h, t, d), (g, s) = q.shape, k.shape[1:3]
    if not (t and s):
        return attention_reference(q, k, v, scale=scale)
    mask = None if mask is None else torch.atleast_2d(mask)  # one for all, or one a key
    if dropout and seed is not None:  # torch's own generator cannot be asked for these
        return attention_reference(
            q, k, v, is_causal=is_causal, window=window, scale=scale, mask=mask,
            key_mask=key_mask, dropout=dropout, seed=seed,
        )  # fmt: skip
    if t == 1 and window is not None:
        k, v = k[:, :, -window:], v[:, :, -window:]
        mask = mask if mask is None or mask.shape[-1] == 1 else mask[..., -window:]
        key_mask = None if key_mask is None else key_mask[:, -window:]
        s, window = k.shape[2], None
    if t == 1 and mask is None and key_mask is None and not dropout:
        # the queries that share a head of keys are a sequence of their own
        mixed = F.scaled_dot_product_attention(q.reshape(b, g, h // g, d), k, v, scale=scale)
        return mixed.reshape(q.shape)
    # torch has a fused form for each of these, except for dropout on a CPU, where it makes the
    # whole table: there a chunk is made twice rather than kept
    again = bool(dropout) and q.device.type == "cpu" and t > CHUNK
    narrow = window is not None and mask is None and s > 2 * (window + CHUNK)
    chunks = range(0, t, CHUNK) if again or narrow else (0,)
    size = CHUNK if again or narrow else t
    parts = []
    for at in chunks:
        given = (
            q[:, :, at : at + size],
            k,
            v,
            at + s - t,
            is_causal,
            window,
            scale,
            mask,
            key_mask,
        )
        if again and torch.is_grad_enabled():
            parts.append(checkpoint(_chunk, *given, dropout, t, use_reentrant=False))
        else:
            parts.append(_chunk(*given, dropout, t))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, first: int, is_causal: bool, window: int | None,
    scale: float | None, mask: Tensor | None, key_mask: Tensor | None, dropout: float, t: int,
) -> Tensor:  # fmt: skip
    """Answer the queries from position `first` on, of t in all, with the keys they can see."""
    rows, s = q.shape[2], k.shape[2]
    last = first + rows - 1
    low, high = 0, s
    if window is not None:
        low = max(first - window + 1, 0)
        high = min(last + (1 if is_causal else window), s)
    elif is_causal:
        high = min(last + 1, s)
    if high <= low:
        return torch.zeros_like(q)
    aligned = is_causal and window is None and mask is None and key_mask is None and t == rows == s
    if window is not None or (is_causal and rows > 1 and not aligned):
        ahead = torch.arange(low, high, device=q.device)
        ahead = ahead - torch.arange(first, last + 1, device=q.device)[:, None]
        seen = ahead < (1 if is_causal or window is None else window)
        seen = seen if window is None else (ahead > -window) & seen
    else:
        seen = None
    if key_mask is not None:
        real = key_mask[:, None, None, low:high]
        seen = real if seen is None else seen & real
    if mask is not None:
        at = first - (s - t)
        mask = mask if mask.ndim > 1 else mask[None]
        mask = mask if mask.shape[-1] == 1 else mask[..., low:high]
        mask = mask if mask.shape[-2] == 1 else mask[..., at : at + rows, :]
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        if seen is None:
            seen = mask
        else:
            added = mask.dtype != torch.bool
            seen = torch.where(seen, mask, -math.inf) if added else seen & mask
    return F.scaled_dot_product_attention(
        q, k[:, :, low:high], v[:, :, low:high], attn_mask=seen, is_causal=aligned, scale=scale,
        dropout_p=dropout, enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip


def attention_cost(
    q_shape: tuple[int, int, int, int],
    k_shape: tuple[int, int, int, int],
    element_size: int = 4,
    *,
    is_causal: bool = False,
    window: int | None = None,
    backward: bool = False,
) -> Cost:
    """Return the cost of attention in tiles: only pairs that are seen, no table in memory.

    Args:
        q_shape: b, h, t, d of the queries.
        k_shape: b, g, s, d of the keys and of the values.
        element_size: bytes a number.
        is_causal: as `attention` takes it.
        window: as `attention` takes it.
        backward: whether to count the gradient instead.

    Example:
        >>> attention_cost((1, 1, 4, 8), (1, 1, 4, 8), is_causal=True).flops  # 10 of 16 pairs
        320
    """
    b, h, t, d = q_shape
    pairs = visible_pairs(t, k_shape[2], is_causal=is_causal, window=window)
    flops = 4 * b * h * pairs * d  # a multiplication and an addition, for q·k and for weight·v
    queries, keys = math.prod(q_shape), math.prod(k_shape)
    if backward:  # five products instead of two; reads q k v o do, writes dq dk dv
        return Cost(flops * 5 // 2, (4 * queries + 4 * keys) * element_size)
    return Cost(flops, (2 * queries + 2 * keys) * element_size)


def visible_pairs(t: int, s: int, *, is_causal: bool = False, window: int | None = None) -> int:
    """Return how many pairs of a query and a key `visible` allows, without building its table."""
    position = torch.arange(s - t, s)
    reach = s if window is None else window
    low = (position - reach + 1).clamp(0, s) if window is not None else torch.zeros_like(position)
    high = (position + (1 if is_causal else reach)).clamp(0, s)
    high = high if is_causal or window is not None else torch.full_like(position, s)
    return int((high - low).clamp(0).sum())


def _scale(q: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)


def _rescale(dropout: float) -> float:
    """Return what the weights that stay are multiplied by, so that their sum stays 1 on average."""
    return 0.0 if dropout == 1 else 1 / (1 - dropout)


def _check(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float | None,
    mask: Tensor | None, key_mask: Tensor | None, dropout: float, seed: Tensor | None,
) -> None:  # fmt: skip
    b, h, t, d = checks.tensor("q", q, shape=("b", "h", "t", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, "g", "s", d), floating=True)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    _dispatch.alike(q=q, k=k, v=v)
    if d == 0:
        raise ValueError("the heads of q must be 1 wide or more, got d = 0")
    if k.shape[1] == 0 or h % k.shape[1]:
        raise ValueError(f"the {k.shape[1]} heads of k do not divide the {h} heads of q")
    checks.flag("is_causal", is_causal)
    if window is not None:
        checks.count("window", window)
    if scale is not None:
        checks.number("scale", scale)
    if mask is not None:
        checks.mask("mask", mask, (b, h, t, k.shape[2]))
    if key_mask is not None:
        checks.key_mask("key_mask", key_mask, (b, k.shape[2]))
    checks.number("dropout", dropout, least=0, most=1)
    if seed is not None:
        checks.tensor("seed", seed, shape=(), floating=False)
