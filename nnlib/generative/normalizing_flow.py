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
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.train.evaluating import evaluating

MAX_LOG_SCALE = 2.0
"""No single layer stretches or shrinks an axis by more than e² = 7.4 times."""


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


# --------------------------------------------------------------------------------------- couplings


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


# ---------------------------------------------------------------------------------- autoregressive


class _MaskedLinear(nn.Linear):
    """A linear map whose weights are held at 0 where the mask is False."""

    def __init__(
        self,
        mask: Tensor,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        rows, columns = mask.shape
        super().__init__(columns, rows, device=device, dtype=dtype)
        where = mask.bool() if device is None else mask.bool().to(device)
        self.register_buffer("mask", where, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return the map of each row."""
        weight = self.weight.masked_fill(~cast("Tensor", self.mask), 0.0)
        return F.linear(input, weight, self.bias)


def made_masks(
    num_features: int, hidden_size: int, num_hidden: int, numbers: int = 1
) -> list[Tensor]:
    """Return the masks that make a network autoregressive: output i sees inputs before i alone.

    Every unit has a degree: how many of the first inputs it may know. A hidden unit reads units of
    its own degree or less, an output only those of less.

    Args:
        num_features: d ≥ 1.
        hidden_size: units of a hidden layer, ≥ 1; with d − 1 or more, every degree occurs.
        num_hidden: hidden layers, ≥ 1.
        numbers: outputs for each feature, side by side, ≥ 1.

    Returns:
        One mask a layer, True where there is a weight.

    Example:
        >>> first, last = made_masks(3, 2, 1)
        >>> (last.int() @ first.int()).bool().int()  # below the diagonal
        tensor([[0, 0, 0],
                [1, 0, 0],
                [1, 1, 0]], dtype=torch.int32)

    Source: Germain et al. 2015.
    """
    d = checks.count("num_features", num_features)
    h = checks.count("hidden_size", hidden_size)
    inputs = torch.arange(1, d + 1)
    hidden = torch.arange(h) * max(1, d - 1) // h + 1
    last = inputs.repeat_interleave(checks.count("numbers", numbers))
    masks = [hidden[:, None] >= inputs]
    masks += [hidden[:, None] >= hidden] * (checks.count("num_hidden", num_hidden) - 1)
    return [*masks, last[:, None] > hidden]  # eq. normalizing-flow-made


class MaskedAutoregressive(Bijection):
    r"""A layer of MAF: each feature is scaled and shifted by what the features before it say.

    $z_i = (x_i - \mu_i(\mathbf x_{<i}))\,e^{-\alpha_i(\mathbf x_{<i})}$, with
    $\log\lvert\det\rvert = -\sum_i\alpha_i$ (equations `normalizing-flow-autoregressive`,
    `normalizing-flow-autoregressive-logdet`). From data to noise that is one pass of the network;
    from noise to data, as many passes as there are features.

    Args:
        num_features: d ≥ 1.
        hidden_size: units of a hidden layer, ≥ 1; better not fewer than d − 1.
        num_hidden: hidden layers, ≥ 1.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Source: Papamakarios, Pavlakou and Murray 2017; masks: Germain et al. 2015.
    """

    def __init__(
        self,
        num_features: int,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features)
        masks = made_masks(num_features, hidden_size, num_hidden, numbers=2)
        maps = [_MaskedLinear(mask, device=device, dtype=dtype) for mask in masks]
        self.conditioner = _with_nonlinearities(maps, dropout)

    def inverse(self, x: Float[Tensor, "n d"]) -> Encoded:
        """Return noise and its log-determinant, in one pass."""
        mean, log_scale = self._numbers(self._rows("x", x))
        z = (x - mean) * (-log_scale).exp()  # eq. normalizing-flow-autoregressive
        return Encoded(z, -log_scale.sum(1))

    def forward(self, z: Float[Tensor, "n d"]) -> Drawn:
        """Return data and their log-determinant, in d passes: each puts one more feature right.

        Feature i depends on those before it alone, so after pass i the first i features are right,
        whatever stood in the others.
        """
        x = log_scale = torch.zeros_like(self._rows("z", z))
        for _ in range(self.num_features):
            mean, log_scale = self._numbers(x)
            x = z * log_scale.exp() + mean
        return Drawn(x, log_scale.sum(1))

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        numbers = self.conditioner(x).unflatten(1, (self.num_features, 2))
        return numbers[..., 0], _bounded(numbers[..., 1])


class Reverse(Bijection):
    """Turn the order of the features round; no volume changes.

    Args:
        num_features: d ≥ 1.
    """

    def forward(self, z: Float[Tensor, "n d"]) -> Drawn:
        """Return the row from its end, and zeros."""
        return Drawn(self._rows("z", z).flip(1), z.new_zeros(len(z)))

    def inverse(self, x: Float[Tensor, "n d"]) -> Encoded:
        """Return the row from its end, and zeros."""
        return Encoded(self._rows("x", x).flip(1), x.new_zeros(len(x)))


class MAF(Flow):
    r"""Masked autoregressive flow: likelihoods in one pass a layer, samples in d.

    The order of the features is turned round between two layers.

    Args:
        num_features: d ≥ 1.
        num_layers: autoregressive layers, ≥ 1.
        hidden_size: units of a hidden layer of each network, ≥ 1; better not fewer than d − 1.
        num_hidden: hidden layers of each network, ≥ 1.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> MAF(num_features=3, num_layers=2).log_prob(torch.randn(5, 3)).shape
        torch.Size([5])

    Source: Papamakarios, Pavlakou and Murray 2017.
    """

    def __init__(
        self,
        num_features: int,
        num_layers: int = 5,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            _in_turns(
                MaskedAutoregressive, num_features, num_layers, hidden_size=hidden_size,
                num_hidden=num_hidden, dropout=dropout, device=device, dtype=dtype,
            )
        )  # fmt: skip


class IAF(Flow):
    r"""Inverse autoregressive flow: samples in one pass a layer, likelihoods of given data in d.

    It is `MAF` read backwards:
    $x_i = (z_i - \mu_i(\mathbf z_{<i}))\,e^{-\alpha_i(\mathbf z_{<i})}$, which is Kingma's form
    with $-\mu_i e^{-\alpha_i}$ for the shift (equation `normalizing-flow-iaf`).

    Arguments are those of `MAF`.

    Example:
        >>> x, logdet = IAF(num_features=3, num_layers=2)(torch.randn(5, 3))
        >>> x.shape, logdet.shape
        (torch.Size([5, 3]), torch.Size([5]))

    Source: Kingma et al. 2016.
    """

    def __init__(
        self,
        num_features: int,
        num_layers: int = 5,
        hidden_size: int = 64,
        *,
        num_hidden: int = 2,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        layers = _in_turns(
            MaskedAutoregressive, num_features, num_layers, hidden_size=hidden_size,
            num_hidden=num_hidden, dropout=dropout, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__([Inverted(layer) for layer in layers])


# ------------------------------------------------------------------------------------ Glow's layers


class ActNorm(Bijection):
    r"""A scale and a shift for each channel, set by the first data so that noise is standardized.

    $\mathbf z = (\mathbf x - \mathbf b) \odot e^{-\mathbf a}$ at every pixel.

    Args:
        num_features: channels, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Source: Kingma and Dhariwal 2018, section 3.1.
    """

    shift: Tensor
    log_scale: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features)
        for name in ("shift", "log_scale"):
            zeros = torch.zeros(num_features, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(zeros))

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "n *d"], eps: float = 1e-3) -> "ActNorm":
        """Take mean and standard deviation of these data; return the layer.

        Args:
            x: examples, as `inverse` will see them.
            eps: least standard deviation, > 0, for channels that never change.
        """
        eps = checks.number("eps", eps, above=0)
        rows = self._channels("x", x).movedim(1, 0).flatten(1)
        self.shift.copy_(rows.mean(1))
        self.log_scale.copy_(rows.std(1, correction=0).clamp(min=eps).log())
        return self

    def forward(self, z: Float[Tensor, "n *d"]) -> Drawn:
        """Return data and the log-determinant of the map from noise to data."""
        scale, shift, logdet = self._parts(self._channels("z", z))
        return Drawn(z * scale + shift, logdet)

    def inverse(self, x: Float[Tensor, "n *d"]) -> Encoded:
        """Return noise and the log-determinant of the map from data to noise."""
        scale, shift, logdet = self._parts(self._channels("x", x))
        return Encoded((x - shift) / scale, -logdet)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = (-1, *[1] * (x.ndim - 2))
        logdet = (self.log_scale.sum() * math.prod(x.shape[2:])).expand(len(x))
        return self.log_scale.exp().view(shape), self.shift.view(shape), logdet


class InvertibleConv1x1(Bijection):
    r"""Glow's 1 × 1 convolution: one invertible matrix mixes the channels of every pixel.

    $\mathbf z = \mathbf W\mathbf x$ with $\mathbf W = \mathbf P\mathbf L(\mathbf U +
    \operatorname{diag}(\mathbf s))$, $\mathbf P$ a fixed permutation, $\mathbf L$ and $\mathbf U$
    triangular with ones and zeros on the diagonal; then $\log\lvert\det\rvert = h w\sum_i
    \log\lvert s_i\rvert$ for $h \times w$ pixels (equations `normalizing-flow-conv`,
    `normalizing-flow-lu`). It begins as a random rotation. The signs of $\mathbf s$ are fixed and
    its logarithms learned, so that it stays invertible.

    Args:
        num_features: channels, ≥ 1; a vector is a picture of one pixel.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> mix = InvertibleConv1x1(4)
        >>> z, logdet = mix.inverse(torch.randn(2, 4, 3, 3))
        >>> bool(logdet.abs().max() < 1e-5)  # a rotation
        True

    Source: Kingma and Dhariwal 2018, section 3.2.
    """

    sign: Tensor
    order: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features)
        drawn = torch.linalg.qr(torch.randn(num_features, num_features).double())[0]
        p, lower, upper = torch.linalg.lu(drawn)
        s = upper.diagonal()
        made: dict[str, Any] = {
            "device": device,
            "dtype": dtype or torch.get_default_dtype(),
        }
        self.lower = nn.Parameter(lower.tril(-1).to(**made))
        self.upper = nn.Parameter(upper.triu(1).to(**made))
        self.log_s = nn.Parameter(s.abs().log().to(**made))
        self.register_buffer("sign", s.sign().to(**made))
        self.register_buffer("order", p.argmax(1).to(device=device))

    def triangles(self) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
        """Return L and U + diag(s)."""
        ones = torch.eye(self.num_features, device=self.lower.device).to(self.lower)
        diagonal = self.sign * self.log_s.exp()
        return self.lower.tril(-1) + ones, self.upper.triu(1) + torch.diag(diagonal)

    def weight(self) -> Float[Tensor, "d d"]:
        """Return W = P L (U + diag(s))."""
        lower, upper = self.triangles()
        return (lower @ upper)[self.order]  # eq. normalizing-flow-lu

    def inverse(self, x: Float[Tensor, "n *d"]) -> Encoded:
        """Return W x at every pixel, and its log-determinant."""
        rows = self._channels("x", x).movedim(1, -1)
        z = (rows @ self.weight().T).movedim(-1, 1)  # eq. normalizing-flow-conv
        return Encoded(z, self._logdet(x))

    def forward(self, z: Float[Tensor, "n *d"]) -> Drawn:
        """Solve W x = z at every pixel, by its two triangles; and the log-determinant."""
        rows = self._channels("z", z).movedim(1, -1)
        lower, upper = self.triangles()
        back = torch.argsort(self.order)
        columns = rows.reshape(-1, self.num_features)[:, back].T
        columns = torch.linalg.solve_triangular(
            lower, columns, upper=False, unitriangular=True
        )
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return Drawn(columns.T.reshape(rows.shape).movedim(-1, 1), -self._logdet(z))

    def _logdet(self, x: Tensor) -> Tensor:
        return (self.log_s.sum() * math.prod(x.shape[2:])).expand(len(x))


# ------------------------------------------------------------------------------------- the spline

LEAST = 1e-3
"""The least width and height of a bin, as a share of all, and the least slope at a knot."""


def spline(
    x: Float[Tensor, "*n"],
    widths: Float[Tensor, "*n k"],
    heights: Float[Tensor, "*n k"],
    slopes: Float[Tensor, "*n k1"],
    bound: float = 3.0,
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    r"""Return a monotone rational-quadratic spline of x, and the logarithm of its slope.

    In a bin of width $w$ and height $h$ with $\sigma = h / w$, slopes $\delta_0$ and $\delta_1$ at
    its ends and $\xi = (x - x_0)/w$ (equations `normalizing-flow-spline` and
    `normalizing-flow-spline-slope`):
    $y = y_0 + h\,\dfrac{\sigma\xi^2 + \delta_0\xi(1-\xi)}
    {\sigma + (\delta_0 + \delta_1 - 2\sigma)\xi(1-\xi)}$.
    Outside $[-B, B]$ it is the identity: linear tails, of slope 1.

    Args:
        x: any numbers.
        widths: before a softmax, one for each bin, k ≥ 2.
        heights: likewise.
        slopes: at the k − 1 inner knots, before a softplus; zeros give slope 1.
        bound: B > 0.

    Returns:
        Values, and logarithms of the derivative.

    Example:
        >>> y, log_slope = spline(torch.tensor([0.5]), *torch.zeros(1, 23).split([8, 8, 7], 1))
        >>> y, log_slope.abs() < 1e-6  # all zeros: the identity
        (tensor([0.5000]), tensor([True]))

    Source: Durkan et al. 2019; the interpolant: Gregory and Delbourgo 1982.
    """
    inside, x_in = _inside(x, bound)
    x0, w, y0, h, d0, d1 = _bin(x_in, widths, heights, slopes, bound, by=0)
    sigma, xi = h / w, ((x_in - x0) / w).clamp(0, 1)
    y, log_slope = _piece(xi, sigma, y0, h, d0, d1)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def spline_inverse(
    y: Float[Tensor, "*n"],
    widths: Float[Tensor, "*n k"],
    heights: Float[Tensor, "*n k"],
    slopes: Float[Tensor, "*n k1"],
    bound: float = 3.0,
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return the x whose `spline` is y, and the logarithm of the slope of this inverse.

    In each bin y gives a quadratic equation for ξ, whose root in [0, 1] is computed in the form
    that does not cancel. Arguments are those of `spline`.
    """
    inside, y_in = _inside(y, bound)
    x0, w, y0, h, d0, d1 = _bin(y_in, widths, heights, slopes, bound, by=1)
    sigma, up = h / w, (y_in - y0).clamp(min=0)
    both = d0 + d1 - 2 * sigma
    a = h * (sigma - d0) + up * both  # eq. normalizing-flow-spline-root
    b = h * d0 - up * both
    c = -sigma * up
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    xi = (2 * c / (-b - root)).clamp(0, 1)
    _, log_slope = _piece(xi, sigma, y0, h, d0, d1)
    x = x0 + xi * w
    return torch.where(inside, x, y), torch.where(inside, -log_slope, 0.0)


def _piece(
    xi: Tensor, sigma: Tensor, y0: Tensor, h: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the interpolant at ξ within a bin and the logarithm of its slope."""
    mid = xi * (1 - xi)
    below = sigma + (d0 + d1 - 2 * sigma) * mid
    y = y0 + h * (sigma * xi.square() + d0 * mid) / below  # eq. normalizing-flow-spline
    above = d1 * xi.square() + 2 * sigma * mid + d0 * (1 - xi).square()
    log_slope = 2 * sigma.log() + above.log() - 2 * below.log()
    return y, log_slope  # eq. normalizing-flow-spline-slope


def _inside(x: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Return where x lies between the tails, and x with 0 for what lies in them.

    What lies outside is replaced before anything is computed: a gradient through a NaN is NaN,
    even where its value is not taken.
    """
    bound = checks.number("bound", bound, above=0)
    inside = (x > -bound) & (x < bound)
    return inside, torch.where(inside, x, 0.0)


def _bin(
    value: Tensor,
    widths: Tensor,
    heights: Tensor,
    slopes: Tensor,
    bound: float,
    by: int,
) -> tuple[Tensor, ...]:
    """Return x₀, w, y₀, h, δ₀, δ₁ of the bin in which the value lies, an x or (`by=1`) a y."""
    k = widths.shape[-1]
    for name, raw, numbers in (
        ("widths", widths, k), ("heights", heights, k), ("slopes", slopes, k - 1),
    ):  # fmt: skip
        checks.tensor(name, raw, shape=(*value.shape, numbers), floating=True)
    # bins first: a softmax over a short last axis is slow
    w, h, raw = (part.movedim(-1, 0) for part in (widths, heights, slopes))
    shares = LEAST + (1 - LEAST * k) * torch.stack([w, h]).softmax(1)
    zeros = torch.zeros_like(shares[:, :1])
    # the last end is set and not summed: exactly B, whatever rounding says
    ends = torch.cat([zeros, shares.cumsum(1)[:, :-1], zeros + 1], 1)
    raw = torch.cat([zeros[0], raw, zeros[0]])[None]
    knots = torch.cat([2 * bound * ends - bound, raw])
    at = (value >= knots[by, 1:-1]).sum(0)
    both = torch.stack([at, at + 1]).expand(3, 2, *value.shape)
    (x0, y0, raw0), (x1, y1, raw1) = knots.gather(1, both).unbind(1)
    d0, d1 = _slope(raw0), _slope(raw1)
    return x0, x1 - x0, y0, y1 - y0, d0, d1


def _slope(raw: Tensor) -> Tensor:
    """Return a slope above `LEAST`, which is 1 for 0: at the outer knots, as in the tails."""
    return LEAST + F.softplus(raw + math.log(math.expm1(1 - LEAST)))


# ----------------------------------------------------------------------------------------- of data


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


# ------------------------------------------------------------------------------------------- parts


def _bounded(raw: Tensor) -> Tensor:
    """Bring logarithms of scales smoothly between ±`MAX_LOG_SCALE`; small ones stay as they are."""
    return MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)


def _network(
    sizes: Sequence[int], dropout: float, device: Device, dtype: torch.dtype | None
) -> nn.Sequential:
    pairs = pairwise(sizes)
    maps = [nn.Linear(a, b, device=device, dtype=dtype) for a, b in pairs]
    return _with_nonlinearities(maps, dropout)


def _with_nonlinearities(maps: Sequence[nn.Linear], dropout: float) -> nn.Sequential:
    """Return the maps with ReLU and dropout between them, the last one at 0: the identity."""
    dropout = checks.number("dropout", dropout, least=0, below=1)
    *first, last = maps
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    parts: list[nn.Module] = []
    for one in first:
        parts += [one, nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
    return nn.Sequential(*parts, last)


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


def _in_turns(
    layer: Any, num_features: int, num_layers: int, **how: Any
) -> list[Bijection]:
    """Return layers with the order of the features turned round between each two."""
    made: list[Bijection] = []
    for at in range(checks.count("num_layers", num_layers)):
        made += [Reverse(num_features)] if at else []
        made.append(layer(num_features, **how))
    return made
