r"""From scores to text: rules on logits, beam search, and a draft that a large model verifies.

A rule takes the logits of the next token, and where it needs them the tokens so far, and returns
logits, −∞ for a token that may not follow. Rules compose like any functions: the result of one is
the argument of the next.

Chapter: chapters/language/decoding.md     Papers: Holtzman et al. 2019 (top-p); Keskar et al. 2019
(repetition); Meister et al. 2022 (typical); Wu et al. 2016 (beam search); Leviathan et al. 2022 and
Chen et al. 2023 (speculative decoding)
Axes: b any or batch, t tokens so far, s tokens with those written, v vocabulary.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.sampling import check_logits, min_p, temperature, top_k, top_p
from nnlib.language._beam_search import Beams, beam_search, length_norm
from nnlib.language._reading import LanguageModel, Reader, Rule
from nnlib.language._speculative import (
    Speculated,
    acceptance,
    expected_tokens,
    speculative_decode,
    speculative_speedup,
    verify,
)

__all__ = [
    "Beams",
    "Speculated",
    "acceptance",
    "beam_search",
    "expected_tokens",
    "frequency_penalty",
    "length_norm",
    "min_p",
    "no_repeat",
    "only",
    "repetition_penalty",
    "sample",
    "speculative_decode",
    "speculative_speedup",
    "temperature",
    "top_k",
    "top_p",
    "typical",
    "verify",
]


def typical(logits: Float[Tensor, "*b v"], mass: float) -> Float[Tensor, "*b v"]:
    r"""Return the logits of tokens about as surprising as expected: equation `decoding-typical`.

    Tokens are taken in the order of $|-\log p - H|$, where H is the entropy, until they have the
    probability `mass` together; the others become −∞. So the most probable token may go.

    Args:
        logits: one for each token.
        mass: in (0, 1]; 1 keeps all.

    Example:
        >>> shares = torch.tensor([0.45, 0.2, 0.2, 0.1, 0.05])
        >>> typical(shares.log(), 0.3).isfinite().tolist()
        [False, True, True, False, False]

    Source: Meister et al. 2022, whose τ is our `mass`.
    """
    check_logits(logits)
    mass = checks.number("mass", mass, above=0, most=1)
    if mass == 1:
        return logits
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    entropy = -(p * log_p).nan_to_num(0.0).sum(-1, keepdim=True)  # 0 log 0 is 0
    _, order = (-log_p - entropy).abs().sort(dim=-1, stable=True)
    before = F.pad(p.gather(-1, order).cumsum(-1)[..., :-1], (1, 0))
    dropped = torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, before >= mass)
    return logits.masked_fill(dropped, -torch.inf)


def repetition_penalty(
    logits: Float[Tensor, "b v"], ids: Int[Tensor, "b t"], penalty: float
) -> Float[Tensor, "b v"]:
    r"""Return logits in which what stands in `ids` is less probable: `decoding-repetition`.

    A positive logit is divided by the penalty θ, a negative one multiplied, since dividing would
    bring it nearer to 0, which is up. It depends on where the logits' zero is: give it what the
    model says, before any other rule.

    Args:
        logits: of the token that follows each row.
        ids: the tokens so far; those that count.
        penalty: θ > 0; 1 changes nothing, below 1 encourages.

    Example:
        >>> repetition_penalty(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[0, 1]]), 2.0)
        tensor([[ 1., -4.,  1.]])

    Source: Keskar et al. 2019, who divide always; with both signs in `transformers`.
    """
    seen = _times_seen(logits, ids) > 0
    theta = checks.number("penalty", penalty, above=0)
    changed = torch.where(logits > 0, logits / theta, logits * theta)
    return torch.where(seen, changed, logits)


def frequency_penalty(
    logits: Float[Tensor, "b v"],
    ids: Int[Tensor, "b t"],
    frequency: float = 0.0,
    presence: float = 0.0,
) -> Float[Tensor, "b v"]:
    r"""Return $z - \alpha_f c - \alpha_p 1[c > 0]$ for tokens seen c times: `decoding-frequency`.

    Args:
        logits: of the token that follows each row.
        ids: the tokens so far; those that count.
        frequency: α_f, taken off for each time.
        presence: α_p, taken off once.

    Example:
        >>> ids = torch.tensor([[0, 0, 1]])
        >>> frequency_penalty(torch.zeros(1, 3), ids, frequency=0.5, presence=1.0)
        tensor([[-2.0000, -1.5000,  0.0000]])

    Source: OpenAI's API reference, 2020.
    """
    times = _times_seen(logits, ids)
    each = checks.number("frequency", frequency)
    once = checks.number("presence", presence)
    return logits - each * times - once * (times > 0)


def no_repeat(
    logits: Float[Tensor, "b v"], ids: Int[Tensor, "b t"], size: int
) -> Float[Tensor, "b v"]:
    """Return logits in which no token may complete a run of `size` tokens that stood before.

    Args:
        logits: of the token that follows each row.
        ids: the tokens so far.
        size: length of a run, ≥ 1; 1 forbids every token that was seen.

    Example:
        >>> ids = torch.tensor([[1, 2, 0, 1]])  # 1 was followed by 2
        >>> no_repeat(torch.zeros(1, 3), ids, 2)
        tensor([[0., 0., -inf]])

    Source: Paulus, Xiong and Socher 2017.
    """
    _times_seen(logits, ids)
    size = checks.count("size", size)
    if ids.shape[1] < size:
        return logits
    runs = ids.unfold(1, size, 1)
    last = ids[:, ids.shape[1] - size + 1 :]
    again = (runs[..., :-1] == last[:, None]).all(-1)
    barred = torch.zeros_like(logits).scatter_add(
        1, runs[..., -1], again.to(logits.dtype)
    )
    return logits.masked_fill(barred > 0, -torch.inf)


def only(
    logits: Float[Tensor, "*b v"], allowed: Bool[Tensor, "*b v"]
) -> Float[Tensor, "*b v"]:
    """Return logits with −∞ for what a grammar does not allow here: `decoding-constrained`.

    Args:
        logits: one for each token.
        allowed: True where a token may follow; at least one in each row that is possible at all.

    Example:
        >>> only(torch.tensor([1.0, 2.0]), torch.tensor([True, False])).tolist()
        [1.0, -inf]

    Source: Willard and Louf 2023.
    """
    check_logits(logits)
    checks.tensor("allowed", allowed, shape=tuple(logits.shape))
    if allowed.dtype != torch.bool:
        raise TypeError(
            f"allowed must hold True where a token may follow, got {allowed.dtype}"
        )
    kept = logits.masked_fill(~allowed, -torch.inf)
    if checks.readable(kept) and not bool(kept.isfinite().any(-1).all()):
        raise ValueError(
            "allowed must leave a possible token in each row, got none in some"
        )
    return kept


def _times_seen(logits: Tensor, ids: Tensor) -> Float[Tensor, "b v"]:
    """Return how often each token stands in each row; refuse what does not fit together."""
    check_logits(logits)
    checks.tensor("logits", logits, shape=("b", "v"))
    rows, vocab_size = logits.shape
    checks.tokens(
        "ids", ids, vocab_size, shape=(rows, "t"), empty=True, of="logits' last axis"
    )
    ones = torch.ones_like(ids, dtype=logits.dtype)
    return torch.zeros_like(logits).scatter_add(1, ids.long(), ones)


@torch.no_grad()
def sample(
    model: LanguageModel,
    ids: Int[Tensor, "b t"],
    max_new_tokens: int,
    rule: Rule | None = None,
    *,
    generator: torch.Generator | None = None,
    stop: int | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "b s"]:
    r"""Return the prompts and what follows them, each token drawn as a rule leaves it.

    With no rule, texts come with the probability that the model gives them: `decoding-sequence`.

    Args:
        model: takes tokens `b t` and returns logits `b t v`; one with `new_caches`, such as `LLM`
            and `GPT`, reads each token once.
        ids: prompts of one token or more.
        max_new_tokens: tokens to add, ≥ 1.
        rule: takes the logits of the next token, `b v`, and the tokens so far; returns logits.
        generator: of the random numbers; None is torch's own.
        stop: a token after which a sequence is complete; it is then filled up with it.
        use_cache: whether keys and values are kept where the model can.

    Example:
        >>> def counts_up(ids):
        ...     return 9.0 * F.one_hot((ids + 1) % 5, 5)
        >>> sample(counts_up, torch.tensor([[2]]), 4, lambda logits, ids: temperature(logits, 0))
        tensor([[2, 3, 4, 0, 1]])
    """
    with Reader(model, ids, max_new_tokens, stop, use_cache) as reader:
        done = torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
        for _ in range(max_new_tokens):
            logits = reader.ruled(reader.read(ids)[:, -1], ids, rule)
            token = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            if stop is not None:
                token = token.masked_fill(done, stop)
                done = done | (token == stop)
            ids = torch.cat([ids, token], 1)
            if stop is not None and bool(done.all()):
                break
    return ids
