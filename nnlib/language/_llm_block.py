"""The block of an LLM: attention whose heads share keys and values, and a gated network.

Part of `nnlib.language.llm`, with its axes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.multi_head_attention import attention_weights
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.kernels.attention import attention
from nnlib.kernels.swiglu import swiglu
from nnlib.language._rotary import Rotary
from nnlib.language._sinks import SinkCache


class GroupedAttention(nn.Module):
    r"""Causal attention whose heads share keys and values in groups, with rotary positions.

    Equations `llm-projections`, `llm-rope`, `llm-attention`, and `llm-qk-norm` where asked for.

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads h, ≥ 1.
        num_kv_heads: heads of keys and values g, which divide h; None is h.
        head_dim: head width d, even; None is e/h, which must then be whole.
        rotary_base: what the rotary frequencies are powers of, > 0.
        rotary_scaling: how they are stretched for longer texts, arguments of
            `rope_frequencies` (`nnlib.language.long_context`) by name; None leaves them.
        window: how many positions up to its own a query sees, ≥ 1, or None for all.
        qkv_bias: whether queries, keys and values have biases.
        out_bias: whether the output has one.
        qk_norm: RMSNorm on queries and keys before they turn: over each "head", over "all" heads
            of a position together, or None.
        norm_eps: ε of those norms.
        dropout: probability of dropping an attention weight in training, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> GroupedAttention(16, num_heads=4, num_kv_heads=2)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Ainslie et al. 2023, whose G is our g; norms of queries and keys: Dehghani et al. 2023.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        rotary_base: float = 10000.0,
        rotary_scaling: Mapping[str, Any] | None = None,
        window: int | None = None,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qk_norm: str | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e = checks.count("embed_dim", embed_dim)
        self.num_heads = h = checks.count("num_heads", num_heads)
        g = h if num_kv_heads is None else checks.count("num_kv_heads", num_kv_heads)
        if h % g:
            raise ValueError(f"num_kv_heads={g} does not divide num_heads={h}")
        if head_dim is None and e % h:
            raise ValueError(f"num_heads={h} does not divide embed_dim={e}")
        d = e // h if head_dim is None else checks.count("head_dim", head_dim)
        if d % 2:
            raise ValueError(f"head_dim={d} must be even: rotary positions turn pairs")
        self.num_kv_heads, self.head_dim = g, d
        self.rotary = Rotary(d, rotary_base, rotary_scaling)
        self.window = None if window is None else checks.count("window", window)
        self.dropout = checks.number("dropout", dropout, least=0, most=1)
        self.widths = (h * d, g * d, g * d)  # of queries, keys and values
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        rows = sum(self.widths)
        self.in_proj = nn.Linear(e, rows, checks.flag("qkv_bias", qkv_bias), **like)
        self.out_proj = nn.Linear(h * d, e, checks.flag("out_bias", out_bias), **like)
        self.qk_norm = checks.one_of("qk_norm", qk_norm, (None, "head", "all"))
        if qk_norm is not None:
            q_width, k_width = (d, d) if qk_norm == "head" else self.widths[:2]
            self.q_norm = RMSNorm(q_width, norm_eps, **like)
            self.k_norm = RMSNorm(k_width, norm_eps, **like)

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return what each position gathers from itself and those before it.

        Args:
            x: vectors; with a cache, those that continue what it holds.
            key_mask: True at real tokens, False at padding, cached positions included.
            cache: keys, turned already, and values of what was read before; it is appended to. A
                `SinkCache` keeps keys that have not turned.
        """
        t, dropout = x.shape[1], self.dropout if self.training else 0.0
        q, k, v = self._heads(x)
        attend: Callable[..., Tensor] = attention
        if cache is None:
            positions = torch.arange(t, device=x.device)
        elif isinstance(cache, SinkCache):  # a position is a place in it
            k, v = cache.append(k, v)
            positions = torch.arange(k.shape[2], device=x.device)
        else:
            positions = cache.positions(t, key_mask, x.device)
            attend = cache.attend
        q, k = self.rotary(q, positions[..., -t:]), self.rotary(k, positions)
        out = attend(
            q, k, v, is_causal=True, window=self.window, key_mask=key_mask, dropout=dropout
        )  # fmt: skip  # eq. llm-attention
        return self.out_proj(rearrange(out, "b h t d -> b t (h d)"))

    def weights(
        self, x: Float[Tensor, "b t e"], key_mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b h t s"]:
        """Return how much each head of each position draws from each position."""
        q, k, _ = self._heads(x)
        positions = torch.arange(x.shape[1], device=x.device)
        q, k = self.rotary(q, positions), self.rotary(k, positions)
        return attention_weights(
            q, k, is_causal=True, window=self.window, key_mask=key_mask
        )

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of these positions, in heads, before they turn."""
        parts = self.in_proj(x).split(self.widths, -1)  # eq. llm-projections
        if self.qk_norm == "all":
            parts = (self.q_norm(parts[0]), self.k_norm(parts[1]), parts[2])
        q, k, v = (
            rearrange(part, "b t (h d) -> b h t d", d=self.head_dim) for part in parts
        )
        if self.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)  # eq. llm-qk-norm
        return q, k, v

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}"


class SwiGLU(nn.Module):
    r"""A gated network: $\bigl( \mathrm{SiLU}(x W_{\text{gate}}) \odot x W_1 \bigr) W_2$.

    Equation `llm-swiglu`. The gate and the input are one matrix, the gate's rows first.

    Args:
        embed_dim: model width e, ≥ 1.
        dim_feedforward: hidden width f, ≥ 1.
        bias: whether the three products have biases.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> SwiGLU(8, 24)(torch.zeros(3, 8)).shape
        torch.Size([3, 8])

    Source: Shazeer 2020, whose W and V are our gate and W₁.
    """

    def __init__(
        self,
        embed_dim: int,
        dim_feedforward: int,
        bias: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e, f = (
            checks.count("embed_dim", embed_dim),
            checks.count("dim_feedforward", dim_feedforward),
        )
        checks.flag("bias", bias)
        self.in_proj = nn.Linear(e, 2 * f, bias, device=device, dtype=dtype)
        self.out_proj = nn.Linear(f, e, bias, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Return the vectors that the network makes of these, each alone."""
        return self.out_proj(swiglu(*self.in_proj(x).chunk(2, -1)))  # eq. llm-swiglu


class LLMBlock(nn.Module):
    """Attention between positions, then a gated network at each, each added to its input.

    Equations `llm-attention-half` and `llm-network-half`; with `post_norm`, `llm-post-norm`.

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads of attention.
        dim_feedforward: hidden width of the gated network.
        norm_eps: ε of the norms.
        post_norm: whether norms stand after attention and network, before the sum (OLMo 2).
        mlp_bias: whether the gated network has biases.
        device: of the weights.
        dtype: of the weights.
        attention: more arguments of `GroupedAttention`.

    Example:
        >>> block = LLMBlock(16, num_heads=4, dim_feedforward=40, num_kv_heads=2)
        >>> block(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Touvron et al. 2023.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dim_feedforward: int,
        *,
        norm_eps: float = 1e-5,
        post_norm: bool = False,
        mlp_bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **attention: Any,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        eps = checks.number("norm_eps", norm_eps, least=0)
        self.attention = GroupedAttention(
            embed_dim, num_heads, norm_eps=eps, **attention, **like
        )
        bias = checks.flag("mlp_bias", mlp_bias)
        self.network = SwiGLU(embed_dim, dim_feedforward, bias, **like)
        self.norm1, self.norm2 = (RMSNorm(embed_dim, eps, **like) for _ in range(2))
        self.post_norm = checks.flag("post_norm", post_norm)

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return new vectors, one a position; arguments as in `GroupedAttention`."""
        attend = partial(self.attention, key_mask=key_mask, cache=cache)
        if self.post_norm:  # eq. llm-post-norm
            x = x + self.norm1(attend(x))
            return x + self.norm2(self.network(x))
        x = x + attend(self.norm1(x))  # eq. llm-attention-half
        return x + self.network(self.norm2(x))  # eq. llm-network-half
