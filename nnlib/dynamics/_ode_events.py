"""Solving until something happens: the time is found between the steps, with its gradient."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.dynamics._ode_march import adaptive, between
from nnlib.dynamics._ode_solve import Field, settings, slope, state
from nnlib.dynamics._ode_tables import TABLES

HALVINGS = 60
"""Of a step, to find the time of an event to the last digit."""


class Happened(NamedTuple):
    """What `odeint_event` returns."""

    t: Float[Tensor, ""]
    """When the event happened."""
    y: Float[Tensor, "*y"]
    """The state at that time."""


def odeint_event(
    f: Field,
    y0: Float[Tensor, "*y"],
    event: Callable[[Tensor, Tensor], Tensor],
    *,
    start: float = 0.0,
    end: float,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    method: str = "dopri5",
    max_steps: int = 10_000,
) -> Happened:
    r"""Solve until `event(t, y)` changes its sign, and return when and where.

    Both results have gradients: moving the start moves the time of the event by
    $dt^* = -\nabla_{\mathbf y} e \cdot d\mathbf y / \dot e$ (equation `neural-ode-event`).

    Args:
        f: as `odeint` takes it.
        y0: the state at `start`; the event must not be happening there.
        event: a scalar of time and state, whose zero is the event. A sign that changes and changes
            back within one step of the solver is not seen.
        start: when to begin.
        end: when to give up, another time than `start`.
        rtol: as `odeint` takes it.
        atol: likewise.
        method: `dopri5` or `bosh3`.
        max_steps: as `odeint` takes it.

    Raises:
        ValueError: nothing happened until `end`; the event is NaN somewhere; a gradient is asked
            for, and the event has none where it happens, among others.

    Example:
        >>> fall = lambda t, y: torch.stack([y[1], torch.tensor(-9.81)])
        >>> when, where = odeint_event(fall, torch.tensor([1.0, 0.0]), lambda t, y: y[0], end=9.0)
        >>> when, where[1]  # √(2 / g) and −√(2 g)
        (tensor(0.4515), tensor(-4.4294))

    Source: Chen, Amos and Nickel 2021.
    """
    how = settings(rtol, atol, method, None, max_steps)
    table = TABLES[method]
    if not table.adaptive:
        raise ValueError(f"method={method!r} must be one that chooses its steps")
    state("y0", y0)
    if not callable(event):
        raise TypeError(
            f"event must be a function of time and state, got {type(event).__name__}"
        )
    start, end = checks.number("start", start), checks.number("end", end)
    if start == end:
        raise ValueError(f"end={end!r} must be another time than start={start!r}")
    before = _side(event, start, y0)
    if before == 0:
        raise ValueError("y0 must not be where the event happens")

    def watch(
        t: float, step: float, y: Tensor, slopes: Sequence[Tensor]
    ) -> float | None:
        with torch.no_grad():
            if (
                _side(event, t + step, between(y, slopes, 1.0, step, table)) * before
                > 0
            ):
                return None
            low, high = 0.0, 1.0
            for _ in range(HALVINGS):
                half = (low + high) / 2
                there = _side(
                    event, t + half * step, between(y, slopes, half, step, table)
                )
                low, high = (half, high) if there * before > 0 else (low, half)
        return t + high * step

    def slopes(t: Tensor, y: Tensor) -> tuple[Tensor, tuple[()]]:
        return slope(f, t, y), ()

    seen = adaptive(
        slopes, y0, (start, end), table, how.rtol, how.atol, max_steps, watch=watch
    )
    y, now = seen.states[-1], seen.times[-1]
    if seen.step is not None:  # the march went on to its end
        raise ValueError(f"end={end!r}: nothing has happened until then")
    return _with_gradient(f, event, now, y)


def _side(event: Callable[[Tensor, Tensor], Tensor], t: float, y: Tensor) -> float:
    told = event(y.new_tensor(t), y)
    checks.tensor("event(t, y)", told, shape=(), floating=True)
    side = float(told.detach())
    if math.isnan(side):
        raise ValueError(f"event(t, y) must be a number, got nan at t={t:.6g}")
    return side


def _with_gradient(
    f: Field, event: Callable[[Tensor, Tensor], Tensor], now: float, y: Tensor
) -> Happened:
    """Let the time answer to the state, and the state to the time."""
    if not y.requires_grad:
        return Happened(y.new_tensor(now), y)
    with torch.enable_grad():
        t, at = y.new_tensor(now).requires_grad_(), y.detach().requires_grad_()
        value = event(t, at)
        value = value if value.requires_grad else value + 0 * t
        moves = torch.autograd.grad(
            value, (t, at), allow_unused=True, materialize_grads=True
        )
    with torch.no_grad():
        speed = slope(f, t.detach(), y.detach())
        rate = moves[0] + (moves[1] * speed).sum()
    if checks.readable(rate) and not float(rate):
        raise ValueError(
            f"event(t, y) must change at a rate other than 0 where it happens, t={now:.6g}: "
            "its time has no gradient"
        )
    moved = ((y - y.detach()) * moves[1]).sum()  # zero, with a gradient
    when = t.detach() - moved / rate  # eq. neural-ode-event
    return Happened(when, y + speed * (when - when.detach()))
