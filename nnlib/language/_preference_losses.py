r"""Learning from which of two answers is better: a reward model's loss, and DPO's relatives.

Log-probabilities are those of whole answers, sums over their tokens, unless a function asks for
means. Axes: b pairs, or single answers.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

REDUCTIONS = ("mean", "sum", "none")


def preference_probability(
    better: Float[Tensor, "*b"], worse: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    r"""Return $\sigma(r_w - r_l)$, how often the first is preferred: `alignment-bradley-terry`.

    Args:
        better: rewards r_w.
        worse: rewards r_l.

    Example:
        >>> preference_probability(torch.tensor([1.0]), torch.tensor([1.0])).item()
        0.5

    Source: Bradley and Terry 1952.
    """
    return _difference("better", better, "worse", worse).sigmoid()


def reward_loss(
    chosen: Float[Tensor, "*b"],
    rejected: Float[Tensor, "*b"],
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    r"""Return $-\log \sigma(r_w - r_l - m)$ of pairs of rewards: equation `alignment-reward-loss`.

    Of two equal rewards it is log 2, and pushes them apart; of two equal answers, whose rewards
    are one number, the gradients cancel, so such a pair teaches nothing.

    Args:
        chosen: rewards r_w of the answers that were preferred.
        rejected: rewards r_l of the others.
        margin: m, by how much the preferred one should lead.
        label_smoothing: the share of labels that is taken to be wrong, in [0, ½).
        reduction: "mean", "sum" or "none" over the pairs.

    Example:
        >>> reward_loss(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])).round(decimals=2)
        tensor(0.4100)

    Source: Ouyang et al. 2022, equation 1; the margin is that of Touvron et al. 2023.
    """
    lead = _difference("chosen", chosen, "rejected", rejected)
    return logistic(lead - checks.number("margin", margin), label_smoothing, reduction)


def ipo_loss(
    chosen: Float[Tensor, "*b"],
    rejected: Float[Tensor, "*b"],
    ref_chosen: Float[Tensor, "*b"],
    ref_rejected: Float[Tensor, "*b"],
    beta: float = 0.1,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    r"""Return $(u_w - u_l - \frac{1}{2\beta})^2$, which has a finite optimum: `alignment-ipo`.

    $u = \log \pi(y)/\pi_{ref}(y)$ is the log-ratio of an answer.

    Args:
        chosen: log π(y_w | x); a mean over tokens where lengths differ, as trl has it.
        rejected: log π(y_l | x).
        ref_chosen: log π_ref(y_w | x).
        ref_rejected: log π_ref(y_l | x).
        beta: the paper's τ, > 0.
        reduction: "mean", "sum" or "none" over the pairs.

    Example:
        >>> zero = torch.zeros(1)
        >>> ipo_loss(zero + 5, zero, zero, zero, beta=0.1).item()
        0.0

    Source: Azar et al. 2023, equation 17.
    """
    lead = lead_of(chosen, rejected, ref_chosen, ref_rejected)
    goal = 1 / (2 * checks.number("beta", beta, above=0))
    return _reduced((lead - goal).square(), reduction)


def kto_loss(
    log_ratio: Float[Tensor, " b"],
    desirable: Bool[Tensor, " b"],
    kl: float,
    beta: float = 0.1,
    weights: tuple[float, float] = (1.0, 1.0),
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    r"""Return a loss of single answers, each marked good or bad: equation `alignment-kto`.

    $1 - \sigma(\beta(u - z_0))$ for a good one and $1 - \sigma(\beta(z_0 - u))$ for a bad
    one, with $u = \log \pi(y)/\pi_{ref}(y)$: a gain beyond what is usual saturates.

    Args:
        log_ratio: u of each answer.
        desirable: whether somebody liked it.
        kl: z₀ ≥ 0, the usual u: an estimate of the KL divergence, through which nothing flows.
        beta: β > 0.
        weights: of good and of bad answers, ≥ 0, to make up for unequal numbers.
        reduction: "mean", "sum" or "none" over the answers.

    Example:
        >>> kto_loss(torch.tensor([0.0, 0.0]), torch.tensor([True, False]), kl=0.0).item()
        0.5

    Source: Ethayarajh et al. 2024, equations 7 and 8.
    """
    checks.tensor("log_ratio", log_ratio, shape=("b",), floating=True, finite=True)
    checks.key_mask("desirable", desirable, tuple(log_ratio.shape))
    usual = checks.number("kl", kl, least=0)
    beta = checks.number("beta", beta, above=0)
    if not isinstance(weights, tuple | list) or len(weights) != 2:
        raise ValueError(f"weights={weights!r} must be two numbers, of good and of bad")
    good, bad = (checks.number("weights", weight, least=0) for weight in weights)
    gain = beta * (log_ratio - usual)
    lost = torch.where(desirable, good * gain.neg().sigmoid(), bad * gain.sigmoid())
    return _reduced(lost, reduction)


def orpo_loss(
    chosen: Float[Tensor, "*b"],
    rejected: Float[Tensor, "*b"],
    weight: float = 0.1,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    r"""Return SFT on the chosen answer plus a penalty on the odds: equation `alignment-orpo`.

    $-\log p_w - \lambda \log \sigma\bigl(\log \frac{p_w}{1 - p_w} - \log \frac{p_l}{1 - p_l}\bigr)$
    needs no reference model.

    Args:
        chosen: log p_w, the *mean* log-probability of a token of the preferred answer, < 0.
        rejected: log p_l, likewise of the other.
        weight: λ ≥ 0.
        reduction: "mean", "sum" or "none" over the pairs.

    Example:
        >>> half = torch.tensor([0.5]).log()
        >>> orpo_loss(half, half, weight=1.0).item()  # log 2 twice
        1.3862943649291992

    Source: Hong, Lee and Thorne 2024, equations 4 to 7.
    """
    _difference("chosen", chosen, "rejected", rejected)
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if checks.readable(value) and bool((value >= 0).any()):
            raise ValueError(f"{name} must be below 0, logarithms of probabilities < 1")
    weight = checks.number("weight", weight, least=0)
    odds = chosen - _log_of_rest(chosen) - (rejected - _log_of_rest(rejected))
    return _reduced(F.softplus(-odds) * weight - chosen, reduction)


# ------------------------------------------------------------------------------------------- parts
def _log_of_rest(log_p: Tensor) -> Tensor:
    """Return log(1 − p), exact for p near 0 and near 1."""
    near_one = torch.log(-torch.expm1(log_p.clamp(min=-math.log(2))))
    near_zero = torch.log1p(-log_p.clamp(max=-math.log(2)).exp())
    return torch.where(log_p > -math.log(2), near_one, near_zero)


def _difference(name: str, first: Tensor, other: str, second: Tensor) -> Tensor:
    """Return the first minus the second of two tensors that fit; neither may hold NaN."""
    checks.tensor(name, first, floating=True, finite=True, empty=False)
    shape = tuple(first.shape)
    checks.tensor(other, second, shape=shape, floating=True, finite=True)
    return first - second


def lead_of(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor
) -> Tensor:
    """Return by how much the policy prefers the chosen answer more than the reference does."""
    policy = _difference("chosen", chosen, "rejected", rejected)
    shape = tuple(chosen.shape)
    checks.tensor("ref_chosen", ref_chosen, shape=shape, floating=True, finite=True)
    checks.tensor("ref_rejected", ref_rejected, shape=shape, floating=True, finite=True)
    return policy - (ref_chosen - ref_rejected).detach()


def logistic(lead: Tensor, label_smoothing: float, reduction: str) -> Tensor:
    """Return −log σ(lead), or its expectation where a share of the labels is wrong."""
    wrong = checks.number("label_smoothing", label_smoothing, least=0, below=0.5)
    lost = F.softplus(-lead)
    if wrong:
        lost = (1 - wrong) * lost + wrong * F.softplus(lead)
    return _reduced(lost, reduction)


def _reduced(lost: Tensor, reduction: str) -> Tensor:
    if checks.one_of("reduction", reduction, REDUCTIONS) == "none":
        return lost
    return lost.mean() if reduction == "mean" else lost.sum()
