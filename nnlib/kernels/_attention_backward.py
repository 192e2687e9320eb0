"""The backward kernels of attention: tiles of weights made again from one number a query.

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
def query_walk(
    q, dout, lse, delta, dq, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d, position, row,
    begin, end, s, d, window, scale, dropout, rescale, MASKED: tl.constexpr, CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr, PRECISION: tl.constexpr, PADDED: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add what the keys from `begin` to `end` say to the gradient of a tile of queries."""
    cols, depth = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    k_step, v_step = tl.cast(k_s, tl.int64), tl.cast(v_s, tl.int64)
    for n in range(begin, end, BLOCK_S):
        k = load_tile(
            k_ptr + n * k_step, cols, depth, k_s, k_d, s - n, d, MASKED, PADDED
        )
        v = load_tile(
            v_ptr + n * v_step, cols, depth, v_s, v_d, s - n, d, MASKED, PADDED
        )
        weights = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        weights = tl.exp2(weights - lse[:, None])
        if MASKED:
            key = n + cols[None, :]
            seen = key < s
            if CAUSAL or WINDOW:
                seen = seen & seen_by(key - position[:, None], window, CAUSAL, WINDOW)
            if real_ptr is not None:
                seen = seen & (tl.load(real_ptr + key, mask=key < s, other=0) != 0)
            weights = tl.where(seen, weights, 0.0)
        dweights = tl.dot(dout, tl.trans(v), input_precision=PRECISION)
        if seed_ptr is not None:
            stay = stays(seed_ptr, n + cols[None, :], position[:, None], row, dropout)
            dweights = tl.where(stay, dweights * rescale, 0.0)
        dscores = weights * (dweights - delta[:, None])
        dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq


@jit
def _query_gradient_kernel(
    q_ptr, k_ptr, v_ptr, real_ptr, seed_ptr, out_ptr, dout_ptr, lse_ptr, delta_ptr, dq_ptr, q_b,
    q_h, q_t, q_d, k_b, k_g, k_s, k_d, v_b, v_g, v_s, v_d, o_b, o_h, o_t, o_d, do_b, do_h, do_t,
    do_d, dq_b, dq_h, dq_t, dq_d, heads, group, t, s, d, window, scale, dropout, rescale,
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
    if real_ptr is not None:
        real_ptr += batch * s

    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    out = load_tile(out_ptr, rows, depth, o_t, o_d, t - first, d, True, PADDED)
    dout = load_tile(dout_ptr, rows, depth, do_t, do_d, t - first, d, True, PADDED)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    tl.store(delta_ptr + rows, delta, mask=rows < t - first)
    q = load_tile(q_ptr, rows, depth, q_t, q_d, t - first, d, True, PADDED)
    lse = tl.load(lse_ptr + rows, mask=rows < t - first, other=0.0) * 1.4426950408889634
    position = first + rows + (s - t)
    last = tl.minimum(first + BLOCK_T, t) - 1 + (s - t)
    begin, inner, outer, end = keys_in_reach(
        first + (s - t), last, real_ptr, s, window, CAUSAL, WINDOW, SPLIT, BLOCK_S
    )
    dq = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    if WINDOW and SPLIT:
        dq = query_walk(
            q, dout, lse, delta, dq, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d,
            position, row, begin, inner, s, d, window, scale, dropout, rescale,
            True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    if SPLIT:
        dq = query_walk(
            q, dout, lse, delta, dq, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d,
            position, row, inner, outer, s, d, window, scale, dropout, rescale,
            False, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
        )  # fmt: skip
    dq = query_walk(
        q, dout, lse, delta, dq, k_ptr, v_ptr, real_ptr, seed_ptr, k_s, k_d, v_s, v_d,
        position, row, outer, end, s, d, window, scale, dropout, rescale,
        True, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_S, BLOCK_D,
    )  # fmt: skip
    dq *= scale * 0.6931471805599453  # `scale` holds log2 e
    inside = (rows[:, None] < t - first) & (depth[None, :] < d)
    tl.store(dq_ptr + rows[:, None] * dq_t + depth[None, :] * dq_d, dq, mask=inside)


@jit
def key_walk(
    k, v, dk, dv, q_ptr, dout_ptr, lse_ptr, delta_ptr, seed_ptr, q_t, q_d, do_t, do_d, key, real,
    row, begin, end, t, s, d, window, scale, dropout, rescale, HIDDEN: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add what the queries from `begin` to `end` of one head say to the gradients of a tile."""
    rows, depth = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D)
    q_step, do_step = tl.cast(q_t, tl.int64), tl.cast(do_t, tl.int64)
    for m in range(begin, end, BLOCK_T):
        # A row past the last query has q = dout = 0 and, by lse = inf, no weight.
        q = load_tile(q_ptr + m * q_step, rows, depth, q_t, q_d, t - m, d, True, PADDED)
        dout = load_tile(
            dout_ptr + m * do_step, rows, depth, do_t, do_d, t - m, d, True, PADDED
        )
        lse = tl.load(lse_ptr + m + rows, mask=rows < t - m, other=float("inf"))
        delta = tl.load(delta_ptr + m + rows, mask=rows < t - m, other=0.0)
        # keys × queries
        weights = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        weights = tl.exp2(weights - lse[None, :] * 1.4426950408889634)
        position = m + rows + (s - t)
        # a key past the last one may get anything: it is not stored
        if CAUSAL or WINDOW:
            ahead = key[:, None] - position[None, :]
            weights = tl.where(seen_by(ahead, window, CAUSAL, WINDOW), weights, 0.0)
        if HIDDEN:
            weights = tl.where(real[:, None], weights, 0.0)
        dweights = tl.dot(v, tl.trans(dout), input_precision=PRECISION)
        if seed_ptr is not None:
            stay = stays(seed_ptr, key[:, None], position[None, :], row, dropout)
            dweights = tl.where(stay, dweights * rescale, 0.0)
            left = tl.where(stay, weights * rescale, 0.0)
            dv = tl.dot(left.to(dout.dtype), dout, dv, input_precision=PRECISION)
        else:
            dv = tl.dot(weights.to(dout.dtype), dout, dv, input_precision=PRECISION)
        dscores = weights * (dweights - delta[None, :])
        dk = tl.dot(dscores.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@jit
def _key_gradient_kernel(
    q_ptr, k_ptr, v_ptr, real_ptr, seed_ptr, dout_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    q_b, q_h, q_t, q_d, k_b, k_g, k_s, k_d, v_b, v_g, v_s, v_d, do_b, do_h, do_t, do_d,
    dk_b, dk_g, dk_s, dk_d, dv_b, dv_g, dv_s, dv_d, heads, group, t, s, d, window, scale,
    dropout, rescale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr,
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
    k = load_tile(k_ptr, cols, depth, k_s, k_d, s - first, d, True, PADDED)
    v = load_tile(v_ptr, cols, depth, v_s, v_d, s - first, d, True, PADDED)
    last = tl.minimum(first + BLOCK_S, s) - 1
    begin, end = 0, t  # of the queries in reach; query i stands at i + s - t
    if CAUSAL:
        begin = first - (s - t)
    elif WINDOW:
        begin = first - window + 1 - (s - t)
    if WINDOW:
        end = tl.minimum(t, last + window - (s - t))
    begin = tl.maximum(begin, 0) // BLOCK_T * BLOCK_T
    real = cols < s - first
    if real_ptr is not None:
        real = tl.load(real_ptr + batch * s + first + cols, mask=real, other=0) != 0
        end = tl.where(
            tl.max(real.to(tl.int32), 0) > 0, end, 0
        )  # a tile of padding meets nobody
    asked = (batch * heads + head * group).to(
        tl.int32
    )  # the first of the heads that ask
    dk = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    for reader in range(group):
        dk, dv = key_walk(
            k, v, dk, dv, q_ptr, dout_ptr, lse_ptr, delta_ptr, seed_ptr, q_t, q_d, do_t, do_d,
            first + cols, real, asked + reader, begin, end, t, s, d, window, scale, dropout,
            rescale, real_ptr is not None, CAUSAL, WINDOW, PRECISION, PADDED, BLOCK_T, BLOCK_D,
        )  # fmt: skip
        q_ptr += q_h
        dout_ptr += do_h
        lse_ptr += t
        delta_ptr += t
    dk *= scale * 0.6931471805599453
    inside = (cols[:, None] < s - first) & (depth[None, :] < d)
    tl.store(dk_ptr + cols[:, None] * dk_s + depth[None, :] * dk_d, dk, mask=inside)
    tl.store(dv_ptr + cols[:, None] * dv_s + depth[None, :] * dv_d, dv, mask=inside)


def launch_backward(
    q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, seed: Tensor | None,
    out: Tensor, lse: Tensor, dout: Tensor, options: Options,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of queries, keys and values."""
    (b, h, t, _), (g, s) = q.shape, k.shape[1:3]
    # a sum's is one number, expanded
    dout = dout if dout.stride(-1) == 1 else dout.contiguous()
    dq, dk, dv, delta = (torch.empty_like(x) for x in (q, k, v, lse))
    more = {"dropout": seed is not None, "padded": real is not None}
    numbers, flags = options.numbers(q, k), options.flags()
    sizes = tiles("queries", q, **more)
    if q.numel():
        _query_gradient_kernel[(-(-t // sizes["BLOCK_T"]) * b * h,)](
            q, k, v, real, seed, out, dout, lse, delta, dq, *q.stride(), *k.stride(), *v.stride(),
            *out.stride(), *dout.stride(), *dq.stride(), *numbers, **flags, **sizes,
        )  # fmt: skip
    sizes = tiles("keys", q, **more)
    if k.numel():
        _key_gradient_kernel[(-(-s // sizes["BLOCK_S"]) * b * g,)](
            q, k, v, real, seed, dout, lse, delta, dk, dv, *q.stride(), *k.stride(), *v.stride(),
            *dout.stride(), *dk.stride(), *dv.stride(), *numbers, **flags, **sizes,
        )  # fmt: skip
    return dq, dk, dv
