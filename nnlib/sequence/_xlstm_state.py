"""What both cells of the xLSTM share: how a state is begun, and refused where it does not fit."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nnlib import checks

NOTHING = -math.inf  # the stabiliser of a state in which nothing stands
FORGET = ("sigmoid", "exp")


def wide(x: Tensor) -> torch.dtype:
    """Return what states and gates are kept in: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def checked_state(
    state: Any, kind: Any, shapes: Iterable[tuple[int, ...]], dtype: torch.dtype | None
) -> Any:
    """Return a state of this kind, in a dtype if one is given; refuse one that does not fit."""
    if not isinstance(state, tuple) or len(state) != len(kind._fields):
        raise TypeError(f"state must be an {kind.__name__}, got {type(state).__name__}")
    for name, part, shape in zip(kind._fields, state, shapes, strict=True):
        checks.tensor(f"state.{name}", part, shape=shape, floating=True)
    return kind(*(part if dtype is None else part.to(dtype) for part in state))
