r"""Linear scan: $h_t = a_t h_{t-1} + b_t$, feature by feature, over the second axis.

Chapter: chapters/kernels/parallel_scan.md     Source: Blelloch 1990; Martin and Cundy 2018
Axes: b batch, t steps, d features; a, b and h are `b t d`, the initial state h0 is `b d`.

The gradient is the same scan run backwards, $\delta_t = dh_t + a_{t+1} \delta_{t+1}$, with
$db_t = \delta_t$ and $da_t = \delta_t h_{t-1}$. On a GPU a program walks through time with the
states of 64 features in registers. Few sequences leave most of the GPU idle: then time is cut
into chunks that run at once. Each is summed up by its product of a and by its last state from a
start of 0; these few are scanned; then each chunk starts from its true state. Nothing is ever
divided by a product of a, which may well have shrunk to 0.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost

BLOCK = 64  # features of one program: one warp
STAGES = (
    16  # steps that are fetched ahead of the walk, so that it need not wait for memory
)
ENOUGH = 512  # programs that keep a GPU's memory busy; with fewer, time is cut
SHORTEST = 64  # steps of a chunk
WIDE = 4096  # states at once from which plain torch gains nothing from chunks


def linear_scan_reference(
    a: Float[Tensor, "b t d"],
    b: Float[Tensor, "b t d"],
    h0: Float[Tensor, "b d"] | None = None,
) -> Float[Tensor, "b t d"]:
    """`linear_scan` as its equation reads: a loop."""
    _check(a, b, h0)
    h, states = torch.zeros_like(a[:, 0]) if h0 is None else h0, []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, 1)


@jit
def _forward_kernel(
    a_ptr, b_ptr, h0_ptr, h_ptr, steps, features, chunk, chunks,
    HAS_H0: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # a chunk of a sequence
    first = (row % chunks) * chunk
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = cols < features
    at = (row // chunks * steps + first) * features + cols
    a_at, b_at, h_at = a_ptr + at, b_ptr + at, h_ptr + at
    h = tl.zeros([BLOCK], tl.float32)
    if HAS_H0:
        h = tl.load(h0_ptr + row * features + cols, mask=live, other=0.0).to(tl.float32)
    for _ in tl.range(0, tl.minimum(chunk, steps - first), num_stages=STAGES):
        a = tl.load(a_at, mask=live, other=0.0).to(tl.float32)
        b = tl.load(b_at, mask=live, other=0.0).to(tl.float32)
        h = a * h + b
        tl.store(h_at, h, mask=live)
        a_at += features
        b_at += features
        h_at += features


@jit
def _backward_kernel(
    a_ptr, h_ptr, h0_ptr, dh_ptr, carry_ptr, da_ptr, db_ptr, dh0_ptr, steps, features, chunk,
    chunks, HAS_H0: tl.constexpr, HAS_CARRY: tl.constexpr, BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first = (row % chunks) * chunk
    count = tl.minimum(chunk, steps - first)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = cols < features
    # the chunk's last step
    at = (row // chunks * steps + first + count - 1) * features + cols
    a_at, h_at, dh_at = a_ptr + at, h_ptr + at - features, dh_ptr + at
    da_at, db_at = da_ptr + at, db_ptr + at
    start = tl.zeros([BLOCK], tl.float32)  # the state before the first step of all
    if HAS_H0:
        start_at = h0_ptr + row // chunks * features + cols
        start = tl.load(start_at, mask=live, other=0.0).to(tl.float32)
    carry = tl.zeros([BLOCK], tl.float32)  # a_{t+1} δ_{t+1}
    if HAS_CARRY:
        carry = tl.load(carry_ptr + row * features + cols, mask=live, other=0.0)
    for i in tl.range(0, count, num_stages=STAGES):
        # else only h0 stands before this one; 0 * cols makes it a vector, as masks must be
        earlier = first + count - 1 - i + 0 * cols > 0
        a = tl.load(a_at, mask=live, other=0.0).to(tl.float32)
        dh = tl.load(dh_at, mask=live, other=0.0).to(tl.float32)
        h = tl.load(h_at, mask=live & earlier, other=0.0).to(tl.float32)
        delta = dh + carry
        tl.store(db_at, delta, mask=live)
        tl.store(da_at, delta * tl.where(earlier, h, start), mask=live)
        carry = a * delta
        a_at -= features
        h_at -= features
        dh_at -= features
        da_at -= features
        db_at -= features
    if HAS_H0:
        opens = live & (first + 0 * cols == 0)  # in the sequence's first chunk
        tl.store(dh0_ptr + row // chunks * features + cols, carry, mask=opens)


@jit
def _summary_kernel(
    a_ptr, b_ptr, product_ptr, end_ptr, steps, features, chunk, chunks,
    REVERSE: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """What a chunk does to the state that enters it: state → product · state + end."""
    row = tl.program_id(0).to(tl.int64)
    first = (row % chunks) * chunk
    count = tl.minimum(chunk, steps - first)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = cols < features
    at = (
        row // chunks * steps + first + (count - 1 if REVERSE else 0)
    ) * features + cols
    a_at, b_at = a_ptr + at, b_ptr + at
    product, end = tl.full([BLOCK], 1.0, tl.float32), tl.zeros([BLOCK], tl.float32)
    for _ in tl.range(0, count, num_stages=STAGES):
        a = tl.load(a_at, mask=live, other=0.0).to(tl.float32)
        b = tl.load(b_at, mask=live, other=0.0).to(tl.float32)
        product *= a
        end = a * (end + b) if REVERSE else a * end + b
        a_at += -features if REVERSE else features
        b_at += -features if REVERSE else features
    tl.store(product_ptr + row * features + cols, product, mask=live)
    tl.store(end_ptr + row * features + cols, end, mask=live)


def chunk_length(batch: int, steps: int, features: int) -> int:
    """Return the steps that a program of the kernel walks: all of them, or a chunk's.

    With 512 programs or more, b·⌈d/64⌉, the walk alone keeps the memory busy. With fewer, time is
    cut so that there are about a thousand, each of 64 steps at least. Chunks read a and b twice:
    five passes over memory where the walk has three.
    """
    programs = batch * -(-features // BLOCK)
    chunks = min(-(-2 * ENOUGH // max(programs, 1)), steps // SHORTEST)
    return steps if programs >= ENOUGH or chunks < 2 else -(-steps // chunks)


def _entering(
    a: Tensor, b: Tensor, h0: Tensor | None, chunk: int, *, reverse: bool
) -> Tensor:
    """Return the state that enters each chunk, `b c d` in float32: summaries, scanned."""
    batch, steps, features = a.shape
    chunks = -(-steps // chunk)
    product = a.new_empty((batch, chunks, features), dtype=torch.float32)
    end = torch.empty_like(product)
    _summary_kernel[(batch * chunks, -(-features // BLOCK))](
        a, b, product, end, steps, features, chunk, chunks, REVERSE=reverse, BLOCK=BLOCK,
        STAGES=STAGES, num_warps=1,
    )  # fmt: skip
    if reverse:
        product, end = product.flip(1), end.flip(1)
    start = torch.zeros_like(end[:, 0]) if h0 is None else h0.float()
    states = _launch(product[:, :-1], end[:, :-1], start, chunks - 1)
    states = torch.cat([start[:, None], states], 1)
    return states.flip(1) if reverse else states


def _launch(a: Tensor, b: Tensor, h0: Tensor | None, chunk: int) -> Tensor:
    """Run the forward kernel, in chunks of time when `chunk` is less than all of it."""
    a, b = a.contiguous(), b.contiguous()
    batch, steps, features = a.shape
    h, chunks = torch.empty_like(a), -(-steps // max(chunk, 1))
    if not h.numel():
        return h
    if chunks > 1:
        h0 = _entering(a, b, h0, chunk, reverse=False)
    h0 = None if h0 is None else h0.contiguous()
    _forward_kernel[(batch * chunks, -(-features // BLOCK))](
        a, b, h0, h, steps, features, chunk, chunks, HAS_H0=h0 is not None, BLOCK=BLOCK,
        STAGES=STAGES, num_warps=1,
    )  # fmt: skip
    return h


def _launch_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, dh: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    a, h, dh = a.contiguous(), h.contiguous(), dh.contiguous()
    batch, steps, features = a.shape
    da, db, chunks = (
        torch.empty_like(a),
        torch.empty_like(a),
        -(-steps // max(chunk, 1)),
    )
    dh0 = a.new_zeros((batch if h0 is not None else 0, features))
    if not a.numel():
        return da, db, dh0
    carry = (
        _entering(a, dh, None, chunk, reverse=True).contiguous() if chunks > 1 else None
    )
    h0 = None if h0 is None else h0.contiguous()
    _backward_kernel[(batch * chunks, -(-features // BLOCK))](
        a, h, h0, dh, carry, da, db, dh0, steps, features, chunk, chunks,
        HAS_H0=h0 is not None, HAS_CARRY=carry is not None, BLOCK=BLOCK, STAGES=STAGES,
        num_warps=1,
    )  # fmt: skip
    return da, db, dh0


@torch.library.custom_op("nnlib::linear_scan_loop", mutates_args=())
def _loop(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool) -> Tensor:
    """Plain torch, in place: h_t = a_t h_{t-1} + b_t, or reversed h_t = a_{t+1} h_{t+1} + b_t.

    Opaque to `torch.compile`, which would write out every step. With few states at once a step
    costs its call, not its arithmetic: then √t chunks take their steps together.
    """
    batch, steps, features = a.shape
    wide = a.dtype if a.dtype == torch.float64 else torch.float32
    short = batch * features >= WIDE or steps < 16
    length = steps if short else 1 << round(math.log2(steps) / 2)
    chunks = -(-steps // max(length, 1))
    rest = chunks * length - steps
    h = F.pad(b, (0, 0, 0, rest)).to(wide) if rest else b.to(wide, copy=True)
    h = h if h.is_contiguous() else h.clone(memory_format=torch.contiguous_format)
    if h0 is not None and steps:
        h[:, 0].addcmul_(a[:, 0].to(wide), h0.to(wide))
    if chunks <= 1:
        factors, states = a.to(wide).unbind(1), h.unbind(1)
        factors = factors[:0:-1] if reverse else factors[1:]
        states = states[::-1] if reverse else states
        for factor, before, state in zip(factors, states, states[1:], strict=False):
            state.addcmul_(factor, before)
        return h.to(b.dtype)
    # p_t: the product of a from the chunk's start to t, by which the state that enters counts
    p = F.pad(a, (0, 0, -1, rest + 1) if reverse else (0, 0, 0, rest)).to(wide)
    p = (
        p.clone(memory_format=torch.contiguous_format)
        if p.data_ptr() == a.data_ptr()
        else p
    )
    p, h = (x.view(batch, chunks, length, features) for x in (p, h))
    order = slice(None, None, -1 if reverse else 1)
    factors, states = p.unbind(2)[order], h.unbind(2)[order]
    for i in range(1, length):
        states[i].addcmul_(factors[i], states[i - 1])
        factors[i].mul_(factors[i - 1])
    factors, states = factors[-1].unbind(1)[order], states[-1].unbind(1)[order]
    for i in range(1, chunks):
        states[i].addcmul_(factors[i], states[i - 1])
    if reverse:
        h[:, :-1, 1:].addcmul_(p[:, :-1, 1:], h[:, 1:, :1])
    else:
        h[:, 1:, :-1].addcmul_(p[:, 1:, :-1], h[:, :-1, -1:])
    return h.view(batch, chunks * length, features)[:, :steps].to(b.dtype).contiguous()


@_loop.register_fake
def _(a, b, h0, reverse):
    return torch.empty_like(b, memory_format=torch.contiguous_format)


@operation("nnlib::linear_scan")
def _scan(a: Tensor, b: Tensor, h0: Tensor | None, kernel: bool) -> Tensor:
    if kernel and _dispatch.runs_kernel(a):
        return _launch(a, b, h0, chunk_length(*a.shape))
    return torch.ops.nnlib.linear_scan_loop(a, b, h0, False)


@operation("nnlib::linear_scan_backward")
def _scan_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, dh: Tensor, kernel: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return da, db and dh0, which is empty where there is no h0."""
    if kernel and _dispatch.runs_kernel(a):
        return _launch_backward(a, h, h0, dh, chunk_length(*a.shape))
    db = torch.ops.nnlib.linear_scan_loop(a, dh, None, True)
    da = torch.empty_like(db)
    torch.mul(db[:, 1:], h[:, :-1], out=da[:, 1:])
    if h0 is None:
        da[:, :1] = 0.0
        return da, db, db.new_zeros((0, db.shape[2]))
    torch.mul(db[:, 0], h0, out=da[:, 0])
    return da, db, a[:, 0] * db[:, 0]


def _save(ctx, inputs, output):
    a, _, h0, ctx.kernel = inputs
    ctx.save_for_backward(a, output, h0)


def _differentiate(ctx, dh):
    a, h, h0 = ctx.saved_tensors
    da, db, dh0 = torch.ops.nnlib.linear_scan_backward(a, h, h0, dh, ctx.kernel)
    return da, db, None if h0 is None else dh0, None


_scan.register_autograd(_differentiate, setup_context=_save)


def linear_scan_triton(
    a: Float[Tensor, "b t d"],
    b: Float[Tensor, "b t d"],
    h0: Float[Tensor, "b d"] | None = None,
) -> Float[Tensor, "b t d"]:
    """`linear_scan` by the Triton kernels, on a GPU or in the interpreter; nothing else."""
    _check(a, b, h0)
    _dispatch.require("linear_scan_triton", a)
    return torch.ops.nnlib.linear_scan(a, b, h0, True)


def linear_scan(
    a: Float[Tensor, "b t d"],
    b: Float[Tensor, "b t d"],
    h0: Float[Tensor, "b d"] | None = None,
) -> Float[Tensor, "b t d"]:
    r"""First-order linear recurrence $h_t = a_t h_{t-1} + b_t$, every feature on its own.

    Args:
        a: how much of the last state stays; any numbers, usually 0 … 1.
        b: what is added.
        h0: the state before the first step; None: 0. It also carries on from an earlier stretch:
            `linear_scan(a2, b2, h0=h1[:, -1])`.

    Returns:
        The states h, all steps of them. The state is kept in float32, and rounded to the dtype of
        `b` where it is written.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: the shapes do not fit, or the devices differ.

    Example:
        >>> a, b = torch.full((1, 4, 1), 0.5), torch.tensor([8.0, 0.0, 0.0, 1.0]).view(1, 4, 1)
        >>> linear_scan(a, b).flatten().tolist()
        [8.0, 4.0, 2.0, 2.0]

    Source: Blelloch 1990 (scans); Martin and Cundy 2018 (the linear recurrence as one).
    """
    _check(a, b, h0)
    return torch.ops.nnlib.linear_scan(a, b, h0, _dispatch.use_triton(a))


def linear_scan_cost(
    shape: tuple[int, int, int], element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost of the scan: reads a, b and writes h; backwards a, h, dh and da, db.

    Args:
        shape: (b, t, d).
        element_size: bytes a number.
        backward: whether to count the gradient instead.
    """
    numbers = math.prod(shape)
    flops, passes = (3, 5) if backward else (2, 3)
    return Cost(flops * numbers, passes * numbers * element_size)


def _check(a: Tensor, b: Tensor, h0: Tensor | None) -> None:
    checks.tensor("a", a, shape=("b", "t", "d"), floating=True)
    checks.tensor("b", b, shape=tuple(a.shape), floating=True)
    if a.shape[1] == 0:
        raise ValueError(f"a must have one step or more, got shape {tuple(a.shape)}")
    if h0 is not None:
        checks.tensor("h0", h0, shape=(a.shape[0], a.shape[2]), floating=True)
    _dispatch.alike(a=a, b=b, h0=h0)
