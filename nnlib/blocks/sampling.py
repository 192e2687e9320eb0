r"""What the next token is drawn from: logits at a temperature, of which only some stay.

`temperature`, `top_k`, `top_p` and `min_p` each take logits and return logits, with −∞ for a token
that may not be drawn, so that they can be applied one after the other and to what any other rule
has left. `sampling_probabilities` applies them in this order, and generation calls it.

Chapters: chapters/attention/gpt.md, chapters/language/decoding.md
Axes: b any, t and s tokens, v vocabulary.
"""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

Rule = tuple[float, int | None, float | None, float | None]
"""Temperature, top k, top p and min p, all checked."""


def temperature(logits: Float[Tensor, "*b v"], tau: float) -> Float[Tensor, "*b v"]:
    r"""Return $z / \tau$ (equation `decoding-temperature`); at τ = 0 the largest logit alone.

    Args:
        logits: one for each token; −∞ where it may not be drawn.
        tau: τ ≥ 0. Below 1 what is probable becomes more so; 0 is greedy.

    Example:
        >>> temperature(torch.tensor([1.0, 3.0]), 0.5).tolist()
        [2.0, 6.0]

    Source: Ackley, Hinton and Sejnowski 1985.
    """
    return scaled(check_logits(logits), checks.number("tau", tau, least=0))


def top_k(logits: Float[Tensor, "*b v"], k: int) -> Float[Tensor, "*b v"]:
    r"""Return the logits of the k most probable tokens, −∞ elsewhere (equation `decoding-top-k`).

    Args:
        logits: one for each token; of equal ones the first stay.
        k: tokens to keep, ≥ 1; all if there are fewer.

    Example:
        >>> top_k(torch.tensor([1.0, 3.0, 2.0]), 2).tolist()
        [-inf, 3.0, 2.0]

    Source: Fan, Lewis and Dauphin 2018.
    """
    return k_best(check_logits(logits), min(checks.count("k", k), logits.shape[-1]))


def top_p(logits: Float[Tensor, "*b v"], p: float) -> Float[Tensor, "*b v"]:
    r"""Return the logits of the nucleus, −∞ elsewhere (equation `decoding-top-p`).

    The nucleus is the fewest tokens, the most probable first, that have probability p together.

    Args:
        logits: one for each token; of equal ones the first stay.
        p: in (0, 1].

    Example:
        >>> shares = torch.tensor([0.1, 0.4, 0.2, 0.3])
        >>> [round(q, 2) for q in top_p(shares.log(), 0.6).exp().tolist()]
        [0.0, 0.4, 0.0, 0.3]

    Source: Holtzman et al. 2019.
    """
    return nucleus(check_logits(logits), checks.number("p", p, above=0, most=1))


def min_p(logits: Float[Tensor, "*b v"], m: float) -> Float[Tensor, "*b v"]:
    r"""Return the logits of what is at least m times as probable as the best: `decoding-min-p`.

    Args:
        logits: one for each token.
        m: in [0, 1]; 0 keeps all.

    Example:
        >>> shares = torch.tensor([0.1, 0.4, 0.2, 0.3])
        >>> [round(q, 2) for q in min_p(shares.log(), 0.6).exp().tolist()]
        [0.0, 0.4, 0.0, 0.3]

    Source: Nguyen et al. 2024.
    """
    return near_best(check_logits(logits), checks.number("m", m, least=0, most=1))


def check_logits(logits: Tensor) -> Tensor:
    """Return logits when each row has a token that can be drawn, and none is NaN or +∞."""
    checks.tensor("logits", logits, floating=True, empty=False)
    if logits.ndim == 0:
        raise ValueError("logits must have an axis of tokens, got shape ()")
    if checks.readable(logits):
        best = logits.amax(-1)  # NaN where a row has one
        if not bool(best.isfinite().all()):
            raise ValueError(
                "logits must be finite or -inf, with a finite one in each row, got rows whose "
                f"largest is {float(best[~best.isfinite()].flatten()[0])}"
            )
    return logits


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
    (`gpt-min-p`), in this order. Ties are broken by the smaller number. The rules by themselves
    are `nnlib.language.decoding`'s.

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
    check_logits(logits)
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
    logits = scaled(logits, temperature)
    if top_k is not None:
        logits = k_best(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = nucleus(logits, top_p)
    if min_p is not None:
        logits = near_best(logits, min_p)
    return logits.softmax(-1)


# ------------------------------------------------------------- the rules, of arguments that are fit
def scaled(logits: Float[Tensor, "*b v"], tau: float) -> Float[Tensor, "*b v"]:
    """Return `temperature`, unchecked."""
    if tau == 0:
        best = F.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
        return logits.masked_fill(~best, -torch.inf)
    best = logits.amax(-1, keepdim=True)
    # A tiny temperature overflows; softmax does not mind if the largest logit is then 0.
    shift = torch.where((best / tau).isinf(), best, 0.0)
    return (logits - shift) / tau  # eq. decoding-temperature, gpt-temperature


def k_best(logits: Float[Tensor, "*b v"], k: int) -> Float[Tensor, "*b v"]:
    """Return `top_k`, unchecked."""
    least = logits.topk(k, -1).values[..., -1:]
    above, equal = logits > least, logits == least
    first = equal.cumsum(-1) <= k - above.sum(
        -1, keepdim=True
    )  # of equal ones, the first
    return logits.masked_fill(
        ~(above | (equal & first)), -torch.inf
    )  # eq. decoding-top-k


def nucleus(logits: Float[Tensor, "*b v"], p: float) -> Float[Tensor, "*b v"]:
    """Return `top_p`, unchecked."""
    if p == 1:
        return logits
    shares, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = F.pad(shares.cumsum(-1)[..., :-1], (1, 0))
    # eq. decoding-top-p: a token stays while those before fall short
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -torch.inf)


def near_best(logits: Float[Tensor, "*b v"], m: float) -> Float[Tensor, "*b v"]:
    """Return `min_p`, unchecked."""
    if m == 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(m)
    return logits.masked_fill(
        logits < least, -torch.inf
    )  # eq. decoding-min-p, as logits
