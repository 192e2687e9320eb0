r"""Transformer: every position asks every other, layer upon layer, with no recurrence.

Chapter: chapters/attention/transformer.md     Paper: Vaswani et al. 2017
Axes: b batch, t positions of the target, s positions of the source, e model width.

All classes load the `state_dict` of their namesakes in `torch.nn`, which `from_torch` copies whole.
Two conventions differ: ours are always batch first, and a mask is True where one may look.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks import from_torch
from nnlib.blocks.kv_cache import KVCache, one_each
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.transformer_layer import (
    DecoderCache,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)

Stack = TypeVar("Stack", bound="_Stack")


class _Stack(nn.Module):
    """What both stacks are made of: layers, and a norm at the end if asked for."""

    layer: type[TransformerEncoderLayer] | type[TransformerDecoderLayer]

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        num_kv_heads: int | None = None,
        rotary_base: float | None = None,
        final_norm: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.layers = nn.ModuleList(
            self.layer(
                embed_dim, num_heads, dim_feedforward, dropout, activation, layer_norm_eps,
                norm_first, num_kv_heads=num_kv_heads, rotary_base=rotary_base, **like,
            )
            for _ in range(checks.count("num_layers", num_layers))
        )  # fmt: skip
        ends = checks.flag("final_norm", final_norm)
        self.norm = LayerNorm(embed_dim, eps=layer_norm_eps, **like) if ends else None

    @classmethod
    def from_torch(cls: type[Stack], module: nn.Module) -> Stack:
        """Return a copy of the stack of `torch.nn` with this name, weights and mode included.

        Raises:
            ValueError: an activation or norm of it is none of ours.
        """
        from_torch.same_name(cls, module)
        theirs: Any = module
        layers = [cls.layer.from_torch(layer) for layer in theirs.layers]
        e, heads = layers[0].self_attn.embed_dim, layers[0].self_attn.num_heads
        stack = cls(e, heads, num_layers=1)
        stack.layers = nn.ModuleList(layers)
        if theirs.norm is not None:
            eps, bias = (
                from_torch.norm_eps("norm", theirs.norm),
                theirs.norm.bias is not None,
            )
            stack.norm = from_torch.copied(
                LayerNorm(e, eps=eps, bias=bias), theirs.norm
            )
        return stack.train(module.training)


class TransformerEncoder(_Stack):
    """A stack of encoder layers, with a norm at the end where `final_norm` asks for one.

    Loads the `state_dict` of `torch.nn.TransformerEncoder` unchanged. Unlike torch's, which copies
    one layer, it gives every layer its own random start.

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        num_layers: layers, ≥ 1.
        dim_feedforward: width of the hidden layers, ≥ 1.
        dropout: probability of dropping, 0 … 1.
        activation: a name in `nnlib.blocks.activations.ACTIVATIONS`.
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions, or None for none.
        final_norm: whether a norm follows the last layer; pre-norm needs it.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> TransformerEncoder(16, 4, num_layers=2, dim_feedforward=32)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Vaswani et al. 2017.
    """

    layer = TransformerEncoderLayer

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        *,
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        is_causal: bool = False,
        caches: list[KVCache] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the last layer's vectors; masks as in `MultiHeadAttention`, a cache a layer."""
        for layer, cache in zip(
            self.layers, one_each(caches, len(self.layers)), strict=True
        ):
            x = layer(x, mask=mask, key_mask=key_mask, is_causal=is_causal, cache=cache)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(_Stack):
    """A stack of decoder layers that all read one memory, with a norm at the end if asked for.

    Loads the `state_dict` of `torch.nn.TransformerDecoder` unchanged.

    Arguments as in `TransformerEncoder`; rotary positions are those of self-attention.

    Example:
        >>> decoder = TransformerDecoder(16, 4, num_layers=2, dim_feedforward=32)
        >>> decoder(torch.zeros(2, 3, 16), torch.zeros(2, 7, 16)).shape
        torch.Size([2, 3, 16])

    Source: Vaswani et al. 2017.
    """

    layer = TransformerDecoderLayer

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
        caches: list[DecoderCache] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the last layer's vectors; arguments as in `TransformerDecoderLayer`."""
        for layer, cache in zip(
            self.layers, one_each(caches, len(self.layers)), strict=True
        ):
            x = layer(
                x, memory, mask=mask, key_mask=key_mask, memory_mask=memory_mask,
                memory_key_mask=memory_key_mask, is_causal=is_causal, cache=cache,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)

    def start(
        self, memory: Float[Tensor, "b s e"], max_length: int
    ) -> list[DecoderCache]:
        """Return a cache a layer: `memory` read once, and room for `max_length` tokens."""
        layers: Iterable[Any] = self.layers
        return [layer.start(memory, max_length) for layer in layers]


class Transformer(nn.Module):
    """Encoder and decoder: reads one sequence from both sides, writes another from the left.

    Takes and returns vectors; embeddings, positions and the output layer stand outside, as in
    `torch.nn.Transformer`, whose `state_dict` it loads unchanged. torch's decoder looks ahead
    unless a mask forbids it; ours never does.

    Args:
        embed_dim: model width e (torch's `d_model`), ≥ 1.
        num_heads: heads, which divide e (torch's `nhead`).
        num_encoder_layers: layers that read, ≥ 1.
        num_decoder_layers: layers that write, ≥ 1.
        dim_feedforward: width of the hidden layers, ≥ 1.
        dropout: probability of dropping, 0 … 1.
        activation: a name in `nnlib.blocks.activations.ACTIVATIONS`.
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions in self-attention, or None for none.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Transformer(16, 4, 1, 1, dim_feedforward=32)
        >>> model(torch.zeros(2, 7, 16), torch.zeros(2, 3, 16)).shape
        torch.Size([2, 3, 16])

    Source: Vaswani et al. 2017.
    """

    def __init__(
        self,
        embed_dim: int = 512,
        num_heads: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
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
        shared: dict[str, Any] = {
            "dim_feedforward": dim_feedforward, "dropout": dropout, "activation": activation,
            "layer_norm_eps": layer_norm_eps, "norm_first": norm_first, "bias": bias,
            "num_kv_heads": num_kv_heads, "rotary_base": rotary_base, "final_norm": True,
            "device": device, "dtype": dtype,
        }  # fmt: skip
        depth = checks.count("num_encoder_layers", num_encoder_layers)
        self.encoder = TransformerEncoder(embed_dim, num_heads, depth, **shared)
        depth = checks.count("num_decoder_layers", num_decoder_layers)
        self.decoder = TransformerDecoder(embed_dim, num_heads, depth, **shared)

    def forward(
        self,
        source: Float[Tensor, "b s e"],
        target: Float[Tensor, "b t e"],
        *,
        source_key_mask: Bool[Tensor, "b s"] | None = None,
        target_key_mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return a vector a target position, which has seen the source and the target up to it.

        Args:
            source: what is read.
            target: what was written so far; in training the whole of it, shifted by one.
            source_key_mask: True at real tokens of the source.
            target_key_mask: True at real tokens of the target.
        """
        memory = self.encoder(source, key_mask=source_key_mask)
        return self.decoder(
            target, memory, key_mask=target_key_mask, memory_key_mask=source_key_mask
        )

    @classmethod
    def from_torch(cls, module: nn.Transformer) -> "Transformer":
        """Return a copy of a `torch.nn.Transformer`, weights and mode included.

        Raises:
            ValueError: an activation or norm of it is none of ours.
        """
        from_torch.same_name(cls, module)
        encoder = TransformerEncoder.from_torch(module.encoder)
        decoder = TransformerDecoder.from_torch(module.decoder)
        model = cls(module.d_model, module.nhead, 1, 1)
        model.encoder, model.decoder = encoder, decoder
        return model.train(module.training)
