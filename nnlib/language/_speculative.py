r"""Speculative decoding: a cheap draft proposes tokens, and one pass of the target verifies them.

Axes: b batch, t tokens of a prompt, s tokens with those written, g drafted tokens, v vocabulary.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.language._reading import LanguageModel, Reader, Rule


class Speculated(NamedTuple):
    """What `speculative_decode` wrote, and how it went; a number for each prompt.

    Attributes:
        ids: prompts and continuations.
        verifications: passes of the target.
        judged: drafted tokens that were accepted or rejected; those after a rejection are neither.
        accepted: those that stayed.
        overlap: `acceptance` at the judged tokens, on average; NaN where none was.
    """

    ids: Int[Tensor, "b s"]
    verifications: Int[Tensor, " b"]
    judged: Int[Tensor, " b"]
    accepted: Int[Tensor, " b"]
    overlap: Float[Tensor, " b"]


def acceptance(
    p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"]
) -> Float[Tensor, "*b"]:
    r"""Return how probable it is that a token drafted from q is accepted: `decoding-acceptance`.

    It is $\sum_x \min(p(x), q(x))$, which is 1 less the total variation between them.

    Args:
        p: what the target draws from.
        q: what the draft draws from.

    Example:
        >>> acceptance(torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.5, 0.5, 0.0]))
        tensor(0.8000)

    Source: Leviathan, Kalman and Matias 2022.
    """
    _shares("p", p)
    _shares("q", q, tuple(p.shape))
    return torch.minimum(p, q).sum(-1)


def verify(
    p: Float[Tensor, "b g1 v"],
    q: Float[Tensor, "b g v"],
    drafted: Int[Tensor, "b g"],
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    r"""Return how many drafted tokens stay, and the token that follows them.

    A drafted token x stays with probability $\min(1, p(x)/q(x))$ (`decoding-accept`). At the first
    that does not, one is drawn from what q had too little of (`decoding-residual`); if all stay,
    one more from p. What is written is distributed as if p alone had written it.

    Args:
        p: what the target draws from after the text, and after each drafted token.
        q: what each token was drafted from.
        drafted: the tokens.
        generator: of the random numbers; None is torch's own.

    Example:
        >>> p, q = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> verify(p, q, torch.tensor([[0]])), verify(p, q, torch.tensor([[1]]))
        ((tensor([1]), tensor([1])), (tensor([0]), tensor([0])))

    Source: Leviathan, Kalman and Matias 2022; Chen et al. 2023.
    """
    _shares("p", p, ("b", "g", "v"))
    rows, after, vocab_size = p.shape
    _shares("q", q, (rows, after - 1, vocab_size))
    checks.tokens(
        "drafted", drafted, vocab_size, shape=(rows, after - 1), empty=True, of="p's"
    )
    at = drafted[..., None]
    wanted, offered = p[:, :-1].gather(-1, at)[..., 0], q.gather(-1, at)[..., 0]
    u = torch.rand(drafted.shape, dtype=p.dtype, device=p.device, generator=generator)
    stays = u * offered < wanted  # eq. decoding-accept
    count = stays.long().cumprod(1).sum(1)
    here = count[:, None, None].expand(-1, 1, vocab_size)
    wanted = p.gather(1, here)[:, 0]
    missing = (wanted - F.pad(q, (0, 0, 0, 1)).gather(1, here)[:, 0]).clamp(min=0)
    # Where p equals q a token is only rejected by rounding, and nothing is missing.
    missing = torch.where(missing.sum(-1, keepdim=True) > 0, missing, wanted)
    # eq. decoding-residual; torch divides by the sum
    return count, torch.multinomial(missing, 1, generator=generator)[:, 0]


def _shares(
    name: str, value: Tensor, shape: tuple[int | str, ...] | None = None
) -> None:
    """Refuse what is no probability for each token."""
    checks.tensor(name, value, shape=shape, floating=True)
    if value.ndim == 0 or value.shape[-1] == 0:
        raise ValueError(
            f"{name} must hold a probability a token, got {tuple(value.shape)}"
        )
    if checks.readable(value) and value.numel():
        off = (value.sum(-1) - 1).abs().max()
        if not (bool((value >= 0).all()) and bool(off < 1e-2)):
            raise ValueError(
                f"{name} must hold probabilities ≥ 0 that sum to 1 in each row"
            )


def expected_tokens(alpha: float, gamma: int) -> float:
    r"""Return $(1 - \alpha^{\gamma + 1})/(1 - \alpha)$ (equation `decoding-tokens`).

    So many tokens come out of one verification on average, if each is accepted independently.

    Args:
        alpha: how probable it is that a drafted token is accepted, 0 … 1.
        gamma: γ, tokens that are drafted at a time, ≥ 0.

    Example:
        >>> expected_tokens(0.5, 2), expected_tokens(1.0, 4)
        (1.75, 5.0)

    Source: Leviathan, Kalman and Matias 2022.
    """
    alpha = checks.number("alpha", alpha, least=0, most=1)
    gamma = checks.count("gamma", gamma, least=0)
    return float(
        sum(alpha**at for at in range(gamma + 1))
    )  # its sum, also where α is 1


def speculative_speedup(alpha: float, gamma: int, cost: float) -> float:
    r"""Return `expected_tokens` over the time of a round: equation `decoding-speedup`.

    Args:
        alpha: how probable it is that a drafted token is accepted, 0 … 1.
        gamma: γ, tokens that are drafted at a time, ≥ 0.
        cost: c, a pass of the draft over a pass of the target, ≥ 0.

    Example:
        >>> round(speculative_speedup(0.8, 4, 0.05), 2)
        2.8

    Source: Leviathan, Kalman and Matias 2022.
    """
    tokens = expected_tokens(alpha, gamma)
    return tokens / (gamma * checks.number("cost", cost, least=0) + 1)


@torch.no_grad()
def speculative_decode(
    target: LanguageModel,
    draft: LanguageModel,
    ids: Int[Tensor, "b t"],
    gamma: int = 4,
    max_new_tokens: int = 64,
    rule: Rule | None = None,
    *,
    generator: torch.Generator | None = None,
    stop: int | None = None,
    use_cache: bool = True,
) -> Speculated:
    """Return what `sample(target, …)` would draw, in fewer passes of the target.

    The draft writes γ tokens, the target reads all of them at once, and `verify` keeps as many as
    it may. Prompts are continued one after the other, since each keeps another number.

    Args:
        target: the model whose texts are wanted: takes tokens `b t`, returns logits `b t v`.
        draft: a cheaper one with the same tokens; only its logits at the last position are read.
        ids: prompts of one token or more.
        gamma: γ, tokens that are drafted at a time, ≥ 1.
        max_new_tokens: tokens to add, ≥ 1.
        rule: as for `sample`; both models draw by it.
        generator: of the random numbers; None is torch's own.
        stop: a token after which a text is complete; it is then filled up with it.
        use_cache: whether keys and values are kept where a model can.

    Example:
        >>> def counts_up(ids):
        ...     return 9.0 * F.one_hot((ids + 1) % 5, 5)
        >>> done = speculative_decode(counts_up, counts_up, torch.tensor([[2]]), 4, 5)
        >>> done.verifications, done.accepted  # γ drafted and one more, each time
        (tensor([1]), tensor([4]))

    Source: Leviathan, Kalman and Matias 2022; Chen et al. 2023, whose K is our γ.
    """
    gamma = checks.count("gamma", gamma)
    checks.tensor("ids", ids, shape=("b", "t"), floating=False, empty=False)
    sizes = [getattr(model, "vocab_size", None) for model in (target, draft)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"draft.vocab_size={sizes[1]} must be target.vocab_size={sizes[0]}"
        )
    whole = ids.new_zeros(
        len(ids), ids.shape[1] + checks.count("max_new_tokens", max_new_tokens)
    )
    told = []
    for row, text in zip(ids.split(1), whole, strict=True):
        with (
            Reader(target, row, max_new_tokens, stop, use_cache, "target") as judge,
            Reader(draft, row, max_new_tokens, stop, use_cache, "draft") as guess,
        ):
            numbers = _one_text(judge, guess, row, text, gamma, rule, generator, stop)
        told.append(numbers)
    passes, judged, accepted, overlap = map(torch.tensor, zip(*told, strict=True))
    return Speculated(whole, passes, judged, accepted, overlap / judged)


def _one_text(
    judge: Reader,
    guess: Reader,
    ids: Int[Tensor, "1 t"],
    whole: Int[Tensor, " s"],
    gamma: int,
    rule: Rule | None,
    generator: torch.Generator | None,
    stop: int | None,
) -> tuple[int, int, int, float]:
    """Write a text into `whole`; return passes, tokens judged and accepted, and their overlap."""
    passes = judged = accepted = 0
    overlap = 0.0
    start, end = ids.shape[1], len(whole)
    while ids.shape[1] < end and (stop is None or stop not in ids[0, start:]):
        length = ids.shape[1]
        longer = ids
        offers: list[Tensor] = []
        for _ in range(min(gamma, end - length - 1)):
            q = guess.ruled(guess.read(longer)[:, -1], longer, rule).softmax(-1)
            token = torch.multinomial(q, 1, generator=generator)
            longer, offers = torch.cat([longer, token], 1), [*offers, q]
        logits = judge.read(longer)[:, -len(offers) - 1 :]
        p = torch.stack([
            judge.ruled(logits[:, at], longer[:, : length + at], rule).softmax(-1)
            for at in range(len(offers) + 1)
        ], 1)  # fmt: skip
        if offers and offers[0].shape[-1] != p.shape[-1]:
            raise ValueError(
                f"draft must have the target's {p.shape[-1]} tokens, got {offers[0].shape[-1]}"
            )
        q = torch.stack(offers, 1).to(p) if offers else p[:, :0]
        count, token = verify(p, q, longer[:, length:], generator)
        stay = int(count)
        reached = min(stay + 1, len(offers))
        passes, judged, accepted = passes + 1, judged + reached, accepted + stay
        overlap += float(acceptance(p[:, :reached], q[:, :reached]).sum())
        ids = torch.cat([longer[:, : length + stay], token[:, None]], 1)
        for reader in (judge, guess):
            reader.forget(ids.shape[1] - 1)  # what was read and rejected
    whole[: ids.shape[1]] = ids[0]
    if stop is not None and stop in ids[0, start:]:
        whole[start + ids[0, start:].tolist().index(stop) :] = stop
    return passes, judged, accepted, overlap
