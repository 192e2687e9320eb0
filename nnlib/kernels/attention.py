"""Attention: every query's softmax-weighted mean of the values, by how well the keys fit.

Chapter: chapters/kernels/flash_attention.md     Source: Dao et al. 2022; Dao 2023
Axes: b batch, h heads, g heads of keys and values (g divides h), t queries, s keys, d head width.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch


def visible(
    t: int, s: int, *, is_causal: bool = False, window: int | None = None, device=None
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
) -> Float[Tensor, "b h t d"]:
    """`attention` as its equation reads; holds all b·h·t·s scores at once."""
    _check(q, k, v, is_causal, window, scale, mask)
    t, s, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * q @ k.mT
    seen = visible(t, s, is_causal=is_causal, window=window, device=q.device)
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
    scores = scores.masked_fill(~seen, -math.inf)
    top = scores.amax(-1, keepdim=True) if s else scores.new_zeros(())
    weights = (scores - torch.where(top == -math.inf, 0.0, top)).exp()
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, 1.0, total) @ v  # a query that sees nothing gets 0


def attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
) -> Float[Tensor, "b h t d"]:
    r"""Scaled dot product attention, $\mathrm{softmax}(q k^\top / \sqrt d)\, v$ over visible keys.

    Args:
        q: queries.
        k: keys; with fewer heads than `q`, each serves h/g queries in a row.
        v: values, of the shape of `k`.
        is_causal: whether a query sees no later key. Query i stands at position i + s - t: the
            last query at the last key, as in decoding. (torch aligns the first with the first.)
        window: how many keys up to its own a query sees, its own among them; ≥ 1, or None.
        scale: what scores are multiplied by; None is 1/√d.
        mask: True where a query may look, or numbers added to the scores; broadcast to b h t s.

    Returns:
        One mixture of values a query; 0 where a query sees nothing.

    Raises:
        TypeError: no floating-point tensors of one dtype.
        ValueError: shapes that do not fit, or a bad option, named.

    Source: Vaswani et al. 2017; computed in tiles: Dao et al. 2022.
    """
    _check(q, k, v, is_causal, window, scale, mask)
    t, s = q.shape[2], k.shape[2]
    plain = window is None and mask is None
    if plain and (not is_causal or t == s or t == 1):
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=is_causal and t > 1, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    return attention_reference(q, k, v, is_causal=is_causal, window=window, scale=scale, mask=mask)


def _check(q, k, v, is_causal, window, scale, mask) -> None:
    b, h, _, d = checks.tensor("q", q, shape=("b", "h", "t", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, "g", "s", d), floating=True)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    _dispatch.alike(q=q, k=k, v=v)
    if k.shape[1] == 0 or h % k.shape[1]:
        raise ValueError(f"the {k.shape[1]} heads of k do not divide the {h} heads of q")
    checks.one_of("is_causal", is_causal, (True, False))
    if window is not None:
        checks.count("window", window)
    if scale is not None:
        checks.number("scale", scale)
    if mask is not None:
        checks.tensor("mask", mask)
        wanted = (b, h, q.shape[2], k.shape[2])
        fits = mask.ndim <= 4 and all(
            got in (1, want) for got, want in zip(mask.shape[::-1], wanted[::-1], strict=False)
        )
        if not fits:
            raise ValueError(f"mask must broadcast to {wanted}, got {tuple(mask.shape)}")
