"""Argument checks whose errors name the argument, what it got and what it takes.

Every public constructor and function calls these first, so that nothing fails later with a message
about the shapes of a matrix product that a user must decode. The policy, for the whole package: an
argument of the wrong kind raises `TypeError`, one out of its range or of the wrong shape
`ValueError`. A docstring lists what it raises only where that surprises.
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def count(name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int ≥ `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} must be an integer ≥ {least}")
    if value < least:
        raise ValueError(f"{name}={value!r} must be an integer ≥ {least}")
    return int(value)


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float within the bounds (`above` and `below` exclude theirs)."""
    bounds = (least, above, most, below)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_unfit(name, value, bounds))
    taken = float(value)
    fits = -math.inf < taken < math.inf  # not NaN either; unlike `isfinite`, traceable
    fits = (
        fits and (least is None or taken >= least) and (above is None or taken > above)
    )
    if not (
        fits and (most is None or taken <= most) and (below is None or taken < below)
    ):
        raise ValueError(_unfit(name, value, bounds))
    return taken


def _unfit(name: str, value: Any, bounds: tuple[float | None, ...]) -> str:
    """Return the message of `number`; made only where it is needed: a compiler cannot trace it."""
    held = zip(("≥", ">", "≤", "<"), bounds, strict=True)
    wanted = " and ".join(
        f"{sign} {bound:g}" for sign, bound in held if bound is not None
    )
    return f"{name}={value!r} must be a finite number" + (
        f" {wanted}" if wanted else ""
    )


def flag(name: str, value: Any) -> bool:
    """Return `value` when it is True or False, and nothing that only equals them."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be True or False")
    return value


def one_of(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return `value` when it is among `choices`."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {choices}")
    return value


def tensor(
    name: str,
    value: Any,
    *,
    shape: tuple[int | str | None, ...] | None = None,
    floating: bool | None = None,
    finite: bool = False,
    empty: bool = True,
) -> Tensor:
    """Return `value` when it is a tensor as described.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        shape: one entry a dimension: a size, or a letter (or None) for any size. None: any shape.
        floating: True for real floating point, False for integers, None for either.
        finite: whether NaN and infinity are refused.
        empty: whether a tensor with no elements is taken.

    Raises:
        TypeError: not a tensor, or of the wrong kind of number.
        ValueError: wrong shape, empty, or not finite.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if floating is True and not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}")
    if floating is False and (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    ):
        raise TypeError(f"{name} must hold integers, got {value.dtype}")
    if shape is not None and not _fits(value.shape, shape):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(value.shape)}")
    if not empty and value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")
    if finite and readable(value) and not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        raise ValueError(
            f"{name} must be finite, got {bad} values that are NaN or infinite"
        )
    return value


def _fits(got: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    """Return whether a shape is as described; a plain loop: a model asks this often a step."""
    if len(got) != len(wanted):
        return False
    for size, want in zip(got, wanted, strict=True):
        if size != want and isinstance(want, int):
            return False
    return True


def readable(value: Tensor) -> bool:
    """Return whether looking at the numbers of `value` costs nothing but the look.

    On an accelerator it would wait for all that is queued; while compiling, or on the meta device,
    there are no numbers.
    """
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def tokens(
    name: str,
    value: Any,
    vocab_size: int,
    *,
    shape: tuple[int | str | None, ...] = ("b", "t"),
    empty: bool = False,
    of: str = "vocab_size",
) -> Tensor:
    """Return `value` when it holds rows of a table, such as token ids: 0 … `vocab_size` − 1.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        vocab_size: how many rows the table has.
        shape: as in `tensor`.
        empty: whether none at all are taken.
        of: what the caller's number of rows is called, for the message.
    """
    tensor(name, value, shape=shape, floating=False, empty=empty)
    _an_index(name, value)
    if readable(value) and value.numel():
        low, high = map(int, value.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"{name} must be 0 … {vocab_size - 1} ({of}), got {low} … {high}"
            )
    return value


def images(
    name: str, value: Any, channels: int | None = None, *, least: int = 1
) -> Tensor:
    """Return `value` when it is a batch of images, b c y x, floating point.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        channels: how many an image must have; any number if None.
        least: rows and columns that an image must have.
    """
    tensor(name, value, floating=True)
    if value.ndim != 4 or (channels is not None and value.shape[1] != channels):
        wanted = "c" if channels is None else channels
        raise ValueError(
            f"{name} must have shape (b, {wanted}, y, x), got {tuple(value.shape)}"
        )
    if min(value.shape[2:]) < least:
        raise ValueError(
            f"{name} must have at least {least} rows and columns, got {tuple(value.shape)}"
        )
    return value


def mask(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    """Return `value` when it says who may look: True where one may, or numbers added to scores.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        shape: what it must broadcast to.
    """
    tensor(name, value)
    if value.dtype != torch.bool and not value.is_floating_point():
        raise TypeError(
            f"{name} must be True where one may look, or numbers added, got {value.dtype}"
        )
    sizes = zip(value.shape[::-1], shape[::-1], strict=False)
    if value.ndim > len(shape) or any(got not in (1, want) for got, want in sizes):
        raise ValueError(f"{name} must broadcast to {shape}, got {tuple(value.shape)}")
    return value


def key_mask(name: str, value: Any, shape: tuple[int | str, ...]) -> Tensor:
    """Return `value` when it is True at real tokens and False at padding."""
    tensor(name, value, shape=shape)
    if value.dtype != torch.bool:
        raise TypeError(f"{name} must hold True at real tokens, got {value.dtype}")
    return value


def lengths(name: str, value: Any, batch: int, steps: int) -> Tensor:
    """Return `value` when it holds the real steps of each sequence of a batch, 1 … `steps`.

    Raises:
        TypeError: not a tensor of integers.
        ValueError: another number of sequences, or a length out of range.
    """
    tensor(name, value, shape=(batch,), floating=False, empty=False)
    if not readable(value):
        return value
    low, high = int(value.min()), int(value.max())
    if low < 1 or high > steps:
        raise ValueError(
            f"{name} must lie in 1 … {steps}, the steps of x, got {low} … {high}"
        )
    return value


def labels(name: str, value: Any, classes: int, *, length: int | None = None) -> Tensor:
    """Return `value` when it is a vector of class numbers in 0 … `classes` − 1."""
    tensor(name, value, shape=("n" if length is None else length,), floating=False)
    _an_index(name, value)
    if (
        readable(value)
        and value.numel()
        and (int(value.min()) < 0 or int(value.max()) >= classes)
    ):
        raise ValueError(
            f"{name} must hold classes 0 … {classes - 1}, "
            f"got {int(value.min())} … {int(value.max())}"
        )
    return value


def _an_index(name: str, value: Tensor) -> None:
    """Refuse what torch does not look up by: uint8 would be taken for a mask."""
    if value.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must hold int64 or int32, got {value.dtype}")
