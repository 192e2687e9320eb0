r"""What may be reached at all: the best policy near a reference, and the best of n answers.

On a finite set of answers, a *bandit*, both have a closed form. Axes: b any, v answers.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def optimal_policy(
    ref_log_probs: Float[Tensor, "*b v"], rewards: Float[Tensor, "*b v"], beta: float
) -> Float[Tensor, "*b v"]:
    r"""Return $\log \pi^*$, $\pi^* = \pi_{ref} e^{r/\beta} / Z$: equation `alignment-optimum`.

    No policy has a larger $\mathbb{E}[r] - \beta\, KL(\pi \| \pi_{ref})$; its value there is
    β log Z.

    Args:
        ref_log_probs: log π_ref of each answer; −∞ where it is impossible, and stays so.
        rewards: r of each answer.
        beta: β > 0.

    Example:
        >>> even, rewards = torch.zeros(2).log_softmax(0), torch.tensor([1.0, 0.0])
        >>> optimal_policy(even, rewards, beta=1 / math.log(3)).exp()
        tensor([0.7500, 0.2500])

    Source: Korbak et al. 2022; Rafailov et al. 2023, equation 4.
    """
    _answers("ref_log_probs", ref_log_probs)
    _rewards(rewards, tuple(ref_log_probs.shape))
    beta = checks.number("beta", beta, above=0)
    return (ref_log_probs + rewards / beta).log_softmax(-1)


def best_of_n_policy(
    ref_log_probs: Float[Tensor, "*b v"], rewards: Float[Tensor, "*b v"], n: int
) -> Float[Tensor, "*b v"]:
    r"""Return the log-probability of each answer as the best of n draws: `alignment-best-of-n`.

    It is $P(r \le r_y)^n - P(r < r_y)^n$; answers with equal rewards share it as π_ref does.

    Args:
        ref_log_probs: log π_ref of each answer.
        rewards: r of each answer.
        n: draws, ≥ 1.

    Example:
        >>> even, rewards = torch.zeros(2).log_softmax(0), torch.tensor([1.0, 0.0])
        >>> best_of_n_policy(even, rewards, 2).exp()
        tensor([0.7500, 0.2500])

    Source: Beirami et al. 2024, lemma 1.
    """
    _answers("ref_log_probs", ref_log_probs)
    _rewards(rewards, tuple(ref_log_probs.shape))
    n = checks.count("n", n)
    p = ref_log_probs.log_softmax(-1).exp()
    row, column = rewards[..., :, None], rewards[..., None, :]
    below = ((column < row) * p[..., None, :]).sum(-1)
    level = ((column == row) * p[..., None, :]).sum(-1)
    chosen = ((below + level) ** n - below**n) * p / level
    return torch.where(p > 0, chosen, 0.0).log()


def best_of_n_kl(n: int) -> float:
    r"""Return $\log n - \frac{n - 1}{n}$, the most that best of n can move: `alignment-bon-kl`.

    In nats from the policy that draws; exact where no two answers have the same reward and none
    has a noticeable probability of its own.

    Args:
        n: draws, ≥ 1.

    Example:
        >>> round(best_of_n_kl(16), 2)
        1.84

    Source: Stiennon et al. 2020; as a bound proved by Beirami et al. 2024.
    """
    n = checks.count("n", n)
    return math.log(n) - (n - 1) / n


def kl_divergence(
    log_p: Float[Tensor, "*b v"], log_q: Float[Tensor, "*b v"]
) -> Float[Tensor, "*b"]:
    r"""Return $\sum_y p(y) \log \frac{p(y)}{q(y)}$ in nats; 0 log 0 is 0.

    Args:
        log_p: logarithms of the probabilities that answers are drawn with.
        log_q: of those that they are compared with; ∞ where it rules out what p may draw.

    Example:
        >>> kl_divergence(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log()).item()
        0.6931471824645996
    """
    _answers("log_p", log_p)
    _answers("log_q", log_q)
    checks.tensor("log_q", log_q, shape=tuple(log_p.shape))
    return torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)


def _answers(name: str, log_probs: Tensor) -> None:
    checks.tensor(name, log_probs, floating=True, empty=False)
    if log_probs.ndim == 0:
        raise ValueError(f"{name} must have an axis of answers, got a single number")
    if checks.readable(log_probs):
        best = log_probs.amax(-1)
        if not bool(torch.isfinite(best).all()) or bool(log_probs.isnan().any()):
            raise ValueError(f"{name} must be logarithms of probabilities, not all −∞")


def _rewards(rewards: Tensor, shape: tuple[int, ...]) -> None:
    checks.tensor("rewards", rewards, shape=shape, floating=True, finite=True)
