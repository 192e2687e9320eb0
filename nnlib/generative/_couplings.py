"""Coupling layers: one half of the features is changed by what the other half says.

Axes: n examples, d features, k bins.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from nnlib import checks
from nnlib.generative._bijections import Bijection, Drawn, Encoded
from nnlib.generative._flow_networks import _bounded, _network
from nnlib.generative._splines import spline, spline_inverse


class _Coupling(Bijection):
    """What all couplings share: some features stay, a network reads them and moves the others."""

    kept: Tensor
    changed: Tensor
    order: Tensor

    def __init__(
        self,
        mask: Sequence[bool | int] | Tensor,
        numbers: int,
        hidden_size: int,
        num_hidden: int,
        dropout: float,
        device: Device,
        dtype: torch.dtype | None,
    ):
        keep = _check_mask(mask)
        super().__init__(len(keep))
        kept = [at for at, stays in enumerate(keep) if stays]
        changed = [at for at, stays in enumerate(keep) if not stays]
        order = torch.tensor(kept + changed).argsort().tolist()
        for name, places in (("kept", kept), ("changed", changed), ("order", order)):
            where = torch.tensor(places, device=device)
            self.register_buffer(name, where, persistent=False)
        hidden = [checks.count("hidden_size", hidden_size)]
        hidden *= checks.count("num_hidden", num_hidden)
        sizes = [len(kept), *hidden, numbers * len(changed)]
        self.numbers = numbers
        self.conditioner = _network(sizes, dropout, device, dtype)

    def forward(self, z: Float[Tensor, "n d"]) -> Drawn:
        """Return data and the log-determinant of the map from noise to data."""
        return Drawn(*self._coupled(self._rows("z", z), self._there))

    def inverse(self, x: Float[Tensor, "n d"]) -> Encoded:
        """Return noise and the log-determinant of the map from data to noise."""
        return Encoded(*self._coupled(self._rows("x", x), self._back))

    def _coupled(self, h: Tensor, moved: Any) -> tuple[Tensor, Tensor]:
        kept, changed = h[:, self.kept], h[:, self.changed]
        numbers = self.conditioner(kept).unflatten(1, (changed.shape[1], self.numbers))
        changed, logdet = moved(changed, numbers)
        return torch.cat([kept, changed], 1)[:, self.order], logdet.sum(1)

    def _there(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _back(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class AdditiveCoupling(_Coupling):
    r"""The coupling of NICE, $x_i = z_i + t_i$: it moves, and keeps all volumes as they are.

    Args:
        mask: one entry a feature, True (or 1) for those that stay and are read; some of each.
        hidden_size: units of a hidden layer of the network, ≥ 1.
        num_hidden: its hidden layers, ≥ 1.
        dropout: probability of dropping a hidden unit, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> AdditiveCoupling([1, 0])(torch.randn(3, 2)).logdet
        tensor([0., 0., 0.], grad_fn=<SumBackward1>)

    Source: Dinh, Krueger and Bengio 2014.
    """

    def __init__(
        self,
        mask: Sequence[bool | int] | Tensor,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(mask, 1, hidden_size, num_hidden, dropout, device, dtype)

    def _there(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        shift = numbers[..., 0]
        return h + shift, 0 * shift  # eq. normalizing-flow-additive

    def _back(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        shift = numbers[..., 0]
        return h - shift, 0 * shift


class AffineCoupling(_Coupling):
    r"""The coupling of RealNVP: features that stay say how the others are scaled and shifted.

    $\mathbf x_A = \mathbf z_A$ and
    $\mathbf x_B = \mathbf z_B \odot e^{\mathbf s(\mathbf z_A)} + \mathbf t(\mathbf z_A)$, with
    $\log\lvert\det\rvert = \sum_i s_i$ (equations `normalizing-flow-coupling`,
    `normalizing-flow-coupling-logdet`). The network begins with $\mathbf s = \mathbf t = 0$, so
    that a fresh coupling is the identity, and $\mathbf s$ is bounded smoothly.

    Arguments are those of `AdditiveCoupling`.

    Example:
        >>> coupling = AffineCoupling([1, 1, 0])
        >>> z = torch.randn(4, 3)
        >>> x, logdet = coupling(z)
        >>> torch.allclose(coupling.inverse(x).z, z)
        True

    Source: Dinh, Sohl-Dickstein and Bengio 2017, who write it from data to noise.
    """

    def __init__(
        self,
        mask: Sequence[bool | int] | Tensor,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(mask, 2, hidden_size, num_hidden, dropout, device, dtype)

    def _there(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = _bounded(numbers[..., 0]), numbers[..., 1]
        return h * log_scale.exp() + shift, log_scale  # eq. normalizing-flow-coupling

    def _back(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = _bounded(numbers[..., 0]), numbers[..., 1]
        return (h - shift) * (-log_scale).exp(), -log_scale


class SplineCoupling(_Coupling):
    r"""A coupling whose map of each feature is a monotone rational-quadratic spline.

    Between $-B$ and $B$ the spline has `num_bins` pieces; outside it is the identity, so that any
    number has an image and an inverse. See `spline`.

    Args:
        mask: one entry a feature, True (or 1) for those that stay and are read; some of each.
        hidden_size: units of a hidden layer of the network, ≥ 1.
        num_bins: pieces of each spline, 2 … 100.
        bound: $B$ > 0, where the linear tails begin.
        num_hidden: hidden layers of the network, ≥ 1.
        dropout: probability of dropping a hidden unit, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> coupling = SplineCoupling([1, 0], bound=3.0)
        >>> coupling.inverse(torch.tensor([[0.0, 50.0]])).z  # far outside: as it came
        tensor([[ 0., 50.]], grad_fn=<IndexBackward0>)

    Source: Durkan et al. 2019.
    """

    def __init__(
        self,
        mask: Sequence[bool | int] | Tensor,
        hidden_size: int = 64,
        *,
        num_bins: int = 8,
        bound: float = 3.0,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        bins = checks.count("num_bins", num_bins, least=2)
        checks.number("num_bins", bins, most=100)
        bound = checks.number("bound", bound, above=0)
        numbers = 3 * bins - 1
        super().__init__(mask, numbers, hidden_size, num_hidden, dropout, device, dtype)
        self.num_bins, self.bound = bins, bound

    def _there(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return spline(h, *self._parts(numbers), self.bound)

    def _back(self, h: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return spline_inverse(h, *self._parts(numbers), self.bound)

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k = self.num_bins
        return numbers[..., :k], numbers[..., k : 2 * k], numbers[..., 2 * k :]


def _check_mask(mask: Any) -> list[bool]:
    if isinstance(mask, Tensor):
        mask = mask.tolist()
    if isinstance(mask, str) or not isinstance(mask, Sequence):
        raise TypeError(f"mask={mask!r} must be a sequence of True and False")
    if any(entry not in (0, 1) for entry in mask):
        raise ValueError(f"mask={list(mask)!r} must hold True and False, or 1 and 0")
    keep = [bool(entry) for entry in mask]
    if all(keep) or not any(keep):
        does = "keeps all" if keep and all(keep) else "keeps none"
        raise ValueError(
            f"mask {does} of {len(keep)} features: it must keep some and change some"
        )
    return keep


def _masks(num_features: int, num_layers: int) -> list[list[bool]]:
    """Return the masks of a chain: even and odd features, first and second half, in turns."""
    d = checks.count("num_features", num_features, least=2)
    even = [at % 2 == 0 for at in range(d)]
    first = [at < (d + 1) // 2 for at in range(d)]
    four = [even, [not at for at in even], first, [not at for at in first]]
    return [four[at % 4] for at in range(checks.count("num_layers", num_layers))]
