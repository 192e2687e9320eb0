"""Augmentation: the same picture, a little elsewhere.

Chapter: chapters/foundations/regularization.md     Papers: Simard et al. 2003; Krizhevsky et al.
2012
Axes: n images, y x rows and columns.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


def shift_images(
    x: Float[Tensor, "n y x"], down: Int[Tensor, " n"], right: Int[Tensor, " n"]
) -> Float[Tensor, "n y x"]:
    """Return each image moved by its own whole number of pixels; zeros come in at the edge.

    Args:
        x: images.
        down: rows that each moves down, negative for up.
        right: columns that each moves to the right, negative for left.

    Example:
        >>> shift_images(torch.tensor([[[1.0, 2.0]]]), torch.tensor([0]), torch.tensor([1]))
        tensor([[[0., 1.]]])

    Source: Simard et al. 2003 for digits; Krizhevsky et al. 2012 for photographs.
    """
    checks.tensor("x", x, shape=("n", "y", "x"), floating=True)
    checks.tensor("down", down, shape=(len(x),), floating=False)
    checks.tensor("right", right, shape=(len(x),), floating=False)
    n, height, width = x.shape
    # where each pixel comes from
    rows = torch.arange(height, device=x.device) - down[:, None]
    columns = torch.arange(width, device=x.device) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & (
        (columns >= 0) & (columns < width)
    )[:, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return (
        x[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None]] * inside
    )
