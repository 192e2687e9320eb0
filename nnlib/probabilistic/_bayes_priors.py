"""Priors over weights, their divergences, and the softplus that keeps a deviation positive."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

SMALL = -12.0
"""Below it ln(ln(1 + e^ρ)) is ρ − e^ρ/2, to 1e-11: the next term is 5e^2ρ/24."""


class _Mixture(NamedTuple):
    share: float = 0.5
    wide: float = 1.0
    narrow: float = math.exp(-6)


class ScaleMixture(_Mixture):
    r"""A prior of two Gaussians about zero, a wide and a narrow one (`bayesian-mixture`).

    Its heavy tail lets a few weights grow while its peak holds the others near zero.

    Args:
        share: probability of the wide one, strictly between 0 and 1.
        wide: its standard deviation, > 0.
        narrow: that of the other, > 0 and below `wide`.

    Example:
        >>> round(ScaleMixture(0.5, 1.0, 0.1).log_prob(torch.tensor(0.0)).item(), 3)
        0.786

    Source: Blundell et al. 2015, who tried shares of ¼, ½, ¾ and deviations of 1, e⁻¹, e⁻² and
    e⁻⁶, e⁻⁷, e⁻⁸.
    """

    def __new__(
        cls, share: float = 0.5, wide: float = 1.0, narrow: float = math.exp(-6)
    ) -> "ScaleMixture":
        """Check and keep the numbers."""
        share = checks.number("share", share, above=0, below=1)
        wide = checks.number("wide", wide, above=0)
        narrow = checks.number("narrow", narrow, above=0, below=wide)
        return super().__new__(cls, share, wide, narrow)

    def log_prob(self, w: Tensor) -> Tensor:
        """Return the log-density of each weight, without leaving the logarithm."""
        wide = math.log(self.share) + _log_normal(w, self.wide)
        narrow = math.log1p(-self.share) + _log_normal(w, self.narrow)
        return torch.logaddexp(wide, narrow)


def _log_normal(w: Tensor, std: float) -> Tensor:
    return -0.5 * (w / std).square() - math.log(std) - 0.5 * math.log(2 * math.pi)


def gaussian_kl(mean: Tensor, log_std: Tensor, prior_std: float) -> Tensor:
    r"""Return KL(N(mean, e^{2 log_std}) ‖ N(0, prior_std²)) entry by entry, eq. bayesian-kl.

    Args:
        mean: of the weights.
        log_std: logarithms of their standard deviations; may be very negative.
        prior_std: of the prior, > 0.

    Example:
        >>> gaussian_kl(torch.tensor(0.5), torch.tensor(0.0), 1.0)
        tensor(0.1250)
    """
    checks.tensor("mean", mean, floating=True)
    checks.tensor("log_std", log_std, floating=True)
    prior_std = checks.number("prior_std", prior_std, above=0)
    ratio = log_std - math.log(prior_std)
    return 0.5 * (torch.exp(2 * ratio) + (mean / prior_std).square() - 1) - ratio


def log_softplus(rho: Tensor) -> Tensor:
    """Return ln(ln(1 + e^ρ)), finite where the inner logarithm is zero in floating point."""
    low = rho < SMALL
    safe = F.softplus(rho.masked_fill(low, SMALL)).log()
    small = rho.masked_fill(~low, SMALL)
    return torch.where(low, small - 0.5 * small.exp(), safe)


def softplus_inverse(value: float) -> float:
    """Return ρ with ln(1 + e^ρ) = value, for any value > 0."""
    return value + math.log(-math.expm1(-value))
