"""A mixture of Gaussians that knows its own score, at any amount of noise.

Axes: n examples, d numbers, k components.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


class GaussianMixture:
    r"""Normal distributions of one variance each, whose noisy versions are known in closed form.

    Noise keeps a mixture a mixture: at $\bar\alpha$ its means are $\sqrt{\bar\alpha}\,
    \boldsymbol\mu_k$ and its variances $\bar\alpha\,\sigma_k^2 + 1 - \bar\alpha$ (equation
    `diffusion-mixture`), so that density, score and the best possible denoiser are known.

    Args:
        means: one a row.
        std: standard deviation of all, or of each, > 0.
        weights: shares, which are normalised; None is even ones.

    Example:
        >>> mixture = GaussianMixture(torch.tensor([[-1.0], [1.0]]), std=0.5)
        >>> mixture.score(torch.zeros(1, 1), alpha_bar=0.5)
        tensor([[0.]])
    """

    def __init__(
        self,
        means: Float[Tensor, "k d"],
        std: float | Float[Tensor, " k"],
        weights: Float[Tensor, " k"] | None = None,
    ):
        self.means = checks.tensor(
            "means", means, shape=("k", "d"), floating=True, empty=False
        )
        k = len(means)
        spread = torch.as_tensor(std, dtype=means.dtype).expand(k)
        if not bool((spread > 0).all()):
            raise ValueError(f"std must be above 0, got {float(spread.min()):g}")
        self.std = spread
        weights = torch.ones(k) if weights is None else weights
        checks.tensor("weights", weights, shape=(k,), floating=True)
        if not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
            raise ValueError("weights must be at least 0, and not all of them 0")
        self.weights = (weights / weights.sum()).to(means)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw clean examples, one a row."""
        count = checks.count("count", count)
        at = torch.multinomial(
            self.weights, count, replacement=True, generator=generator
        )
        noise = torch.randn(count, self.means.shape[1], generator=generator).to(
            self.means
        )
        return self.means[at] + self.std[at, None] * noise

    def _parts(self, x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor, Tensor]:
        kept = checks.number("alpha_bar", alpha_bar, least=0, most=1)
        checks.tensor("x", x, shape=("n", self.means.shape[1]), floating=True)
        variance = kept * self.std**2 + 1 - kept  # eq. diffusion-mixture
        apart = kept**0.5 * self.means - x[:, None]
        log_part = -0.5 * (
            apart.square().sum(-1) / variance
            + x.shape[1] * (2 * math.pi * variance).log()
        )
        return apart, variance, log_part + self.weights.log()

    def log_prob(
        self, x: Float[Tensor, "n d"], alpha_bar: float = 1.0
    ) -> Float[Tensor, " n"]:
        r"""Return the log-density of noisy examples, in nats; clean ones at $\bar\alpha = 1$."""
        return self._parts(x, alpha_bar)[2].logsumexp(1)

    def score(
        self, x: Float[Tensor, "n d"], alpha_bar: float = 1.0
    ) -> Float[Tensor, "n d"]:
        r"""Return $\nabla_{\mathbf x}\log q(\mathbf x)$: the way to where data are denser."""
        apart, variance, logs = self._parts(x, alpha_bar)
        pull = (
            logs.softmax(1) / variance
        )  # whose it probably is, and how strongly it pulls
        return (pull[..., None] * apart).sum(1)
