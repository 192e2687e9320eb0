r"""Reading a formula off an edge: which known function, moved and scaled, is its curve?"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "x²": torch.square,
    "x³": lambda x: x**3,
    "sin": torch.sin,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "|x|": torch.abs,
    "sqrt": torch.sqrt,
    "log": torch.log,
    "1/x": torch.reciprocal,
}
"""What an edge is compared with; where one is not defined, as the log below zero, it is no fit."""

STEPS, ROUNDS = 41, 6


class Reading(NamedTuple):
    """A curve as `a * f(b * x + c) + d`, and the share of its variance that this explains."""

    name: str
    r2: float
    a: float
    b: float
    c: float
    d: float


def symbolic_fit(
    x: Float[Tensor, " n"],
    y: Float[Tensor, " n"],
    functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    reach: float = 10.0,
) -> list[Reading]:
    r"""Return how well known functions explain a curve, the best first (equation `kan-symbolic`).

    For each function, b and c are searched on a grid that is laid ever finer round its best point;
    a and d then follow by linear regression.

    Args:
        x: where, three points or more.
        y: the values of the curve there, not all equal.
        functions: name → function of a tensor; `FUNCTIONS` if None.
        reach: b and c are looked for between -reach and reach, > 0.

    Returns:
        A `Reading` for each function, by falling R²; -inf for one that is defined nowhere within
        reach.

    Example:
        >>> x = torch.linspace(-1, 1, 50)
        >>> best = symbolic_fit(x, 3 * torch.sin(2 * x) + 1)[0]
        >>> best.name, round(best.r2, 4)
        ('sin', 1.0)

    Source: Liu et al. 2024, `suggest_symbolic`; their a and b, c and d change places here.
    """
    checks.tensor("x", x, shape=("n",), floating=True, finite=True)
    checks.tensor("y", y, shape=(len(x),), floating=True, finite=True)
    reach = checks.number("reach", reach, above=0)
    if len(x) < 3:
        raise ValueError(f"x has {len(x)} points, a fit needs 3 or more")
    if checks.readable(y) and bool(y.max() == y.min()):
        raise ValueError("y must not be constant: there is no variance to explain")
    library = FUNCTIONS if functions is None else functions
    held = x.detach().double(), y.detach().double()
    found = [_read(name, f, *held, reach) for name, f in library.items()]
    return sorted(found, key=lambda reading: -reading.r2)


def _read(
    name: str, f: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, reach: float
) -> Reading:
    """Search b and c, each round of the search a tenth as wide as the one before."""
    b = c = 0.0
    offsets = torch.linspace(-1, 1, STEPS, dtype=x.dtype, device=x.device)
    centred = y - y.mean()
    for _ in range(ROUNDS):
        slopes, shifts = b + reach * offsets, c + reach * offsets
        values = f(slopes[:, None, None] * x + shifts[:, None])
        off = values - values.mean(-1, keepdim=True)
        spread = off.square().sum(-1)
        r2 = (off @ centred).square() / (spread * centred.square().sum())
        known = r2.isfinite() & (spread > 1e-12 * values.square().sum(-1))
        best = int(torch.where(known, r2, -1.0).argmax())
        b, c = float(slopes[best // STEPS]), float(shifts[best % STEPS])
        reach /= STEPS // 4
    values = f(b * x + c)
    off = values - values.mean()
    spread = off.square().sum()
    a = float((off @ centred) / spread) if bool(spread > 0) else 0.0
    d = float(y.mean() - a * values.mean())
    left = (y - a * values - d).square().sum()
    share = float(1 - left / centred.square().sum())
    return Reading(name, -math.inf if math.isnan(share) else share, a, b, c, d)
