"""What both U-Nets share."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

Device = torch.device | str | None


def join(
    kept: Float[Tensor, "b c y x"], x: Float[Tensor, "b d v u"]
) -> Float[Tensor, "b e v u"]:
    """Return both side by side as channels, of `kept` only the middle that `x` covers.

    Args:
        kept: what was handed across.
        x: what came up from below, of at most the size of `kept`.

    Example:
        >>> join(torch.zeros(1, 2, 8, 8), torch.ones(1, 3, 4, 4)).shape
        torch.Size([1, 5, 4, 4])
    """
    (rows, columns), (v, u) = kept.shape[2:], x.shape[2:]
    if v > rows or u > columns:
        raise ValueError(
            f"kept must be at least as large as x, ({v}, {u}), got ({rows}, {columns})"
        )
    top, left = (rows - v) // 2, (columns - u) // 2
    return torch.cat([kept[:, :, top : top + v, left : left + u], x], 1)


def _levels(channels: Any) -> tuple[int, ...]:
    if not isinstance(channels, tuple | list) or not channels:
        raise ValueError(f"channels={channels!r} must hold a number for each level")
    return tuple(checks.count(f"channels[{at}]", c) for at, c in enumerate(channels))
