"""What keeps a discriminator smooth: penalties on its slope, clipped weights, spectral norms.

Axes: n examples, d numbers of an example.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.types import Device

from nnlib import checks
from nnlib.generative._style_generator import EPS

Scored = Callable[[Tensor], Tensor]
"""A discriminator as its penalties see it: examples in, a score for each, or one for each patch."""


def r1_penalty(
    discriminator: Scored, x: Float[Tensor, "n *d"], weight: float = 10.0
) -> Float[Tensor, ""]:
    r"""Return $\tfrac{\gamma}{2}\,\overline{\lVert\nabla_x D(x)\rVert^2}$ (equation `gan-r1`).

    Of real examples it is R1, of generated ones R2. The score's own slope is meant, before any
    sigmoid.

    Args:
        discriminator: gives scores; those of an example must depend on that example alone.
        x: examples.
        weight: γ, ≥ 0.

    Example:
        >>> r1_penalty(lambda x: x @ torch.tensor([3.0, 4.0]), torch.zeros(5, 2), weight=1.0)
        tensor(12.5000)

    Source: Mescheder, Geiger and Nowozin 2018.
    """
    checks.tensor("x", x, floating=True, empty=False)
    weight = checks.number("weight", weight, least=0)
    slope = _slope(discriminator, x)
    return 0.5 * weight * slope.square().sum(1).mean()  # eq. gan-r1


def gradient_penalty(
    discriminator: Scored,
    real: Float[Tensor, "n *d"],
    fake: Float[Tensor, "n *d"],
    weight: float = 10.0,
    share: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $\lambda\,\overline{(\lVert\nabla f(\hat x)\rVert - 1)^2}$ (`gan-gradient-penalty`).

    $\hat x$ lies between a real and a generated example, at a random place. The penalty encourages
    a slope of 1 there and guarantees none anywhere.

    Args:
        discriminator: gives scores; those of an example must depend on that example alone, so that
            it must have no batch norm.
        real: real examples.
        fake: as many generated ones.
        weight: λ, ≥ 0.
        share: of the real example in each mixture, 0 … 1; uniformly random if None.

    Example:
        >>> steep = lambda x: 3 * x[:, 0]
        >>> gradient_penalty(steep, torch.ones(4, 2), torch.zeros(4, 2), weight=1.0)
        tensor(4.)

    Source: Gulrajani et al. 2017.
    """
    checks.tensor("real", real, floating=True, empty=False)
    checks.tensor("fake", fake, shape=tuple(real.shape), floating=True)
    weight = checks.number("weight", weight, least=0)
    if share is None:
        share = torch.rand(len(real), device=real.device, dtype=real.dtype)
    checks.tensor("share", share, shape=(len(real),), floating=True)
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = share * real.detach() + (1 - share) * fake.detach()  # eq. gan-interpolate
    slope = _slope(discriminator, between)
    norm = torch.linalg.vector_norm(slope, dim=1)  # its own slope at 0 is taken as 0
    return weight * (norm - 1).square().mean()  # eq. gan-gradient-penalty


def _slope(discriminator: Scored, x: Tensor) -> Tensor:
    """Return the gradient of each example's score, as a row that can be differentiated again."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = discriminator(x)
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.flatten(1)


@torch.no_grad()
def clip_weights_(model: nn.Module, limit: float = 0.01) -> None:
    """Force every parameter into −limit … limit: the first WGAN's bound on the critic's slope.

    Args:
        model: the critic, changed in place.
        limit: largest absolute value, > 0.

    Source: Arjovsky, Chintala and Bottou 2017.
    """
    limit = checks.number("limit", limit, above=0)
    for parameter in model.parameters():
        parameter.clamp_(-limit, limit)


class SpectralNorm(nn.Module):
    r"""A weight divided by its largest singular value (equation `gan-spectral`).

    $\hat\sigma = u^\top W v$, where $v \leftarrow W^\top u / \lVert\cdot\rVert$ and
    $u \leftarrow W v / \lVert\cdot\rVert$ are carried from step to step, so that one step of power
    iteration in each call, in training mode, is enough. `spectral_norm_` puts one on each layer.

    Args:
        num_rows: of the weight as a matrix, outputs first.
        num_columns: all its other axes together.
        num_iterations: of the power iteration in each call, ≥ 1.
        device: of the two vectors.
        dtype: of the two vectors.

    Attributes:
        u: estimate of the first left singular vector.
        v: estimate of the first right one.

    Example:
        >>> norm = SpectralNorm(2, 2, num_iterations=50)
        >>> norm(torch.diag(torch.tensor([4.0, 1.0])))
        tensor([[1.0000, 0.0000],
                [0.0000, 0.2500]])

    Source: Miyato et al. 2018.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        num_iterations: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        rows = checks.count("num_rows", num_rows)
        columns = checks.count("num_columns", num_columns)
        self.num_iterations = checks.count("num_iterations", num_iterations)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("u", F.normalize(torch.randn(rows, **like), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(columns, **like), dim=0))

    def forward(self, weight: Float[Tensor, "o *i"]) -> Float[Tensor, "o *i"]:
        """Return the weight, divided by the estimate of its largest singular value."""
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                for _ in range(self.num_iterations):
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=EPS))
                    self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=EPS))
        # copies, since the next call moves the vectors that this one's gradient needs
        sigma = self.u.clone() @ matrix @ self.v.clone()
        return weight / sigma  # eq. gan-spectral


def spectral_norm_(model: nn.Module, num_iterations: int = 1) -> nn.Module:
    """Put a `SpectralNorm` on each linear layer, convolution and embedding; return the model.

    Args:
        model: changed in place.
        num_iterations: of the power iteration in each call, ≥ 1.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    for layer in [part for part in model.modules() if isinstance(part, layers)]:
        rows, columns = layer.weight.flatten(1).shape
        where: dict[str, Any] = {
            "device": layer.weight.device,
            "dtype": layer.weight.dtype,
        }
        norm = SpectralNorm(rows, columns, num_iterations, **where)
        parametrize.register_parametrization(layer, "weight", norm)
    return model
