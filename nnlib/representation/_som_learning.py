"""The two rules by which the units of a self-organizing map learn: online, and in batches.

`walk` is the online rule in numpy, because a step on a small map takes a few microseconds there,
which in torch are the cost of a single call; `walk_by_steps` is its readable twin.
Axes: n examples, u units, d features, t steps.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib.representation._som_nearest import AT_ONCE, nearest, squared_distances
from nnlib.representation._som_neighborhood import FLOOR, log_neighborhood, neighborhood


def walk_by_steps(
    weight: Float[Tensor, "u d"],
    x: Float[Tensor, "n d"],
    order: Int[Tensor, " t"],
    sigma: Float[Tensor, " t"],
    lr: Float[Tensor, " t"],
    distance: Float[Tensor, "u u"],
    kind: str,
) -> Float[Tensor, "u d"]:
    """Show one example after the other, and move the units towards it."""
    for t, at in enumerate(order):
        away = x[at] - weight
        winner = away.square().sum(1).argmin()  # eq. self-organizing-map-bmu
        h = neighborhood(distance[winner], float(sigma[t]), kind)
        share = lr[t].to(h) * h[:, None]
        weight = weight + share * away  # eq. self-organizing-map-update
    return weight


def walk(
    weight: Float[Tensor, "u d"],
    x: Float[Tensor, "n d"],
    order: Int[Tensor, " t"],
    sigma: Float[Tensor, " t"],
    lr: Float[Tensor, " t"],
    distance: Float[Tensor, "u u"],
    kind: str,
) -> Float[Tensor, "u d"]:
    """Do what `walk_by_steps` does, in numpy."""
    w, rows = weight.numpy(force=True).copy(), x.numpy(force=True)
    grid = distance.to(weight.dtype).numpy(force=True)
    squared, radii = grid**2, sigma.clamp_min(FLOOR)
    sharp = (-0.5 / radii.square()).tolist()
    for at, radius, rate, slope in zip(
        order.tolist(), radii.tolist(), lr.tolist(), sharp, strict=True
    ):
        away = rows[at] - w
        winner = np.einsum("ij,ij->i", away, away).argmin()
        if kind == "bubble":
            h = (grid[winner] <= radius) * away.dtype.type(rate)
        else:
            h = squared[winner] * slope
            np.exp(h, out=h)
            h *= rate
        away *= h[:, None]
        w += away
    return torch.from_numpy(w).to(weight.device)


def winners(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "u d"],
    log_h: Float[Tensor, "u u"],
    rule: str,
) -> Int[Tensor, " n"]:
    """Return who wins: the nearest unit, or the one whose whole neighbourhood is nearest."""
    if rule == "nearest":
        return nearest(x, weight)[:, 0]
    h = log_h.exp()
    parts = x.split(max(1, AT_ONCE // len(weight)))
    costs = [squared_distances(part, weight) @ h.mT for part in parts]
    found = [cost.argmin(1) for cost in costs]  # eq. self-organizing-map-heskes
    return torch.cat(found)


def spread(
    distance: Tensor, sigma: float, kind: str, rule: str
) -> Float[Tensor, "u u"]:
    """Return ln h, winners by units; under Heskes' rule each winner's shares add up to 1."""
    log_h = log_neighborhood(distance, sigma, kind)
    return log_h.log_softmax(1) if rule == "heskes" else log_h


def batch_step(
    weight: Float[Tensor, "u d"],
    x: Float[Tensor, "n d"],
    log_h: Float[Tensor, "u u"],
    rule: str,
    lr: float = 1.0,
) -> Float[Tensor, "u d"]:
    """Move every unit to the mean of all examples, each weighted by how near its winner stands.

    The examples of one winner enter together, as their mean and their number. The weights are a
    softmax over winners, so that they do not vanish where the whole neighbourhood does: in float32
    exp(−100) is 0, and the mean of nothing would be 0/0.
    """
    won = winners(x, weight, log_h, rule)
    counts = torch.bincount(won, minlength=len(weight)).to(weight)
    sums = torch.zeros_like(weight).index_add_(0, won, x)
    means = sums / counts.clamp_min(1)[:, None]
    logits = log_h.mT + counts.log()  # of each unit, over the winners
    heard = logits.amax(1, keepdim=True) > -torch.inf
    moved = logits.softmax(1) @ means  # eq. self-organizing-map-batch
    return torch.where(heard, torch.lerp(weight, moved, lr), weight)


def energy(
    weight: Float[Tensor, "u d"],
    x: Float[Tensor, "n d"],
    log_h: Float[Tensor, "u u"],
    rule: str,
) -> Float[Tensor, ""]:
    """Return what a winner's neighbourhood is away from an example, on average."""
    won = winners(x, weight, log_h, rule)
    cost = squared_distances(x, weight)
    return (log_h.exp()[won] * cost).sum(1).mean()  # eq. self-organizing-map-energy


def plane(
    x: Float[Tensor, "n d"], place: Float[Tensor, "u 2"], longer: int
) -> Float[Tensor, "u d"]:
    r"""Return a regular grid in the plane of the first two principal components.

    Its sides reach $\sqrt3$ standard deviations to either side of the mean, as a uniform
    distribution does; the longer side of the grid follows the first component
    (equation `self-organizing-map-plane`).
    """
    middle = x.mean(0)
    centered = x - middle
    if x.shape[1] <= len(x):
        variance, axes = torch.linalg.eigh(centered.mT @ centered / len(x))
        variance, axes = variance.flip(0).clamp_min(0), axes.flip(1)
    else:
        _, singular, transposed = torch.linalg.svd(centered, full_matrices=False)
        variance, axes = singular.square() / len(x), transposed.mT
    deviation, axes = variance[:2].sqrt(), axes[:, :2]
    # An axis may point either way: its largest entry is made positive.
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    low, high = place.amin(0), place.amax(0)
    wide = torch.where(high > low, high - low, 1.0)
    share = torch.where(high > low, 2 * (place - low) / wide - 1, 0.0)
    if longer == 1:
        share = share.flip(1)  # so that its first column goes with the first component
    many = axes.shape[1]
    return middle + 3**0.5 * (share[:, :many] * deviation) @ axes.mT
