"""Beam search: several continuations are kept, and the best whole one is returned.

Axes: b batch, k beams, t tokens of a prompt, s tokens with those written, v vocabulary.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.language._reading import LanguageModel, Reader

FORMS = ("power", "gnmt")


class Beams(NamedTuple):
    """What `beam_search` found, the best of each prompt first.

    Attributes:
        ids: prompts and continuations; what ended early is filled up with the token that ends.
        scores: log-probability over the length's norm; −∞ where there are fewer sequences.
    """

    ids: Int[Tensor, "b k s"]
    scores: Float[Tensor, "b k"]


def length_norm(length: int, length_penalty: float, form: str = "power") -> float:
    r"""Return what a log-probability is divided by: `decoding-length`, `decoding-gnmt`.

    Args:
        length: tokens that were written, the last one included, ≥ 1.
        length_penalty: α; 0 compares log-probabilities as they are, 1 their means, above that
            favours the long.
        form: "power" is $t^\alpha$, "gnmt" is $((5 + t) / 6)^\alpha$.

    Example:
        >>> length_norm(20, 0.6, "gnmt"), length_norm(20, 0.6)
        (2.35..., 6.03...)

    Source: "gnmt": Wu et al. 2016.
    """
    t = checks.count("length", length)
    alpha = checks.number("length_penalty", length_penalty)
    return ((5 + t) / 6 if checks.one_of("form", form, FORMS) == "gnmt" else t) ** alpha


@torch.no_grad()
def beam_search(
    model: LanguageModel,
    ids: Int[Tensor, "b t"],
    max_new_tokens: int,
    num_beams: int = 4,
    *,
    length_penalty: float = 1.0,
    form: str = "power",
    stop: int | None = None,
    use_cache: bool = True,
) -> Beams:
    r"""Return the best continuations that a search with so many beams finds: `decoding-beam`.

    At each step every kept sequence is extended by every token, and the `num_beams` with the
    largest log-probability stay. One that ends with `stop` leaves the search; finished ones are
    compared by `decoding-length`. The search ends when no kept one can still get among the best.

    Args:
        model: takes tokens `b t` and returns logits `b t v`; one with `new_caches`, such as `LLM`
            and `GPT`, reads each token once.
        ids: prompts of one token or more, all of one length.
        max_new_tokens: tokens to add at most, ≥ 1.
        num_beams: sequences that are kept, ≥ 1; 1 is greedy.
        length_penalty: α of `length_norm`.
        form: of `length_norm`.
        stop: a token that ends a sequence, or None.
        use_cache: whether keys and values are kept where the model can.

    Example:
        >>> def model(ids):  # 0 seems best, but after 1 the next token is certain
        ...     table = torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.55, 0.45]])
        ...     return table[ids].log()
        >>> prompt = torch.tensor([[2]])
        >>> beam_search(model, prompt, 2, num_beams=1).ids.tolist()
        [[[2, 0, 0]]]
        >>> beam_search(model, prompt, 2, num_beams=2).ids[:, 0].tolist()
        [[2, 1, 1]]

    Source: Lowerre 1976; with normalised length: Wu et al. 2016.
    """
    beams = checks.count("num_beams", num_beams)
    length_norm(1, length_penalty, form)
    with Reader(model, ids, max_new_tokens, stop, use_cache) as reader:
        rows, prompt = ids.shape
        first = (
            beams * torch.arange(rows, device=ids.device)[:, None]
        )  # beam of each prompt
        copies = torch.arange(rows, device=ids.device).repeat_interleave(beams)
        logits = reader.read(ids)[:, -1][copies]
        reader.take(copies)
        text = ids[copies]
        kept = logits.new_full((rows, beams), -torch.inf)
        kept[:, 0] = (
            0  # at first all beams are the prompt, whose continuations count once
        )
        shape = (rows, beams, prompt + max_new_tokens)
        found = Beams(
            ids.new_full(shape, 0 if stop is None else stop), kept - torch.inf
        )
        found.ids[..., :prompt] = ids[:, None]
        for step in range(1, max_new_tokens + 1):
            log_p = reader.ruled(logits, text, None).log_softmax(-1)
            total = (kept.flatten()[:, None] + log_p).view(
                rows, -1
            )  # eq. decoding-beam
            # Twice as many as are kept, so that enough go on if all of the best end here.
            value, at = total.topk(min(2 * beams, total.shape[1]), -1)
            parent, token = at // log_p.shape[-1] + first, at % log_p.shape[-1]
            longer = torch.cat([text[parent], token[..., None]], -1)
            ends = torch.full_like(token, step == max_new_tokens, dtype=torch.bool)
            if stop is not None:
                ends = ends | (token == stop)
            score = value / length_norm(step, length_penalty, form)
            ended = score.masked_fill(~ends, -torch.inf)[:, :beams]
            found = _best_of(found, longer[:, :beams], ended)
            kept, chosen = value.masked_fill(ends, -torch.inf).topk(beams, -1)
            if step == max_new_tokens or _is_settled(
                found.scores, kept, [length_norm(t, length_penalty, form)
                                     for t in (step + 1, max_new_tokens)]
            ):  # fmt: skip
                break
            text = _chosen(longer, chosen).flatten(0, 1)
            reader.take(parent.gather(1, chosen).flatten())
            logits = reader.read(text)[:, -1]
    if stop is None:
        return found
    written = (found.ids[..., prompt:] != stop).sum(-1)
    return Beams(found.ids[..., : prompt + int(written.max()) + 1], found.scores)


def _best_of(
    found: Beams, ids: Int[Tensor, "b j t"], scores: Float[Tensor, "b j"]
) -> Beams:
    """Return the best of what was found before and what ended now, as many as before."""
    filled = found.ids[:, : ids.shape[1]].clone()
    filled[..., : ids.shape[-1]] = ids
    scores, best = torch.cat([found.scores, scores], 1).topk(found.scores.shape[1], -1)
    return Beams(_chosen(torch.cat([found.ids, filled], 1), best), scores)


def _chosen(
    ids: Int[Tensor, "b j t"], which: Int[Tensor, "b k"]
) -> Int[Tensor, "b k t"]:
    """Return these of each prompt's sequences."""
    return ids.gather(1, which[..., None].expand(-1, -1, ids.shape[-1]))


def _is_settled(
    found: Float[Tensor, "b k"], kept: Float[Tensor, "b k"], norms: list[float]
) -> bool:
    """Return whether no kept sequence can still get among the best, whatever follows it."""
    # A log-probability only falls, and a larger norm lifts it.
    possible = kept[:, 0] / max(norms)
    return bool((found[:, -1] >= possible).all())
