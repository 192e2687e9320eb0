"""What the parts of the Hopfield chapter ask of patterns and states of -1 and 1."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnlib import checks

ROUNDING = 4.0
"""How many units in the last place of a field count as zero."""


def signs(name: str, value: Any, n: int) -> Tensor:
    """Return `value` when it holds rows of `n` numbers, each -1 or 1, in floating point."""
    checks.tensor(name, value, floating=True)
    if value.ndim == 0 or value.shape[-1] != n:
        raise ValueError(
            f"{name} must have rows of {n} units, got {tuple(value.shape)}"
        )
    if checks.readable(value) and not bool((value.abs() == 1).all()):
        odd = value[value.abs() != 1][0].item()
        raise ValueError(f"{name} must hold -1 and 1 alone, got {odd:g}")
    return value


def rows_of_signs(name: str, value: Any, n: int | None = None) -> Tensor:
    """Return patterns as a matrix, from a matrix or from a list of rows of one length."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        for at, row in enumerate(value):
            checks.tensor(f"{name}[{at}]", row, shape=("n",), floating=True)
        lengths = [len(row) for row in value]
        if len(set(lengths)) > 1:
            raise ValueError(f"{name} must all have one length, got {lengths}")
        value = torch.stack(list(value)) if value else torch.zeros(0, n or 0)
    checks.tensor(name, value, shape=("p", "n"), floating=True)
    return signs(name, value, value.shape[1] if n is None else n)


def no_patterns(name: str, value: Tensor) -> None:
    """Refuse a matrix without rows."""
    if not len(value):
        raise ValueError(
            f"{name} must hold at least one pattern, got {tuple(value.shape)}"
        )
