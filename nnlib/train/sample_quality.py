r"""The one ruler of the generative chapters: how near drawn pictures come to real ones.

`Ruler(train.x, train.y, test.x)` is made once; `ruler(samples)` then gives the same five numbers
for every model, and `ruler.baselines()` those of real pictures and of the simplest models.

**What it is good for.** To compare models of the same data, judged by the same judge, on the same
number of samples: which is nearer to the real pictures, which leaves some of them out, which only
repeats what it was trained on. Each number is blind where another sees, so read them together:

* `frechet`: distance of two Gaussians in the features of a small judge network, 0 when mean and
  covariance agree. It sees blur, noise and missing classes, and is blind to memorisation.
* `precision`: share of samples that lie among real pictures. Blind to what is missing.
* `recall` and `coverage`: share of real pictures that have samples around them. Coverage asks the
  real pictures' own neighbourhoods, so that a few wild samples cannot raise it, as they can recall.
* `nearest`: mean distance, in pixels, to the nearest training picture; real pictures that were held
  out have one, too, and what lies clearly below it is a copy.

**What it is not good for.** It does not compare across judges, data sets, or numbers of samples:
the Fréchet distance of finite samples is biased upwards, real against real is not 0, and that floor
stands in the table for this reason. The judge is a classifier, so that it looks at what tells
classes apart, and forgives what does not. For how *probable* a model finds held-out data, take
`bits_per_dimension`, where there is a likelihood: that and good samples are two things, as Theis
et al. 2016 show.

**The judge** is a convolutional network with 64 features, trained as a classifier on the training
set for 300 steps, about half a CPU-second on digits, from a seed of its own: neither the order in
which a chapter draws its random numbers nor `torch.no_grad` changes it, and it changes neither.

Papers: Heusel et al. 2017 (Fréchet distance of features), Kynkäänniemi et al. 2019 (precision and
recall), Naeem et al. 2020 (density and coverage), Theis et al. 2016 (bits per dimension)
Axes: n samples, m real examples, d features, c y x channels, rows and columns of a picture.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.train.batches import Batches
from nnlib.train.simple_models import FullGaussian, IndependentPixels
from nnlib.train.update import update

JUDGE_STEPS = 300
JUDGE_BATCH = 64


def frechet_gaussian(
    mean: Float[Tensor, " d"],
    covariance: Float[Tensor, "d d"],
    other_mean: Float[Tensor, " d"],
    other_covariance: Float[Tensor, "d d"],
) -> float:
    r"""Return the squared Fréchet, or 2-Wasserstein, distance of two normal distributions.

    $\lVert\boldsymbol\mu_1-\boldsymbol\mu_2\rVert^2 + \operatorname{tr}\bigl(\mathbf\Sigma_1 +
    \mathbf\Sigma_2 - 2(\mathbf\Sigma_1^{1/2}\mathbf\Sigma_2\mathbf\Sigma_1^{1/2})^{1/2}\bigr)$,
    computed in float64. The matrix below the root is symmetric, so that singular covariances, which
    few samples give, do no harm.

    Args:
        mean: of the first.
        covariance: of the first, symmetric, eigenvalues ≥ 0.
        other_mean: of the second.
        other_covariance: of the second.

    Example:
        >>> one = torch.eye(1)
        >>> frechet_gaussian(torch.zeros(1), one, torch.tensor([3.0]), 4 * one)  # 3² + (2 − 1)²
        10.0

    Source: Dowson and Landau 1982; of network features, Heusel et al. 2017.
    """
    apart = (mean - other_mean).double()
    first, second = covariance.double(), other_covariance.double()
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    distance = apart @ apart + first.trace() + second.trace() - 2 * between
    return max(0.0, float(distance))


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Return `frechet_gaussian` of the means and covariances of two sets of features.

    Args:
        x: features of one set, two rows or more.
        y: features of the other.
    """
    for name, value in (("x", x), ("y", y)):
        checks.tensor(name, value, shape=("n", x.shape[-1]), floating=True, finite=True)
        if len(value) < 2:
            raise ValueError(f"{name} must have 2 rows or more, got {len(value)}")
    x, y = x.double(), y.double()
    return frechet_gaussian(
        x.mean(0), x.T.cov().reshape(x.shape[1], -1),
        y.mean(0), y.T.cov().reshape(y.shape[1], -1),
    )  # fmt: skip


class Neighbours(NamedTuple):
    """How two sets lie among one another.

    Attributes:
        precision: share of the samples inside some real example's neighbourhood.
        recall: share of the real examples inside some sample's neighbourhood.
        density: real neighbourhoods that a sample lies in, on average, over k; may exceed 1.
        coverage: share of the real examples whose neighbourhood holds a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(
    real: Float[Tensor, "m d"], samples: Float[Tensor, "n d"], k: int = 5
) -> Neighbours:
    """Return precision, recall, density and coverage in balls that reach to the k-th neighbour.

    A point's neighbourhood is the ball up to its k-th nearest neighbour in its own set. On real
    against real, coverage is about 1 − 2⁻ᵏ for sets of equal size, and more with more samples.

    Args:
        real: features of real examples, more than k rows.
        samples: features of drawn ones, more than k rows.
        k: which neighbour the balls reach to, ≥ 1.

    Example:
        >>> line = torch.arange(8.0)[:, None]
        >>> neighbours(line, line[:4].repeat(2, 1) + 0.1, k=1).coverage  # 0 … 4 of 8
        0.625

    Source: Kynkäänniemi et al. 2019; Naeem et al. 2020.
    """
    k = checks.count("k", k)
    for name, value in (("real", real), ("samples", samples)):
        checks.tensor(
            name, value, shape=("n", real.shape[-1]), floating=True, finite=True
        )
        if len(value) <= k:
            raise ValueError(f"{name} must have more than k={k} rows, got {len(value)}")
    real, samples = real.double(), samples.double()
    radius, own = (_reach(points, k) for points in (real, samples))
    apart = torch.cdist(real, samples)
    inside = apart <= radius[:, None]
    return Neighbours(
        precision=inside.any(0).double().mean().item(),
        recall=(apart <= own).any(1).double().mean().item(),
        density=inside.double().sum(0).mean().item() / k,
        coverage=inside.any(1).double().mean().item(),
    )


def _reach(points: Tensor, k: int) -> Tensor:
    """Return the distance of each point to its k-th neighbour; the nearest is itself."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values


def nearest_distance(
    samples: Float[Tensor, "n *d"], train: Float[Tensor, "m *d"]
) -> Float[Tensor, " n"]:
    """Return the Euclidean distance of each sample to the nearest training example.

    Held-out examples have such a distance, too: that of samples from a model that has learned the
    distribution is as large, and that of copies smaller.

    Args:
        samples: what was drawn; other axes than the first are flattened.
        train: what the model has learned from, of the same shape.
    """
    if samples.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"samples must have shape {tuple(train.shape[1:])} each, as train has, "
            f"got {tuple(samples.shape[1:])}"
        )
    return torch.cdist(samples.flatten(1), train.flatten(1)).amin(1)


def dequantized(
    x: Float[Tensor, "*n"], levels: int, generator: torch.Generator | None = None
) -> Float[Tensor, "*n"]:
    """Return grey values, spread evenly over their bins: from levels 0 … 1 to a density on [0, 1).

    A density that is fitted to bare levels can grow without bound on them; on spread ones its mean
    logarithm is at most that of the levels' true probabilities: see Theis et al. 2016.

    Args:
        x: values in 0 … 1, each one of `levels` evenly spaced ones.
        levels: how many there are, ≥ 2; each gets a bin of width 1 / `levels`.
        generator: source of the randomness.
    """
    levels = checks.count("levels", levels, least=2)
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return ((x * (levels - 1)).round() + noise) / levels


def bits_per_dimension(
    log_likelihood: Float[Tensor, " n"], dimensions: int, bin_width: float = 1.0
) -> float:
    r"""Return $-\frac{1}{d \ln 2}\,\overline{\log p(\mathbf x)} - \log_2 w$: bits for each pixel.

    Zero bits are a certainty; $\log_2 L$ bits are a guess among L levels. A density of dequantized
    values becomes comparable with probabilities of levels through the width w of a bin.

    Args:
        log_likelihood: of held-out examples, in nats; a lower bound, such as an ELBO, gives an
            upper bound.
        dimensions: pixels of an example, ≥ 1.
        bin_width: 1 for probabilities of levels, 1 / levels for a density on [0, 1), > 0.

    Example:
        >>> round(bits_per_dimension(torch.tensor([-64 * math.log(16)]), 64), 6)
        4.0
    """
    checks.tensor("log_likelihood", log_likelihood, floating=True, empty=False)
    dimensions = checks.count("dimensions", dimensions)
    width = checks.number("bin_width", bin_width, above=0)
    nats = -log_likelihood.double().mean().item() / dimensions
    return nats / math.log(2) - math.log2(width)


class Judge(nn.Module):
    """The small network whose features the ruler measures in: two convolutions, then 64 numbers.

    Args:
        shape: channels, rows and columns of a picture, four rows and columns or more.
        num_classes: what it is trained to tell apart, ≥ 2.
        num_features: width of the layer that is read, ≥ 2.
        device: of the weights.
        dtype: of the weights.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        num_features: int = 64,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        channels, rows, columns = shape
        checks.count("num_classes", num_classes, least=2)
        checks.count("num_features", num_features, least=2)
        if min(rows, columns) < 4:
            raise ValueError(
                f"shape={shape} must have 4 rows and columns or more, after the channels"
            )
        self.shape = (channels, rows, columns)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1, **like), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, **like), nn.ReLU(), nn.AdaptiveMaxPool2d(4),
            nn.Flatten(), nn.Linear(512, num_features, **like), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(num_features, num_classes, **like)

    def features(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n f"]:
        """Return the features of pictures, as rows of pixels or as they are."""
        return self.body(x.reshape(len(x), *self.shape))

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n c"]:
        """Return the scores of the classes."""
        return self.head(self.features(x))


def trained_judge(
    x: Float[Tensor, "n *d"],
    y: Int[Tensor, " n"],
    shape: tuple[int, int, int],
    *,
    seed: int = 0,
    steps: int = JUDGE_STEPS,
) -> Judge:
    """Return a judge that has learned the classes of `x`; no random number of others is drawn.

    Args:
        x: training pictures, 0 … 1.
        y: their classes, 0 … c − 1.
        shape: channels, rows and columns.
        seed: of its weights and of the order of the data, ≥ 0.
        steps: of 64 pictures each.
    """
    checks.tensor("y", y, shape=(len(x),), floating=False, empty=False)
    batches = Batches((x.detach(), y), JUDGE_BATCH, steps=steps, seed=seed)
    # samples are often drawn under `no_grad`, and a judge that is made there has to learn
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = Judge(shape, int(y.max()) + 1).to(x)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=1e-2)
        for at, (pictures, classes) in enumerate(batches):
            loss = F.cross_entropy(judge(pictures), classes, label_smoothing=0.1)
            update(loss, optimizer, rate=1 - at / steps)
    return judge.eval().requires_grad_(False)


class Quality(NamedTuple):
    """What the ruler says of a set of samples; see the head of this file for each number.

    Attributes:
        frechet: distance in the judge's features; lower is nearer.
        precision: share of samples that lie among real pictures.
        recall: share of real pictures among the samples.
        coverage: share of real pictures that have a sample in their neighbourhood.
        nearest: mean distance to the nearest training picture; compare with `real`'s.
    """

    frechet: float
    precision: float
    recall: float
    coverage: float
    nearest: float


class Ruler:
    """Measures samples of any model of the same pictures; made once, called for each model.

    The judge's features are divided by the spread of the real ones, so that a Fréchet distance of
    64, the number of features, would be that of a model that draws one mean picture only.

    Args:
        train: training pictures in 0 … 1, which the models have learned from, too.
        classes: the classes of `train`, for the judge; it alone sees them.
        real: held-out pictures, which samples are compared with.
        num_samples: how many of the samples are measured, always the first.
        shape: channels, rows and columns; square and of one channel if None.
        k: which neighbour reaches how far, in `neighbours`.
        seed: of the judge and of the baselines' samples, ≥ 0.

    Attributes:
        judge: the trained judge, for its accuracy or its features.

    Example:
        >>> from nnlib.data.tables import digits
        >>> train, test = digits("train"), digits("test")
        >>> ruler = Ruler(train.x, train.y, test.x)
        >>> copies, noise = ruler(train.x), ruler(torch.rand(1000, 64))
        >>> copies.frechet < noise.frechet, copies.nearest
        (True, 0.0)
    """

    def __init__(
        self,
        train: Float[Tensor, "n *d"],
        classes: Int[Tensor, " n"],
        real: Float[Tensor, "m *d"],
        *,
        num_samples: int = 1000,
        shape: tuple[int, int, int] | None = None,
        k: int = 5,
        seed: int = 0,
    ):
        self.num_samples = checks.count("num_samples", num_samples, least=2)
        self.seed = checks.count("seed", seed, least=0)
        self.k = checks.count("k", k)
        if train.shape[1:] != real.shape[1:]:
            raise ValueError(
                f"real must have shape {tuple(train.shape[1:])} each, as train has, "
                f"got {tuple(real.shape[1:])}"
            )
        self.train, self.real = train, real
        self.judge = trained_judge(
            train, classes, shape or _square(train), seed=self.seed
        )
        features = self._features(real)
        self._scale = features.double().var(0).mean().sqrt().to(features)
        self._of_real = features / self._scale

    def __call__(self, samples: Float[Tensor, "n *d"]) -> Quality:
        """Return the five numbers of these samples.

        Args:
            samples: pictures in 0 … 1, `num_samples` or more, of which the first are measured:
                the distances depend on their number.
        """
        checks.tensor("samples", samples, floating=True, finite=True)
        if len(samples) < self.num_samples:
            raise ValueError(
                f"samples must be num_samples={self.num_samples} or more, got {len(samples)}"
            )
        samples = samples.detach()[: self.num_samples].reshape(
            -1, *self.train.shape[1:]
        )
        features = self._features(samples) / self._scale
        among = neighbours(self._of_real, features, self.k)
        return Quality(
            frechet=frechet_distance(features, self._of_real),
            precision=among.precision,
            recall=among.recall,
            coverage=among.coverage,
            nearest=nearest_distance(samples, self.train).mean().item(),
        )

    def baselines(self, levels: int = 17) -> dict[str, Quality]:
        """Return the rows that belong in every table: the floor, and the simplest models.

        `real` is the floor, real against real: training pictures, as if a model had drawn them,
        with the distance that held-out ones have to the nearest training picture.

        Args:
            levels: grey values of the pictures, for the model of independent pixels.
        """
        generator = torch.Generator().manual_seed(self.seed)
        n = self.num_samples
        order = torch.randperm(len(self.train), generator=generator)
        floor = self(self.train[order.repeat(-(-n // len(order)))[:n]])
        away = nearest_distance(self.real, self.train).mean().item()
        normal, pixels = FullGaussian(self.train), IndependentPixels(self.train, levels)
        return {
            "real": floor._replace(nearest=away),
            "full Gaussian": self(normal.sample(n, generator).clamp(0, 1)),
            "independent pixels": self(pixels.sample(n, generator)),
        }

    def table(
        self, models: Mapping[str, Float[Tensor, "n *d"] | Quality], levels: int = 17
    ) -> list[list[str | float]]:
        """Return rows for `nnlib.notebook.table` under `HEAD`: models, between the baselines.

        Args:
            models: the samples of each, by name, or what this ruler has said of them.
            levels: as for `baselines`.
        """
        simple = self.baselines(levels)
        rows = {"real": simple.pop("real")}
        rows |= {
            name: drawn if isinstance(drawn, Quality) else self(drawn)
            for name, drawn in models.items()
        }
        rows |= simple
        return [
            [name, q.frechet, q.precision, q.coverage, q.nearest]
            for name, q in rows.items()
        ]

    @torch.no_grad()
    def _features(self, x: Tensor) -> Tensor:
        return self.judge.features(x)


HEAD = ("samples", "Fréchet ↓", "precision ↑", "coverage ↑", "nearest training picture")
"""The head of `Ruler.table`."""


def _square(x: Tensor) -> tuple[int, int, int]:
    if x.ndim == 4:
        channels, rows, columns = x.shape[1:]
        return channels, rows, columns
    side = math.isqrt(x[0].numel())
    if side**2 != x[0].numel():
        raise ValueError(f"shape must be given: {x[0].numel()} pixels are no square")
    return 1, side, side
