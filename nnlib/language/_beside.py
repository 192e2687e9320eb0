"""A frozen linear layer, and something trained beside, before or behind it.

Part of `nnlib.language.adapters`, with its axes.
"""

import copy
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks


def features(layer: Any) -> tuple[int, int] | None:
    """Return how many numbers a linear layer takes and gives, or None if it is no such layer.

    `nn.Linear` and what stands in for it, and the `Conv1D` of `transformers`, whose weight is
    stored the other way round.
    """
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):
        return layer.weight.shape[0], layer.weight.shape[1]
    given, made = (
        getattr(layer, "in_features", None),
        getattr(layer, "out_features", None),
    )
    return (given, made) if isinstance(given, int) and isinstance(made, int) else None


def matrix(layer: nn.Module) -> Float[Tensor, "o i"]:
    """Return a linear layer's weight as outputs by inputs; a view where it is stored as such."""
    # torch types every attribute of a module as a tensor or a module; a linear layer's is a tensor
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.mT if type(layer).__name__ == "Conv1D" else weight


def check_rank(rank: Any, width_in: int, width_out: int) -> int:
    """Return `rank` when a matrix of these widths can have it."""
    rank = checks.count("rank", rank)
    if rank > min(width_in, width_out):
        raise ValueError(
            f"rank={rank} must be at most {min(width_in, width_out)}, the smaller width of a "
            f"layer from {width_in} to {width_out}"
        )
    return rank


class Beside(nn.Module):
    """What adapted layers share: the frozen layer, its widths, and a switch."""

    base: nn.Module
    in_features: int
    out_features: int
    enabled: bool

    def keep(self, base: Any) -> tuple[int, int]:
        """Freeze the layer and keep it, not a copy; return its widths."""
        sizes = features(base)
        if sizes is None or isinstance(base, Beside):
            raise TypeError(f"base must be a linear layer, got {type(base).__name__}")
        self.in_features, self.out_features = sizes
        self.base, self.enabled = base.requires_grad_(False), True
        return sizes

    def merged(self) -> nn.Module:
        """Return one plain layer that computes the same."""
        raise NotImplementedError

    def plain(self) -> nn.Module:
        """Return a copy of the frozen layer whose weight can be written to."""
        unpack = getattr(self.base, "unpacked", None)
        return copy.deepcopy(self.base) if unpack is None else unpack()


def check_width(x: Any, width: int) -> Tensor:
    """Return `x` when it holds vectors of this width."""
    checks.tensor("x", x, floating=True)
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(
            f"x must have {width} numbers on its last axis, got {tuple(x.shape)}"
        )
    return x
