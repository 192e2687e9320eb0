"""What the next token is drawn from: logits at a temperature, of which only some stay.

Chapter: chapters/attention/gpt.md
Axes: b any, t and s tokens, v vocabulary.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

Rule = tuple[float, int | None, float | None, float | None]
"""Temperature, top k, top p and min p, all checked."""


def sampling_probabilities(
    logits: Float[Tensor, "*b v"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Float[Tensor, "*b v"]:
    r"""Return the probabilities that the next token is drawn from.

    Logits over the temperature through softmax (equation `gpt-temperature`); then only some tokens
    stay, and what stays is divided by its sum: the k most probable (`gpt-top-k`), the fewest most
    probable that reach p together (`gpt-top-p`), those of at least m times the largest
    (`gpt-min-p`), in this order. Ties are broken by the smaller number.

    Args:
        logits: one for each token.
        temperature: ≥ 0; 0 puts all on the largest logit.
        top_k: ≥ 1, or None for all.
        top_p: in (0, 1], or None.
        min_p: in [0, 1], or None.

    Example:
        >>> p = torch.tensor([0.1, 0.4, 0.2, 0.3])
        >>> [round(q, 2) for q in sampling_probabilities(p.log(), top_p=0.6).tolist()]
        [0.0, 0.57, 0.0, 0.43]

    Source: top-k: Fan et al. 2018; top-p: Holtzman et al. 2019; min-p: Nguyen et al. 2024.
    """
    checks.tensor("logits", logits, floating=True, empty=False)
    return filtered(
        logits, *checked_rule(temperature, top_k, top_p, min_p, logits.shape[-1])
    )


def checked_rule(
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    vocab_size: int,
) -> Rule:
    """Return the arguments of `sampling_probabilities`, once for many steps."""
    temperature = checks.number("temperature", temperature, least=0)
    top_k = None if top_k is None else min(checks.count("top_k", top_k), vocab_size)
    top_p = None if top_p is None else checks.number("top_p", top_p, above=0, most=1)
    min_p = None if min_p is None else checks.number("min_p", min_p, least=0, most=1)
    return temperature, top_k, top_p, min_p


@runtime_checkable
class Recurrent(Protocol):
    """A language model that reads a prompt at once, and goes on from a state token by token."""

    vocab_size: int

    def with_state(self, ids: Tensor) -> tuple[Tensor, Any]:
        """Return the logits at each position, and the state after the last."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits after one token more, and the new state."""


def write_on(
    model: Recurrent,
    ids: Int[Tensor, "b t"],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b s"]:
    """Return the prompts and what follows them: one pass over the prompt, then `step` by step.

    Args:
        model: what writes; there is no longest text.
        ids: prompts of one token or more.
        max_new_tokens: tokens to add, ≥ 1.
        temperature: ≥ 0; 0 takes the most probable token.
        top_k: draw among the k most probable; ≥ 1, or None for all.
        top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
        generator: of the random numbers; None is torch's own.
    """
    new = checks.count("max_new_tokens", max_new_tokens)
    rule = checked_rule(temperature, top_k, top_p, None, model.vocab_size)
    logits, state = model.with_state(ids)
    logits, written = logits[:, -1], [ids]
    for left in range(new, 0, -1):
        token = next_token(logits, rule, generator)
        written.append(token[:, None])
        if left > 1:
            logits, state = model.step(token, state)
    return torch.cat(written, 1)


def next_token(
    logits: Float[Tensor, "b v"], rule: Rule, generator: torch.Generator | None
) -> Int[Tensor, " b"]:
    """Return a token of each row, drawn by a rule that is checked already."""
    if rule[0] == 0:
        return logits.argmax(-1)
    p = filtered(logits, *rule)
    return torch.multinomial(p, 1, generator=generator)[:, 0]


def filtered(
    logits: Float[Tensor, "*b v"],
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> Float[Tensor, "*b v"]:
    """Return `sampling_probabilities` by a rule that is checked already."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    logits = logits - logits.amax(
        -1, keepdim=True
    )  # so that a tiny temperature cannot overflow
    p = (logits / temperature).softmax(-1)  # eq. gpt-temperature
    if top_k is None and top_p is None and min_p is None:
        return p
    p, order = p.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        p = p * (torch.arange(p.shape[-1], device=p.device) < top_k)  # eq. gpt-top-k
        p = p / p.sum(-1, keepdim=True)
    if top_p is not None and top_p < 1:
        before = F.pad(p.cumsum(-1)[..., :-1], (1, 0))
        # eq. gpt-top-p: a token stays while those before fall short
        p = p * (before < top_p)
        p = p / p.sum(-1, keepdim=True)
    if min_p is not None:
        p = p * (p >= min_p * p[..., :1])  # eq. gpt-min-p
        p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, order, p)
