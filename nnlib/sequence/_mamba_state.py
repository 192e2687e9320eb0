"""What a Mamba keeps between two tokens, and what is refused instead of it.

Part of `nnlib.sequence.mamba`, with its axes.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnlib import checks


class MambaState(NamedTuple):
    """What a model keeps between two tokens; of one mixer without l.

    Attributes:
        past: last inputs of the convolutions, l b k−1 c.
        h: states, l b d n in Mamba and l b h n p in Mamba-2.
    """

    past: Tensor
    h: Tensor


def checked_state(state: Any, new: MambaState) -> MambaState:
    """Return the state to begin with; refuse one that is not shaped as a `new` one."""
    if state is None:
        return new
    if not isinstance(state, tuple) or len(state) != 2:
        raise TypeError(f"state must be a MambaState, got {type(state).__name__}")
    for name, part, wanted in zip(MambaState._fields, state, new, strict=True):
        checks.tensor(f"state.{name}", part, shape=tuple(wanted.shape), floating=True)
    return MambaState(*state)


def first_state(state: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return the state to begin with, in float32 at least; refuse one that does not fit."""
    wide = torch.promote_types(like.dtype, torch.float32)
    if state is None:
        return like.new_zeros(shape, dtype=wide)
    checks.tensor("state", state, shape=shape, floating=True)
    if state.device != like.device:
        raise ValueError(
            f"state must be on {like.device} like the inputs, got {state.device}"
        )
    return state.to(wide)
