"""Which unit is nearest to an example: by products of matrices, which is fast, and held to loops.

Axes: n examples, u units, d features.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE = 2**22  # distances that are held at one time


def squared_distances(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "u d"]
) -> Float[Tensor, "n u"]:
    r"""Return $\lVert\mathbf{x}\rVert^2 - 2\mathbf{x}^\top\mathbf{w} + \lVert\mathbf{w}\rVert^2$.

    Both are first moved so that the units' mean is 0, because the three terms would otherwise
    cancel where the data lie far from the origin (equation `self-organizing-map-products`).
    """
    middle = weight.mean(0)
    x, weight = x - middle, weight - middle
    own, theirs = x.square().sum(1, keepdim=True), weight.square().sum(1)
    return torch.addmm(own + theirs, x, weight.mT, alpha=-2).clamp_min(0)


def nearest(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "u d"], count: int = 1
) -> Int[Tensor, "n k"]:
    """Return the nearest units, the best first; of equals the one with the smallest number."""
    middle = weight.mean(0)
    weight = weight - middle
    found, theirs = [], weight.square().sum(1)
    for part in x.split(max(1, AT_ONCE // len(weight))):
        # An example's own square is the same for all units, so that it need not be added.
        away = torch.addmm(theirs, part - middle, weight.mT, alpha=-2)
        best = [away.argmin(1)]
        for _ in range(count - 1):
            away.scatter_(1, best[-1][:, None], torch.inf)
            best.append(away.argmin(1))
        found.append(torch.stack(best, 1))
    return torch.cat(found)


def nearest_by_loops(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "u d"]
) -> Int[Tensor, " n"]:
    """Do what `nearest` does, example by example and from differences: the readable twin."""
    return torch.stack([(example - weight).square().sum(1).argmin() for example in x])
