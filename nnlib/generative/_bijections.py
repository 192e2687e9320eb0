"""What can be inverted, with the logarithm of its volume: one map, many in a row, one turned round.

Axes: n examples, d features.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.train.evaluating import evaluating


class Drawn(NamedTuple):
    """What `forward` returns: data, and the log-determinant of the map from noise to data."""

    x: Float[Tensor, "n *d"]
    logdet: Float[Tensor, " n"]


class Encoded(NamedTuple):
    """What `inverse` returns: noise, and the log-determinant of the map from data to noise."""

    z: Float[Tensor, "n *d"]
    logdet: Float[Tensor, " n"]


def standard_normal_log_prob(z: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
    r"""Return $-\tfrac12\lVert\mathbf z\rVert^2 - \tfrac d2\log 2\pi$ (`normalizing-flow-base`).

    Args:
        z: one example a row; all other axes are summed over.

    Example:
        >>> standard_normal_log_prob(torch.zeros(1, 2))  # −log 2π
        tensor([-1.8379])
    """
    rows = checks.tensor("z", z, floating=True)
    if rows.ndim < 2:
        raise ValueError(f"z must have shape (n, d), got {tuple(z.shape)}")
    rows = rows.flatten(1)
    constant = 0.5 * rows.shape[1] * math.log(2 * math.pi)
    return -0.5 * rows.square().sum(1) - constant


class Bijection(nn.Module):
    r"""An invertible map between noise and data; with normal noise, a density.

    $\log p(\mathbf x) = \log p_z(f^{-1}(\mathbf x)) +
    \log\lvert\det \partial f^{-1} / \partial \mathbf x\rvert$
    (equation `normalizing-flow-change`), with a standard normal $p_z$.

    A subclass has `forward` and `inverse`, and calls the constructor with its number of features.

    Args:
        num_features: entries of a vector, or channels of a picture, ≥ 1.
    """

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = checks.count("num_features", num_features)

    def forward(self, z: Float[Tensor, "n *d"]) -> Drawn:
        """Return data and the log-determinant of the map from noise to data."""
        raise NotImplementedError

    def inverse(self, x: Float[Tensor, "n *d"]) -> Encoded:
        """Return noise and the log-determinant of the map from data to noise."""
        raise NotImplementedError

    def log_prob(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """Return the exact logarithm of the density at each row, in nats."""
        z, logdet = self.inverse(x)
        return standard_normal_log_prob(z) + logdet  # eq. normalizing-flow-change

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw examples: noise through `forward`, in evaluation mode and without gradients.

        Args:
            count: how many, ≥ 1.
            generator: source of the randomness, on the CPU.
        """
        shape = checks.count("count", count), self.num_features
        like = next(self.parameters(), torch.empty(0))
        z = torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)
        with torch.no_grad(), evaluating(self):
            return self(z).x

    def _rows(self, name: str, value: Any) -> Tensor:
        return checks.tensor(name, value, shape=("n", self.num_features), floating=True)

    def _channels(self, name: str, value: Any) -> Tensor:
        checks.tensor(name, value, floating=True)
        if value.ndim not in (2, 4) or value.shape[1] != self.num_features:
            d = self.num_features
            raise ValueError(
                f"{name} must have shape (n, {d}) or (n, {d}, y, x), "
                f"got {tuple(value.shape)}"
            )
        return value


class Flow(Bijection):
    r"""A chain of bijections, $f = f_K \circ \dots \circ f_1$, whose log-determinants add up.

    $\log p(\mathbf x) = \log p_z(\mathbf h_0) -
    \sum_k\log\lvert\det\partial f_k/\partial\mathbf h_{k-1}\rvert$ with
    $\mathbf h_k = f_k(\mathbf h_{k-1})$, $\mathbf x = \mathbf h_K$
    (equation `normalizing-flow-composition`).

    Args:
        layers: the maps, from noise to data, of equal `num_features`.

    Example:
        >>> from nnlib.generative.normalizing_flow import AffineCoupling
        >>> flow = Flow([AffineCoupling([1, 0]), AffineCoupling([0, 1])])
        >>> x, logdet = flow(torch.randn(5, 2))
        >>> x.shape, logdet.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(self, layers: Sequence[Bijection]):
        layers = list(layers)
        if not layers or not all(isinstance(layer, Bijection) for layer in layers):
            raise TypeError("layers must be one Bijection or more")
        sizes = [layer.num_features for layer in layers]
        if len(set(sizes)) > 1:
            raise ValueError(f"layers must have equal num_features, got {sizes}")
        super().__init__(sizes[0])
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Float[Tensor, "n *d"]) -> Drawn:
        """Return data and the log-determinant of the whole chain."""
        x, total = self._checked("z", z), None
        for layer in self.layers:
            x, logdet = layer(x)
            total = logdet if total is None else total + logdet
        return Drawn(x, cast("Tensor", total))

    def inverse(self, x: Float[Tensor, "n *d"]) -> Encoded:
        """Return noise and the log-determinant of the way back."""
        z, total = self._checked("x", x), None
        for layer in reversed(self.layers):
            z, logdet = cast("Bijection", layer).inverse(z)
            total = logdet if total is None else total + logdet
        return Encoded(z, cast("Tensor", total))

    def _checked(self, name: str, value: Any) -> Tensor:
        return self._channels(name, value)


class Inverted(Bijection):
    """The same map with the two directions exchanged: what was quick to invert is quick to draw.

    Args:
        layer: the map to turn round.
    """

    def __init__(self, layer: Bijection):
        if not isinstance(layer, Bijection):
            raise TypeError(f"layer={layer!r} must be a Bijection")
        super().__init__(layer.num_features)
        self.layer = layer

    def forward(self, z: Float[Tensor, "n *d"]) -> Drawn:
        """Return `layer.inverse(z)`."""
        return Drawn(*self.layer.inverse(self._channels("z", z)))

    def inverse(self, x: Float[Tensor, "n *d"]) -> Encoded:
        """Return `layer(x)`."""
        return Encoded(*self.layer(self._channels("x", x)))
