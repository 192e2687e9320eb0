"""How a solution is stepped through time: with steps of one size, or of a size that errors decide.

Times are Python numbers, so that nothing here waits for a device but the one look at an error. A
field returns its slope and a list of further tensors, its quadratures: these are summed with the
same weights, feed nothing back, and do not decide the step. The adjoint's parameters are such.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from nnlib.dynamics._ode_tables import Table

Slope = tuple[Tensor, Sequence[Tensor]]
Slopes = Callable[[Tensor, Tensor], Slope]

SAFETY, LARGEST, SMALLEST = 0.9, 10.0, 0.2
"""Of the next step: how much shorter than the formula says, and the bounds of its change."""


class SolverError(ArithmeticError):
    """A solver could not go on; `time` is where it stopped."""

    def __init__(self, message: str, time: float):
        super().__init__(message)
        self.time = time


class StepUnderflow(SolverError):
    """Steps have become so small that time no longer changes when one is added."""


class TooManySteps(SolverError):
    """More steps than `max_steps` were needed."""


@dataclass
class March:
    """What a march has seen: states at the wanted times, and what they took."""

    states: list[Tensor]
    totals: list[Tensor] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    evaluations: int = 0
    rejected: int = 0
    step: float | None = None
    """The size of the step that would come next."""


def mixed(
    y: Tensor, slopes: Sequence[Tensor], weights: Sequence[float], step: float
) -> Tensor:
    """Return `y` plus the step times the weighted sum of slopes (eq. neural-ode-runge-kutta)."""
    parts = [(k, w * step) for k, w in zip(slopes, weights, strict=False) if w]
    if not parts:
        return y.clone()
    (first, by), *others = parts
    out = torch.add(y, first, alpha=by)
    for k, by in others:
        out.add_(k, alpha=by)
    return out


def _stages(
    f: Slopes,
    t: float,
    y: Tensor,
    first: Slope,
    step: float,
    table: Table,
    nodes: Tensor,
) -> tuple[list[Tensor], list[Sequence[Tensor]], Tensor]:
    """Return the slopes of a step, their quadratures, and the last state that was looked at."""
    slopes, sides, at = [first[0]], [first[1]], y
    moments = (nodes * step + t).unbind()
    for moment, row in zip(moments[1:], table.stages, strict=True):
        at = mixed(y, slopes, row, step)
        slope, side = f(moment, at)
        slopes.append(slope)
        sides.append(side)
    return slopes, sides, at


def _gather(
    totals: list[Tensor], sides: list[Sequence[Tensor]], table: Table, step: float
) -> list[Tensor]:
    """Add a step's quadratures to what was gathered before."""
    for side, weight in zip(sides, table.weights, strict=True):
        if not weight:
            continue
        if totals:
            for total, part in zip(totals, side, strict=True):
                total.add_(part, alpha=weight * step)
        else:
            totals = [part * (weight * step) for part in side]
    return totals


def fixed(
    f: Slopes, y: Tensor, times: Sequence[float], table: Table, step_size: float | None
) -> March:
    """March with equal steps between each two times: one, or as many as `step_size` asks for."""
    nodes = y.new_tensor(table.nodes)
    seen = March([y], times=[times[0]])
    for start, end in pairwise(times):
        gap = end - start
        far = max(abs(start), abs(end))
        if step_size is not None and far + step_size == far:
            told = (
                f"step_size={step_size:.3g} is too small to move time at t={start:.6g}"
            )
            raise StepUnderflow(told, start)
        many = (
            1 if step_size is None else max(1, math.ceil(abs(gap) / step_size - 1e-9))
        )
        step = gap / many
        for number in range(many):
            t = start + number * step
            first = f(nodes.new_full((), t), y)
            slopes, sides, _ = _stages(f, t, y, first, step, table, nodes)
            y = mixed(y, slopes, table.weights, step)
            seen.totals = _gather(seen.totals, sides, table, step)
            seen.times.append(t + step if number + 1 < many else end)
            seen.evaluations += len(slopes)
        seen.states.append(y)
    return seen


def adaptive(
    f: Slopes,
    y: Tensor,
    times: Sequence[float],
    table: Table,
    rtol: float,
    atol: float,
    max_steps: int,
    *,
    step: float | None = None,
    watch: Callable[[float, float, Tensor, Sequence[Tensor]], float | None]
    | None = None,
) -> March:
    """March with steps whose estimated error is the tolerance at most.

    Args:
        f: the field.
        y: state at the first time.
        times: from the first to the last, rising or falling.
        table: a method with an error.
        rtol: tolerance relative to the state.
        atol: tolerance besides.
        max_steps: attempts, after which `TooManySteps` is raised.
        step: size of the first attempt; None: found by two looks at the field.
        watch: is told each step, its beginning, its length, state and slopes; where it returns a
            time, the march ends there.
    """
    nodes = y.new_tensor(table.nodes)
    t, end = times[0], times[-1]
    sign = math.copysign(1.0, end - t)
    first = f(nodes.new_full((), t), y)
    seen = March([y], times=[t], evaluations=1)
    size = step
    if size is None:
        size = _first_step(f, t, y, first[0], end - t, table.order, rtol, atol)
        seen.evaluations += 1
    wanted, attempts, magnitude = 1, 0, y.detach().abs()
    while wanted < len(times):
        least = 10 * abs(math.nextafter(t, sign * math.inf) - t)
        size, again = max(size, least), False
        while True:
            if size < least:
                raise StepUnderflow(_stuck(t, size), t)
            if attempts == max_steps:
                raise TooManySteps(_slow(max_steps, t, end), t)
            attempts += 1
            moment = t + sign * size
            last = sign * (moment - end) >= 0
            moment = end if last else moment
            taken = moment - t
            slopes, sides, new = _stages(f, t, y, first, taken, table, nodes)
            seen.evaluations += len(slopes) - 1
            ratio, larger = _error(slopes, magnitude, new, taken, table, rtol, atol)
            if ratio <= 1:  # eq. neural-ode-error; NaN is not
                break
            again = True
            seen.rejected += 1
            size = abs(taken) * max(SMALLEST, _change(ratio, table.order))
        change = min(1.0 if again else LARGEST, _change(ratio, table.order))
        size = max(abs(taken) * change, size if last else 0.0)  # eq. neural-ode-control
        stop = watch(t, taken, y, slopes) if watch else None
        halt = moment if stop is None else stop
        while wanted < len(times) and sign * (halt - times[wanted]) >= 0:
            share = (times[wanted] - t) / taken
            at_end = last and times[wanted] == moment
            seen.states.append(
                new if at_end else between(y, slopes, share, taken, table)
            )
            wanted += 1
        seen.totals = _gather(seen.totals, sides, table, taken)
        if stop is not None:
            seen.states.append(between(y, slopes, (stop - t) / taken, taken, table))
            seen.times.append(stop)
            return seen
        t, y, first, magnitude = moment, new, (slopes[-1], sides[-1]), larger
        seen.times.append(t)
    seen.step = size
    return seen


def between(
    y: Tensor, slopes: Sequence[Tensor], share: float, step: float, table: Table
) -> Tensor:
    """Return the state at a share of a step, which costs no look at the field."""
    powers = [share ** (power + 1) for power in range(len(table.dense[0]))]
    weights = [
        sum(c * p for c, p in zip(row, powers, strict=True)) for row in table.dense
    ]
    return mixed(y, slopes, weights, step)  # eq. neural-ode-dense


def _change(ratio: float, order: int) -> float:
    """Return by how much the next step is longer (eq. neural-ode-control)."""
    if ratio == 0:
        return LARGEST
    return SAFETY * ratio ** (-1 / order) if math.isfinite(ratio) else SMALLEST


@torch.no_grad()
def _error(
    slopes: Sequence[Tensor],
    magnitude: Tensor,
    new: Tensor,
    step: float,
    table: Table,
    rtol: float,
    atol: float,
) -> tuple[float, Tensor]:
    """Return the error in units of the tolerance (eq. neural-ode-error), and the new magnitude."""
    larger = new.detach().abs()
    scale = torch.maximum(magnitude, larger).mul_(rtol).add_(atol)
    parts = [(k, w * step) for k, w in zip(slopes, table.error, strict=True) if w]
    (first, by), *others = parts
    error = first * by
    for k, by in others:
        error.add_(k, alpha=by)
    return _size(error, scale), larger


def _size(value: Tensor, scale: Tensor) -> float:
    """Return the root of the mean of squares of `value / scale`."""
    return float(torch.linalg.vector_norm(value / scale)) / math.sqrt(
        max(1, value.numel())
    )


@torch.no_grad()
def _first_step(
    f: Slopes,
    t: float,
    y: Tensor,
    slope: Tensor,
    span: float,
    order: int,
    rtol: float,
    atol: float,
) -> float:
    """Return a first step, by the sizes of state, slope and change of slope.

    Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section II.4.
    """
    scale = atol + y.abs() * rtol
    state, speed = _size(y, scale), _size(slope, scale)
    guess = 1e-6 if state < 1e-5 or speed < 1e-5 else 0.01 * state / speed
    guess = min(guess, abs(span))
    if not 0 < guess < math.inf:  # the slope is not finite, or too large to be measured
        return 1e-6
    ahead = math.copysign(guess, span)
    later, _ = f(y.new_full((), t + ahead), torch.add(y, slope, alpha=ahead))
    bend = _size(later - slope, scale) / guess
    if max(speed, bend) <= 1e-15:
        other = max(1e-6, guess * 1e-3)
    else:
        other = (0.01 / max(speed, bend)) ** (1 / order)
    found = min(100 * guess, other)
    return found if math.isfinite(found) else guess


def _stuck(t: float, size: float) -> str:
    return (
        f"the step fell to {size:.3g} at t={t:.6g}, too small to move time: the solution grows "
        "without bound there, the field is not finite, or the tolerance is below its rounding"
    )


def _slow(most: int, t: float, end: float) -> str:
    return (
        f"max_steps={most} steps have come to t={t:.6g} of {end:.6g}: the field is stiff, or the "
        "tolerance tight; loosen it, allow more steps, or take an implicit method"
    )
