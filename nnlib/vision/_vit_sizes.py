"""Sizes of pictures, checked: one number for a square, two for rows and columns."""

from typing import Any

from nnlib import checks

Size = int | tuple[int, int]
"""Rows and columns; one number for both."""


def _size(name: str, value: Any) -> tuple[int, int]:
    """Return rows and columns."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{name}={value!r} must be one number or (rows, columns)")
        return checks.count(name, value[0]), checks.count(name, value[1])
    size = checks.count(name, value)
    return size, size


def _as_size(value: Any) -> Any:
    """Return a size as a configuration has it: JSON knows lists alone."""
    return tuple(value) if isinstance(value, list) else value


def _check_divides(name: str, part: int, of: str, size: tuple[int, ...]) -> None:
    """Refuse squares of side `part` that do not fill rows and columns."""
    if any(length % part for length in size):
        told = " × ".join(str(length) for length in size)
        raise ValueError(f"{name}={part} does not divide {of}, {told}")
