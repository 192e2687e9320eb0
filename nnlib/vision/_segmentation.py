"""Losses and measures of segmentation: borders that weigh more, overlap, a threshold.

Axes: b batch, k classes, y x rows and columns.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


def border_weights(
    labels: Int[Tensor, "y x"], strength: float = 10.0, width: float = 5.0
) -> Float[Tensor, "y x"]:
    r"""Return how much each pixel of the background counts because it parts two objects.

    $w_0 \exp(-(d_1 + d_2)^2 / 2\sigma^2)$, with the distances to the nearest and to the second
    nearest object (equation `unet-border`); 0 on objects, and 0 where there are fewer than two.

    Args:
        labels: 0 for background, and a number for each object.
        strength: $w_0$, ≥ 0.
        width: $\sigma$ in pixels, > 0.

    Example:
        >>> border_weights(torch.tensor([[1, 0, 2]]), width=1.0)
        tensor([[0.0000, 1.3534, 0.0000]])

    Source: Ronneberger, Fischer and Brox 2015, equation 2; the weight of the classes is apart.
    """
    from scipy.ndimage import distance_transform_edt

    checks.tensor("labels", labels, shape=("y", "x"), floating=False, empty=False)
    strength = checks.number("strength", strength, least=0)
    width = checks.number("width", width, above=0)
    objects = [int(n) for n in labels.unique() if n]
    weights = torch.zeros(labels.shape)
    if len(objects) < 2:
        return weights
    far = torch.stack(
        [
            torch.tensor(distance_transform_edt((labels != n).numpy(force=True)))
            for n in objects
        ]
    )
    near = far.topk(2, 0, largest=False).values.sum(0)
    weights = strength * torch.exp(-near.square() / (2 * width**2))
    return weights.where(labels.cpu() == 0, 0.0).float().to(labels.device)


def iou(predicted: Tensor, target: Tensor) -> float:
    """Return the intersection of two masks over their union (equation `unet-iou`).

    Also called the Jaccard index. Two empty masks agree: 1.

    Args:
        predicted: True, or not 0, where the object is predicted.
        target: likewise, where it is.

    Example:
        >>> iou(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1]))
        0.3333333333333333
    """
    both, either = _overlap(predicted, target)
    return both / either if either else 1.0


def dice(predicted: Tensor, target: Tensor) -> float:
    """Return twice the intersection of two masks over the sum of their sizes (`unet-dice`).

    The same as the F1 score of the pixels. Two empty masks agree: 1.

    Args:
        predicted: True, or not 0, where the object is predicted.
        target: likewise, where it is.

    Example:
        >>> dice(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1]))
        0.5
    """
    both, either = _overlap(predicted, target)
    return 2 * both / (both + either) if either else 1.0


def soft_dice(
    probabilities: Float[Tensor, "..."], target: Tensor, smooth: float = 1.0
) -> Tensor:
    r"""Return $(2 \sum p g + \epsilon) / (\sum p + \sum g + \epsilon)$, a Dice with a gradient.

    Equation `unet-soft-dice`; 1 minus it is a loss.

    Args:
        probabilities: p of the object at each pixel, 0 … 1.
        target: g, 1 on the object and 0 elsewhere, of the same shape.
        smooth: ε, ≥ 0, which makes two empty masks agree.

    Source: Milletari, Navab and Ahmadi 2016, who square p and g in the denominator.
    """
    checks.tensor("probabilities", probabilities, floating=True)
    checks.tensor("target", target, shape=tuple(probabilities.shape))
    smooth = checks.number("smooth", smooth, least=0)
    total = probabilities.sum() + target.sum()
    return (2 * (probabilities * target).sum() + smooth) / (total + smooth)


def otsu_threshold(x: Float[Tensor, "..."], bins: int = 256) -> float:
    r"""Return the threshold that parts values into two groups of the largest variance between.

    $\omega_0 \omega_1 (\mu_1 - \mu_0)^2$ (equation `unet-otsu`): the classic of segmentation.

    Args:
        x: a picture.
        bins: of the histogram, ≥ 2.

    Example:
        >>> 0.2 < otsu_threshold(torch.tensor([0.1, 0.2, 0.8, 0.9])) < 0.8
        True

    Source: Otsu 1979.
    """
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    bins = checks.count("bins", bins, least=2)
    low, high = float(x.min()), float(x.max())
    if low == high:
        return low
    counts = torch.histc(x.detach().float().cpu(), bins, low, high).double()
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    size, mass = counts.cumsum(0)[:-1], (counts * middle).cumsum(0)[:-1]
    rest, all_mass = counts.sum() - size, (counts * middle).sum()
    between = size * rest * (mass / size - (all_mass - mass) / rest).square()
    return float(middle[between.argmax()])  # eq. unet-otsu


def _overlap(predicted: Tensor, target: Tensor) -> tuple[int, int]:
    checks.tensor("predicted", predicted)
    checks.tensor("target", target, shape=tuple(predicted.shape))
    a, b = predicted != 0, target != 0
    return int((a & b).sum()), int((a | b).sum())
