r"""Transformer: every position asks every other, layer upon layer, with no recurrence.

Chapter: chapters/attention/transformer.md     Paper: Vaswani et al. 2017
Axes: b batch, t positions of the target, s positions of the source, e model width.

All classes load the `state_dict` of their namesakes in `torch.nn`, which `from_torch` copies whole.
Two conventions differ: ours are always batch first, and a mask is True where one may look.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention as MultiHeadAttention

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


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
    ):
        super().__init__()
        self.self_attn = MultiHeadAttention(
            embed_dim, num_heads, num_kv_heads, bias=bias, dropout=dropout, rotary_base=rotary_base
        )
        f = checks.count("dim_feedforward", dim_feedforward)
        self.linear1 = nn.Linear(embed_dim, f, bias=bias)
        self.linear2 = nn.Linear(f, embed_dim, bias=bias)
        self.norm1 = LayerNorm(embed_dim, eps=layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(embed_dim, eps=layer_norm_eps, bias=bias)
        if self.reads_memory:
            self.multihead_attn = MultiHeadAttention(
                embed_dim, num_heads, num_kv_heads, bias=bias, dropout=dropout
            )
            self.norm3 = LayerNorm(embed_dim, eps=layer_norm_eps, bias=bias)
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.norm_first = checks.flag("norm_first", norm_first)
        self.dropout = nn.Dropout(dropout)

    def _add(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """Add what a part of the layer says, with its norm before it or after the sum."""
        if self.norm_first:
            return x + self.dropout(part(norm(x)))  # eq. transformer-pre-norm
        return norm(x + self.dropout(part(x)))  # eq. transformer-attention-half, -network-half

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = ACTIVATIONS[self.activation](self.linear1(x))
        return self.linear2(self.dropout(hidden))  # eq. transformer-ffn

    @classmethod
    def from_torch(cls, module: nn.Module):
        """Return a copy of the layer of `torch.nn` with this name, weights and mode included.

        Raises:
            TypeError: `module` is of another class.
            ValueError: its activation or norm is none of ours.
        """
        _same_name(cls, module)
        layer = cls(module.self_attn.embed_dim, **_options(module))
        return _copied(layer, module)


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
        activation: "relu" (2017), "gelu" (BERT) or "gelu_tanh" (GPT-2).
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before attention and network (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions, or None for none.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, or heads that do not divide.

    Example:
        >>> import torch
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
        look = {"mask": mask, "key_mask": key_mask, "is_causal": is_causal, "cache": cache}
        x = self._add(x, self.norm1, lambda y: self.self_attn(y, **look))
        return self._add(x, self.norm2, self._feed_forward)


class DecoderCache(NamedTuple):
    """What a decoder layer keeps while it writes: of its own text, and of the encoder's output."""

    own: KVCache
    memory: KVCache


class TransformerDecoderLayer(_Layer):
    """Causal self-attention, attention to the encoder's output, then a two-layer network.

    Loads the `state_dict` of `torch.nn.TransformerDecoderLayer` unchanged. Equations
    `transformer-causal`, `transformer-cross` and `transformer-network-half`.

    Args:
        embed_dim: model width e (torch's `d_model`), ≥ 1.
        num_heads: heads, which divide e (torch's `nhead`).
        dim_feedforward: width of the hidden layer, ≥ 1.
        dropout: probability of dropping, 0 … 1.
        activation: "relu", "gelu" or "gelu_tanh".
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions in self-attention, or None for none.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, or heads that do not divide.

    Example:
        >>> import torch
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

        Raises:
            ValueError: neither or both of memory and cache, or shapes that do not fit.
        """
        if (memory is None) == (cache is None):
            given = "neither" if memory is None else "both"
            raise ValueError(f"memory or cache: one of them must be given, got {given}")
        source = memory if cache is None else cache.memory
        look = {"mask": mask, "key_mask": key_mask, "is_causal": is_causal}
        own = None if cache is None else cache.own
        ask = {"mask": memory_mask, "key_mask": memory_key_mask}
        x = self._add(x, self.norm1, lambda y: self.self_attn(y, cache=own, **look))
        x = self._add(x, self.norm2, lambda y: self.multihead_attn(y, source, **ask))
        return self._add(x, self.norm3, self._feed_forward)

    def start(self, memory: Float[Tensor, "b s e"], max_length: int) -> DecoderCache:
        """Return a cache with the keys and values of `memory`, and room for `max_length` tokens."""
        return DecoderCache(KVCache(max_length), self.multihead_attn.read(memory))


class _Stack(nn.Module):
    """What both stacks are made of: layers, and a norm at the end if asked for."""

    layer: type[_Layer]

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
    ):
        super().__init__()
        shared = (dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias)
        more = {"num_kv_heads": num_kv_heads, "rotary_base": rotary_base}
        self.layers = nn.ModuleList(
            self.layer(embed_dim, num_heads, *shared, **more)
            for _ in range(checks.count("num_layers", num_layers))
        )
        ends = checks.flag("final_norm", final_norm)
        self.norm = LayerNorm(embed_dim, eps=layer_norm_eps, bias=bias) if ends else None

    @classmethod
    def from_torch(cls, module: nn.Module):
        """Return a copy of the stack of `torch.nn` with this name, weights and mode included.

        Raises:
            TypeError: `module` or its layers are of another class.
            ValueError: an activation or norm is none of ours.
        """
        _same_name(cls, module)
        layers = [cls.layer.from_torch(layer) for layer in module.layers]
        e, heads = layers[0].self_attn.embed_dim, layers[0].self_attn.num_heads
        stack = cls(e, heads, num_layers=1)
        stack.layers = nn.ModuleList(layers)
        if module.norm is not None:
            eps, bias = _eps("norm", module.norm), module.norm.bias is not None
            stack.norm = _copied(LayerNorm(e, eps=eps, bias=bias), module.norm)
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
        activation: "relu", "gelu" or "gelu_tanh".
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions, or None for none.
        final_norm: whether a norm follows the last layer; pre-norm needs it.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, or heads that do not divide.

    Example:
        >>> import torch
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
        look = {"mask": mask, "key_mask": key_mask, "is_causal": is_causal}
        for layer, cache in zip(self.layers, _one_each(caches, self.layers), strict=True):
            x = layer(x, cache=cache, **look)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(_Stack):
    """A stack of decoder layers that all read one memory, with a norm at the end if asked for.

    Loads the `state_dict` of `torch.nn.TransformerDecoder` unchanged.

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        num_layers: layers, ≥ 1.
        dim_feedforward: width of the hidden layers, ≥ 1.
        dropout: probability of dropping, 0 … 1.
        activation: "relu", "gelu" or "gelu_tanh".
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions in self-attention, or None for none.
        final_norm: whether a norm follows the last layer.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, or heads that do not divide.

    Example:
        >>> import torch
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
        look = {"mask": mask, "key_mask": key_mask, "is_causal": is_causal}
        look |= {"memory_mask": memory_mask, "memory_key_mask": memory_key_mask}
        for layer, cache in zip(self.layers, _one_each(caches, self.layers), strict=True):
            x = layer(x, memory, cache=cache, **look)
        return x if self.norm is None else self.norm(x)

    def start(self, memory: Float[Tensor, "b s e"], max_length: int) -> list[DecoderCache]:
        """Return a cache a layer: `memory` read once, and room for `max_length` tokens."""
        return [layer.start(memory, max_length) for layer in self.layers]


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
        activation: "relu", "gelu" or "gelu_tanh".
        layer_norm_eps: ε of the norms.
        norm_first: whether norms stand before each part (pre-norm) or after the sum.
        bias: whether linear layers and norms have biases.
        num_kv_heads: heads of keys and values; None is `num_heads`.
        rotary_base: base of rotary positions in self-attention, or None for none.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, or heads that do not divide.

    Example:
        >>> import torch
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
    ):
        super().__init__()
        shared = (dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias)
        shared += (num_kv_heads, rotary_base, True)
        layers = checks.count("num_encoder_layers", num_encoder_layers)
        self.encoder = TransformerEncoder(embed_dim, num_heads, layers, *shared)
        layers = checks.count("num_decoder_layers", num_decoder_layers)
        self.decoder = TransformerDecoder(embed_dim, num_heads, layers, *shared)

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
            TypeError: `module` or one of its parts is of another class.
            ValueError: an activation or norm is none of ours.
        """
        _same_name(cls, module)
        encoder = TransformerEncoder.from_torch(module.encoder)
        decoder = TransformerDecoder.from_torch(module.decoder)
        model = cls(module.d_model, module.nhead, 1, 1)
        model.encoder, model.decoder = encoder, decoder
        return model.train(module.training)


def _one_each(caches: list | None, layers: nn.ModuleList) -> list:
    if caches is None:
        return [None] * len(layers)
    if len(caches) != len(layers):
        raise ValueError(
            f"caches must hold one for each of {len(layers)} layers, got {len(caches)}"
        )
    return caches


# ---------------------------------------------------------------- from torch.nn


def _same_name(cls: type, module: object) -> None:
    if not isinstance(module, getattr(nn, cls.__name__)):
        raise TypeError(f"module must be a torch.nn.{cls.__name__}, got {type(module).__name__}")


def _options(layer: nn.Module) -> dict:
    """Return our arguments for a layer of torch.nn, all but the width."""
    return {
        "num_heads": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": _activation(layer.activation),
        "layer_norm_eps": _eps("norm1", layer.norm1),
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def _activation(function: object) -> str:
    if function is F.relu or isinstance(function, nn.ReLU):
        return "relu"
    if function is F.gelu:
        return "gelu"
    if isinstance(function, nn.GELU):
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    raise ValueError(f"activation={function!r} must be one of {list(ACTIVATIONS)}")


def _eps(name: str, norm: nn.Module) -> float:
    if not isinstance(norm, nn.LayerNorm):
        raise ValueError(f"{name} must be a torch.nn.LayerNorm, got {type(norm).__name__}")
    return norm.eps


def _copied(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    like = next(theirs.parameters())
    ours.to(like.device, like.dtype).load_state_dict(theirs.state_dict())
    return ours.train(theirs.training)
