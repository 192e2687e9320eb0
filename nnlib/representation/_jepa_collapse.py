r"""Collapse: the two numbers that show it, and two penalties that forbid it.

Chapter: chapters/representation/jepa.md     Papers: Roy and Vetterli 2007 (effective rank); Garrido
et al. 2023 (RankMe); Bardes et al. 2022 (VICReg); Balestriero and LeCun 2025 (SIGReg)
Axes: n vectors, one a row, e features, s directions.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def feature_std(z: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    r"""Return how far vectors differ: the standard deviation of each feature, averaged over them.

    $\tfrac1e \sum_i \sqrt{\mathrm{var}(z_{\cdot i})}$ (equation `jepa-std`); 0 when all are equal.

    Args:
        z: vectors, two or more.

    Example:
        >>> feature_std(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        tensor(0.5000)
    """
    return _rows(z).std(0, correction=0).mean()


def effective_rank(z: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    r"""Return how many directions vectors spread in: e to the entropy of the singular values.

    Shares $p_i = s_i / \sum_j s_j$ of the singular values of the centred vectors give
    $\exp(-\sum_i p_i \ln p_i)$ (equation `jepa-rank`): 1 for a line, e for a ball. It knows nothing
    of size: vectors that have shrunk to a thousandth have the same rank. 0 when all are equal.

    Args:
        z: vectors, two or more.

    Example:
        >>> ball = torch.cat([torch.eye(3), -torch.eye(3)])
        >>> effective_rank(ball).round(decimals=4), effective_rank(1e-3 * ball).round(decimals=4)
        (tensor(3.), tensor(3.))

    Source: Roy and Vetterli 2007; RankMe (Garrido et al. 2023) does not centre.
    """
    rows = _rows(z)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    rows = (
        rows - rows[:1]
    )  # equal rows are then 0 exactly, whatever their mean is rounded to
    values = torch.linalg.svdvals(rows - rows.mean(0))
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy = torch.special.entr(shares).sum()
    return torch.where(values.sum() > 0, entropy.exp(), entropy)


def variance_penalty(
    z: Float[Tensor, "n e"], gamma: float = 1.0, eps: float = 1e-4
) -> Float[Tensor, ""]:
    r"""Return VICReg's variance term: what each feature's standard deviation falls short of γ.

    $\tfrac1e \sum_i \max\bigl(0, \gamma - \sqrt{\mathrm{var}(z_{\cdot i}) + \epsilon}\bigr)$
    (equation `jepa-variance`).

    Args:
        z: vectors, two or more.
        gamma: the wanted standard deviation γ, > 0.
        eps: ε under the root, > 0, where its slope would be infinite.

    Example:
        >>> variance_penalty(torch.tensor([[0.0], [0.0]]))  # γ − √ε
        tensor(0.9900)

    Source: Bardes et al. 2022.
    """
    gamma = checks.number("gamma", gamma, above=0)
    eps = checks.number("eps", eps, above=0)
    return (gamma - (_rows(z).var(0) + eps).sqrt()).relu().mean()


def covariance_penalty(z: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    r"""Return VICReg's covariance term: features that tell the same.

    $\tfrac1e \sum_{i \ne j} C_{ij}^2$ with the covariances $C$ (equation `jepa-covariance`).

    Args:
        z: vectors, two or more.

    Example:
        >>> covariance_penalty(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))  # C = 2 everywhere
        tensor(4.)

    Source: Bardes et al. 2022.
    """
    rows = _rows(z)
    rows = rows - rows.mean(0)
    covariance = rows.mT @ rows / (len(rows) - 1)
    beside = covariance - covariance.diagonal().diag_embed()
    return beside.square().sum() / rows.shape[1]


def sigreg(
    z: Float[Tensor, "n e"],
    num_slices: int = 64,
    *,
    points: int = 17,
    reach: float = 5.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Return how far vectors are from a standard normal cloud, along random directions.

    For each direction $\mathbf a$ the mean of $e^{i u \mathbf a \cdot \mathbf z}$ is compared with
    $e^{-u^2/2}$, the characteristic function of $\mathcal N(0, 1)$: the test of Epps and Pulley,
    $n \int |\cdot|^2\, e^{-u^2/2}\, du$, by the trapezoid rule (equation `jepa-sigreg`).

    Args:
        z: vectors, two or more.
        num_slices: directions s, ≥ 1; other ones in every call.
        points: where the integrand is taken, ≥ 3.
        reach: the integral runs from −reach to reach, > 0.
        generator: source of the directions, on the CPU.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> round_cloud, point = torch.randn(500, 8, generator=draw), torch.zeros(500, 8)
        >>> bool(sigreg(round_cloud) < 3), bool(sigreg(point) > 100)
        (True, True)

    Source: Balestriero and LeCun 2025 (LeJEPA); Epps and Pulley 1983.
    """
    rows = _rows(z)
    shape = rows.shape[1], checks.count("num_slices", num_slices)
    points = checks.count("points", points, least=3)
    reach = checks.number("reach", reach, above=0)
    directions = torch.randn(shape, generator=generator).to(rows)
    along = rows @ (directions / directions.norm(dim=0))
    u = torch.linspace(-reach, reach, points, device=rows.device, dtype=rows.dtype)
    wanted = (-u.square() / 2).exp()
    angles = along[..., None] * u
    apart = (angles.cos().mean(0) - wanted).square() + angles.sin().mean(0).square()
    return len(rows) * torch.trapezoid(apart * wanted, u, dim=1).mean()


def half_life(momentum: float) -> float:
    r"""Return after how many steps an average has half forgotten: $\ln 2 / (-\ln \alpha)$.

    Args:
        momentum: α, between 0 and 1.

    Example:
        >>> round(half_life(0.996)), round(half_life(0.9999))
        (173, 6931)
    """
    return math.log(0.5) / math.log(
        checks.number("momentum", momentum, above=0, below=1)
    )


def _rows(z: Tensor) -> Tensor:
    """Return vectors, one a row, of which there are at least two."""
    checks.tensor("z", z, shape=("n", "e"), floating=True, empty=False)
    if len(z) < 2:
        raise ValueError(f"z must hold two vectors or more, got {len(z)}")
    return z
