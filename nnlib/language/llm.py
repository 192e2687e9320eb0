r"""A large language model: the decoder block that most open models share, and the stack of it.

Chapter: chapters/language/llm.md     Papers: Touvron et al. 2023 (LLaMA); Shazeer 2020 (SwiGLU);
Su et al. 2021 (rotary positions); Ainslie et al. 2023 (groups); Zhang and Sennrich 2019 (RMSNorm)
The model stands here, its block in `_llm_block`, its weights and FLOPs, counted, in `_llm_counts`,
and what `transformers` calls its parts in `_hugging_face`.
Axes: b batch, t positions, s positions so far, e model width, h heads, g heads of keys and values,
d head width, f width of the gated network, v vocabulary, l the stream before and after each block.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks, hugging_face
from nnlib.blocks.kv_cache import KVCache, one_each
from nnlib.blocks.language_model import DecoderLanguageModel, next_token_loss
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.language import _hugging_face as theirs
from nnlib.language._llm_block import GroupedAttention, LLMBlock, SwiGLU
from nnlib.language._llm_counts import llm_parameters, swiglu_width, token_flops
from nnlib.language._sinks import SinkCache

__all__ = [
    "LLM",
    "GroupedAttention",
    "LLMBlock",
    "SwiGLU",
    "llm_parameters",
    "logit_lens",
    "next_token_loss",
    "swiglu_width",
    "token_flops",
]


class LLM(DecoderLanguageModel):
    r"""A causal language model as open models build it: no position table, no biases, gates.

    Token vectors pass L blocks and a last norm (`llm-embedding`, `llm-attention-half`,
    `llm-network-half`) and are held against one vector for each token (`llm-logits`).

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: model width e, ≥ 1.
        num_heads: heads h of each block.
        num_layers: blocks L, ≥ 1.
        max_length: the longest sequence, prompt and answer together, ≥ 1.
        num_kv_heads: heads of keys and values, which divide h; None is h, 1 is multi-query.
        head_dim: width of a head, even; None is e/h.
        dim_feedforward: hidden width f of the gated networks; None is `swiglu_width(e, 8)`.
        tied: whether the token vectors are also the output's.
        rotary_base: what rotary frequencies are powers of, > 0.
        rotary_scaling: how they are stretched for longer texts, arguments of
            `rope_frequencies` (`nnlib.language.long_context`) by name; None leaves them.
        norm_eps: ε of the norms, ≥ 0.
        window: how many positions up to its own a query sees, or None for all; one for every
            block, or a list with one a block.
        qk_norm: "head" (Qwen 3), "all" (OLMo 2) or None: see `GroupedAttention`.
        post_norm: whether norms stand after attention and network (OLMo 2).
        qkv_bias: whether queries, keys and values have biases (Qwen 2).
        out_bias: whether attention's output has one.
        mlp_bias: whether the gated networks have biases.
        dropout: probability of dropping an attention weight in training, 0 … 1.
        init_std: spread σ of new weights, > 0.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=4, num_layers=2, max_length=16,
        ...             num_kv_heads=2)
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> model(ids).shape, model.generate(ids, max_new_tokens=4).shape
        (torch.Size([1, 3, 11]), torch.Size([1, 7]))

    Source: Touvron et al. 2023, whose dim, n_heads and n_layers are our e, h and L.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        max_length: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        dim_feedforward: int | None = None,
        tied: bool = False,
        rotary_base: float = 10000.0,
        rotary_scaling: Mapping[str, Any] | None = None,
        norm_eps: float = 1e-5,
        window: int | Sequence[int | None] | None = None,
        qk_norm: str | None = None,
        post_norm: bool = False,
        qkv_bias: bool = False,
        out_bias: bool = False,
        mlp_bias: bool = False,
        dropout: float = 0.0,
        init_std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = v = checks.count("vocab_size", vocab_size)
        e = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        self.max_length = checks.count("max_length", max_length)
        f = swiglu_width(e, 8) if dim_feedforward is None else dim_feedforward
        reach = list(window) if isinstance(window, list | tuple) else [window] * depth
        if len(reach) != depth:
            raise ValueError(
                f"window must be one number or one for each of {depth} layers, got {len(reach)}"
            )
        self.init_std = checks.number("init_std", init_std, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(v, e, **like)
        self.layers = nn.ModuleList(
            LLMBlock(
                e, num_heads, f, norm_eps=norm_eps, post_norm=post_norm, mlp_bias=mlp_bias,
                num_kv_heads=num_kv_heads, head_dim=head_dim, rotary_base=rotary_base,
                rotary_scaling=rotary_scaling, window=one, qkv_bias=qkv_bias, out_bias=out_bias,
                qk_norm=qk_norm, dropout=dropout, **like,
            )
            for one in reach
        )  # fmt: skip
        self.norm = RMSNorm(e, norm_eps, **like)
        self.tied = checks.flag("tied", tied)
        self.head = None if tied else nn.Linear(e, v, bias=False, **like)
        self.reset_parameters()

    @property
    def output_weight(self) -> Float[Tensor, "v e"]:
        """One vector for each token, which the stream's last vectors are held against."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers; with caches, those that continue what the caches hold.
            key_mask: True at real tokens, False at padding, cached positions included.
            caches: from `new_caches`, one a block; they are appended to.
        """
        return F.linear(self.hidden(ids, key_mask, caches), self.output_weight)

    def hidden(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the vector of each position after the last norm; arguments as in `forward`."""
        self._check(ids, key_mask, caches)
        x = self.token_embedding(ids)  # eq. llm-embedding
        for layer, cache in zip(
            self.layers, one_each(caches, len(self.layers)), strict=True
        ):
            x = layer(x, key_mask, cache)
        return self.norm(x)

    def stream(
        self, ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "l b t e"]:
        """Return the vector of each position before the first block and after each: L + 1 of them.

        No norm has touched them: `logit_lens` reads them.
        """
        self._check(ids, key_mask, None)
        states = [self.token_embedding(ids)]
        for layer in self.layers:
            states.append(layer(states[-1], key_mask))
        return torch.stack(states)

    @classmethod
    def from_hugging_face(
        cls, model_or_path: nn.Module | str | Path | tuple[Mapping[str, Tensor], Any]
    ) -> "LLM":
        """Return a model of `transformers` with its weights, in evaluation mode.

        Llama, Mistral, Qwen 2, Qwen 3 and OLMo 2 (`ForCausalLM`), and whatever calls itself one of
        them. The number type is kept.

        Args:
            model_or_path: an instance, the folder of a saved one (safetensors, in shards or not),
                its name on the hub, or a pair: its tensors by name, and its configuration.

        Raises:
            ValueError: an option that ours lacks, or a tensor that is missing, left over or of
                another shape; named, and the first before any tensor is read.
            ConnectionError: a name on the hub, which cannot be reached.
        """
        settings, tensors = hugging_face.read_model(
            model_or_path, theirs.KINDS, theirs.NEEDED, theirs.options
        )
        options = theirs.options(settings)
        head = tensors.pop("lm_head.weight", None) if options["tied"] else None
        rules = theirs.rules(settings["model_type"])
        dtypes = {
            value.dtype for value in tensors.values() if value.is_floating_point()
        }
        made = cls(**options, dtype=dtypes.pop() if len(dtypes) == 1 else None)
        hugging_face.load_renamed(made, tensors, rules)
        if head is not None and not torch.equal(
            head, made.output_weight.to(head.device, head.dtype)
        ):
            raise ValueError(
                "lm_head.weight must equal embed_tokens.weight: tie_word_embeddings=True"
            )
        return made.eval()

    def _check(
        self, ids: Tensor, key_mask: Tensor | None, caches: list[KVCache] | None
    ) -> int:
        first = one_each(caches, len(self.layers))[0]
        if isinstance(first, SinkCache):  # which drops what has no room
            checks.tokens("ids", ids, self.vocab_size)
            if first.max_length > self.max_length or key_mask is not None:
                raise ValueError(
                    f"caches with sinks must keep at most max_length={self.max_length} "
                    f"positions and go without key_mask, got {first.max_length}"
                )
            return first.length
        return super()._check(ids, key_mask, caches)


def logit_lens(
    model: LLM, ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, "l b t v"]:
    """Return the logits that the stream would give if it went to the output after each block.

    Equation `llm-lens`: row 0 is read before the first block, the last row is the model's own.

    Args:
        model: an LLM.
        ids: token numbers.
        key_mask: True at real tokens, False at padding.

    Example:
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=3, max_length=4)
        >>> logit_lens(model, torch.tensor([[1, 2]])).shape
        torch.Size([4, 1, 2, 11])

    Source: nostalgebraist 2020.
    """
    return F.linear(model.norm(model.stream(ids, key_mask)), model.output_weight)
