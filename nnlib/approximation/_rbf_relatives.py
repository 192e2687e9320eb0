r"""Relatives with a bump on every point: kernel ridge, Gaussian process, random features."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.approximation._rbf_functions import alike, radial, squared_distances


def gaussian_kernel(
    x: Float[Tensor, "n d"], other: Float[Tensor, "m d"], sigma: float
) -> Float[Tensor, "n m"]:
    r"""Return $\exp(-\lVert\mathbf{x} - \mathbf{x}'\rVert^2 / 2\sigma^2)$ for each two points.

    Args:
        x: points.
        other: points.
        sigma: width σ > 0, in their unit.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    checks.tensor("other", other, shape=("m", x.shape[1]), floating=True)
    alike("other", other, "x", x)
    sigma = checks.number("sigma", sigma, above=0)
    return radial("gaussian", squared_distances(x / sigma, other / sigma))


def kernel_ridge(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n o"], *, sigma: float, ridge: float
) -> Float[Tensor, "n o"]:
    r"""Return weights of bumps on all points, $(\mathbf{G} + \lambda\mathbf{I})^{-1}\mathbf{Y}$.

    They minimise $\lVert\mathbf{G}\mathbf{W} - \mathbf{Y}\rVert^2 + \lambda\,
    \mathrm{tr}\,\mathbf{W}^\top\mathbf{G}\mathbf{W}$ (equation `rbf-network-kernel-ridge`): the
    penalty is on the function, and not on the weights as in an RBF network with a ridge.

    Args:
        x: points.
        y: their values.
        sigma: width σ > 0.
        ridge: λ > 0.

    Source: Saunders, Gammerman and Vovk 1998.
    """
    return _factored(x, y, sigma, checks.number("ridge", ridge, above=0))[1]


class Posterior(NamedTuple):
    """What a Gaussian process says at some points, and how likely it held the data to be.

    Attributes:
        mean: of the function there.
        variance: of the function there, without the noise of a measurement.
        evidence: the logarithm of the data's density, a sum over the columns of y.
    """

    mean: Float[Tensor, "m o"]
    variance: Float[Tensor, " m"]
    evidence: Float[Tensor, ""]


def gaussian_process(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n o"],
    at: Float[Tensor, "m d"],
    *,
    sigma: float,
    noise: float,
) -> Posterior:
    r"""Return the posterior of a Gaussian process of mean zero and variance one.

    Its mean is kernel ridge's answer with λ = `noise` (equation `rbf-network-gp-mean`), and its
    variance is $1 - \mathbf{k}^\top(\mathbf{G} + \lambda\mathbf{I})^{-1}\mathbf{k}$
    (`rbf-network-gp-variance`).

    Args:
        x: points.
        y: their values.
        at: points to be told about.
        sigma: width σ > 0 of the kernel.
        noise: variance λ > 0 of the noise in y.

    Source: Rasmussen and Williams 2006, algorithm 2.1.
    """
    factor, weight = _factored(x, y, sigma, checks.number("noise", noise, above=0))
    checks.tensor("at", at, shape=("m", x.shape[1]), floating=True)
    alike("at", at, "x", x)
    across = gaussian_kernel(at, x, sigma)
    halves = torch.linalg.solve_triangular(factor, across.mT, upper=False)
    variance = (1 - halves.square().sum(0)).clamp(min=0)  # eq. rbf-network-gp-variance
    columns = y.shape[1]
    evidence = (
        -(y * weight).sum() / 2
        - columns * factor.diagonal().log().sum()
        - columns * len(x) / 2 * math.log(2 * math.pi)
    )  # eq. rbf-network-evidence
    return Posterior(across @ weight, variance, evidence)


def _factored(
    x: Tensor, y: Tensor, sigma: float, noise: float
) -> tuple[Tensor, Tensor]:
    """Return the Cholesky factor of G + λI, and the weights."""
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
    checks.tensor("y", y, shape=(len(x), "o"), floating=True, finite=True)
    alike("y", y, "x", x)
    table = gaussian_kernel(x, x, sigma)
    table = table.diagonal_scatter(table.diagonal() + noise)
    factor, failed = torch.linalg.cholesky_ex(table)
    if bool(failed):
        raise ValueError(
            f"sigma={sigma:g} with a ridge or noise of {noise:g} is too flat for {x.dtype}: "
            "G + λI is not positive definite after rounding"
        )
    return factor, torch.cholesky_solve(y, factor)  # eq. rbf-network-kernel-ridge


def random_features(
    x: Float[Tensor, "n d"],
    num_features: int,
    *,
    sigma: float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n m"]:
    r"""Return random cosines whose products are the Gaussian kernel on average.

    $z_m(\mathbf{x}) = \sqrt{2/M} \cos(\boldsymbol{\omega}_m^\top\mathbf{x} + b_m)$ with
    $\boldsymbol{\omega}_m \sim \mathcal{N}(0, \mathbf{I}/\sigma^2)$ and $b_m$ uniform on
    $[0, 2\pi]$ (equation `rbf-network-fourier`).

    Args:
        x: points; those of training and of use in one call, or with equal generators.
        num_features: M ≥ 1.
        sigma: width σ > 0 of the kernel.
        generator: draws the waves.

    Source: Rahimi and Recht 2007.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    num_features = checks.count("num_features", num_features)
    sigma = checks.number("sigma", sigma, above=0)
    draw: Any = {"generator": generator, "dtype": x.dtype, "device": x.device}
    waves = torch.randn(x.shape[1], num_features, **draw) / sigma
    shifts = torch.rand(num_features, **draw) * 2 * math.pi
    return (x @ waves + shifts).cos() * math.sqrt(
        2 / num_features
    )  # eq. rbf-network-fourier
