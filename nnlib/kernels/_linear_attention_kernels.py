"""The Triton kernels of linear attention: states between chunks, outputs and gradients in them.

Axes: b batch, h heads, t steps, d width of queries and keys, v width of values.

One program walks from chunk to chunk with a tile of the state; then all chunks at once take what
entered them and what happened in them. The gradient of the values is that second kernel with time
reversed: keys ask, and queries of later steps answer.
"""

from typing import Any

import torch
from torch import Tensor

from nnlib.kernels import _triton
from nnlib.kernels._attention_tiles import load_tile
from nnlib.kernels._triton import jit, tl


@jit
def chunk_decays(g_ptr, g_t, count, LENGTH: tl.constexpr):
    """Sums of log₂ decay up to each step of a chunk: a multiple of 1/8, and a small rest.

    The multiples are exact in float32, and so are their differences. Subtracting whole sums, which
    may be large and close to each other, would not be.
    """
    at = tl.arange(0, LENGTH)
    g = tl.load(g_ptr + at * g_t, mask=at < count, other=0.0).to(tl.float32)
    # nothing is left below it, and the sums are finite
    g = tl.where(g < -200.0, -200.0, g)
    total = tl.cumsum(g.to(tl.float64) * 1.4426950408889634, 0)
    coarse = (total * 8.0).to(tl.int32).to(tl.float32) * 0.125
    return coarse, (total - coarse.to(tl.float64)).to(tl.float32)


@jit
def last_of(x, LENGTH: tl.constexpr):
    """The last entry of a vector, as a number."""
    return tl.sum(tl.where(tl.arange(0, LENGTH) == LENGTH - 1, x, 0.0), 0)


@jit
def fading(coarse, fine):
    """What is left at step i, a row, of what was written at step j."""
    return tl.exp2(
        (coarse[:, None] - coarse[None, :]) + (fine[:, None] - fine[None, :])
    )


@jit
def remaining(coarse, fine, LENGTH: tl.constexpr):
    """What is left of each step at the end of the chunk."""
    ahead = last_of(coarse, LENGTH) - coarse
    return tl.exp2(ahead + (last_of(fine, LENGTH) - fine))


@jit
def whole_chunk(coarse, fine, LENGTH: tl.constexpr):
    """What a chunk leaves of the state that enters it."""
    return tl.exp2(last_of(coarse, LENGTH) + last_of(fine, LENGTH))


@jit
def _state_kernel(
    k_ptr, v_ptr, g_ptr, start_ptr, states_ptr, end_ptr, k_b, k_h, k_t, k_d, v_b, v_h, v_t, v_d,
    g_b, g_h, g_t, heads, steps, d_k, d_v, chunks, scale, REVERSE: tl.constexpr,
    LENGTH: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a tile of the state. Leaves the state that enters each chunk, and the last one.

    REVERSE: the gradient of the state that leaves each chunk, from queries and gradients of y.
    """
    row = tl.program_id(0).to(tl.int64)
    wide = tl.cdiv(d_v, BLOCK_V)
    first_k = tl.program_id(1) // wide * BLOCK_K
    first_v = tl.program_id(1) % wide * BLOCK_V
    at, ks, vs = tl.arange(0, LENGTH), tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V)
    k_ptr += row // heads * k_b + row % heads * k_h + first_k * k_d
    v_ptr += row // heads * v_b + row % heads * v_h + first_v * v_d
    g_ptr += row // heads * g_b + row % heads * g_h
    places = (first_k + ks[:, None]) * d_v + first_v + vs[None, :]
    inside = (ks[:, None] < d_k - first_k) & (vs[None, :] < d_v - first_v)
    k_step, v_step = tl.cast(k_t, tl.int64) * LENGTH, tl.cast(v_t, tl.int64) * LENGTH
    g_step = tl.cast(g_t, tl.int64) * LENGTH
    size = tl.cast(d_k, tl.int64) * d_v
    d_k, d_v = d_k - first_k, d_v - first_v  # from here on
    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    if start_ptr is not None:
        state = tl.load(start_ptr + row * size + places, mask=inside, other=0.0)
    for i in range(0, chunks):
        chunk = chunks - 1 - i if REVERSE else i
        at_state = states_ptr + (row * chunks + chunk) * size
        tl.store(at_state + places, state, mask=inside)
        count, k_at, v_at = steps - chunk * LENGTH, chunk * k_step, chunk * v_step
        k = load_tile(k_ptr + k_at, at, ks, k_t, k_d, count, d_k, True, True)
        v = load_tile(v_ptr + v_at, at, vs, v_t, v_d, count, d_v, True, True)
        coarse, fine = chunk_decays(g_ptr + chunk * g_step, g_t, count, LENGTH)
        share = remaining(coarse, fine, LENGTH)
        if REVERSE:
            share = tl.exp2(coarse + fine) * scale
        k = (k.to(tl.float32) * share[:, None]).to(v.dtype)
        state *= whole_chunk(coarse, fine, LENGTH)
        state = tl.dot(tl.trans(k), v, state, input_precision=PRECISION)
    tl.store(end_ptr + row * size + places, state, mask=inside)


@jit
def _mix_kernel(
    q_ptr, k_ptr, v_ptr, g_ptr, states_ptr, y_ptr, q_b, q_h, q_t, q_d, k_b, k_h, k_t, k_d, v_b,
    v_h, v_t, v_d, g_b, g_h, g_t, y_b, y_h, y_t, y_d, heads, steps, d_k, d_v, chunks, scale,
    REVERSE: tl.constexpr, LENGTH: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a chunk and a block of values: what entered it, and what its steps add.

    REVERSE: a step receives from later ones, and from the state that leaves the chunk.
    """
    place = tl.program_id(0).to(tl.int64)
    row, first = place // chunks, place % chunks * LENGTH
    first_v = tl.program_id(1) * BLOCK_V
    count = (steps - first).to(tl.int32)
    at, ks, vs = tl.arange(0, LENGTH), tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V)
    q_ptr += row // heads * q_b + row % heads * q_h + first * q_t
    k_ptr += row // heads * k_b + row % heads * k_h + first * k_t
    v_ptr += row // heads * v_b + row % heads * v_h + first * v_t + first_v * v_d
    g_ptr += row // heads * g_b + row % heads * g_h + first * g_t
    y_ptr += row // heads * y_b + row % heads * y_h + first * y_t + first_v * y_d
    states_ptr += place * d_k * d_v + first_v
    mixed = tl.zeros([LENGTH, BLOCK_V], tl.float32)
    weights = tl.zeros([LENGTH, LENGTH], tl.float32)
    for n in range(0, d_k, BLOCK_K):
        q = load_tile(q_ptr + n * q_d, at, ks, q_t, q_d, count, d_k - n, True, True)
        k = load_tile(k_ptr + n * k_d, at, ks, k_t, k_d, count, d_k - n, True, True)
        state = load_tile(
            states_ptr + n * d_v, ks, vs, d_v, 1, d_k - n, d_v - first_v, True, True
        )
        weights = tl.dot(q, tl.trans(k), weights, input_precision=PRECISION)
        mixed = tl.dot(q, state, mixed, input_precision=PRECISION)
    coarse, fine = chunk_decays(g_ptr, g_t, count, LENGTH)
    if REVERSE:
        seen, decay = at[:, None] <= at[None, :], fading(-coarse, -fine)
        mixed *= remaining(coarse, fine, LENGTH)[:, None]
    else:
        seen, decay = at[:, None] >= at[None, :], fading(coarse, fine)
        mixed *= (tl.exp2(coarse + fine) * scale)[:, None]
    weights = tl.where(seen, weights * decay * scale, 0.0)
    v = load_tile(v_ptr, at, vs, v_t, v_d, count, d_v - first_v, True, True)
    mixed = tl.dot(weights.to(v.dtype), v, mixed, input_precision=PRECISION)
    inside = (at[:, None] < count) & (vs[None, :] < d_v - first_v)
    tl.store(y_ptr + at[:, None] * y_t + vs[None, :] * y_d, mixed, mask=inside)


@jit
def _gradient_kernel(
    q_ptr, k_ptr, v_ptr, dy_ptr, g_ptr, entering_ptr, leaving_ptr, dq_ptr, dk_ptr, dg_ptr, q_b,
    q_h, q_t, q_d, k_b, k_h, k_t, k_d, v_b, v_h, v_t, v_d, dy_b, dy_h, dy_t, dy_d, g_b, g_h, g_t,
    dq_b, dq_h, dq_t, dq_d, dk_b, dk_h, dk_t, dk_d, heads, rows, steps, d_k, d_v, chunks, scale,
    LENGTH: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a chunk and a block of keys: gradients of queries, keys and decays.

    Of the decays it leaves what this block of keys says; the blocks are summed afterwards.
    """
    place = tl.program_id(0).to(tl.int64)
    row, first = place // chunks, place % chunks * LENGTH
    first_k = tl.program_id(1) * BLOCK_K
    count = (steps - first).to(tl.int32)
    at, ks, vs = tl.arange(0, LENGTH), tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V)
    q_ptr += row // heads * q_b + row % heads * q_h + first * q_t + first_k * q_d
    k_ptr += row // heads * k_b + row % heads * k_h + first * k_t + first_k * k_d
    v_ptr += row // heads * v_b + row % heads * v_h + first * v_t
    dy_ptr += row // heads * dy_b + row % heads * dy_h + first * dy_t
    g_ptr += row // heads * g_b + row % heads * g_h + first * g_t
    entering_ptr += (place * d_k + first_k) * d_v
    leaving_ptr += (place * d_k + first_k) * d_v
    dq = tl.zeros([LENGTH, BLOCK_K], tl.float32)
    dk = tl.zeros([LENGTH, BLOCK_K], tl.float32)
    dweights = tl.zeros([LENGTH, LENGTH], tl.float32)
    through = tl.zeros([BLOCK_K], tl.float32)  # what passes the whole chunk
    for n in range(0, d_v, BLOCK_V):
        left = d_v - n
        dy = load_tile(dy_ptr + n * dy_d, at, vs, dy_t, dy_d, count, left, True, True)
        v = load_tile(v_ptr + n * v_d, at, vs, v_t, v_d, count, left, True, True)
        # the states of this block of keys
        high = d_k - first_k
        entering = load_tile(entering_ptr + n, ks, vs, d_v, 1, high, left, True, True)
        leaving = load_tile(leaving_ptr + n, ks, vs, d_v, 1, high, left, True, True)
        dweights = tl.dot(dy, tl.trans(v), dweights, input_precision=PRECISION)
        dq = tl.dot(dy, tl.trans(entering), dq, input_precision=PRECISION)
        dk = tl.dot(v, tl.trans(leaving), dk, input_precision=PRECISION)
        through += tl.sum(entering.to(tl.float32) * leaving.to(tl.float32), 1)
    coarse, fine = chunk_decays(g_ptr, g_t, count, LENGTH)
    dq *= (tl.exp2(coarse + fine) * scale)[:, None]
    dk *= remaining(coarse, fine, LENGTH)[:, None]
    q = load_tile(q_ptr, at, ks, q_t, q_d, count, d_k - first_k, True, True)
    k = load_tile(k_ptr, at, ks, k_t, k_d, count, d_k - first_k, True, True)
    flow = tl.sum(q.to(tl.float32) * dq, 1)  # of what came from before the chunk
    after = tl.sum(k.to(tl.float32) * dk, 1)  # of what goes on behind it
    dweights *= fading(coarse, fine) * scale
    dweights = tl.where(at[:, None] >= at[None, :], dweights, 0.0)
    both = dweights * tl.dot(q, tl.trans(k), input_precision=PRECISION)
    flow += tl.sum(both, 1) - tl.sum(both, 0)
    dq = tl.dot(dweights.to(k.dtype), k, dq, input_precision=PRECISION)
    dk = tl.dot(tl.trans(dweights).to(q.dtype), q, dk, input_precision=PRECISION)
    # a decay at step t weighs what goes from before t to t or later
    dg = tl.cumsum(flow, 0, reverse=True) + (tl.cumsum(after, 0) - after)
    dg += whole_chunk(coarse, fine, LENGTH) * tl.sum(through, 0)
    inside = (at[:, None] < count) & (ks[None, :] < d_k - first_k)
    dq_ptr += row // heads * dq_b + row % heads * dq_h + first * dq_t + first_k * dq_d
    dk_ptr += row // heads * dk_b + row % heads * dk_h + first * dk_t + first_k * dk_d
    tl.store(dq_ptr + at[:, None] * dq_t + ks[None, :] * dq_d, dq, mask=inside)
    tl.store(dk_ptr + at[:, None] * dk_t + ks[None, :] * dk_d, dk, mask=inside)
    dg_ptr += (tl.program_id(1).to(tl.int64) * rows + row) * steps + first
    tl.store(dg_ptr + at, dg, mask=at < count)


# ---------------------------------------------------------------------------------- launches
def sizes(kernel: str, q: Tensor, d_k: int, d_v: int) -> dict[str, Any]:
    """Return the tile sizes of a kernel, chosen so that nothing spills out of the registers.

    Args:
        kernel: "state", "mix" or "gradient".
        q: of the dtype that is read.
        d_k: width of the keys.
        d_v: width of the values.
    """
    wide = 4 if q.dtype == torch.float32 else 2
    # the interpreter takes its time over each step, not over each number
    at = (kernel, 2 if _triton.interpreting() else wide)
    widest_k, widest_v, warps, stages = _SIZES[at]
    return {
        "LENGTH": length(q), "BLOCK_K": _block(d_k, widest_k), "BLOCK_V": _block(d_v, widest_v),
        "PRECISION": "tf32x3" if wide == 4 else "tf32", "num_warps": warps, "num_stages": stages,
    }  # fmt: skip


def length(q: Tensor) -> int:
    """Return the steps of a chunk."""
    return 32 if q.dtype == torch.float32 and not _triton.interpreting() else 64


def _block(width: int, widest: int) -> int:
    return min(max(16, 1 << (width - 1).bit_length()), widest)


_SIZES = {  # (kernel, bytes a number): keys, values, warps, stages
    ("state", 2): (64, 64, 4, 2),
    ("mix", 2): (64, 64, 4, 2),
    ("gradient", 2): (64, 64, 8, 2),
    ("state", 4): (32, 32, 4, 2),
    ("mix", 4): (32, 32, 4, 2),
    ("gradient", 4): (16, 32, 4, 2),
}


def _states(
    k: Tensor, v: Tensor, g: Tensor, start: Tensor | None, scale: float, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Return the state that enters each chunk, `(b h) c d v`, and the last; REVERSE as above."""
    (b, h, t, d_k), d_v = k.shape, v.shape[-1]
    chunks = -(-t // length(k))
    # the matrix products would round them to the dtype of their other factor anyway
    states = torch.empty((b * h, chunks, d_k, d_v), dtype=k.dtype, device=k.device)
    end = torch.empty((b, h, d_k, d_v), dtype=torch.float32, device=k.device)
    tiles = sizes("state", k, d_k, d_v)
    start = None if start is None else start.contiguous()
    blocks = -(-d_k // tiles["BLOCK_K"]) * -(-d_v // tiles["BLOCK_V"])
    _state_kernel[(b * h, blocks)](
        k, v, g, start, states, end, *k.stride(), *v.stride(), *g.stride(), h, t, d_k, d_v, chunks,
        scale, REVERSE=reverse, **tiles,
    )  # fmt: skip
    return states, end


def _mix(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, states: Tensor, scale: float, reverse: bool
) -> Tensor:  # fmt: skip
    (b, h, t, d_k), d_v = q.shape, v.shape[-1]
    y, tiles = torch.empty_like(v), sizes("mix", q, d_k, d_v)
    chunks = states.shape[1]
    _mix_kernel[(b * h * chunks, -(-d_v // tiles["BLOCK_V"]))](
        q, k, v, g, states, y, *q.stride(), *k.stride(), *v.stride(), *g.stride(), *y.stride(), h,
        t, d_k, d_v, chunks, scale, REVERSE=reverse, **tiles,
    )  # fmt: skip
    return y


def launch_forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, start: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the outputs and the last state."""
    states, end = _states(k, v, g, start, scale, False)
    return _mix(q, k, v, g, states, scale, False), end


def launch_backward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, start: Tensor | None, dy: Tensor, dend: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of queries, keys, values, log decays and of the first state."""
    (b, h, t, d_k), d_v = q.shape, v.shape[-1]
    # a sum's is one number, expanded
    dy = dy if dy.stride(-1) == 1 else dy.contiguous()
    entering, _ = _states(k, v, g, start, scale, False)
    leaving, dstart = _states(q, dy, g, dend, scale, True)
    dv = _mix(k, q, dy, g, leaving, scale, True)
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    tiles = sizes("gradient", q, d_k, d_v)
    chunks, blocks = entering.shape[1], -(-d_k // tiles["BLOCK_K"])
    dg = torch.empty((blocks, b, h, t), dtype=torch.float32, device=q.device)
    _gradient_kernel[(b * h * chunks, blocks)](
        q, k, v, dy, g, entering, leaving, dq, dk, dg, *q.stride(), *k.stride(), *v.stride(),
        *dy.stride(), *g.stride(), *dq.stride(), *dk.stride(), h, b * h, t, d_k, d_v, chunks, scale,
        **tiles,
    )  # fmt: skip
    return dq, dk, dv, dg.sum(0).to(g.dtype), dstart
