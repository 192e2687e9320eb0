"""Glow's layers: normalisation by activations, and a learned mixture of channels.

Axes: n examples, c y x channels, rows and columns.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.generative._bijections import Bijection, Drawn, Encoded


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
