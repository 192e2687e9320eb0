"""Attention in plain torch, as fast as that goes: what runs without a GPU, and what kernels lack.

Axes: b batch, h heads, g heads of keys and values, t queries, s keys, d head width.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CHUNK = 256  # queries at a time, where all at once would cost more


def attention_torch(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float | None,
    mask: Tensor | None, key_mask: Tensor | None, dropout: float,
) -> Tensor:  # fmt: skip
    """The fastest plain torch: one fused call, or one for each chunk of queries."""
    (b, h, t, d), (g, s) = q.shape, k.shape[1:3]
    # a number, or one a key, is for all
    mask = None if mask is None else torch.atleast_2d(mask)
    if t == 1 and window is not None:
        k, v = k[:, :, -window:], v[:, :, -window:]
        mask = mask if mask is None or mask.shape[-1] == 1 else mask[..., -window:]
        key_mask = None if key_mask is None else key_mask[:, -window:]
        s, window = k.shape[2], None
    if t == 1 and mask is None and key_mask is None and not dropout:
        # the queries that share a head of keys are a sequence of their own
        mixed = F.scaled_dot_product_attention(
            q.reshape(b, g, h // g, d), k, v, scale=scale
        )
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
    aligned = bool(  # sizes are tensors where a module is traced
        is_causal
        and window is None
        and mask is None
        and key_mask is None
        and t == rows == s
    )
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
        mask = mask if mask.shape[-1] == 1 else mask[..., low:high]
        mask = mask if mask.shape[-2] == 1 else mask[..., at : at + rows, :]
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        if seen is None:
            seen = mask
        else:
            added = mask.dtype != torch.bool
            seen = torch.where(seen, mask, -math.inf) if added else seen & mask
    if torch.jit.is_tracing():  # for ONNX, which knows no shared keys
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(
        q, k[:, :, low:high], v[:, :, low:high], attn_mask=seen, is_causal=aligned, scale=scale,
        dropout_p=dropout, enable_gqa=bool(q.shape[1] != k.shape[1]),
    )  # fmt: skip
