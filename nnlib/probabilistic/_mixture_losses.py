r"""Losses for mixtures: likelihood, winner takes all, and logistics on a grid of levels.

Axes: b batch, k components, d numbers of a target.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.probabilistic._mixture_gaussian import Mixture


def nll_loss(mixture: Mixture, y: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood in nats (`mixture-density-loss`).

    Args:
        mixture: what the network answered.
        y: the targets.

    Example:
        >>> one = Mixture(torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        >>> nll_loss(one, torch.zeros(1, 1))
        tensor(0.9189)
    """
    return -mixture.log_prob(y).mean()


def winner_takes_all_loss(
    mixture: Mixture, y: Float[Tensor, "b d"], winners: int = 1
) -> Float[Tensor, ""]:
    r"""Return the mean squared distance of each target from its nearest `winners` means.

    Equation `mixture-density-winners`. With one winner, each component comes to stand where others
    do not; one that never wins never moves, so *evolving* training begins with all of them as
    winners and halves their number (Makansi et al. 2019). Weights and variances learn nothing from
    it: go on with `nll_loss`.

    Args:
        mixture: what the network answered.
        y: the targets.
        winners: how many means a target pulls, 1 … k.
    """
    count = checks.count("winners", winners)
    components = mixture.means.shape[1]
    if count > components:
        raise ValueError(
            f"winners={winners} must be at most {components}, the components"
        )
    checks.tensor("y", y, shape=tuple(mixture.mean.shape), floating=True)
    far = (y[:, None] - mixture.means).square().sum(-1)
    return far.topk(count, dim=1, largest=False).values.mean()


def discretized_logistic_log_prob(
    levels: Int[Tensor, " b"],
    logits: Float[Tensor, "b k"],
    means: Float[Tensor, "b k"],
    scales: Float[Tensor, "b k"],
    num_levels: int = 256,
) -> Float[Tensor, " b"]:
    r"""Return the log-probability of whole numbers 0 … `num_levels` − 1 under a logistic mixture.

    A level has what the mixture holds within half a step of it; the first and the last have all
    that lies beyond, too (`mixture-density-logistic`). The difference of two sigmoids is taken as
    $\sigma(a) - \sigma(b) = \sigma(a)\,\sigma(-b)\,(1 - e^{b-a})$, whose logarithm is stable.

    Args:
        levels: the targets.
        logits: the weights before their softmax.
        means: in levels.
        scales: of the logistics, in levels, > 0; a standard deviation is $\pi/\sqrt 3$ of them.
        num_levels: ≥ 2.

    Source: Salimans et al. 2017 (PixelCNN++).
    """
    count = checks.count("num_levels", num_levels, least=2)
    checks.tokens("levels", levels, count, shape=("b",), of="num_levels")
    like = (len(levels), *logits.shape[1:])
    for name, value in (("logits", logits), ("means", means), ("scales", scales)):
        checks.tensor(name, value, shape=like, floating=True)
    apart = levels[:, None] - means
    above, below = (apart + 0.5) / scales, (apart - 0.5) / scales
    first, last = (levels == 0)[:, None], (levels == count - 1)[:, None]
    inside = torch.log(-torch.expm1(-1 / scales))  # above − below is 1 / scale
    inside = inside + F.logsigmoid(above) + F.logsigmoid(-below)
    share = torch.where(first, F.logsigmoid(above), inside)
    share = torch.where(last, F.logsigmoid(-below), share)
    return (logits.log_softmax(-1) + share).logsumexp(-1)
