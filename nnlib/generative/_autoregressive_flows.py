"""Flows whose features follow one another: MADE's masks, MAF, and IAF, its inverse.

Axes: n examples, d features.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.generative._bijections import Bijection, Drawn, Encoded, Flow, Inverted
from nnlib.generative._flow_networks import _bounded, _with_nonlinearities


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


def _in_turns(
    layer: Any, num_features: int, num_layers: int, **how: Any
) -> list[Bijection]:
    """Return layers with the order of the features turned round between each two."""
    made: list[Bijection] = []
    for at in range(checks.count("num_layers", num_layers)):
        made += [Reverse(num_features)] if at else []
        made.append(layer(num_features, **how))
    return made
