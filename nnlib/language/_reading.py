"""A language model that reads a text as it grows, forgets its end, or changes between rows.

Axes: b batch, t tokens so far, u tokens not yet read, v vocabulary.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.modes import evaluating
from nnlib.blocks.sampling import check_logits

LanguageModel = Callable[..., Tensor]
"""Takes tokens `b t` and returns the logits of what follows each, `b t v`."""

Rule = Callable[[Tensor, Tensor], Tensor]
"""Takes the logits of the next token `b v` and the tokens so far `b t`; returns logits."""


class Reader:
    """What has read a text up to some place, and keeps of it what the model can keep.

    Args:
        model: as the public functions have it.
        ids: prompts, which it has not read yet.
        max_new_tokens: how many tokens will be added at most.
        stop: a token that ends a text, or None.
        use_cache: whether keys and values are kept where the model can.
        name: of the argument, for messages.

    Raises:
        TypeError, ValueError: the model could never go on from these prompts.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        stop: int | None,
        use_cache: bool,
        name: str = "model",
    ):
        if not callable(model):
            raise TypeError(f"{name} must take tokens and return logits, got {model!r}")
        checks.tensor("ids", ids, shape=("b", "t"), floating=False, empty=False)
        if ids.dtype != torch.int64:
            raise TypeError(f"ids must be torch.int64, got {ids.dtype}")
        self.model, self.name, self.length = model, name, 0
        room = ids.shape[1] + checks.count("max_new_tokens", max_new_tokens)
        least = 0 if stop is None else checks.count("stop", stop, least=0)
        if isinstance(size := getattr(model, "vocab_size", None), int):
            checks.tokens("ids", ids, size, of=f"{name}.vocab_size")
            if least >= size:
                raise ValueError(f"stop={stop} must be below {name}.vocab_size={size}")
        if isinstance(most := getattr(model, "max_length", None), int) and room > most:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} after a prompt of {ids.shape[1]} in ids needs "
                f"{room} positions, {name}.max_length={most}"
            )
        new_caches = getattr(model, "new_caches", None)
        self.caches: list[KVCache] | None = None
        if checks.flag("use_cache", use_cache) and new_caches is not None:
            self.caches = new_caches(room)
        self._open = ExitStack()

    def __enter__(self) -> "Reader":
        """Put the model into evaluation mode."""
        if isinstance(self.model, nn.Module):
            self._open.enter_context(evaluating(self.model))
        return self

    def __exit__(self, *_: object) -> None:
        """Put it back."""
        self._open.close()

    def read(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b u v"]:
        """Return the logits of what follows each token that was not read before."""
        new = ids.shape[1] - self.length
        if self.caches is None:
            logits = self.model(ids)
        else:
            logits = self.model(ids[:, self.length :], caches=self.caches)
        if (
            not isinstance(logits, Tensor)
            or logits.ndim != 3
            or len(logits) != len(ids)
        ):
            told = (
                tuple(logits.shape)
                if isinstance(logits, Tensor)
                else type(logits).__name__
            )
            raise ValueError(
                f"{self.name} must return logits of shape ({len(ids)}, t, v), got {told}"
            )
        self.length = ids.shape[1]
        return logits[:, -new:]

    def forget(self, length: int) -> None:
        """Go back to having read `length` tokens, or fewer if it has not come so far."""
        self.length = min(self.length, length)
        for cache in self.caches or ():
            cache.length = self.length

    def take(self, rows: Int[Tensor, " b"]) -> None:
        """Go on from these of its rows, which may occur more than once or not at all."""
        for cache in self.caches or ():
            if cache.keys is not None and cache.values is not None:
                cache.keys, cache.values = cache.keys[rows], cache.values[rows]

    def ruled(
        self, logits: Float[Tensor, "b v"], ids: Int[Tensor, "b t"], rule: Rule | None
    ) -> Float[Tensor, "b v"]:
        """Return logits as the rule leaves them; an error names who gave bad ones."""
        try:
            check_logits(logits)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name} gave {error}") from None
        return logits if rule is None else rule(logits, ids)
