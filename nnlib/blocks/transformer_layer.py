r"""The layers of a transformer: attention and a two-layer network, each added to its input.

Chapter: chapters/attention/transformer.md     Paper: Vaswani et al. 2017
Axes: b batch, t positions of the target, s positions of the source, e model width.

Both load the `state_dict` of their namesakes in `torch.nn`, which `from_torch` copies whole. Two
conventions differ: ours are always batch first, and a mask is True where one may look.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks import from_torch
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention

Layer = TypeVar("Layer", bound="_Layer")


class _Layer(nn.Module):
    """What both layers are made of: attention and a two-layer network, each in a residual."""

    reads_memory = False  # whether a second attention looks at the output of an encoder

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        num_kv_heads: int | None = None,
        rotary_base: float | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        attend = partial(
            MultiHeadAttention,
            embed_dim,
            num_heads,
            num_kv_heads,
            dropout=dropout,
            **like,
        )
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        norm = partial(LayerNorm, embed_dim, eps=eps, **like)
        self.self_attn = attend(rotary_base=rotary_base)
        f = checks.count("dim_feedforward", dim_feedforward)
        self.linear1 = nn.Linear(embed_dim, f, **like)
        self.linear2 = nn.Linear(f, embed_dim, **like)
        self.norm1, self.norm2 = norm(), norm()
        if self.reads_memory:
            self.multihead_attn, self.norm3 = attend(), norm()
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.norm_first = checks.flag("norm_first", norm_first)
        self.dropout = nn.Dropout(dropout)

    def _add(
        self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Add what a part of the layer says, with its norm before it or after the sum."""
        if self.norm_first:
            return x + self.dropout(part(norm(x)))  # eq. transformer-pre-norm
        return norm(
            x + self.dropout(part(x))
        )  # eq. transformer-attention-half, -network-half

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = ACTIVATIONS[self.activation](self.linear1(x))
        return self.linear2(self.dropout(hidden))  # eq. transformer-ffn

    @classmethod
    def from_torch(cls: type[Layer], module: nn.Module) -> Layer:
        """Return a copy of the layer of `torch.nn` with this name, weights and mode included.

        Raises:
            ValueError: an activation or norm of it is none of ours.
        """
        from_torch.same_name(cls, module)
        return from_torch.copied(cls(**from_torch.layer_options(module)), module)


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a two-layer network at each position, each added to its input.

    Loads the `state_dict` of `torch.nn.TransformerEncoderLayer` unchanged. With `is_causal` and a
    cache it is also the block of a decoder-only model such as GPT. Equations
    `transformer-attention-half`, `transformer-network-half` and `transformer-pre-norm`.

    Args:
        embed_dim: model width e (torch's `d_model`), ≥ 1.
        num_heads: heads, which divide e (torch's `nhead`).
        dim_feedforward: width of the hidden layer, ≥ 1.
        dropout: probability of dropping, 0 … 1.
        activation: a name in `ACTIVATIONS`; "relu" in 2017, "gelu" in BERT, "gelu_tanh" in GPT-2.
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before attention and network (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions, or None for none.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> TransformerEncoderLayer(16, 4, 32)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Vaswani et al. 2017; pre-norm: Xiong et al. 2020.
    """

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        *,
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return new vectors, one a position; masks and cache as in `MultiHeadAttention`."""
        checks.tensor(
            "x", x, shape=("b", "t", self.linear2.out_features), floating=True
        )
        attend = partial(
            self.self_attn,
            mask=mask,
            key_mask=key_mask,
            is_causal=is_causal,
            cache=cache,
        )
        x = self._add(x, self.norm1, attend)
        return self._add(x, self.norm2, self._feed_forward)


class DecoderCache(NamedTuple):
    """What a decoder layer keeps while it writes: of its own text, and of the encoder's output."""

    own: KVCache
    memory: KVCache


class TransformerDecoderLayer(_Layer):
    """Causal self-attention, attention to the encoder's output, then a two-layer network.

    Loads the `state_dict` of `torch.nn.TransformerDecoderLayer` unchanged. Equations
    `transformer-causal`, `transformer-cross` and `transformer-network-half`.

    Arguments as in `TransformerEncoderLayer`; rotary positions are those of self-attention.

    Example:
        >>> layer = TransformerDecoderLayer(16, 4, 32)
        >>> layer(torch.zeros(2, 3, 16), torch.zeros(2, 7, 16)).shape
        torch.Size([2, 3, 16])

    Source: Vaswani et al. 2017.
    """

    reads_memory = True

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        memory: Float[Tensor, "b s e"] | None = None,
        *,
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b _"] | None = None,
        memory_mask: Tensor | None = None,
        memory_key_mask: Bool[Tensor, "b s"] | None = None,
        is_causal: bool = True,
        cache: DecoderCache | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return new vectors, one a position of the target.

        Args:
            x: the target so far.
            memory: the encoder's output; None with a cache, which holds its keys and values.
            mask: who may look at whom within the target, as in `MultiHeadAttention`.
            key_mask: True at real tokens of the target.
            memory_mask: who may look where in the source.
            memory_key_mask: True at real tokens of the source.
            is_causal: whether a position sees no later one of the target.
            cache: made by `start`; `x` continues what it holds.
        """
        if (memory is None) == (cache is None):
            given = "neither" if memory is None else "both"
            raise ValueError(f"memory or cache: one of them must be given, got {given}")
        checks.tensor(
            "x", x, shape=("b", "t", self.linear2.out_features), floating=True
        )
        own, source = (None, memory) if cache is None else (cache.own, cache.memory)
        attend = partial(
            self.self_attn, mask=mask, key_mask=key_mask, is_causal=is_causal, cache=own
        )
        read = partial(
            self.multihead_attn,
            source=source,
            mask=memory_mask,
            key_mask=memory_key_mask,
        )
        x = self._add(x, self.norm1, attend)
        x = self._add(x, self.norm2, read)
        return self._add(x, self.norm3, self._feed_forward)

    def start(self, memory: Float[Tensor, "b s e"], max_length: int) -> DecoderCache:
        """Return a cache with the keys and values of `memory`, and room for `max_length` tokens."""
        return DecoderCache(KVCache(max_length), self.multihead_attn.read(memory))
