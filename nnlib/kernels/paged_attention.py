r"""Paged attention: a step of decoding whose keys and values lie in blocks, anywhere in memory.

Chapter: chapters/language/inference.md     Source: Kwon et al. 2023; Dao et al. 2023
Axes: b batch, h heads, g heads of keys and values (g divides h), d head width, s keys; the cache
is `2 n g c d`, keys before values, in n blocks of c positions; a block table has m entries a
sequence.

Key j of sequence i stands in block `table[i, j // c]`, at place `j % c`. So sequences grow block by
block, none needs to lie in one piece, and two may share the blocks of a common beginning. What is
computed is plain attention of one query to the first `length` keys:

$$o_i = \sum_{j < s_i} \mathrm{softmax}_j (q_i^\top k_j / \sqrt d)\, v_j$$

Each key and value is read once for the h/g queries that share it, and hardly anything is computed
with it: memory decides the time. The table is looked up inside the kernel, so that nothing is
gathered before. What lies behind a sequence's length, in its last block too, is not touched.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._paged_attention_kernels import launch
from nnlib.kernels._triton import operation
from nnlib.kernels.cost import Cost

WIDEST = 256  # of a head that the kernels take


def paged_attention_reference(
    q: Float[Tensor, "b h d"],
    cache: Float[Tensor, "2 n g c d"],
    block_table: Int[Tensor, "b m"],
    lengths: Int[Tensor, "b"],
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h d"]:
    """`paged_attention` as its equation reads: sequence by sequence, block by block."""
    _check(q, cache, block_table, lengths, window, scale)
    group, size, out = q.shape[1] // cache.shape[2], cache.shape[3], []
    for one, table, length in zip(q, block_table, lengths.tolist(), strict=True):
        blocks = table[: -(-length // size)]
        k, v = cache[:, blocks].transpose(1, 2).flatten(2, 3)[:, :, :length]
        if window is not None:
            k, v = k[:, -window:], v[:, -window:]
        k, v = (x.repeat_interleave(group, 0) for x in (k, v))
        weights = (_scale(q, scale) * one[:, None] @ k.mT).softmax(
            -1
        )  # no key: no weight
        out.append((weights @ v)[:, 0])
    return torch.stack(out) if out else torch.zeros_like(q)


def _one_by_one(
    q: Tensor,
    cache: Tensor,
    table: Tensor,
    lengths: Tensor,
    window: int | None,
    scale: float,
) -> Tensor:
    """Plain torch where lengths can be read: each sequence alone, and no key but its own."""
    (b, h, d), (blocks, g, c) = q.shape, cache.shape[1:4]
    lines = cache.reshape(-1, c * d)  # a block's part of a head, its keys or its values
    nth = torch.arange(g)[:, None] + g * table[:, None, None].long()  # b 1 g m
    nth = torch.cat([nth, nth + g * blocks], 1)
    queries, out = q.reshape(b, 1, g, h // g, d), []
    for one, line, length in zip(queries, nth, lengths.tolist(), strict=True):
        first = 0 if window is None else max(length - window, 0)
        begin, end = first // c, -(-length // c)
        if length:
            keys = slice(first - begin * c, length - begin * c)
            out.append(_alone(one, lines, line[..., begin:end], keys, scale))
        else:
            out.append(torch.zeros_like(one))
    return torch.cat(out).reshape(b, h, d)


def _alone(q: Tensor, lines: Tensor, nth: Tensor, keys: slice, scale: float) -> Tensor:
    """Answer the queries of one sequence; its gathered keys are gone before the next one's."""
    taken = lines.index_select(0, nth.flatten()).view(2, *q.shape[:2], -1, q.shape[-1])
    k, v = taken[..., keys, :]
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def _gathered(
    q: Tensor,
    cache: Tensor,
    table: Tensor,
    lengths: Tensor,
    window: int | None,
    scale: float,
) -> Tensor:
    """Plain torch, all sequences at once: their blocks side by side, and a mask over them."""
    (b, h, d), (g, c) = q.shape, cache.shape[2:4]
    if not (q.numel() and table.shape[1] and cache.shape[1]):
        return torch.zeros_like(q)
    position = torch.arange(table.shape[1] * c, device=q.device)
    seen = position < lengths[:, None]
    if window is not None:
        seen = seen & (position >= lengths[:, None] - window)
    held = seen.unflatten(1, (-1, c)).any(-1)
    blocks, heads = (
        torch.where(held, table, 0)[:, None],
        torch.arange(g, device=q.device),
    )
    k, v = (x[blocks, heads[:, None]].flatten(2, 3) for x in cache)
    hidden = ~seen[:, None, :, None]  # not even a NaN may come from there
    k, v = k.masked_fill(hidden, 0), v.masked_fill(hidden, 0)
    mixed = F.scaled_dot_product_attention(
        q.reshape(b, g, h // g, d), k, v, attn_mask=seen[:, None, None], scale=scale
    ).reshape(b, h, d)
    return torch.where(lengths[:, None, None] > 0, mixed, 0)


# -------------------------------------------------------------------------------- registration
@operation("nnlib::paged_attention")
def _paged_attention(
    q: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, window: int | None,
    scale: float,
) -> Tensor:  # fmt: skip
    if _dispatch.runs_kernel(q):
        return launch(q, cache, block_table, lengths, window, scale)
    return _gathered(q, cache, block_table, lengths, window, scale).contiguous()


# -------------------------------------------------------------------------------------- public
def paged_attention_triton(
    q: Float[Tensor, "b h d"],
    cache: Float[Tensor, "2 n g c d"],
    block_table: Int[Tensor, "b m"],
    lengths: Int[Tensor, "b"],
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h d"]:
    """`paged_attention` by the Triton kernels, on a GPU or in the interpreter; no gradients."""
    _check(q, cache, block_table, lengths, window, scale)
    if q.shape[-1] > WIDEST:
        raise ValueError(
            f"paged_attention_triton takes heads of width ≤ {WIDEST}, got {q.shape[-1]}"
        )
    _dispatch.require("paged_attention_triton", q)
    if _learns(q, cache):
        raise RuntimeError(
            "paged_attention_triton has no gradient: call it under torch.no_grad(), or "
            "paged_attention, which plain torch computes where a gradient is asked for"
        )
    # its bfloat16 is silently wrong
    if _triton.interpreting() and q.dtype == torch.bfloat16:
        return paged_attention_triton(
            q.float(), cache.float(), block_table, lengths, window=window, scale=scale
        ).bfloat16()
    return torch.ops.nnlib.paged_attention(
        q, cache, block_table, lengths, window, _scale(q, scale)
    )


def paged_attention(
    q: Float[Tensor, "b h d"],
    cache: Float[Tensor, "2 n g c d"],
    block_table: Int[Tensor, "b m"],
    lengths: Int[Tensor, "b"],
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h d"]:
    r"""Attention of one new query a sequence to the keys that a block table says are its own.

    $\mathrm{softmax}(q k^\top / \sqrt d)\, v$ over the first `lengths[i]` keys of sequence i. On a
    GPU the Triton kernels run when heads are at most 256 wide and no gradient is asked for; else
    plain torch, which gathers the blocks first.

    Args:
        q: queries, one a sequence and head: the step of decoding after its keys were written.
        cache: keys, then values, of all sequences: n blocks of c positions. On a GPU head widths
            that 16 divides are fastest.
        block_table: the blocks of each sequence in order, int32 or int64. Entries that no key
            below its length stands in are never looked at, and may be anything.
        lengths: how many keys each sequence has, 0 … m·c; int32 or int64.
        window: how many of the last keys are seen; ≥ 1, or None for all.
        scale: what scores are multiplied by; None is 1/√d.

    Returns:
        One mixture of values a query; 0 for a sequence of length 0.

    Raises:
        ValueError: shapes that do not fit; on a CPU also a length or a block out of range. (A GPU
            does not look.)

    Example:
        >>> cache = torch.tensor([[0.0, 0.0, 5.0, 5.0], [1.0, 3.0, 8.0, 9.0]]).view(2, 2, 1, 2, 1)
        >>> q, table = torch.ones(2, 1, 1), torch.tensor([[0, -1], [1, 0]])
        >>> paged_attention(q, cache, table, torch.tensor([2, 1])).flatten()
        tensor([2., 8.])

    Source: Kwon et al. 2023; a context in pieces: Dao et al. 2023 (Flash-Decoding).
    """
    _check(q, cache, block_table, lengths, window, scale)
    if q.shape[-1] <= WIDEST and not _learns(q, cache) and _dispatch.use_triton(q):
        return paged_attention_triton(
            q, cache, block_table, lengths, window=window, scale=scale
        )
    plain = _one_by_one if q.numel() and checks.readable(q) else _gathered
    return plain(q, cache, block_table, lengths, window, _scale(q, scale))


def paged_attention_cost(
    q_shape: tuple[int, int, int],
    num_kv_heads: int,
    lengths: Sequence[int],
    element_size: int = 4,
    *,
    window: int | None = None,
) -> Cost:
    """Return the cost of a step of decoding: every key and value that is seen, read once.

    Args:
        q_shape: b, h, d of the queries.
        num_kv_heads: g.
        lengths: how many keys each sequence has.
        element_size: bytes a number.
        window: as `paged_attention` takes it.

    Example:
        >>> paged_attention_cost((2, 8, 64), 2, [100, 50], 2).bytes  # 76800 of keys and values
        80896
    """
    _, h, d = q_shape
    seen = sum(s if window is None else min(s, window) for s in lengths)
    # a multiplication and an addition, for q·k and for weight·v
    flops = 4 * h * d * seen
    numbers = 2 * num_kv_heads * d * seen + 2 * math.prod(q_shape)
    return Cost(flops, numbers * element_size)


def _scale(q: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)


def _learns(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def _check(
    q: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, window: int | None,
    scale: float | None,
) -> None:  # fmt: skip
    b, h, d = checks.tensor("q", q, shape=("b", "h", "d"), floating=True).shape
    checks.tensor("cache", cache, shape=(2, "n", "g", "c", d), floating=True)
    _dispatch.alike(q=q, cache=cache)
    blocks, g, size = cache.shape[1:4]
    if d == 0:
        raise ValueError("the heads of q must be 1 wide or more, got d = 0")
    if g == 0 or h % g:
        raise ValueError(f"the {g} heads of cache do not divide the {h} heads of q")
    if size == 0:
        raise ValueError("the blocks of cache must hold 1 position or more, got c = 0")
    checks.tensor("block_table", block_table, shape=(b, "m"))
    checks.tensor("lengths", lengths, shape=(b,))
    for name, x in (("block_table", block_table), ("lengths", lengths)):
        if x.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must hold int32 or int64, got {x.dtype}")
        if x.device != q.device:
            raise ValueError(f"{name} must be on {q.device} like q, got {x.device}")
    if window is not None:
        checks.count("window", window)
    if scale is not None:
        checks.number("scale", scale)
    if b and checks.readable(lengths):
        most = block_table.shape[1] * size
        low, high = map(int, lengths.aminmax())
        if low < 0 or high > most:
            raise ValueError(
                f"lengths must lie in 0 … {most}, the room of block_table, got {low} … {high}"
            )
        held = torch.arange(block_table.shape[1]) * size < lengths[:, None]
        wrong = block_table[held & ((block_table < 0) | (block_table >= blocks))]
        if len(wrong):
            raise ValueError(
                f"block_table must name blocks 0 … {blocks - 1} of cache, got {int(wrong[0])}"
            )
