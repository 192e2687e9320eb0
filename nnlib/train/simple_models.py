r"""The simplest generative models, which every other one has to beat: pixels alone, one Gaussian.

Both are fitted in closed form, draw samples, and have a likelihood, so that they can stand in every
table beside a network (`nnlib.train.sample_quality`).

Axes: n examples, d features.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


class IndependentPixels:
    r"""Each pixel on its own: $p(\mathbf x) = \prod_i p_i(x_i)$, a table of levels for each.

    It knows how often each pixel has each grey value, and nothing of what goes together.

    Args:
        x: pictures to learn from, in 0 … 1; other axes than the first are flattened.
        levels: grey values, evenly spaced from 0 to 1, ≥ 2.
        smoothing: examples of each level that are pretended to have been seen, > 0, so that none
            is impossible.

    Example:
        >>> pixels = IndependentPixels(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), levels=2)
        >>> pixels.log_prob(torch.zeros(1, 2)).exp()  # 3/4 · 2/4
        tensor([0.3750])
    """

    def __init__(
        self, x: Float[Tensor, "n *d"], levels: int = 17, smoothing: float = 1.0
    ):
        rows = _rows("x", x)
        self.levels = checks.count("levels", levels, least=2)
        smoothing = checks.number("smoothing", smoothing, above=0)
        seen = torch.nn.functional.one_hot(self._level(rows), self.levels).sum(0)
        counts = seen.double() + smoothing
        self.probabilities = (counts / counts.sum(1, keepdim=True)).to(x)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw pictures, one a row."""
        count = checks.count("count", count)
        drawn = torch.multinomial(
            self.probabilities, count, replacement=True, generator=generator
        )
        return drawn.T.to(self.probabilities) / (self.levels - 1)

    def log_prob(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """Return the logarithm, in nats, of the probability of each picture's levels."""
        levels = self._level(_rows("x", x, len(self.probabilities)))
        return self.probabilities.log().T.gather(0, levels).sum(1)

    def _level(self, rows: Tensor) -> Tensor:
        at = (rows * (self.levels - 1)).round().long()
        if checks.readable(at) and (int(at.min()) < 0 or int(at.max()) >= self.levels):
            raise ValueError("x must lie in 0 … 1")
        return at


class FullGaussian:
    r"""One normal distribution with every covariance: $\mathcal N(\boldsymbol\mu, \mathbf\Sigma)$.

    It knows which pixels go together, in pairs, and nothing beyond: no strokes, no classes.

    Args:
        x: examples to learn from; other axes than the first are flattened.
        ridge: added to every variance, ≥ 0; pixels that never change need some for a likelihood.

    Example:
        >>> normal = FullGaussian(torch.tensor([[-1.0], [1.0]]))
        >>> normal.mean, normal.covariance
        (tensor([0.]), tensor([[1.]]))
    """

    def __init__(self, x: Float[Tensor, "n *d"], ridge: float = 0.0):
        rows = _rows("x", x).double()
        ridge = checks.number("ridge", ridge, least=0)
        self._mean = rows.mean(0)
        apart = rows - self._mean
        self._covariance = apart.T @ apart / len(rows)  # of maximum likelihood
        self._covariance.diagonal().add_(ridge)
        self.mean, self.covariance = self._mean.to(x), self._covariance.to(x)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw examples, one a row; as pictures, they want to be clamped to 0 … 1."""
        count = checks.count("count", count)
        noise = torch.randn(count, len(self._mean), generator=generator).double()
        values, vectors = torch.linalg.eigh(self._covariance)
        spread = vectors * values.clamp(min=0).sqrt()
        return (self._mean + noise @ spread.T).to(self.mean)

    def log_prob(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """Return the logarithm of the density at each example, in nats.

        Raises:
            ValueError: the covariance is singular; a ridge mends it.
        """
        apart = _rows("x", x, len(self.mean)).double() - self._mean
        factor, failed = torch.linalg.cholesky_ex(self._covariance)
        if int(failed):
            raise ValueError("the covariance is singular: FullGaussian(x, ridge=1e-4)")
        white = torch.linalg.solve_triangular(factor, apart.T, upper=False)
        logdet = 2 * factor.diagonal().log().sum()
        constant = len(self.mean) * math.log(2 * math.pi)
        return -0.5 * (white.square().sum(0) + logdet + constant).to(x)


def _rows(name: str, x: Tensor, features: int | None = None) -> Tensor:
    checks.tensor(name, x, floating=True, finite=True, empty=False)
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    if features is not None and rows.shape[1] != features:
        raise ValueError(f"{name} must have {features} features, got {rows.shape[1]}")
    return rows
