"""Losses for mixtures: likelihood, and winner takes all.

Axes: b batch, k components, d numbers of a target.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.probabilistic._mixture_gaussian import Mixture


def nll_loss(mixture: Mixture, y: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood in nats (`mixture-density-loss`).

    Args:
        mixture: what the network answered.
        y: the targets.

    Example:
        >>> import torch
        >>> one = Mixture(torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        >>> nll_loss(one, torch.zeros(1, 1))
        tensor(0.9189)
    """
    _mixture(mixture)
    checks.tensor("y", y, floating=True, empty=False)
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
    _mixture(mixture)
    components = mixture.means.shape[1]
    if count > components:
        raise ValueError(
            f"winners={winners} must be at most {components}, the components"
        )
    shape = tuple(mixture.mean.shape)
    checks.tensor("y", y, shape=shape, floating=True, empty=False)
    far = (y[:, None] - mixture.means).square().sum(-1)
    return far.topk(count, dim=1, largest=False).values.mean()


def _mixture(value: Any) -> None:
    """Refuse what is no mixture, such as the input of the network that gives one."""
    if not isinstance(value, Mixture):
        raise TypeError(f"mixture must be a Mixture, got {type(value).__name__}")
