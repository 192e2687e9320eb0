"""The forward kernel of attention: a maximum, a sum and a weighted mean, carried along each row.

Axes: b batch, h heads, g heads of keys and values, t queries, s keys, d head width.
"""

import torch
from torch import Tensor

from nnlib.kernels._attention_tiles import (
    Options,
    keys_in_reach,
    load_tile,
    seen_by,
    stays,
    tiles,
)
from nnlib.kernels._triton import jit, tl


@jit
def forward_walk(
    q, peak, total, mixed, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d, position, row,
    begin, end, s, d, window, scale, dropout, MASKED: tl.constexpr, CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr, PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Let a tile of queries meet the keys from `begin` to `end`, BLOCK_S at a time."""
    cols, depth = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    k_step, v_step = tl.cast(k_s, tl.int64), tl.cast(v_s, tl.int64)
    for n in range(begin, end, BLOCK_S):
        k = load_tile(
            k_ptr + n * k_step, cols, depth, k_s, k_d, s - n, d, MASKED, PADDED
        )
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if MASKED:
            key = n + cols[None, :]
            seen = key < s
            if CAUSAL or WINDOW:
                seen = seen & seen_by(key - position[:, None], window, CAUSAL, WINDOW)
            if real_ptr is not None:
                seen = seen & (tl.load(real_ptr + key, mask=key < s, other=0) != 0)
            scores = tl.where(seen, scores * scale, -float("inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            base = tl.where(higher == -float("inf"), 0.0, higher)  # nothing seen yet
            weights = tl.exp2(scores - base[:, None])
        else:
            higher = tl.maximum(peak, tl.max(scores, 1) * scale)
            base = higher
            weights = tl.exp2(scores * scale - base[:, None])
        mend = tl.exp2(
            peak - base
        )  # what was summed under the old maximum, under the new one
        total = total * mend + tl.sum(weights, 1)
        if seed_ptr is not None:  # after the sum: what stays is not divided by less
            stay = stays(seed_ptr, n + cols[None, :], position[:, None], row, dropout)
            weights = tl.where(stay, weights, 0.0)
        v = load_tile(
            v_ptr + n * v_step, cols, depth, v_s, v_d, s - n, d, MASKED, PADDED
        )
        mixed = tl.dot(
            weights.to(v.dtype), v, mixed * mend[:, None], input_precision=PRECISION
        )
        peak = higher
    return peak, total, mixed


@jit
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, real_ptr, seed_ptr, out_ptr, lse_ptr, q_b, q_h, q_t, q_d, k_b, k_g, k_s,
    k_d, v_b, v_g, v_s, v_d, o_b, o_h, o_t, o_d, heads, group, t, s, d, window, scale, dropout,
    rescale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPLIT: tl.constexpr,
    PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
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
    if real_ptr is not None:
        real_ptr += batch * s

    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    q = load_tile(q_ptr, rows, depth, q_t, q_d, t - first, d, True, PADDED)
    position = first + rows + (s - t)
    last = tl.minimum(first + BLOCK_T, t) - 1 + (s - t)
    begin, inner, outer, end = keys_in_reach(
        first + (s - t), last, real_ptr, s, window, CAUSAL, WINDOW, SPLIT, BLOCK_S
    )
    peak = tl.full([BLOCK_T], -float("inf"), tl.float32)  # largest score so far
    total = tl.zeros([BLOCK_T], tl.float32)  # sum of 2^(score - peak) so far
    mixed = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)  # the same sum, of the values
    if WINDOW and SPLIT:
        peak, total, mixed = forward_walk(
            q, peak, total, mixed, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d, position,
            row, begin, inner, s, d, window, scale, dropout, True, CAUSAL, WINDOW, PRECISION,
            PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    if SPLIT:
        peak, total, mixed = forward_walk(
            q, peak, total, mixed, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d, position,
            row, inner, outer, s, d, window, scale, dropout, False, CAUSAL, WINDOW, PRECISION,
            PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    peak, total, mixed = forward_walk(
        q, peak, total, mixed, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d, position, row,
        outer, end, s, d, window, scale, dropout, True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S,
        BLOCK_D,
    )  # fmt: skip
    total = tl.where(total == 0, 1.0, total)
    out = mixed * (rescale / total)[:, None]  # a query that sees nothing gets 0
    lse = (peak + tl.log2(total)) * 0.6931471805599453  # -inf where it sees nothing
    inside = (rows[:, None] < t - first) & (depth[None, :] < d)
    tl.store(out_ptr + rows[:, None] * o_t + depth[None, :] * o_d, out, mask=inside)
    tl.store(lse_ptr + rows, lse, mask=rows < t - first)


def launch_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None,
    seed: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Return the mixtures, and log Σ e^score of each query in float32."""
    b, h, t, _ = q.shape
    out = torch.empty_like(q)
    lse = torch.empty((b, h, t), dtype=torch.float32, device=q.device)
    sizes = tiles("forward", q, dropout=seed is not None, padded=real is not None)
    if q.numel():
        _forward_kernel[(-(-t // sizes["BLOCK_T"]) * b * h,)](
            q, k, v, real, seed, out, lse, *q.stride(), *k.stride(), *v.stride(), *out.stride(),
            *options.numbers(q, k), **options.flags(), **sizes,
        )  # fmt: skip
    return out, lse
