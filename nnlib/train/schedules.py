"""Learning-rate schedules: the factor that multiplies the learning rate at each step."""

import math
from collections.abc import Callable

from nnlib import checks

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """Return a schedule that never changes."""
    return lambda step: 1.0


def warmup_cosine(steps: int, warmup: float = 0, final: float = 0.0) -> Schedule:
    """Return a linear warm-up over `warmup` steps, then half a cosine down to `final`.

    Args:
        steps: steps in all, ≥ 1.
        warmup: steps of the rise, 0 … `steps`; or, between 0 and 1, their share of all steps.
        final: the last factor, in 0 … 1.

    Example:
        >>> [round(warmup_cosine(10, warmup=2)(step), 2) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    steps = checks.count("steps", steps)
    if isinstance(warmup, float):
        warmup = checks.number("warmup", warmup, above=0, below=1)
        warmup = math.floor(round(warmup * steps, 6))  # 0.29 · 100 falls short of 29
    checks.number("warmup", checks.count("warmup", warmup, least=0), most=steps)
    final = checks.number("final", final, least=0, most=1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def inverse_square_root(warmup: int) -> Schedule:
    """Return the schedule of the first transformer, as a share of its peak.

    It rises linearly over `warmup` steps and then falls with the root of the step number
    (equation `transformer-schedule`); the peak was (width · warmup)^(−1/2) there.

    Args:
        warmup: steps of the rise, ≥ 1.

    Example:
        >>> [inverse_square_root(4)(step) for step in (0, 1, 3, 15)]
        [0.25, 0.5, 1.0, 0.5]

    Source: Vaswani et al. 2017, section 5.3.
    """
    warmup = checks.count("warmup", warmup)
    return lambda step: min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


def step_decay(every: int, factor: float = 0.1) -> Schedule:
    """Return a staircase: the learning rate times `factor` after each `every` steps.

    Args:
        every: steps between drops, ≥ 1.
        factor: of each drop, in (0, 1].
    """
    every = checks.count("every", every)
    factor = checks.number("factor", factor, above=0, most=1)
    return lambda step: factor ** (step // every)
