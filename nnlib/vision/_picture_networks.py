"""What residual networks for pictures share: convolutions without bias, how they begin."""

from typing import Any

from torch import Tensor, nn


def _conv(
    c: int, d: int, size: int, stride: int = 1, groups: int = 1, **like: Any
) -> nn.Conv2d:
    """Return a convolution without bias, padded so that stride 1 keeps the picture's size."""
    return nn.Conv2d(c, d, size, stride, size // 2, groups=groups, bias=False, **like)


def _check_batch(x: Tensor, training: bool) -> None:
    """Refuse what the last batch norm could not normalize: one value a channel."""
    b, _, height, width = x.shape
    if training and b == 1 and height <= 32 and width <= 32:
        raise ValueError(
            "x must hold two pictures or more, or one larger than 32 × 32, in training: "
            f"at the last stage {tuple(x.shape)} leaves one value a channel, which has no "
            "variance; model.eval() uses the running ones"
        )
