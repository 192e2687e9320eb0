r"""Guessing the next token: what each position has to guess, and writing one token after another.

Chapters: chapters/attention/gpt.md, chapters/language/llm.md
Axes: b batch, t positions, s positions with those written, v vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks import sampling

LOOK_EVERY = 16
"""Tokens between two looks whether all sequences are complete, where a look waits for a queue."""

NextLogits = Callable[[Tensor, Tensor | None, Any], Tensor]
"""Tokens not yet read, the mask of all so far, caches: the logits of what follows, b by v."""


def next_tokens(
    ids: Int[Tensor, "b t"], key_mask: Bool[Tensor, "b t"] | None = None
) -> Int[Tensor, "b _"]:
    """Return what each position but the last must guess; −100 where that is padding.

    Args:
        ids: sequences of two tokens or more.
        key_mask: True at real tokens; padding is neither read nor guessed.

    Example:
        >>> next_tokens(torch.tensor([[5, 6, 7]]))
        tensor([[6, 7]])
    """
    if ids.shape[1] < 2:
        raise ValueError(
            f"ids must hold two tokens or more a sequence, got {tuple(ids.shape)}"
        )
    target = ids[:, 1:]  # the index that makes it a guess: eq. gpt-loss, llm-loss
    if key_mask is None:
        return target
    checks.key_mask("key_mask", key_mask, tuple(ids.shape))
    return target.masked_fill(~(key_mask[:, 1:] & key_mask[:, :-1]), -100)


class Writing:
    """A request to continue prompts, all of whose arguments are checked.

    Args:
        ids: prompts of one token or more, padded on the left where `key_mask` says so.
        max_new_tokens: tokens to add, ≥ 1.
        temperature: ≥ 0; 0 takes the most probable token.
        top_k: draw among the k most probable; ≥ 1, or None for all.
        top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
        min_p: draw among those of at least m times the largest; in [0, 1], or None.
        stop: a token after which a sequence is complete; it is then filled up with it.
        key_mask: True at real tokens of the prompts, False at padding on their left.
        vocab_size: tokens of the model.
        max_length: positions that the model has.

    Example:
        >>> asked = Writing(torch.tensor([[1]]), 3, temperature=0, vocab_size=4, max_length=8)
        >>> asked.continued(lambda ids, *_: F.one_hot((ids[:, -1] + 1) % 4, 4).float())
        tensor([[1, 2, 3, 0]])
    """

    def __init__(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        *,
        stop: int | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
        vocab_size: int,
        max_length: int,
    ):
        self.new = new = checks.count("max_new_tokens", max_new_tokens)
        self.rule = sampling.checked_rule(temperature, top_k, top_p, min_p, vocab_size)
        if stop is not None and checks.count("stop", stop, least=0) >= vocab_size:
            raise ValueError(f"stop={stop} must be below vocab_size={vocab_size}")
        checks.tokens("ids", ids, vocab_size)
        if key_mask is not None:
            checks.key_mask("key_mask", key_mask, tuple(ids.shape))
        if ids.shape[1] > max_length:
            raise ValueError(
                f"ids must end within max_length={max_length}, got {ids.shape[1]}"
            )
        if ids.shape[1] + new > max_length:
            raise ValueError(
                f"max_new_tokens={new} after a prompt of {ids.shape[1]} needs "
                f"{ids.shape[1] + new} positions, max_length={max_length}"
            )
        if key_mask is not None and not bool(key_mask[:, -1].all()):
            raise ValueError(
                "key_mask must end with a real token: pad prompts on the left"
            )
        self.ids, self.key_mask, self.stop = ids, key_mask, stop

    def continued(
        self,
        next_logits: NextLogits,
        caches: Any = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them, drawn token by token.

        Args:
            next_logits: the model: `NextLogits`.
            caches: what it keeps of tokens that it has read; None gives it all tokens each time.
            generator: of the random numbers; None is torch's own.
        """
        ids, key_mask, stop = self.ids, self.key_mask, self.stop
        every = 1 if checks.readable(ids) else LOOK_EVERY
        prompt, read = ids.shape[1], 0
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for step in range(1, self.new + 1):
            logits = next_logits(ids[:, read:], key_mask, caches)
            token = sampling.next_token(logits, self.rule, generator)[:, None]
            if stop is not None:
                token = torch.where(done[:, None], stop, token)
                done = done | (token[:, 0] == stop)
            read = 0 if caches is None else ids.shape[1]
            ids = torch.cat([ids, token], 1)
            if key_mask is not None:
                key_mask = F.pad(key_mask, (0, 1), value=True)
            if stop is not None and step % every == 0 and bool(done.all()):
                break
        return ids if stop is None else _until_all_stopped(ids, prompt, stop)


def _until_all_stopped(ids: Tensor, prompt: int, stop: int) -> Tensor:
    """Leave out what was written after every sequence was complete: it is `stop` and no more."""
    stopped = (ids[:, prompt:] == stop).int()
    # at each place: does a sequence write?
    going_on = (stopped.cumsum(1) - stopped == 0).any(0)
    return ids[:, : prompt + int(going_on.sum())]
