"""Bayesian linear regression: the posterior over weights that has a closed form."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.probabilistic._bayes_scores import Predictive


class LinearPosterior(NamedTuple):
    """What `linear_posterior` knows: a Gaussian over weights, and the evidence.

    Attributes:
        mean: of the weights, p numbers.
        covariance: of the weights, p p.
        log_evidence: logarithm of the probability density of the targets, before they were seen.
        prior_std: of the prior.
        noise_std: of a measurement.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: Tensor
    prior_std: float
    noise_std: float

    def predict(self, features: Float[Tensor, "n p"]) -> Predictive:
        """Return mean and variance at other features, eq. bayesian-linear-predictive."""
        size = len(self.mean)
        checks.tensor("features", features, shape=("n", size), floating=True)
        # a difference of large numbers, where features nearly repeat one another
        spread = (features @ self.covariance * features).sum(-1).clamp_min(0)
        noise = torch.full_like(spread, self.noise_std**2)
        return Predictive(features @ self.mean, spread, noise)


def linear_posterior(
    features: Float[Tensor, "n p"],
    targets: Float[Tensor, " n"],
    prior_std: float = 1.0,
    noise_std: float = 1.0,
) -> LinearPosterior:
    r"""Return the posterior of a linear model in closed form, eq. bayesian-linear.

    It is computed in double precision, from a triangular factor of the features themselves: forming
    their products first would square the condition.

    Args:
        features: one row an example; may have no rows, and then the answer is the prior.
        targets: one number an example.
        prior_std: standard deviation of each weight before data, > 0.
        noise_std: standard deviation of a target about the line, > 0.

    Example:
        >>> found = linear_posterior(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 2.0]))
        >>> found.mean, found.covariance  # 5 / (5 + 1), and 1 / 6
        (tensor([0.8333]), tensor([[0.1667]]))

    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.3.
    """
    checks.tensor("features", features, shape=("n", "p"), floating=True, finite=True)
    checks.tensor(
        "targets", targets, shape=(len(features),), floating=True, finite=True
    )
    prior_std = checks.number("prior_std", prior_std, above=0)
    noise_std = checks.number("noise_std", noise_std, above=0)
    n, p = features.shape
    kind, features, targets = features.dtype, features.double(), targets.double()
    scaled = features * (prior_std / noise_std)  # of weights in units of the prior
    eye = torch.eye(p, dtype=features.dtype, device=features.device)
    turned, factor = torch.linalg.qr(
        torch.cat([scaled, eye])
    )  # R'R = I + scaled'scaled
    root = torch.linalg.solve_triangular(factor, eye, upper=True)
    inverse = root @ root.mT
    mean = prior_std * root @ (turned[:n].mT @ (targets / noise_std))
    misfit = (targets - features @ mean).square().sum() / noise_std**2
    log_evidence = (
        -0.5 * (misfit + mean.square().sum() / prior_std**2)
        - factor.diagonal().abs().log().sum()
        - n * math.log(noise_std)
        - 0.5 * n * math.log(2 * math.pi)
    )
    covariance = prior_std**2 * inverse
    return LinearPosterior(
        mean.to(kind), covariance.to(kind), log_evidence.to(kind), prior_std, noise_std
    )


def maximize_evidence(
    features: Float[Tensor, "n p"],
    targets: Float[Tensor, " n"],
    iterations: int = 100,
) -> LinearPosterior:
    r"""Return the posterior whose prior and noise make the data most probable, eq. bayesian-mackay.

    MacKay's fixed point, in the eigenvectors of the features, where one iteration costs p
    operations: weights that the data determine, γ of them, are set against their squared size. It
    runs in double precision, on features and targets of size 1, so that their units do not matter.

    Args:
        features: one row an example; at least as many rows as there are weights, plus one.
        targets: one number an example.
        iterations: of the fixed point, ≥ 1.

    Example:
        >>> x = torch.linspace(-1, 1, 50)[:, None]
        >>> found = maximize_evidence(x, 2 * x[:, 0] + 0.1 * torch.sin(50 * x[:, 0]))
        >>> round(found.mean.item(), 1)
        2.0

    Source: MacKay 1992, Bayesian interpolation; α = 1/prior_std², β = 1/noise_std².
    """
    checks.tensor("features", features, shape=("n", "p"), floating=True, finite=True)
    checks.tensor(
        "targets", targets, shape=(len(features),), floating=True, finite=True
    )
    iterations = checks.count("iterations", iterations)
    n, p = features.shape
    if n <= p:
        raise ValueError(f"features has {n} rows, it takes more than its {p} columns")
    wide, goal = features.double(), targets.double()
    inside, outside = wide.square().mean().sqrt(), goal.square().mean().sqrt()
    for name, size in (("features", inside), ("targets", outside)):
        if size == 0:
            raise ValueError(f"{name} must not all be 0: nothing is to be explained")
    left, values, _ = torch.linalg.svd(wide / inside, full_matrices=False)
    squares, goal = values.square(), goal / outside
    seen = left.mT @ goal  # of the targets, along each eigenvector
    unseen = (goal - left @ seen).square().sum()  # what no weights explain
    alpha, beta = goal.new_tensor(1.0), 1 / goal.var().clamp_min(1e-12)
    for _ in range(iterations):
        weights = beta * values * seen / (alpha + beta * squares)
        determined = (beta * squares / (alpha + beta * squares)).sum()
        misfit = unseen + (seen - values * weights).square().sum()
        alpha = determined / weights.square().sum().clamp_min(1e-12)
        beta = (n - determined) / misfit.clamp_min(1e-12)
    prior_std = alpha.item() ** -0.5 * (outside / inside).item()
    noise_std = beta.item() ** -0.5 * outside.item()
    return linear_posterior(features, targets, prior_std, noise_std)
