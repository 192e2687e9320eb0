r"""Normalizing flows: invertible maps with cheap Jacobians, so that the likelihood is exact.

Every class here is a `Bijection`: `forward(z)` goes from noise to data, `inverse(x)` from data to
noise, and both return the logarithm of the absolute determinant of their own Jacobian, so that the
two are each other's negative. A `Flow` is a chain of them.

Chapter: chapters/generative/normalizing_flow.md
Papers: Dinh et al. 2014 (NICE) and 2017 (RealNVP), Kingma et al. 2016 (IAF), Papamakarios et al.
2017 (MAF), Kingma and Dhariwal 2018 (Glow), Durkan et al. 2019 (splines)
Axes: n examples, d features, k bins of a spline, c y x channels, rows and columns of a picture.
"""

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.generative._autoregressive_flows import (
    IAF,
    MAF,
    MaskedAutoregressive,
    Reverse,
    made_masks,
)
from nnlib.generative._bijections import (
    Bijection,
    Drawn,
    Encoded,
    Flow,
    Inverted,
    standard_normal_log_prob,
)
from nnlib.generative._couplings import (
    AdditiveCoupling,
    AffineCoupling,
    SplineCoupling,
    _masks,
)
from nnlib.generative._flow_networks import MAX_LOG_SCALE
from nnlib.generative._glow import ActNorm, InvertibleConv1x1
from nnlib.generative._splines import LEAST, spline, spline_inverse

__all__ = [
    "IAF",
    "LEAST",
    "MAF",
    "MAX_LOG_SCALE",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Drawn",
    "Encoded",
    "Flow",
    "Inverted",
    "InvertibleConv1x1",
    "Logit",
    "MaskedAutoregressive",
    "RealNVP",
    "Reverse",
    "SplineCoupling",
    "SplineFlow",
    "made_masks",
    "negative_log_likelihood_loss",
    "spline",
    "spline_inverse",
    "standard_normal_log_prob",
]


class RealNVP(Flow):
    r"""Affine couplings that take turns: what one keeps, the next one changes.

    The masks alternate between even and odd features, and between the first and the second half.

    Args:
        num_features: d ≥ 2.
        num_layers: couplings, ≥ 1; with fewer than two some features are never changed.
        hidden_size: units of a hidden layer of each coupling's network, ≥ 1.
        num_hidden: hidden layers of each network, ≥ 1.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> flow = RealNVP(num_features=2, num_layers=6)
        >>> x, logdet = flow(torch.randn(5, 2))
        >>> flow.log_prob(x).shape
        torch.Size([5])

    Source: Dinh, Sohl-Dickstein and Bengio 2017; on pictures they have convolutional networks,
    checkerboard and channel masks, and several scales.
    """

    def __init__(
        self,
        num_features: int,
        num_layers: int = 8,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        coupling = partial(
            AffineCoupling, hidden_size=hidden_size, num_hidden=num_hidden,
            dropout=dropout, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__([coupling(mask) for mask in _masks(num_features, num_layers)])

    def _checked(self, name: str, value: Any) -> Tensor:
        return self._rows(name, value)


class SplineFlow(Flow):
    r"""`RealNVP` with splines in place of affine maps: fewer layers bend more.

    Args:
        num_features: d ≥ 2.
        num_layers: couplings, ≥ 1.
        hidden_size: units of a hidden layer of each coupling's network, ≥ 1.
        num_bins: pieces of each spline, 2 … 100.
        bound: where the linear tails begin, > 0.
        num_hidden: hidden layers of each network, ≥ 1.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> SplineFlow(2, num_layers=2).log_prob(torch.randn(5, 2)).shape
        torch.Size([5])

    Source: Durkan et al. 2019.
    """

    def __init__(
        self,
        num_features: int,
        num_layers: int = 4,
        hidden_size: int = 64,
        *,
        num_bins: int = 8,
        bound: float = 3.0,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        coupling = partial(
            SplineCoupling, hidden_size=hidden_size, num_bins=num_bins, bound=bound,
            num_hidden=num_hidden, dropout=dropout, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__([coupling(mask) for mask in _masks(num_features, num_layers)])


class Logit(Bijection):
    r"""From the open line to pixels: $\mathbf x = (\sigma(\mathbf z) - \epsilon)/(1 - 2\epsilon)$.

    From data to noise it is the logit of $\epsilon + (1 - 2\epsilon)\mathbf x$, so that 0 and 1
    stay finite (equation `normalizing-flow-logit`). What is drawn may leave 0 … 1 by the margin
    that ε leaves, and is clamped to be shown.

    Args:
        num_features: d ≥ 1.
        eps: ε in (0, ½).

    Example:
        >>> Logit(1, eps=0.05).inverse(torch.tensor([[0.5]])).z
        tensor([[0.]])

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 4.1.
    """

    def __init__(self, num_features: int, eps: float = 0.05):
        super().__init__(num_features)
        self.eps = checks.number("eps", eps, above=0, below=0.5)

    def forward(self, z: Float[Tensor, "n d"]) -> Drawn:
        """Return pixels and the log-determinant of the map to them."""
        self._rows("z", z)
        x = (torch.sigmoid(z) - self.eps) / (1 - 2 * self.eps)
        return Drawn(x, -self._logdet(z))

    def inverse(self, x: Float[Tensor, "n d"]) -> Encoded:
        """Return the logits of pixels, and the log-determinant of the map to them."""
        p = self.eps + (1 - 2 * self.eps) * self._rows("x", x)
        if checks.readable(p) and p.numel() and not (p.min() > 0 and p.max() < 1):
            beyond = self.eps / (1 - 2 * self.eps)
            raise ValueError(
                f"x must lie between {-beyond:g} and {1 + beyond:g}, "
                f"got {x.min().item():g} … {x.max().item():g}"
            )
        z = torch.logit(p)
        return Encoded(z, self._logdet(z))

    def _logdet(self, z: Tensor) -> Tensor:
        each = math.log(1 - 2 * self.eps) - F.logsigmoid(z) - F.logsigmoid(-z)
        return each.sum(1)


def negative_log_likelihood_loss(
    model: Bijection, x: Float[Tensor, "n *d"]
) -> Float[Tensor, ""]:
    r"""Return $-\frac1N\sum_i\log p(\mathbf x_i)$ in nats (`normalizing-flow-likelihood`).

    Args:
        model: any bijection.
        x: a batch of data, not empty.

    Example:
        >>> negative_log_likelihood_loss(Reverse(2), torch.zeros(4, 2))  # log 2π
        tensor(1.8379)
    """
    checks.tensor("x", x, empty=False)
    return -model.log_prob(x).mean()  # eq. normalizing-flow-likelihood
