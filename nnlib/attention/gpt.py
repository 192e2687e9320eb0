r"""GPT: a stack of causal transformer blocks that learns by guessing the next token.

Chapter: chapters/attention/gpt.md     Papers: Radford et al. 2018, 2019; Brown et al. 2020
Axes: b batch, t positions, s positions so far, e model width, v vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks, hugging_face
from nnlib.attention import _hugging_face as theirs
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.language_model import DecoderLanguageModel, next_token_loss
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.next_token import next_tokens
from nnlib.blocks.transformer_layer import TransformerEncoderLayer

__all__ = [
    "GPT",
    "gpt_parameters",
    "next_token_loss",
    "next_token_loss_of_logits",
    "token_flops",
]


class GPT(DecoderLanguageModel):
    r"""A causal language model: $p(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(E\,\mathbf{h}_t)$.

    Token and position vectors are added (equation `gpt-embedding`), pass the blocks, each with its
    norms first (`gpt-block`), and are held against the token vectors again (`gpt-next`).

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        num_layers: blocks L, ≥ 1.
        max_length: the longest sequence, prompt and answer together, ≥ 1.
        dropout: probability of dropping in training, 0 … 1.
        dim_feedforward: hidden width of each block's network; None is 4e.
        activation: "gelu_tanh" (GPT-2), "gelu" or "relu".
        layer_norm_eps: ε of the norms.
        init_std: spread σ of new weights, > 0; 0.02 suits widths of 500 and more, and a model that
            is narrower learns sooner from a wider spread.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = GPT(vocab_size=11, embed_dim=8, num_heads=2, num_layers=2, max_length=16)
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> model(ids).shape, model.generate(ids, max_new_tokens=4).shape
        (torch.Size([1, 3, 11]), torch.Size([1, 7]))

    Source: Radford et al. 2019 (GPT-2). Our e and L are their d_model and layers.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        max_length: int,
        dropout: float = 0.0,
        *,
        dim_feedforward: int | None = None,
        activation: str = "gelu_tanh",
        layer_norm_eps: float = 1e-5,
        init_std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        self.max_length = checks.count("max_length", max_length)
        checks.number("dropout", dropout, least=0, most=1)
        hidden = 4 * e if dim_feedforward is None else dim_feedforward
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(
            vocab_size, e, **like
        )  # also the output's weights
        self.position_embedding = nn.Embedding(max_length, e, **like)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(
                e,
                num_heads,
                hidden,
                dropout,
                activation,
                layer_norm_eps,
                norm_first=True,
                **like,
            )
            for _ in range(depth)
        )
        self.norm = LayerNorm(e, eps=layer_norm_eps, **like)
        self.init_std = checks.number("init_std", init_std, above=0)
        self.reset_parameters()

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
        positions: Int[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers; with caches, those that continue what the caches hold.
            key_mask: True at real tokens, False at padding, cached positions included. Positions
                are then counted from the first real token, wherever the padding stands.
            caches: from `new_caches`, one a block; they are appended to.
            positions: numbers of the positions, if other than counted: t, or b by t.
        """
        hidden = self.hidden(ids, key_mask, caches, positions)
        return F.linear(hidden, self.token_embedding.weight)  # eq. gpt-next

    def hidden(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
        positions: Int[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the vector of each position after the last norm; arguments as in `forward`."""
        start = self._check(ids, key_mask, caches)
        end = start + ids.shape[1]
        if positions is not None:
            checks.tensor("positions", positions, floating=False)
            shape = ids.shape[1:] if positions.ndim == 1 else ids.shape
            checks.tokens(
                "positions", positions, self.max_length, shape=shape, of="max_length"
            )
        elif key_mask is not None:
            positions = (key_mask.cumsum(1) - 1).clamp(min=0)[:, start:]
        else:
            positions = torch.arange(start, end, device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(
            positions
        )  # eq. gpt-embedding
        x = self.dropout(x)
        for number, layer in enumerate(self.layers):
            cache = None if caches is None else caches[number]
            x = layer(
                x, key_mask=key_mask, is_causal=True, cache=cache
            )  # eq. gpt-block
        return self.norm(x)

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "GPT":
        """Return the GPT-2 of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `GPT2LMHeadModel` or `GPT2Model`, the folder of a saved
                one, or its name on the hub, such as "openai-community/gpt2".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        needed = [*theirs.GPT_SIZES, "activation_function"]
        config, tensors = hugging_face.read_model(model_or_path, "gpt2", needed)
        hugging_face.refuse_options(config, theirs.GPT_ONLY)
        head = tensors.pop("lm_head.weight", None)  # the token vectors again
        act = config["activation_function"]
        made = cls(
            **{ours: config[name] for name, ours in theirs.GPT_SIZES.items()},
            dropout=config.get("resid_pdrop", 0.1),
            dim_feedforward=config.get("n_inner"),
            activation=theirs.GPT_ACTIVATIONS.get(act, act),
            layer_norm_eps=config.get("layer_norm_epsilon", 1e-5),
        )
        hugging_face.load_renamed(made, tensors, theirs.GPT_RULES)
        if head is not None and not torch.equal(
            head, made.token_embedding.weight.to(head.dtype)
        ):
            raise ValueError("lm_head.weight must equal wte.weight: GPT shares them")
        return made.eval()


def next_token_loss_of_logits(
    logits: Float[Tensor, "b t v"],
    ids: Int[Tensor, "b t"],
    key_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $-\frac1{T-1}\sum_t \log p(x_{t+1} \mid x_{\le t})$ (equation `gpt-loss`).

    What stands at position t has read token t, so that it is held against token t + 1.

    Args:
        logits: of `GPT.forward` on `ids`.
        ids: sequences of two tokens or more.
        key_mask: True at real tokens; padding is not guessed.

    Example:
        >>> logits, ids = torch.zeros(1, 3, 2), torch.tensor([[0, 1, 1]])
        >>> next_token_loss_of_logits(logits, ids).item()  # log 2
        0.6931471824645996
    """
    checks.tensor("logits", logits, shape=("b", "t", "v"), floating=True)
    checks.tensor("ids", ids, shape=tuple(logits.shape[:2]), floating=False)
    target = next_tokens(ids, key_mask)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target.flatten())


def gpt_parameters(
    vocab_size: int, embed_dim: int, num_layers: int, max_length: int
) -> int:
    """Return how many numbers a GPT with 4e hidden units learns: `gpt-parameters`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 0.
        max_length: positions T, ≥ 1.

    Example:
        >>> gpt_parameters(50257, 768, 12, 1024)  # GPT-2, the smallest
        124439808
    """
    v, e = checks.count("vocab_size", vocab_size), checks.count("embed_dim", embed_dim)
    depth = checks.count("num_layers", num_layers, least=0)
    return (
        (v + checks.count("max_length", max_length)) * e
        + depth * (12 * e * e + 13 * e)
        + 2 * e
    )


def token_flops(
    vocab_size: int, embed_dim: int, num_layers: int, length: int, use_cache: bool
) -> int:
    """Return the FLOPs of the matrix products that give token number `length` + 1.

    With a cache one position passes the blocks, without it all of them do: `gpt-cached-cost`,
    `gpt-uncached-cost`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 1.
        length: tokens before it, ≥ 1.
        use_cache: whether their keys and values are kept.
    """
    v, e = checks.count("vocab_size", vocab_size), checks.count("embed_dim", embed_dim)
    depth, t = checks.count("num_layers", num_layers), checks.count("length", length)
    positions = 1 if checks.flag("use_cache", use_cache) else t
    return positions * depth * (24 * e * e + 4 * e * t) + 2 * v * e
