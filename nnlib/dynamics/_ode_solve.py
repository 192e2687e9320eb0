"""`odeint`: the states that a field leads to, with the gradient of the steps that were taken.

Axes: t times; a state may have any shape.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.dynamics._ode_march import March, Slopes, adaptive, fixed
from nnlib.dynamics._ode_tables import TABLES

Field = Callable[[Tensor, Tensor], Tensor]
"""A field: its slope at a time, a tensor with one number, and a state."""


class Solution(NamedTuple):
    """What `solve` returns."""

    y: Float[Tensor, "t *y"]
    """The states at the times that were asked for."""
    steps: Float[Tensor, " s"]
    """The times between the steps that were taken, in float64."""
    evaluations: int
    """How often the field was evaluated."""
    rejected: int
    """How many steps were tried and thrown away."""


class Settings(NamedTuple):
    """How a solver goes: what `odeint` takes besides the problem."""

    rtol: float = 1e-7
    atol: float = 1e-9
    method: str = "dopri5"
    step_size: float | None = None
    max_steps: int = 10_000


def odeint(
    f: Field,
    y0: Float[Tensor, "*y"],
    t: Float[Tensor, " t"],
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    method: str = "dopri5",
    step_size: float | None = None,
    max_steps: int = 10_000,
) -> Float[Tensor, "t *y"]:
    r"""Solve $\dot{\mathbf y} = f(t, \mathbf y)$, $\mathbf y(t_0) = \mathbf y_0$.

    Gradients go through every step that was taken (*discretise, then optimise*), to `y0`, to `t`
    and to whatever `f` has learned; each step keeps what its evaluations of `f` need.
    `odeint_adjoint` keeps the states at `t` alone.

    Args:
        f: `f(t, y)` gives the slope, of the shape of `y`; `t` is a tensor with one number.
        y0: the state at the first time, of any shape; all of it goes with the same steps.
        t: two times or more, rising or falling without repetition. Its gradient is the slope at
            each time, exact for the solution and not for coarse steps towards it.
        rtol: error of a step relative to the state, > 0; for methods that choose their steps.
        atol: error of a step besides, > 0.
        method: `dopri5` or `bosh3`, which choose their steps; `euler`, `midpoint`, `heun`, `rk4`
            (the classical one) or `rk4_38` (torchdiffeq's `rk4`), whose steps are equal.
        step_size: the largest step of the latter, > 0; None: one step from each time to the next.
        max_steps: attempts of the former, ≥ 1.

    Returns:
        The states at the times `t`, the first of them `y0`.

    Raises:
        StepUnderflow: steps have become too small to move time, or `step_size` is; `time` says
            where.
        TooManySteps: `max_steps` were not enough, as where a field is stiff.

    Example:
        >>> odeint(lambda t, y: -y, torch.tensor([1.0]), torch.tensor([0.0, 1.0]))
        tensor([[1.0000],
                [0.3679]])

    Source: Chen et al. 2018; the methods are Euler's, Heun's, Kutta's (1901), Bogacki and
    Shampine's (1989) and Dormand and Prince's (1980).
    """
    how = settings(rtol, atol, method, step_size, max_steps)
    return _solved(f, y0, t, how)[0]


def solve(
    f: Field,
    y0: Float[Tensor, "*y"],
    t: Float[Tensor, " t"],
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    method: str = "dopri5",
    step_size: float | None = None,
    max_steps: int = 10_000,
) -> Solution:
    """Return what `odeint` does, with the steps that it took and what they cost.

    Args:
        f: as `odeint` takes it, and so are all others.
        y0: likewise.
        t: likewise.
        rtol: likewise.
        atol: likewise.
        method: likewise.
        step_size: likewise.
        max_steps: likewise.

    Example:
        >>> times = torch.tensor([0.0, 1.0])
        >>> solve(lambda t, y: -y, torch.ones(1), times, method="rk4").evaluations
        4
    """
    how = settings(rtol, atol, method, step_size, max_steps)
    y, seen = _solved(f, y0, t, how)
    steps = torch.tensor(seen.times, dtype=torch.float64)
    return Solution(y, steps, seen.evaluations, seen.rejected)


def settings(
    rtol: float, atol: float, method: str, step_size: float | None, max_steps: int
) -> Settings:
    """Return checked settings."""
    checks.number("rtol", rtol, above=0)
    checks.number("atol", atol, above=0)
    checks.one_of("method", method, TABLES)
    if step_size is not None:
        checks.number("step_size", step_size, above=0)
        if TABLES[method].adaptive:
            raise ValueError(
                f"step_size={step_size!r} must be None: {method} chooses its steps"
            )
    checks.count("max_steps", max_steps)
    return Settings(float(rtol), float(atol), method, step_size, int(max_steps))


def state(name: str, value: Tensor) -> Tensor:
    """Return a state that a solver can start from."""
    return checks.tensor(name, value, floating=True, finite=True)


def grid(t: Tensor, *, least: int = 2) -> list[float]:
    """Return times as numbers, after a look at their order."""
    checks.tensor("t", t, shape=("t",), floating=True, finite=True)
    times: list[float] = t.tolist()
    if len(times) < least:
        raise ValueError(f"t must have {least} times or more, got {len(times)}")
    gaps = [later - now for now, later in pairwise(times)]
    if not (all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)):
        raise ValueError(
            f"t must rise or fall from each time to the next, got {times[:8]}"
        )
    return times


def slope(f: Field, t: Tensor, y: Tensor) -> Tensor:
    """Return the slope at a point, after a look at its shape."""
    if not callable(f):
        raise TypeError(
            f"f must be a function of time and state, got {type(f).__name__}"
        )
    told = f(t, y)
    if not isinstance(told, Tensor) or told.shape != y.shape:
        got = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise ValueError(
            f"f must return a tensor of the shape of y0, {tuple(y.shape)}, got {got}"
        )
    return told


def march(f: Field, y0: Tensor, times: Sequence[float], how: Settings) -> March:
    """Step through checked times."""

    def slopes(t: Tensor, y: Tensor) -> tuple[Tensor, tuple[()]]:
        return slope(f, t, y), ()

    return step_through(slopes, y0, times, how)


def step_through(
    slopes: Slopes,
    y0: Tensor,
    times: Sequence[float],
    how: Settings,
    step: float | None = None,
) -> March:
    """Step a field with its quadratures through checked times; on the meta device, shapes alone."""
    table = TABLES[how.method]
    if not table.adaptive:
        return fixed(slopes, y0, times, table, how.step_size)
    if y0.device.type == "meta":
        _, side = slopes(y0.new_empty(()), y0)
        return March([y0] * len(times), list(side), list(times), evaluations=1)
    rtol, atol, most = how.rtol, how.atol, how.max_steps
    return adaptive(slopes, y0, times, table, rtol, atol, most, step=step)


def _solved(f: Field, y0: Tensor, t: Tensor, how: Settings) -> tuple[Tensor, March]:
    """Return the states and the march, with the gradient to the times where they want one."""
    state("y0", y0)
    times = grid(t)
    if not t.requires_grad:
        seen = march(f, y0, times, how)
        return torch.stack(seen.states), seen
    moved = (t - t.detach()).to(y0)  # zero, with a gradient of one
    with torch.no_grad():
        first = slope(f, y0.new_tensor(times[0]), y0)
    seen = march(f, y0 - first * moved[0], times, how)
    states = [seen.states[0] + first * moved[0]]
    for at in range(1, len(times)):
        with torch.no_grad():
            speed = slope(f, y0.new_tensor(times[at]), seen.states[at])
        states.append(seen.states[at] + speed * moved[at])  # eq. neural-ode-times
    return torch.stack(states), seen
