"""What a predictive distribution is worth: likelihood, intervals, calibration, its parts."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

LARGEST = 6 * math.log(10)  # of ln T, where logits differ by at most 1


class Predictive(NamedTuple):
    """Mean and variance of an answer; the variance in its two parts, eq. bayesian-total-variance.

    Attributes:
        mean: of the answer.
        epistemic: variance that more data would remove: that of the function.
        aleatoric: variance that stays: the noise.
    """

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor

    @property
    def variance(self) -> Tensor:
        """Return the variance of a new measurement."""
        return self.epistemic + self.aleatoric

    @property
    def std(self) -> Tensor:
        """Return its standard deviation."""
        return self.variance.sqrt()


def mixture_log_prob(
    targets: Float[Tensor, "*n"],
    means: Float[Tensor, "s *n"],
    noise_std: Float[Tensor, "s *n"] | float,
) -> Float[Tensor, "*n"]:
    """Return the log-density of targets under an equal mixture of Gaussians, eq. bayesian-average.

    Args:
        targets: what was measured.
        means: one answer a sample.
        noise_std: standard deviations, > 0.

    Example:
        >>> mixture_log_prob(torch.zeros(1), torch.tensor([[-1.0], [1.0]]), 1.0)
        tensor([-1.4189])
    """
    means, stds = _mixture(means, noise_std)
    checks.tensor("targets", targets, shape=tuple(means.shape[1:]), floating=True)
    z = (targets - means) / stds
    log_density = -0.5 * z.square() - stds.log() - 0.5 * math.log(2 * math.pi)
    return log_density.logsumexp(0) - math.log(len(means))


def mixture_interval(
    means: Float[Tensor, "s *n"],
    noise_std: Float[Tensor, "s *n"] | float,
    level: float = 0.9,
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return the central interval of an equal mixture of Gaussians that holds `level` of it.

    Its ends are where the mixture's distribution function passes (1 ± level)/2, found by halving:
    60 times, which leaves an error of 1e-12 in double precision. Quantiles of a handful of draws
    would be too narrow instead.

    Args:
        means: one answer a sample.
        noise_std: standard deviations, > 0.
        level: share of the probability inside, strictly between 0 and 1.

    Example:
        >>> low, high = mixture_interval(torch.zeros(1, 1), 1.0, level=0.9)
        >>> round(high.item(), 3)
        1.645
    """
    means, stds = _mixture(means, noise_std)
    kind, means, stds = means.dtype, means.double(), stds.double()
    level = checks.number("level", level, above=0, below=1)
    tail = 0.5 * (1 - level)
    reach = math.sqrt(2 / tail) * stds.amax(0)  # Chebyshev: no quantile lies beyond
    ends = []
    for upper in (False, True):
        low, high = means.amin(0) - reach, means.amax(0) + reach
        for _ in range(60):
            middle = 0.5 * (low + high)
            z = (middle - means) / stds
            # seen from above, the upper tail is as small a number as the lower one
            beyond = torch.special.ndtr(-z if upper else z).mean(0)
            below = beyond > tail if upper else beyond < tail
            low, high = (
                torch.where(below, middle, low),
                torch.where(below, high, middle),
            )
        ends.append((0.5 * (low + high)).to(kind))
    return ends[0], ends[1]


def _mixture(means: Tensor, noise_std: Tensor | float) -> tuple[Tensor, Tensor]:
    checks.tensor("means", means, floating=True)
    if means.ndim < 1 or len(means) == 0:
        raise ValueError(
            f"means must hold at least one sample, got {tuple(means.shape)}"
        )
    if not isinstance(noise_std, Tensor):
        noise_std = means.new_tensor(checks.number("noise_std", noise_std, above=0))
    sizes = zip(noise_std.shape[::-1], means.shape[::-1], strict=False)
    if noise_std.ndim > means.ndim or any(got not in (1, want) for got, want in sizes):
        raise ValueError(
            f"noise_std must broadcast to means, {tuple(means.shape)}, "
            f"got {tuple(noise_std.shape)}"
        )
    if checks.readable(noise_std) and not bool((noise_std > 0).all()):
        raise ValueError(f"noise_std must be > 0, got {noise_std.min().item():g}")
    return means, noise_std.expand_as(means)


def coverage(
    targets: Float[Tensor, "*n"], low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]
) -> float:
    """Return the share of targets that lie within their intervals, ends included.

    Args:
        targets: what was measured.
        low: lower ends, of the shape of the targets or one that broadcasts to it.
        high: upper ends, likewise.

    Example:
        >>> coverage(torch.tensor([0.0, 3.0]), torch.tensor([-1.0, -1]), torch.tensor([1.0, 1]))
        0.5
    """
    checks.tensor("targets", targets, floating=True, empty=False)
    for name, end in (("low", low), ("high", high)):
        checks.tensor(name, end, floating=True)
        sizes = zip(end.shape[::-1], targets.shape[::-1], strict=False)
        if end.ndim > targets.ndim or any(got not in (1, want) for got, want in sizes):
            raise ValueError(
                f"{name} must broadcast to targets, {tuple(targets.shape)}, "
                f"got {tuple(end.shape)}"
            )
    inside = (targets >= low) & (targets <= high)
    return inside.double().mean().item()


def conformal_quantile(scores: Float[Tensor, " n"], level: float = 0.9) -> float:
    r"""Return how far a new score may be with probability ≥ `level`, eq. bayesian-conformal.

    The ⌈(n + 1) level⌉-th smallest of the scores of held-out examples. It is all that split
    conformal prediction needs, and supposes only that old and new examples are exchangeable.

    Args:
        scores: of n held-out examples, such as |target − prediction|.
        level: the promised coverage, strictly between 0 and 1.

    Returns:
        The score; infinity where n is too small for the level.

    Example:
        >>> conformal_quantile(torch.arange(1.0, 10.0), level=0.8)
        8.0
    """
    checks.tensor("scores", scores, shape=("n",), floating=True, empty=False)
    level = checks.number("level", level, above=0, below=1)
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return math.inf if rank > len(scores) else scores.sort().values[rank - 1].item()


def expected_calibration_error(
    probabilities: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15
) -> float:
    r"""Return the mean gap between confidence and accuracy, bin by bin, eq. bayesian-ece.

    Args:
        probabilities: of k classes, rows that sum to 1.
        labels: the true classes.
        bins: of equal width over the confidence 0 … 1, ≥ 1.

    Example:
        >>> expected_calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
        0.3...

    Source: Guo et al. 2017, with 15 bins.
    """
    checks.tensor(
        "probabilities", probabilities, shape=("n", "k"), floating=True, empty=False
    )
    if checks.readable(probabilities):
        low, high = (end.item() for end in probabilities.aminmax())
        if not (low >= 0 and high <= 1.001):
            raise ValueError(f"probabilities must lie in 0 … 1, got {low:g} … {high:g}")
    checks.labels("labels", labels, probabilities.shape[1], length=len(probabilities))
    bins = checks.count("bins", bins)
    sure, answer = probabilities.double().max(-1)
    gap = (answer == labels).double() - sure
    at = (sure * bins).ceil().long().clamp(1, bins) - 1
    sums = torch.zeros(bins, dtype=torch.float64, device=sure.device).index_add(
        0, at, gap
    )
    return (sums.abs().sum() / len(labels)).item()


def fit_temperature(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], iterations: int = 50
) -> float:
    r"""Return the T at which softmax(logits / T) is most likely, eq. bayesian-temperature.

    The log-likelihood is concave in 1/T, so Newton's steps, each of a factor e at most, find the
    only maximum. Where there is none, as when every answer is right, T ends at a millionth of the
    largest difference of two logits.

    Args:
        logits: of held-out examples, which training has not seen.
        labels: their classes.
        iterations: Newton steps, ≥ 1.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 2 / ln 3
        1.82

    Source: Guo et al. 2017.
    """
    checks.tensor("logits", logits, shape=("n", "k"), floating=True, empty=False)
    checks.labels("labels", labels, logits.shape[1], length=len(logits))
    iterations = checks.count("iterations", iterations)
    logits = logits.double()
    logits = logits - logits.amax(1, keepdim=True)
    size = -logits.min()  # in whose unit the logits are held
    if size == 0:
        return 1.0
    logits = logits / size
    chosen = logits.gather(1, labels[:, None].long())[:, 0]
    log_beta = torch.zeros((), dtype=torch.float64, device=logits.device)
    for _ in range(iterations):
        beta = log_beta.exp()
        p = F.softmax(beta * logits, -1)
        mean = (p * logits).sum(-1)
        slope = (chosen - mean).mean()
        bend = (p * (logits - mean[:, None]).square()).sum(-1).mean()
        log_beta = (
            log_beta + (slope / (bend * beta).clamp_min(1e-12)).clamp(-1, 1)
        ).clamp(-LARGEST, LARGEST)
    return ((-log_beta).exp() * size).item()


class EntropySplit(NamedTuple):
    """The entropy of a mean answer, in nats, and its two parts."""

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def split_entropy(probabilities: Float[Tensor, "s *n k"]) -> EntropySplit:
    r"""Return the entropy of the mean answer, the mean entropy, and their difference.

    The difference is the mutual information of answer and weights, eq. bayesian-mutual: what the
    samples disagree about.

    Args:
        probabilities: of k classes, one answer a sample.

    Example:
        >>> parts = split_entropy(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
        >>> parts.total, parts.aleatoric, parts.epistemic
        (tensor([0.6931]), tensor([0.]), tensor([0.6931]))

    Source: Depeweg et al. 2018.
    """
    checks.tensor("probabilities", probabilities, floating=True, empty=False)
    if probabilities.ndim < 2:
        raise ValueError(
            "probabilities must hold samples first and classes last, "
            f"got shape {tuple(probabilities.shape)}"
        )
    total = torch.special.entr(probabilities.mean(0)).sum(-1)
    aleatoric = torch.special.entr(probabilities).sum(-1).mean(0)
    return EntropySplit(total, aleatoric, (total - aleatoric).clamp_min(0))
