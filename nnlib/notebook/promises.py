"""Promises: two things are equal, a result lies where the text says; each prints ✓ or ✗."""

from typing import Any

import numpy as np
import torch

from nnlib.notebook import records
from nnlib.notebook.run import current


class BrokenPromise(AssertionError):
    """A check or a band of a chapter did not hold."""


def check(
    claim: str, got: Any, wanted: Any = True, *, atol: float = 0.0, rtol: float = 0.0
) -> None:
    """Print `✓ claim` when `got` equals `wanted` within the tolerance.

    Args:
        claim: what is promised, as the reader sees it.
        got: a tensor, array, number, sequence or bool.
        wanted: what it must equal.
        atol: absolute tolerance.
        rtol: tolerance relative to `wanted`.

    Raises:
        BrokenPromise: they differ, and the chapter is strict.
    """
    a, b = _array(got), _array(wanted)
    if a.shape != b.shape:
        return _keep("check", False, claim, f"shapes {a.shape} and {b.shape}")
    if not (np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)):
        return _keep("check", bool(np.array_equal(a, b)), claim, "they differ")
    error = np.abs(a - b)
    tolerance = " ".join(
        f"{n} {v:.0e}" for n, v in (("atol", atol), ("rtol", rtol)) if v
    )
    holds = bool((error <= atol + rtol * np.abs(b)).all())  # NaN compares false
    worst = f"largest difference {np.max(error, initial=0.0):.3g}"
    return _keep(
        "check", holds, f"{claim} ({tolerance})" if tolerance else claim, worst
    )


def band(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    baseline: Any = None,
) -> None:
    """Print `✓ name at least …` when a measured value lies where the text says.

    Args:
        name: what was measured.
        value: the measurement, a number or a tensor of one; NaN never holds.
        at_least: lower end of the band.
        at_most: upper end of the band.
        baseline: the same measure of the model to beat, for the reader.

    Raises:
        ValueError: no end of the band was given.
        BrokenPromise: the value lies outside, and the chapter is strict.
    """
    if at_least is None and at_most is None:
        raise ValueError(f"band {name!r} needs at_least=…, at_most=… or both")
    value = float(value)
    ends = [
        f"{word} {end:g}" for word, end in (("at least", at_least), ("at most", at_most))
        if end is not None
    ]  # fmt: skip
    low = -np.inf if at_least is None else at_least
    high = np.inf if at_most is None else at_most
    told = f" (baseline {float(baseline):.2g})" if baseline is not None else ""
    records.tell(name, value)
    _keep(
        "band",
        low <= value <= high,
        f"{name} {' and '.join(ends)}{told}",
        f"got {value:.4g}",
    )


def _keep(kind: str, holds: bool, claim: str, otherwise: str) -> None:
    run = current()
    if holds:
        run.held[kind] += 1
        print(f"✓ {claim}")
        return
    run.broken.append(f"{claim}: {otherwise}")
    if run.strict:
        raise BrokenPromise(f"✗ {claim}: {otherwise}")
    print(f"✗ {claim}: {otherwise}")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = (
            value.detach()
            .cpu()
            .to(torch.float64 if value.is_floating_point() else value.dtype)
        )
    array = np.asarray(value)
    return array.astype(np.int64) if array.dtype == bool else array


def verdict() -> None:
    """Print how many promises of the run held, and name those that did not."""
    run = current()
    for claim in run.broken:
        print(f"✗ did not hold: {claim}")
    checks, bands = run.held["check"], run.held["band"]
    mark = "✗" if run.broken else "✓"
    print(f"{mark} {checks} checks and {bands} bands held, {len(run.broken)} did not")
