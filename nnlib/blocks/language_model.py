r"""What language models share: reading, keeping what was read, and writing token after token.

There are two kinds. A decoder's memory of a text grows with it, in caches; a recurrent model's
is a state of constant size.

Chapters: chapters/attention/gpt.md, chapters/language/llm.md, chapters/sequence/rwkv.md,
chapters/sequence/mamba.md, chapters/sequence/xlstm.md
Axes: b batch, t positions, s positions with those so far or those written, e model width,
v vocabulary.
"""

from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache, one_each
from nnlib.blocks.modes import evaluating
from nnlib.blocks.next_token import Writing, next_tokens
from nnlib.blocks.sampling import write_on
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy

State = TypeVar("State")
"""What a recurrent model keeps of the tokens that it has read."""


@runtime_checkable
class Reading(Protocol):
    """What gives a vector at each position of a text, and has one for each token to hold it to."""

    vocab_size: int

    @property
    def output_weight(self) -> Tensor:
        """One vector for each token."""

    def hidden(self, ids: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Return the vector of each position after the last norm."""


class DecoderLanguageModel(nn.Module):
    """What decoder-only transformers share: how weights begin, caches, and writing.

    A model of this kind makes `token_embedding`, `layers` and what comes after them, and says in
    `hidden` how it reads; `GPT` and `LLM` do.
    """

    vocab_size: int
    max_length: int
    init_std: float
    token_embedding: nn.Embedding
    layers: nn.ModuleList

    def reset_parameters(self) -> None:
        """Draw new weights with spread σ, and σ/√(2L) where a block adds to the stream.

        Biases begin with 0, the factors of the norms with 1.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                adds = name.endswith(("out_proj.weight", "linear2.weight"))
                shrink = (2 * len(self.layers)) ** -0.5 if adds else 1.0  # eq. gpt-init
                nn.init.normal_(parameter, std=self.init_std * shrink)

    @property
    def output_weight(self) -> Float[Tensor, "v e"]:
        """One vector for each token, which the last vectors are held against."""
        return self.token_embedding.weight

    def hidden(
        self,
        ids: Int[Tensor, "b t"],
        key_mask: Bool[Tensor, "b s"] | None = None,
        caches: list[KVCache] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return the vector of each position after the last norm.

        Args:
            ids: token numbers; with caches, those that continue what the caches hold.
            key_mask: True at real tokens, False at padding, cached positions included.
            caches: from `new_caches`, one a block; they are appended to.
        """
        raise NotImplementedError

    def new_caches(self, max_length: int | None = None) -> list[KVCache]:
        """Return an empty cache for each block, with room for so many positions.

        Args:
            max_length: None is the model's, which may be much: 16 GB for Llama 3 8B in bfloat16.
        """
        room = self.max_length if max_length is None else max_length
        return [KVCache(room) for _ in self.layers]

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        stop: int | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
        caches: list[KVCache] | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them, drawn token by token.

        Args:
            ids: prompts of one token or more, padded on the left where `key_mask` says so.
            max_new_tokens: tokens to add, ≥ 1.
            temperature: ≥ 0; 0 takes the most probable token.
            top_k: draw among the k most probable; ≥ 1, or None for all.
            top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
            min_p: draw among those of at least m times the largest; in [0, 1], or None.
            generator: of the random numbers; None is torch's own.
            use_cache: whether keys and values are kept; the result is the same, later.
            stop: a token after which a sequence is complete; it is then filled up with it.
            key_mask: True at real tokens of the prompts, False at padding on their left.
            caches: where keys and values are kept, such as those of a `PagedKVCache`; one a block.
                None makes new ones. The prompts continue what they hold.
        """
        asked = Writing(
            ids, max_new_tokens, temperature, top_k, top_p, min_p, stop=stop,
            key_mask=key_mask, vocab_size=self.vocab_size, max_length=self.max_length,
        )  # fmt: skip
        checks.flag("use_cache", use_cache)
        if caches is not None and not use_cache:
            raise ValueError("use_cache=False, got caches as well")
        self._check(ids, None, caches)
        with evaluating(self):
            room = ids.shape[1] + max_new_tokens
            if use_cache and caches is None:
                caches = self.new_caches(room)
            return asked.continued(self._next_logits, caches, generator)

    def _next_logits(
        self, ids: Tensor, key_mask: Tensor | None, caches: list[KVCache] | None
    ) -> Tensor:
        """Return the logits of what follows the last position: no other is asked for them."""
        return F.linear(self.hidden(ids, key_mask, caches)[:, -1], self.output_weight)

    def _check(
        self, ids: Tensor, key_mask: Tensor | None, caches: list[KVCache] | None
    ) -> int:
        """Refuse what does not fit; return how many positions the caches hold."""
        checks.tokens("ids", ids, self.vocab_size)
        first = one_each(caches, len(self.layers))[0]
        start = 0 if first is None else first.length
        end = start + ids.shape[1]
        if end > self.max_length:
            raise ValueError(
                f"ids must end within max_length={self.max_length}, got {end}"
            )
        if key_mask is not None:
            checks.key_mask("key_mask", key_mask, (len(ids), end))
        return start


def next_token_loss(
    model: Reading,
    ids: Int[Tensor, "b t"],
    key_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $-\frac1{T-1} \sum_t \log p(x_{t+1} \mid x_{\le t})$ in nats.

    Equations `gpt-loss` and `llm-loss`. The logits are never held for the whole batch;
    `next_token_loss_of_logits`, beside GPT, is the readable twin.

    Args:
        model: a GPT, an LLM, or one of them with a past that is learned.
        ids: sequences of two tokens or more.
        key_mask: True at real tokens; padding is neither read nor guessed.

    Example:
        >>> from nnlib.attention.gpt import GPT
        >>> model = GPT(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=4)
        >>> next_token_loss(model, torch.tensor([[1, 2, 3]])).isfinite().item()
        True
    """
    checks.tokens("ids", ids, model.vocab_size)
    target = next_tokens(ids, key_mask)
    seen = None if key_mask is None else key_mask[:, :-1]
    hidden = model.hidden(ids[:, :-1], seen).flatten(0, 1)
    return linear_cross_entropy(hidden, model.output_weight, target.flatten())


class RecurrentLanguageModel(nn.Module, Generic[State]):
    """What models with a state of constant size share: reading, stepping, writing.

    A model of this kind begins with `new_state`, and says in `_checked` which states fit and in
    `_read` how it reads on from one; `RWKV`, `Mamba` and `xLSTM` do.
    """

    vocab_size: int

    def forward(
        self, ids: Int[Tensor, "b t"], state: State | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers.
            state: of what was read before, from `with_state` or `step`; None: nothing.
        """
        return self.with_state(ids, state)[0]

    def with_state(
        self, ids: Int[Tensor, "b t"], state: State | None = None
    ) -> tuple[Float[Tensor, "b t v"], State]:
        """Return the logits, and the state after the last token.

        Args:
            ids: token numbers.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size)
        return self._read(ids, self._checked(len(ids), state))

    def step(
        self, ids: Int[Tensor, " b"], state: State | None = None
    ) -> tuple[Float[Tensor, "b v"], State]:
        """Read one token of each sequence: return the logits of the next, and the new state.

        Args:
            ids: one token number a sequence.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size, shape=("b",))
        logits, state = self._read(ids[:, None], self._checked(len(ids), state))
        return logits[:, 0], state

    def new_state(self, batch: int) -> State:
        """Return the state of sequences of which nothing was read; its size never changes.

        Args:
            batch: how many sequences, ≥ 1.
        """
        raise NotImplementedError

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them, by `nnlib.blocks.sampling.write_on`."""
        with evaluating(self):
            return write_on(
                self, ids, max_new_tokens, temperature, top_k, top_p, generator
            )

    def _checked(self, batch: int, state: Any) -> Any:
        """Return what `_read` begins with; refuse a state that does not fit."""
        raise NotImplementedError

    def _read(self, ids: Tensor, state: Any) -> tuple[Tensor, State]:
        """Return the logits at each position, and the state after the last."""
        raise NotImplementedError
