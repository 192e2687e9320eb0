"""Causal attention, with groups of heads and windows too."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.kernels._case import Case, numbers
from nnlib.kernels.attention import attention, attention_cost, attention_reference, visible

HEAD = {"b": 1, "h": 4, "g": 4, "d": 64}
WIDE = {"b": 4, "h": 16, "g": 16, "t": 4096, "d": 128}
CPU = [
    *({**HEAD, "t": t} for t in (64, 256, 1024)),
    {**HEAD, "t": 1024, "g": 1},
    {**HEAD, "t": 1024, "window": 128},
]
GPU = [
    *({**WIDE, "b": 16384 // t, "t": t} for t in (512, 1024, 2048, 4096, 8192)),
    {**WIDE, "h": 32, "g": 32, "d": 64},
    {**WIDE, "h": 32, "g": 8},
    {**WIDE, "window": 512},
    {**WIDE, "b": 2, "t": 8192, "window": 512},
]


def build(
    like: dict[str, Any], b: int, h: int, g: int, t: int, d: int, window: int | None = None
) -> Case:
    q, k, v = (numbers((b, heads, t, d), like) for heads in (h, g, g))
    see: dict[str, Any] = {"is_causal": True, "window": window}
    forms = {
        "nnlib": functools.partial(attention, **see),
        "reference": functools.partial(attention_reference, **see),
    }
    if window is None:
        forms["torch"] = functools.partial(
            F.scaled_dot_product_attention, is_causal=True, enable_gqa=h != g
        )
    else:  # torch's fused form knows no window, so it gets a mask
        seen = visible(t, t, is_causal=True, window=window, device=like["device"])
        forms["torch"] = functools.partial(
            F.scaled_dot_product_attention, attn_mask=seen, enable_gqa=h != g
        )
        if like["device"].type == "cuda":
            forms["flex"] = _flex(t, window, h != g)
    cost = functools.partial(
        attention_cost, (b, h, t, d), (b, g, t, d), like["dtype"].itemsize, **see
    )
    return Case([q, k, v], forms, cost(), cost(backward=True), arithmetic=True)


def _flex(t: int, window: int, grouped: bool) -> Callable:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(b, h, query, key):
        return (key <= query) & (query - key < window)

    mask = create_block_mask(seen, None, None, t, t, device="cuda")
    whole = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: whole(q, k, v, block_mask=mask, enable_gqa=grouped)
