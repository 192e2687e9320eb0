"""Where the centres go, and how wide their bumps are: both without a look at the targets."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

WIDTHS = ("nearest", "spread", "local")
"""The rules of `widths`."""


def kmeans(
    x: Float[Tensor, "n d"],
    num_centers: int,
    *,
    iterations: int = 50,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "k d"]:
    r"""Return the centres of k clusters, each the mean of the points that are nearest to it.

    Lloyd's algorithm lowers $\sum_i \min_j \lVert\mathbf{x}_i - \boldsymbol{\mu}_j\rVert^2$
    (equation `rbf-network-kmeans`) in each of its rounds, from starts that are drawn far apart
    (k-means++: a point is drawn with a probability proportional to its squared distance from those
    drawn before). A cluster that runs empty keeps its centre.

    Args:
        x: the points.
        num_centers: k, at most the number of different points.
        iterations: rounds at most, ≥ 0; it stops when nothing moves.
        generator: draws the starts.

    Raises:
        ValueError: there are fewer different points than centres.

    Source: Lloyd 1982 (written 1957); the starts: Arthur and Vassilvitskii 2007.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
    iterations = checks.count("iterations", iterations, least=0)
    _enough("num_centers", checks.count("num_centers", num_centers), x)
    points = x.detach()
    shift = _shift(points)
    points = points - shift
    centers = points[_starts(points, num_centers, generator)]
    owner = _nearest(points, centers)
    for _ in range(iterations):
        sums = torch.zeros_like(centers).index_add_(0, owner, points)
        counts = torch.bincount(owner, minlength=num_centers)[:, None].to(points.dtype)
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        before, owner = owner, _nearest(points, centers)
        if torch.equal(before, owner):
            break
    return centers + shift


def _shift(points: Tensor) -> Tensor:
    """Return the middle of points that lie far from the origin and near to one another, else 0.

    Distances of many points are found by products, which lose what is small beside the distance
    from the origin.
    """
    middle = points.mean(0)
    spread = (points - middle).norm(dim=1).amax()
    return torch.where(middle.norm() > 8 * spread, middle, 0.0)


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the centre that each point is nearest to; the point's own square adds nothing."""
    return torch.addmm(centers.square().sum(1), points, centers.mT, alpha=-2).argmin(1)


def _starts(points: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw rows that are far apart; no row twice, nor its equal."""
    rolls = torch.rand(count, generator=generator, dtype=torch.float64).to(
        points.device
    )
    chosen = [(rolls[0] * len(points)).long()]
    far = torch.full(
        (len(points),), math.inf, dtype=torch.float64, device=points.device
    )
    features = points.mT.contiguous()  # a sum over a short last axis is slow
    for roll in rolls[1:]:
        gaps = features - features[:, chosen[-1]].unsqueeze(1)
        far = torch.minimum(far, gaps.square().sum(0).double())
        heap = far.cumsum(0)
        at = torch.searchsorted(heap, roll * heap[-1], right=True)
        chosen.append(at.clamp(max=len(points) - 1))
    return torch.stack(chosen)


def _enough(name: str, count: int, x: Tensor) -> None:
    """Refuse more centres than there are different points."""
    different = len(x.unique(dim=0))
    if count > different:
        told = (
            f"the {different} different points in x"
            if different < len(x)
            else "the points in x"
        )
        raise ValueError(
            f"{name}={count} is more than {told}, of which there are {len(x)}"
        )


def distinct(name: str, points: Tensor) -> None:
    """Refuse two equal rows: their columns of features would be equal, too."""
    different = len(points.unique(dim=0))
    if different < len(points):
        raise ValueError(
            f"{name} must be different points, got {len(points) - different} duplicates "
            f"among {len(points)}"
        )


def widths(
    centers: Float[Tensor, "k d"], rule: str = "nearest", *, neighbors: int = 2
) -> Float[Tensor, " k"]:
    r"""Return a width for each centre, from the distances between centres.

    Args:
        centers: two or more different points.
        rule: `nearest`, one for all: the mean distance of a centre from its nearest neighbour;
            `spread`, one for all: $d_{\max} / \sqrt{2K}$ (`rbf-network-spread`); `local`, its own
            for each: the root mean square of the distances from its `neighbors` nearest.
        neighbors: of the rule `local`, ≥ 1; as many as there are, where there are fewer.

    Example:
        >>> widths(torch.tensor([[0.0], [1.0], [4.0]]))
        tensor([1.6667, 1.6667, 1.6667])

    Source: Moody and Darken 1989 (`nearest`, `local`); `spread`: Haykin's textbook.
    """
    checks.tensor("centers", centers, shape=("k", "d"), floating=True, finite=True)
    checks.one_of("rule", rule, WIDTHS)
    neighbors = checks.count("neighbors", neighbors)
    if len(centers) < 2:
        raise ValueError(f"centers must be two or more, got {len(centers)}")
    distinct("centers", centers)
    count = len(centers)
    apart = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist")
    if rule == "spread":
        return (apart.max() / math.sqrt(2 * count)).expand(
            count
        )  # eq. rbf-network-spread
    others = apart + torch.diag(torch.full_like(apart[0], math.inf))
    near = others.topk(min(neighbors, count - 1), largest=False).values
    if rule == "local":
        return near.square().mean(1).sqrt()  # eq. rbf-network-local
    return near[:, 0].mean().expand(count)  # eq. rbf-network-nearest
