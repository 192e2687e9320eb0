r"""`odeint_adjoint`: the gradient by a second differential equation, solved from the end back.

With $\mathbf a(t) = +\partial\mathcal L/\partial\mathbf y(t)$,
$\dot{\mathbf a} = -\mathbf a^\top \partial f/\partial\mathbf y$ (equation `neural-ode-adjoint`) and
$d\mathcal L/d\boldsymbol\theta = -\int_T^{0} \mathbf a^\top
\partial f/\partial\boldsymbol\theta\, dt$ (`neural-ode-gradient`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nnlib import checks
from nnlib.dynamics._ode_march import Slope
from nnlib.dynamics._ode_solve import (
    Field,
    Settings,
    grid,
    march,
    settings,
    slope,
    state,
    step_through,
)


def odeint_adjoint(
    f: Field,
    y0: Float[Tensor, "*y"],
    t: Float[Tensor, " t"],
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    method: str = "dopri5",
    step_size: float | None = None,
    max_steps: int = 10_000,
    adjoint_rtol: float | None = None,
    adjoint_atol: float | None = None,
    adjoint_params: Iterable[Tensor] | None = None,
) -> Float[Tensor, "t *y"]:
    r"""Solve as `odeint` does, and find gradients by the adjoint equation.

    Of the way forward only the states at `t` are kept; the way back solves for them anew, from
    each time of `t` to the one before. So memory does not grow with the number of steps, but the
    states that are found on the way back drift where the field contracts: more times in `t` mend
    that, each being a checkpoint. The steps are chosen by the states and the adjoint alone, not by
    the parameters' part, which feeds nothing back (Kidger, Chen and Lyons 2021).

    Args:
        f: as `odeint` takes it, often a module.
        y0: as `odeint` takes it, and so are the next six.
        t: likewise.
        rtol: likewise.
        atol: likewise.
        method: likewise.
        step_size: likewise.
        max_steps: likewise, and of each part of the way back.
        adjoint_rtol: tolerance on the way back, > 0; None: `rtol`.
        adjoint_atol: likewise; None: `atol`.
        adjoint_params: what `f` has learned; None: the parameters of `f`, which is a module then.

    Returns:
        The states at the times `t`.

    Raises:
        StepUnderflow: as in `odeint`, on either way.
        TooManySteps: likewise.

    Example:
        >>> field = nn.Linear(2, 2)
        >>> times = torch.tensor([0.0, 0.5])
        >>> end = odeint_adjoint(lambda t, y: field(y), torch.ones(3, 2), times,
        ...                      adjoint_params=field.parameters())[-1]
        >>> end.sum().backward()
        >>> field.weight.grad.shape
        torch.Size([2, 2])

    Source: Chen et al. 2018, algorithm 2 of the appendix; Pontryagin et al. 1962.
    """
    how = settings(rtol, atol, method, step_size, max_steps)
    back = settings(
        rtol if adjoint_rtol is None else checks.number("adjoint_rtol", adjoint_rtol, above=0),
        atol if adjoint_atol is None else checks.number("adjoint_atol", adjoint_atol, above=0),
        method, step_size, max_steps,
    )  # fmt: skip
    if adjoint_params is None:
        if not callable(f):
            raise TypeError(
                f"f must be a function of time and state, got {type(f).__name__}"
            )
        if not isinstance(f, nn.Module):
            raise ValueError(
                "adjoint_params must list what f has learned: f is no torch.nn.Module"
            )
        adjoint_params = f.parameters()
    learned = tuple(adjoint_params)
    for at, value in enumerate(learned):
        checks.tensor(f"adjoint_params[{at}]", value)
    once = dict.fromkeys(learned)  # one that is named twice would count twice
    learned = tuple(value for value in once if value.requires_grad)
    state("y0", y0)
    return _Adjoint.apply(f, y0, t, grid(t), how, back, *learned)


class _Adjoint(torch.autograd.Function):
    """A solver whose gradient is a solver."""

    @staticmethod
    def forward(
        ctx: Any,
        f: Field,
        y0: Tensor,
        t: Tensor,
        times: list[float],
        how: Settings,
        back: Settings,
        *learned: Tensor,
    ) -> Tensor:
        with torch.no_grad():
            y = torch.stack(march(f, y0, times, how).states)
        ctx.f, ctx.times, ctx.how, ctx.moves = f, times, back, t.requires_grad
        ctx.dtype, ctx.device = t.dtype, t.device
        ctx.save_for_backward(y, *learned)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        y, *learned = ctx.saved_tensors
        f, times = ctx.f, ctx.times
        totals = [torch.zeros_like(value) for value in learned]
        speeds = [0.0] * len(times)
        a, step = grad[-1], None
        for at in range(len(times) - 1, 0, -1):
            if ctx.moves:  # eq. neural-ode-times
                speeds[at] = float((grad[at] * _slope_at(f, times[at], y[at])).sum())
            both = torch.stack([y[at], a])
            span = (times[at], times[at - 1])
            seen = step_through(_backward_field(f, learned), both, span, ctx.how, step)
            a, step = seen.states[-1][1], seen.step
            for total, part in zip(totals, seen.totals, strict=True):
                total.add_(part)
            if at == 1 and ctx.moves:
                speeds[0] = -float((a * _slope_at(f, times[0], y[0])).sum())
            a = a + grad[at - 1]  # the loss looks at that state, too
        moved = (
            torch.tensor(speeds, dtype=ctx.dtype, device=ctx.device)
            if ctx.moves
            else None
        )
        return (None, a, moved, None, None, None, *totals)


def _slope_at(f: Field, t: float, y: Tensor) -> Tensor:
    with torch.no_grad():
        return slope(f, y.new_tensor(t), y)


def _backward_field(f: Field, learned: Sequence[Tensor]) -> Any:
    """Return the field of the state, the adjoint, and of the parameters' part as a quadrature."""

    def slopes(t: Tensor, both: Tensor) -> Slope:
        y, a = both[0].detach().requires_grad_(), both[1]
        with torch.enable_grad():
            speed = slope(f, t, y)
        if speed.requires_grad:
            wanted = (y, *learned)
            pulled = torch.autograd.grad(speed, wanted, -a, materialize_grads=True)
        else:
            pulled = tuple(torch.zeros_like(value) for value in (y, *learned))
        # eq. neural-ode-adjoint and neural-ode-gradient
        return torch.stack([speed.detach(), pulled[0]]), pulled[1:]

    return slopes
