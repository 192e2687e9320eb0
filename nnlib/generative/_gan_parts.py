"""What generators and discriminators share: widths of layers, the slope of their ReLU."""

from collections.abc import Sequence

from nnlib import checks

SLOPE = 0.2
"""Of the leaky ReLUs, below zero, as DCGAN has it."""


def _widths(name: str, value: Sequence[int]) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise TypeError(
            f"{name}={value!r} must be a sequence of one integer ≥ 1 or more"
        )
    return tuple(checks.count(f"{name}[{at}]", size) for at, size in enumerate(value))
