"""Checks of what both machines are given.

Axes: b batch, t time, d input features, n slots, w numbers of a slot.
"""

from typing import Any

from torch import Tensor

from nnlib import checks


def checked_input(x: Any, input_size: int) -> Tensor:
    """Return `x` when it is a batch of sequences of `input_size` features, one step or more."""
    return checks.tensor(
        "x", x, shape=("b", "t", input_size), floating=True, empty=False
    )


def check_slots(num_slots: Any, otherwise: int) -> int:
    """Return `num_slots`, or what the machine was built with."""
    return otherwise if num_slots is None else checks.count("num_slots", num_slots)


def check_memory(memory: Any, batch_size: int, slot_size: int) -> int:
    """Return the number of slots of a memory that fits."""
    shape = (batch_size, "n", slot_size)
    checks.tensor("state.memory", memory, shape=shape, floating=True, empty=False)
    return memory.shape[1]
