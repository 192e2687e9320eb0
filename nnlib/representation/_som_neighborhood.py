"""How strongly the neighbours of a winner learn with it, and how rate and radius decay.

Axes: u units, t steps.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

KINDS = ("gaussian", "bubble")
DECAYS = ("exponential", "linear", "inverse")
FLOOR = 1e-15  # a smaller radius changes nothing: the next unit's share is 0 in any precision


def log_neighborhood(
    distance: Float[Tensor, "*u"], sigma: float, kind: str = "gaussian"
) -> Float[Tensor, "*u"]:
    r"""Return $\ln h$: $-d^2/2\sigma^2$ for a Gaussian; 0 within the radius and −∞ beyond."""
    sigma = min(max(sigma, FLOOR), 1 / FLOOR)
    if kind == "bubble":
        return torch.where(distance <= sigma, 0.0, -torch.inf).to(distance)
    return distance.square() * (-0.5 / sigma**2)  # eq. self-organizing-map-gaussian


def neighborhood(
    distance: Float[Tensor, "*u"], sigma: float, kind: str = "gaussian"
) -> Float[Tensor, "*u"]:
    r"""Return $h$, how strongly a unit at a distance from the winner learns with it.

    $$ h = \exp(-d^2 / 2\sigma^2) $$

    (equation `self-organizing-map-gaussian`).

    Args:
        distance: between units on the grid, ≥ 0.
        sigma: the radius, > 0, in distances between two units of a row. Below 1e-15 it is taken as
            that, where the winner already learns alone; above 1e15 likewise, where all do.
        kind: `gaussian`, or `bubble`: 1 up to the radius, and 0 beyond.

    Example:
        >>> neighborhood(torch.tensor([0.0, 1.0, 2.0]), sigma=1.0)
        tensor([1.0000, 0.6065, 0.1353])
    """
    checks.tensor("distance", distance, floating=True)
    checks.number("sigma", sigma, above=0)
    checks.one_of("kind", kind, KINDS)
    return log_neighborhood(distance, sigma, kind).exp()


def decay(
    start: float, end: float, steps: int, kind: str = "exponential"
) -> Float[Tensor, " t"]:
    r"""Return values that fall from `start` to `end`, one for each step.

    $$ \sigma_t = \sigma_0\, (\sigma_{T-1} / \sigma_0)^{t / (T - 1)} $$

    (equation `self-organizing-map-schedule`, the exponential one).

    Args:
        start: the value of the first step, > 0.
        end: that of the last, > 0.
        steps: T ≥ 1; a single step has `start`.
        kind: `exponential`, `linear`, or `inverse`, which falls like 1/(1 + a t).

    Example:
        >>> decay(8.0, 1.0, 4)
        tensor([8., 4., 2., 1.], dtype=torch.float64)
    """
    checks.number("start", start, above=0)
    checks.number("end", end, above=0)
    steps = checks.count("steps", steps)
    checks.one_of("kind", kind, DECAYS)
    share = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    if kind == "linear":
        return start + (end - start) * share
    if kind == "inverse":
        return start / (1 + (start / end - 1) * share)
    return start * (end / start) ** share  # eq. self-organizing-map-schedule


def per_step(
    name: str, given: Any, steps: int, kind: str, *, most: float | None = None
) -> Float[Tensor, " t"]:
    """Return a value for each step, from its two ends or from values that were given.

    Args:
        name: of the argument, for a message.
        given: (start, end), a single number, or a tensor of as many values as steps.
        steps: how many.
        kind: of decay.
        most: what no value may exceed.
    """
    if isinstance(given, Tensor):
        checks.tensor(name, given, shape=(steps,), floating=True, finite=True)
        values = given.detach().to("cpu", torch.float64)
        for value in (float(values.min()), float(values.max())):
            checks.number(name, value, above=0, most=most)
        return values
    ends = given if isinstance(given, tuple | list) else (given, given)
    if len(ends) != 2:
        raise ValueError(f"{name}={given!r} must be a number, (start, end) or a tensor")
    start, end = (checks.number(name, value, above=0, most=most) for value in ends)
    return decay(start, end, steps, kind)
