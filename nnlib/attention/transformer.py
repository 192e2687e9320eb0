r"""Transformer: every position asks every other, layer upon layer, with no recurrence.

Chapter: chapters/attention/transformer.md     Paper: Vaswani et al. 2017
Axes: b batch, t positions of the target, s positions of the source, e model width.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.multi_head_attention import MultiHeadAttention as MultiHeadAttention
from nnlib.foundations.regularization import LayerNorm

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class TransformerEncoderLayer(nn.Module):
    """Self-attention, then a two-layer network at each position, each added to its input.

    Loads the `state_dict` of `torch.nn.TransformerEncoderLayer` unchanged. With `is_causal` and a
    cache it is also the block of a decoder-only model such as GPT.

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

    Example:
        >>> TransformerEncoderLayer(16, 4, 32)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Vaswani et al. 2017; pre-norm: Xiong et al. 2020.
    """

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
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.norm_first = checks.one_of("norm_first", norm_first, (True, False))
        self.dropout = nn.Dropout(dropout)

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
        if self.norm_first:
            x = x + self.dropout(self.self_attn(self.norm1(x), **look))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self.dropout(self.self_attn(x, **look)))
        return self.norm2(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(ACTIVATIONS[self.activation](self.linear1(x)))
        return self.dropout(self.linear2(hidden))
