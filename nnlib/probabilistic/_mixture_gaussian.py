r"""A mixture of Gaussians for each example: density, moments, modes, samples, scores.

Axes: b batch, k components, d numbers of a target, m points, s samples.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

LOG_2PI = math.log(2 * math.pi)


class Spread(NamedTuple):
    """The two parts of a mixture's covariance, each b d d; their sum is the whole."""

    within: Tensor
    between: Tensor


class Mixture(NamedTuple):
    r"""The mixture $\sum_k \pi_k\,\mathcal N(\boldsymbol\mu_k, \boldsymbol\Sigma_k)$ of each row.

    A named tuple of three tensors, so that it passes through `torch.compile`, `vmap` and an export.

    Args:
        logits: b k; the weights $\boldsymbol\pi$ before their softmax.
        means: b k d.
        scales: b k d standard deviations, > 0; or b k d d lower triangular Cholesky factors
            $\mathbf L$ of the covariances, with diagonals > 0.

    Example:
        >>> pair = Mixture(torch.zeros(1, 2), torch.tensor([[[-1.0], [1.0]]]), torch.ones(1, 2, 1))
        >>> pair.mean, pair.variance
        (tensor([[0.]]), tensor([[2.]]))

    Source: Bishop 1994, who writes $\alpha_i$ for our $\pi_k$.
    """

    logits: Tensor
    means: Tensor
    scales: Tensor

    @property
    def full(self) -> bool:
        """Whether `scales` holds Cholesky factors."""
        return self.scales.ndim == self.means.ndim + 1

    @property
    def weights(self) -> Float[Tensor, "b k"]:
        r"""The weights $\pi_k$: positive, and 1 in sum (`mixture-density-weights`)."""
        return self.logits.softmax(-1)

    @property
    def stds(self) -> Float[Tensor, "b k d"]:
        """Standard deviations of each component along each axis; of a factor, its rows' lengths."""
        return self.scales.norm(dim=-1) if self.full else self.scales

    def log_components(self, y: Float[Tensor, "b m d"]) -> Float[Tensor, "b m k"]:
        r"""Return $\log\mathcal N(\mathbf y;\boldsymbol\mu_k,\boldsymbol\Sigma_k)$ of m points.

        Equations `mixture-density-component` and, for Cholesky factors,
        `mixture-density-cholesky`. Half precision is computed in float32.
        """
        means, scales = _wide(self.means), _wide(self.scales)
        apart = _wide(y)[:, :, None] - means[:, None]
        if self.full:
            points = apart.movedim(1, -1)  # b k d m: one factor for all of them
            white = torch.linalg.solve_triangular(scales, points, upper=False)
            white = white.movedim(-1, 1)
            log_det = scales.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        else:
            white = apart / scales[:, None]
            log_det = scales.log().sum(-1)
        far = torch.finfo(white.dtype).max ** 0.5 / 1000  # beyond it squares overflow
        squares = white.clamp(-far, far).square().sum(-1)
        return -0.5 * (squares + y.shape[-1] * LOG_2PI) - log_det[:, None]

    def log_joint(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        r"""Return $\log\pi_k + \log\mathcal N(\mathbf y;\boldsymbol\mu_k,\boldsymbol\Sigma_k)$."""
        self._target(y)
        return (
            _wide(self.logits).log_softmax(-1) + self.log_components(y[:, None])[:, 0]
        )

    def log_prob(self, y: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the log-density in nats, by log-sum-exp (`mixture-density-logsumexp`)."""
        return self.log_joint(y).logsumexp(-1)

    def responsibilities(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return whose each target probably is, 1 in sum (`mixture-density-responsibility`)."""
        return self.log_joint(y).softmax(-1)

    @property
    def mean(self) -> Float[Tensor, "b d"]:
        """The conditional mean (`mixture-density-moments`), which may be nobody's answer."""
        return (self.weights[..., None] * self.means).sum(-2)

    @property
    def variance(self) -> Float[Tensor, "b d"]:
        """Variances along each axis (`mixture-density-variance`)."""
        apart = self.means - self.mean[:, None]
        return (self.weights[..., None] * (self.stds.square() + apart.square())).sum(-2)

    def spread(self) -> Spread:
        """Return the covariance in its two parts: within components, and between their means."""
        factors = self.scales if self.full else torch.diag_embed(self.scales)
        weights = self.weights[..., None, None]
        apart = (self.means - self.mean[:, None])[..., None]
        return Spread(
            (weights * (factors @ factors.mT)).sum(-3),
            (weights * (apart @ apart.mT)).sum(-3),
        )

    def ascend(
        self, y: Float[Tensor, "b m d"], steps: int = 50
    ) -> Float[Tensor, "b m d"]:
        """Climb from each point to a mode by the fixed-point steps of `mixture-density-modes`.

        No step lowers the density, and there is no step size to choose.

        Args:
            y: where to begin.
            steps: ≥ 0.
        """
        steps = checks.count("steps", steps, least=0)
        log_weights = _wide(self.logits).log_softmax(-1)[:, None]
        kind, y = y.dtype, _wide(y)
        for _ in range(steps):
            y = self._pulled(log_weights + self.log_components(y))
        return y.to(kind)

    def _pulled(self, log_share: Float[Tensor, "b m k"]) -> Float[Tensor, "b m d"]:
        """Return the mean of the component means, each weighted by share times precision."""
        means, scales = _wide(self.means), _wide(self.scales)
        if not self.full:
            # in logarithms: a precision may be too large for a number
            log_precise = log_share[..., None] - 2 * scales.log()[:, None]
            return (log_precise.softmax(-2) * means[:, None]).sum(-2)
        share, precision = log_share.softmax(-1), torch.cholesky_inverse(scales)
        matrix = torch.einsum("bmk,bkij->bmij", share, precision)
        pull = torch.einsum("bmk,bkij,bkj->bmi", share, precision, means)
        return torch.linalg.solve(matrix, pull)

    def modes(
        self, steps: int = 50
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k"]]:
        """Return where the climb from each component's mean ends, and the log-density there.

        Several components may end at one mode; `steps=0` gives the means themselves.
        """
        ends = self.ascend(self.means, steps)
        log_weights = _wide(self.logits).log_softmax(-1)[:, None]
        return ends, (log_weights + self.log_components(ends)).logsumexp(-1)

    def mode(self, steps: int = 50) -> Float[Tensor, "b d"]:
        """Return the highest of the `modes`: the single most probable answer."""
        ends, height = self.modes(steps)
        best = height.argmax(-1)[:, None, None].expand(-1, 1, ends.shape[-1])
        return ends.gather(1, best)[:, 0]

    def sample(
        self,
        num_samples: int = 1,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "s b d"]:
        r"""Draw answers: a component by its weight, then a point of its Gaussian.

        Args:
            num_samples: S of each row, ≥ 1.
            temperature: $\tau$ > 0; below 1 likelier components and points near their means
                (`mixture-density-temperature`); 1 is the mixture itself.
            generator: source of the randomness, on the device of the tensors.
        """
        count = checks.count("num_samples", num_samples)
        temperature = checks.number("temperature", temperature, above=0)
        logits = _wide(self.logits)
        logits = logits - logits.amax(-1, keepdim=True)  # finite, however cold
        weights = (logits / temperature).softmax(-1)
        chosen = torch.multinomial(
            weights, count, replacement=True, generator=generator
        ).T
        rows = torch.arange(len(weights), device=chosen.device)
        means, scales = self.means[rows, chosen], self.scales[rows, chosen]
        noise = torch.randn(
            means.shape, generator=generator, device=means.device, dtype=means.dtype
        )
        noise = temperature**0.5 * noise
        if self.full:
            return means + (scales @ noise[..., None])[..., 0]
        return means + scales * noise

    def cdf(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return the probability of less than `y` along each axis (`mixture-density-pit`)."""
        self._target(y)
        z = (y[:, None] - self.means) / self.stds
        return (self.weights[..., None] * torch.special.ndtr(z)).sum(-2)

    def crps(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return the continuous ranked probability score along each axis, in the unit of `y`.

        Smaller is better; in closed form, `mixture-density-crps` (Grimit et al. 2006).
        """
        self._target(y)
        y, means, stds = _wide(y), _wide(self.means), _wide(self.stds)
        weights = _wide(self.logits).softmax(-1)[..., None]
        near = _mean_distance(y[:, None] - means, stds)
        apart = means[:, :, None] - means[:, None]
        between = _mean_distance(apart, torch.hypot(stds[:, :, None], stds[:, None]))
        pairs = weights[:, :, None] * weights[:, None]
        return (weights * near).sum(1) - 0.5 * (pairs * between).sum((1, 2))

    def _target(self, y: Tensor) -> None:
        rows, _, numbers = self.means.shape
        checks.tensor("y", y, shape=(rows, numbers), floating=True)


def _mean_distance(shift: Tensor, std: Tensor) -> Tensor:
    r"""Return $\mathbb E|Z|$ of a normal $Z$ with this mean and standard deviation."""
    z = shift / std
    density = torch.exp(-0.5 * (z.square() + LOG_2PI))
    return shift * torch.erf(z * 0.5**0.5) + 2 * std * density  # erf is 2Φ − 1


def _wide(x: Tensor) -> Tensor:
    """Return half precision as float32: a sum of squares over a small variance overflows it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def naive_log_prob(mixture: Mixture, y: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Return the log-density by the textbook's formula, one component after the other.

    The readable twin of `Mixture.log_prob`, for standard deviations: it adds densities and takes
    the logarithm last, so that it is −inf where all of them underflow.
    """
    total = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for k in range(mixture.means.shape[1]):
        mean, std = mixture.means[:, k], mixture.stds[:, k]
        power = torch.exp(-0.5 * ((y - mean) / std).square())
        total = total + mixture.weights[:, k] * (
            power / (std * math.sqrt(2 * math.pi))
        ).prod(-1)
    return total.log()
