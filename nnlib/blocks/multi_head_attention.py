r"""Multi-head attention: several small attentions side by side, each with its own projections.

Chapter: chapters/attention/transformer.md     Papers: Vaswani et al. 2017; Shazeer 2019 (one head
of keys and values); Ainslie et al. 2023 (groups); Su et al. 2021 (rotary positions)
Axes: b batch, t queries, s keys, e model width, h heads, g heads of keys and values, d head width.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.kernels.attention import attention, visible
from nnlib.kernels.rope import rope


class MultiHeadAttention(nn.Module):
    r"""$\mathrm{concat}(\mathrm{head}_1, \dots, \mathrm{head}_h) W^O$, each head an attention.

    Loads the `state_dict` of `torch.nn.MultiheadAttention` unchanged (equations
    `transformer-head`, `transformer-multihead`).

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads h, which divide e.
        num_kv_heads: heads of keys and values g, which divide h; None is h, 1 is multi-query.
        bias: whether the projections have biases.
        dropout: probability of dropping an attention weight in training, 0 … 1.
        window: how many positions up to its own a query sees, or None for all.
        rotary_base: base of rotary positions, or None for none.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> MultiHeadAttention(embed_dim=16, num_heads=4)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Vaswani et al. 2017, section 3.2.2. Our h/g is the group size of Ainslie et al. 2023,
    whose G is our g.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        window: int | None = None,
        rotary_base: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        self.num_heads = h = checks.count("num_heads", num_heads)
        if e % h:
            raise ValueError(f"num_heads={h} does not divide embed_dim={e}")
        g = h if num_kv_heads is None else checks.count("num_kv_heads", num_kv_heads)
        if h % g:
            raise ValueError(f"num_kv_heads={g} does not divide num_heads={h}")
        self.num_kv_heads, self.head_dim = g, e // h
        if rotary_base is not None:
            rotary_base = checks.number("rotary_base", rotary_base, above=0)
            if self.head_dim % 2:
                raise ValueError(
                    f"rotary_base needs an even head width, got {self.head_dim}"
                )
        self.rotary_base = rotary_base
        self.window = None if window is None else checks.count("window", window)
        self.dropout = checks.number("dropout", dropout, least=0, most=1)
        checks.flag("bias", bias)
        self.widths = (
            e,
            g * self.head_dim,
            g * self.head_dim,
        )  # of queries, keys, values
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        rows = sum(self.widths)
        self.in_proj_weight = nn.Parameter(torch.empty(rows, e, **like))
        self.in_proj_bias = nn.Parameter(torch.empty(rows, **like)) if bias else None
        self.out_proj = nn.Linear(e, e, bias=bias, **like)
        self._begin()

    def _begin(self) -> None:
        """Draw the first numbers of what `nn.Linear` has not drawn itself."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)

    def reset_parameters(self) -> None:
        """Draw new weights as `torch.nn.MultiheadAttention` does."""
        self.out_proj.reset_parameters()
        self._begin()

    def forward(
        self,
        query: Float[Tensor, "b t e"],
        source: Float[Tensor, "b s e"] | KVCache | None = None,
        *,
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return what each query gathers.

        Args:
            query: what asks.
            source: what is looked at; None is `query` itself (self-attention), and what `read`
                returned is a source whose keys and values are made already.
            mask: True where a query may look, or numbers added to scores; broadcast to b h t s.
            key_mask: True at real tokens of the source, False at padding.
            is_causal: whether a query sees no later position.
            cache: keys and values of what was read before; `query` continues it, and is added.
        """
        q, k, v = self._heads_of(query, source, cache, mask, key_mask)
        out = attention(
            q, k, v, is_causal=is_causal, window=self.window, mask=mask, key_mask=key_mask,
            dropout=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.out_proj(rearrange(out, "b h t d -> b t (h d)"))

    def with_weights(
        self,
        query: Float[Tensor, "b t e"],
        source: Float[Tensor, "b s e"] | KVCache | None = None,
        *,
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b h t s"]]:
        """Return what each query gathers, and the weights; slower, since these are made.

        Arguments as in `forward`. Dropout falls on what is gathered, not on the weights returned.
        """
        q, k, v = self._heads_of(query, source, cache, mask, key_mask)
        weights = attention_weights(
            q, k, is_causal=is_causal, window=self.window, mask=mask, key_mask=key_mask
        )
        dropped = F.dropout(weights, self.dropout, self.training)
        out = dropped @ v.repeat_interleave(self.num_heads // self.num_kv_heads, 1)
        return self.out_proj(rearrange(out, "b h t d -> b t (h d)")), weights

    def _heads_of(
        self,
        query: Tensor,
        source: Tensor | KVCache | None,
        cache: KVCache | None,
        mask: Tensor | None,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values in heads, and refuse masks that do not fit them."""
        checks.tensor("query", query, shape=("b", "t", self.embed_dim), floating=True)
        b, _, e = query.shape
        if source is not None and cache is not None:
            raise ValueError("cache is for self-attention, got a source as well")
        if isinstance(source, KVCache):
            q = self._heads(query, 0, e)
            k, v = self._kept(source, b)
        else:
            if source is not None:
                checks.tensor("source", source, shape=(b, "s", e), floating=True)
            q, k, v = self._project(query, source)
        if self.rotary_base is not None:
            start = 0 if cache is None else cache.length
            q = self._rotate(q, start, self.rotary_base)
            k = self._rotate(k, start, self.rotary_base)
        if cache is not None:
            k, v = cache.append(k, v)  # keys are kept as rotated
        if mask is not None:
            checks.mask("mask", mask, (b, self.num_heads, q.shape[2], k.shape[2]))
        if key_mask is not None:
            checks.key_mask("key_mask", key_mask, (b, k.shape[2]))
        return q, k, v

    def read(self, source: Float[Tensor, "b s e"]) -> KVCache:
        """Return the keys and values of a source, made once, for many queries to come."""
        checks.tensor(
            "source",
            source,
            shape=("b", "s", self.embed_dim),
            floating=True,
            empty=False,
        )
        if self.rotary_base is not None:
            raise ValueError(f"rotary_base={self.rotary_base:g} is for self-attention")
        store = KVCache(source.shape[1])
        store.append(*self._heads(source, self.embed_dim, None).chunk(2, 1))
        return store

    def _kept(self, source: KVCache, b: int) -> tuple[Tensor, Tensor]:
        keys, values, g, d = (
            source.keys,
            source.values,
            self.num_kv_heads,
            self.head_dim,
        )
        if (
            keys is None
            or values is None
            or (*keys.shape[:2], keys.shape[3]) != (b, g, d)
        ):
            shape = None if keys is None else tuple(keys.shape)
            raise ValueError(
                f"source must hold keys of shape ({b}, {g}, s, {d}), got {shape}"
            )
        return keys[:, :, : source.length], values[:, :, : source.length]

    def _project(self, query: Tensor, source: Tensor | None) -> list[Tensor]:
        """Return queries, keys and values, each cut into heads (eq. transformer-projections)."""
        if source is None:  # one product for all three
            parts = F.linear(query, self.in_proj_weight, self.in_proj_bias).split(
                self.widths, -1
            )
            return [
                rearrange(x, "b t (h d) -> b h t d", d=self.head_dim) for x in parts
            ]
        e = self.embed_dim
        return [self._heads(query, 0, e), *self._heads(source, e, None).chunk(2, 1)]

    def _heads(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """Return these rows of the projection of `x`, cut into heads."""
        weight, bias = self.in_proj_weight[start:end], self.in_proj_bias
        x = F.linear(x, weight, None if bias is None else bias[start:end])
        return rearrange(x, "b t (h d) -> b h t d", d=self.head_dim)

    @staticmethod
    def _rotate(x: Tensor, start: int, base: float) -> Tensor:
        positions = torch.arange(start, start + x.shape[2], device=x.device)
        return rope(x, positions, base=base)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.embed_dim}, num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}"


def attention_weights(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
) -> Float[Tensor, "b h t s"]:
    """Return the weights that `nnlib.kernels.attention.attention` mixes values with.

    Args:
        q: queries.
        k: keys; with fewer heads than `q`, each serves h/g queries in a row.
        is_causal: whether a query sees no later key; the last query stands at the last key.
        window: how many keys up to its own a query sees, or None for all.
        mask: True where a query may look, or numbers added to the scores.
        key_mask: True at real keys, False at padding.
    """
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = q @ k.mT * q.shape[-1] ** -0.5
    seen = visible(
        q.shape[2], k.shape[2], is_causal=is_causal, window=window, device=q.device
    )
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
    if key_mask is not None:
        seen = seen & key_mask[:, None, None]
    scores = scores.masked_fill(~seen, -torch.inf)
    blind = (scores == -torch.inf).all(
        -1, keepdim=True
    )  # a query that sees nothing gets nothing
    return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
