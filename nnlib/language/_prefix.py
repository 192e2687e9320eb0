"""Prefix and prompt tuning: a past that is learned, which a frozen model then continues.

Part of `nnlib.language.adapters`, with its axes.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.language_model import DecoderLanguageModel


class LearnedPast(KVCache):
    """A cache that gradients pass through: it is copied, not written to, when something is added.

    Args:
        max_length: the number of positions there is room for, ≥ 1.

    Example:
        >>> past = LearnedPast(max_length=8)
        >>> k, v = past.append(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
        >>> past.length, k.shape
        (3, torch.Size([1, 2, 3, 4]))
    """

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t d"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Add new positions at the end and return all so far."""
        if self.keys is not None and self.values is not None:
            k, v = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        if k.shape[2] > self.max_length:
            raise ValueError(
                f"max_length={self.max_length} has room for {self.max_length - self.length} more "
                f"positions, got {k.shape[2] - self.length}"
            )
        self.keys, self.values, self.length = k, v, k.shape[2]
        return k, v


class _Past(nn.Module):
    """What both have in common: the frozen model reads on from a past that was never text."""

    def __init__(self, model: DecoderLanguageModel, length: int):
        super().__init__()
        if not isinstance(model, DecoderLanguageModel):
            raise TypeError(
                f"model must be a GPT or an LLM, got {type(model).__name__}"
            )
        self.length = checks.count("length", length)
        if length >= model.max_length:
            raise ValueError(
                f"length={length} must leave room for text within max_length={model.max_length}"
            )
        self.model = model.requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Tokens of the model's vocabulary."""
        return self.model.vocab_size

    @property
    def output_weight(self) -> Float[Tensor, "v e"]:
        """The model's: one vector for each token, which the last vectors are held against."""
        return self.model.output_weight

    def caches(self, batch: int, max_length: int | None = None) -> list[KVCache]:
        """Return, for each block, a cache that holds the learned past, for so many texts.

        Args:
            batch: texts, ≥ 1.
            max_length: positions that there is room for; None is the model's.
        """
        raise NotImplementedError

    def _empty(self, max_length: int | None = None) -> list[KVCache]:
        room = self.model.max_length if max_length is None else max_length
        return [LearnedPast(room) for _ in self.model.layers]

    def hidden(
        self, ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t e"]:
        """Return the vector of each position of the text after the last norm.

        Args:
            ids: token numbers; with the past they must fit into the model's `max_length`.
            key_mask: True at real tokens, False at padding.
        """
        checks.tokens("ids", ids, self.vocab_size)
        if key_mask is not None:
            checks.key_mask("key_mask", key_mask, tuple(ids.shape))
            key_mask = F.pad(key_mask, (self.length, 0), value=True)
        return self.model.hidden(ids, key_mask, self.caches(len(ids)))

    def forward(
        self, ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position; arguments as in `hidden`."""
        return F.linear(self.hidden(ids, key_mask), self.output_weight)

    @torch.no_grad()
    def generate(
        self, ids: Int[Tensor, "b t"], max_new_tokens: int, **options: Any
    ) -> Int[Tensor, "b s"]:
        """Return prompts and what follows them; arguments as for the model's own `generate`."""
        checks.tokens("ids", ids, self.vocab_size)
        return self.model.generate(
            ids, max_new_tokens, caches=self.caches(len(ids)), **options
        )

    def _start(self, start: Tensor | None) -> Tensor | None:
        """Refuse a text to begin from that does not have a token for each position of the past."""
        if start is None:
            return None
        return checks.tokens("start", start, self.vocab_size, shape=(self.length,))


class PrefixTuning(_Past):
    r"""Keys and values of $m$ positions, learned for every block, which all tokens attend to.

    Equation `adapters-prefix`. The model is frozen, and not copied.

    Args:
        model: a GPT, or an LLM.
        length: positions m of the past, ≥ 1.
        start: a text of m tokens, whose keys and values are begun with; None draws them at random.
        hidden: width of a network that makes them from one vector a position, as the paper trains
            them; None learns them themselves. `folded` takes the network away.
        init_std: spread of what is drawn, > 0.

    Example:
        >>> from nnlib.language.llm import LLM
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=3, max_length=16)
        >>> tuned = PrefixTuning(model, length=4)
        >>> tuned(torch.tensor([[1, 2, 3]])).shape, tuned.prefix.shape  # l, k and v, g, m, d
        (torch.Size([1, 3, 11]), torch.Size([3, 2, 2, 4, 4]))

    Source: Li and Liang 2021, whose prefix length is our m.
    """

    def __init__(
        self,
        model: DecoderLanguageModel,
        length: int,
        start: Int[Tensor, " m"] | None = None,
        hidden: int | None = None,
        init_std: float = 1.0,
    ):
        super().__init__(model, length)
        ids = self._start(start)
        spread = checks.number("init_std", init_std, above=0)
        like = model.output_weight
        read = self._read(
            like.new_zeros(1, length, dtype=torch.int64) if ids is None else ids[None]
        )
        self.shape = tuple(read.shape)  # l, 2, g, m, d
        begin = read if ids is not None else torch.randn_like(read) * spread
        self.prefix: nn.Parameter | None = None
        if hidden is None:
            self.prefix = nn.Parameter(begin)
            return
        if ids is not None:
            raise ValueError(
                "start: a network's output cannot be begun with, got hidden as well"
            )
        depth, _, g, _, d = self.shape
        e, made = like.shape[1], depth * 2 * g * d
        width = checks.count("hidden", hidden)
        options: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.embedding = nn.Embedding(length, e, **options)
        self.transform = nn.Sequential(
            nn.Linear(e, width, **options), nn.Tanh(), nn.Linear(width, made, **options)
        )

    @torch.no_grad()
    def _read(self, ids: Tensor) -> Tensor:
        """Return the keys and values that the model makes of a text."""
        caches = self._empty()
        self.model.hidden(ids, None, caches)
        # a cache's keys and values are None until something was read, and now they are not
        return torch.stack([torch.stack([c.keys[0], c.values[0]]) for c in caches])  # type: ignore[index]

    def learned(self) -> Float[Tensor, "l 2 g m d"]:
        """Return the keys and values, whatever makes them."""
        if self.prefix is not None:
            return self.prefix
        depth, _, g, m, d = self.shape
        made = self.transform(self.embedding.weight)
        return made.view(m, depth, 2, g, d).permute(1, 2, 3, 0, 4)

    def caches(self, batch: int, max_length: int | None = None) -> list[KVCache]:
        """Return, for each block, a cache that holds the learned keys and values."""
        caches = self._empty(max_length)
        for cache, (keys, values) in zip(caches, self.learned(), strict=True):
            cache.append(
                keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1)
            )
        return caches

    @torch.no_grad()
    def folded(self) -> "PrefixTuning":
        """Return the same past without the network that made it, as it is stored and used."""
        made = PrefixTuning(self.model, self.length)
        assert made.prefix is not None
        made.prefix.copy_(self.learned())
        return made.train(self.training)


class PromptTuning(_Past):
    r"""Vectors of $m$ tokens that no vocabulary has, learned and read before every text.

    Equation `adapters-prompt`. The model is frozen, and not copied.

    Args:
        model: a GPT, or an LLM.
        length: virtual tokens m, ≥ 1.
        start: m tokens whose vectors are begun with; None draws them from the vocabulary.

    Example:
        >>> from nnlib.language.llm import LLM
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=3, max_length=16)
        >>> tuned = PromptTuning(model, length=4)
        >>> tuned(torch.tensor([[1, 2, 3]])).shape, tuned.prompt.shape
        (torch.Size([1, 3, 11]), torch.Size([4, 8]))

    Source: Lester, Al-Rfou and Constant 2021, whose p is our m.
    """

    def __init__(
        self,
        model: DecoderLanguageModel,
        length: int,
        start: Int[Tensor, " m"] | None = None,
    ):
        super().__init__(model, length)
        table = model.token_embedding.weight
        ids = self._start(start)
        if ids is None:
            ids = torch.randint(len(table), (length,), device=table.device)
        self.prompt = nn.Parameter(table.detach()[ids].clone())

    def caches(self, batch: int, max_length: int | None = None) -> list[KVCache]:
        """Return, for each block, a cache with what the model makes of the learned vectors."""
        caches = self._empty(max_length)
        vectors = self.prompt.expand(batch, -1, -1)
        place = self.model.token_embedding
        hook = place.register_forward_hook(
            lambda *_: vectors
        )  # in place of a table's rows
        try:
            ids = torch.zeros(
                batch, self.length, dtype=torch.int64, device=vectors.device
            )
            self.model.hidden(ids, None, caches)
        finally:
            hook.remove()
        return caches
