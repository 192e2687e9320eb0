r"""Fitting the laws: regression on logarithms, a robust fit of sums of powers, three ways to a*.

Part of `nnlib.language.scaling_laws`, with its axes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nnlib import checks
from nnlib.language._scaling_forms import ParametricLaw, PowerLaw, positive
from nnlib.language._scaling_solver import descend, huber, solve

LEAST = 1e-6
"""An exponent that small is none: the losses do not fall."""


def fit_power_law(
    x: Float[Tensor, " n"], y: Float[Tensor, " n"], *, floor: bool = False
) -> PowerLaw:
    r"""Return the power law nearest to the points, by least squares on logarithms.

    Without a floor this is a regression, $\log y = \log A + p \log x$ (`scaling-laws-regression`).

    Args:
        x: sizes, > 0, two different ones or more; three with a floor.
        y: what was measured there, > 0.
        floor: whether a constant E is fitted, too.

    Returns:
        The constants; with a floor that the points do not call for, E is near 0.

    Raises:
        ValueError: fewer different points than constants.

    Example:
        >>> x = torch.tensor([1.0, 4.0, 16.0, 64.0])
        >>> law = fit_power_law(x, 1 + 8 * x**-0.5, floor=True)
        >>> round(law.coefficient, 3), round(law.exponent, 3), round(law.floor, 3)
        (8.0, -0.5, 1.0)
    """
    x, y = _columns(x=x, y=y)
    constants = 3 if checks.flag("floor", floor) else 2
    _enough("x", x, constants, constants)
    log_x, log_y = x.log(), y.log()
    ones = torch.ones_like(x)
    line = torch.linalg.lstsq(torch.stack([ones, log_x], 1), log_y[:, None]).solution
    intercept, slope = line[:, 0].tolist()
    if not floor:
        return PowerLaw(
            float(torch.tensor(intercept, dtype=torch.float64).exp()), slope
        )
    zeros = torch.zeros_like(x)
    terms = torch.stack(
        [torch.stack([ones, log_x, zeros], 1), torch.stack([zeros, zeros, ones], 1)]
    )
    starts = []
    for share in (0.02, 0.2, 0.5, 0.8, 0.95):
        floor_at = share * y.min()
        rest = (y - floor_at).log()
        begin = torch.linalg.lstsq(
            torch.stack([ones, log_x], 1), rest[:, None]
        ).solution
        starts.append(torch.cat([begin[:, 0], floor_at.log()[None]]))
    best = solve(terms, log_y, torch.stack(starts), delta=None)
    a, p, e = best.tolist()
    return PowerLaw(_exp(a), p, _exp(e))


def fit_parametric(
    parameters: Float[Tensor, " n"],
    tokens: Float[Tensor, " n"],
    losses: Float[Tensor, " n"],
    *,
    delta: float = 1e-3,
) -> ParametricLaw:
    r"""Return the constants of $E + A/N^\alpha + B/D^\beta$ nearest to the runs.

    The least sum of Huber's losses of the differences of logarithms, from many starts:
    `scaling-laws-huber`.

    Args:
        parameters: N of each run, > 0, three different ones or more.
        tokens: D of each run, > 0, likewise.
        losses: L of each run, > 0, in nats.
        delta: where Huber's loss turns from squares to absolute values, > 0.

    Raises:
        ValueError: fewer than the five runs that five constants need, or sizes too much alike.

    Example:
        >>> law = ParametricLaw(1.7, 400.0, 2000.0, 0.35, 0.36)
        >>> n = torch.tensor([1e8, 1e9, 1e10], dtype=torch.float64).repeat(3)
        >>> d = torch.tensor([1e9, 1e10, 1e11], dtype=torch.float64).repeat_interleave(3)
        >>> fitted = fit_parametric(n, d, law(n, d))
        >>> round(fitted.floor, 3), round(fitted.alpha, 3), round(fitted.beta, 3)
        (1.7, 0.35, 0.36)

    Source: Hoffmann et al. 2022, approach 3. They add the losses up; see Besiroglu et al. 2024 for
    what a mean does to an optimizer that stops at a fixed difference.
    """
    n, d, losses = _runs(parameters, tokens, losses)
    delta = checks.number("delta", delta, above=0)
    terms, log_l = _parametric_terms(n, d), losses.log()
    theta = solve(terms, log_l, _parametric_starts(n, d, losses), delta, _FALLING)
    if theta[1] <= LEAST or theta[3] <= LEAST:
        raise ValueError(
            "losses must fall with parameters and with tokens, and they do not"
        )
    return _law(theta)


def resample_parametric(
    parameters: Float[Tensor, " n"],
    tokens: Float[Tensor, " n"],
    losses: Float[Tensor, " n"],
    resamples: int = 100,
    *,
    delta: float = 1e-3,
    seed: int = 0,
) -> list[ParametricLaw]:
    """Return the fits to runs drawn with replacement: how much the constants hang on the runs.

    Args:
        parameters: as for `fit_parametric`.
        tokens: likewise.
        losses: likewise.
        resamples: how many draws, ≥ 1.
        delta: as for `fit_parametric`.
        seed: of the draws, ≥ 0.

    Source: Efron 1979, the bootstrap.
    """
    n, d, losses = _runs(parameters, tokens, losses)
    delta = checks.number("delta", delta, above=0)
    resamples = checks.count("resamples", resamples)
    draw = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    drawn = torch.randint(len(n), (resamples, len(n)), generator=draw)
    counts = torch.zeros(resamples, len(n), dtype=n.dtype)
    counts.scatter_add_(1, drawn, torch.ones_like(counts))
    terms, log_l = _parametric_terms(n, d), losses.log()
    whole = solve(terms, log_l, _parametric_starts(n, d, losses), delta, _FALLING)
    starts = whole.expand(resamples, -1)
    found, _ = descend(terms, log_l, starts, delta, counts, _FALLING)
    return [_law(theta) for theta in found]


def huber_objective(
    law: ParametricLaw,
    parameters: Float[Tensor, " n"],
    tokens: Float[Tensor, " n"],
    losses: Float[Tensor, " n"],
    *,
    delta: float = 1e-3,
) -> Float[Tensor, ""]:
    """Return what `fit_parametric` makes small: `scaling-laws-huber`.

    Args:
        law: the constants.
        parameters: as for `fit_parametric`.
        tokens: likewise.
        losses: likewise.
        delta: likewise.
    """
    if not isinstance(law, ParametricLaw):
        raise TypeError(f"law must be a ParametricLaw, got {type(law).__name__}")
    n, d, losses = _runs(parameters, tokens, losses)
    delta = checks.number("delta", delta, above=0)
    return huber(law(n, d).log() - losses.log(), delta).sum()


def frontier(
    compute: Float[Tensor, " n"], losses: Float[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Return which runs no run of the same or less compute beats: the lower envelope.

    Args:
        compute: FLOPs of each run, > 0.
        losses: of each run, > 0.

    Example:
        >>> frontier(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 3.0, 4.0, 2.0]))
        tensor([ True,  True, False,  True])

    Source: Hoffmann et al. 2022, approach 1.
    """
    c, losses = _columns(compute=compute, losses=losses)
    cheaper = c[None, :] <= c[:, None]
    better = losses[None, :] < losses[:, None]
    return ~(cheaper & better).any(1)


class IsoflopMinimum(NamedTuple):
    """The lowest point of a parabola through the losses of models at one budget."""

    parameters: float
    loss: float
    inside: bool
    """Whether models on both sides of it were trained; otherwise it is a guess."""


def isoflop_minimum(
    parameters: Float[Tensor, " n"], losses: Float[Tensor, " n"]
) -> IsoflopMinimum:
    r"""Return where a parabola in log N is lowest: equation `scaling-laws-parabola`.

    Args:
        parameters: N of each model, > 0, three different ones or more, trained with equal compute.
        losses: of each, > 0.

    Raises:
        ValueError: fewer than three sizes, or losses that do not curve upwards.

    Example:
        >>> n = torch.tensor([1e6, 1e7, 1e8])
        >>> isoflop_minimum(n, 3 + (n.log10() - 7) ** 2).parameters
        10000000.0

    Source: Hoffmann et al. 2022, approach 2.
    """
    n, losses = _columns(parameters=parameters, losses=losses)
    _enough("parameters", n, 3, 3)
    middle = n.log().mean()
    x = n.log() - middle
    design = torch.stack([torch.ones_like(x), x, x * x], 1)
    c, b, a = torch.linalg.lstsq(design, losses[:, None]).solution[:, 0].tolist()
    if a <= 0:
        raise ValueError(
            "losses must curve upwards in log N: there is no minimum between them"
        )
    vertex = _exp(-b / (2 * a) + float(middle))
    inside = bool(n.min() < vertex < n.max())
    return IsoflopMinimum(round(vertex, 6), c - b * b / (4 * a), inside)


# ------------------------------------------------------------------------------ the parametric law
_FALLING = torch.tensor(
    [-torch.inf, LEAST, -torch.inf, LEAST, -torch.inf], dtype=torch.float64
)
"""Bounds of a, α, b, β and e."""


def _parametric_terms(n: Tensor, d: Tensor) -> Tensor:
    """Return the three terms a − α log N, b − β log D, e, in the order a, α, b, β, e."""
    one, zero = torch.ones_like(n), torch.zeros_like(n)
    return torch.stack(
        [
            torch.stack([one, -n.log(), zero, zero, zero], 1),
            torch.stack([zero, zero, one, -d.log(), zero], 1),
            torch.stack([zero, zero, zero, zero, one], 1),
        ]
    )


def _parametric_starts(n: Tensor, d: Tensor, losses: Tensor) -> Tensor:
    """Return starts in which the two powers share what is above a floor, for many exponents."""
    starts = []
    for alpha in (0.1, 0.3, 0.6, 1.0):
        for beta in (0.1, 0.3, 0.6, 1.0):
            for share in (0.1, 0.5, 0.9):
                floor = share * losses.min()
                half = (losses - floor).log().mean() - torch.tensor(2.0).log()
                a = half + alpha * n.log().mean()
                b = half + beta * d.log().mean()
                starts.append([float(a), alpha, float(b), beta, float(floor.log())])
    return torch.tensor(starts, dtype=n.dtype)


def _law(theta: Tensor) -> ParametricLaw:
    a, alpha, b, beta, e = theta.tolist()
    return ParametricLaw(_exp(e), _exp(a), _exp(b), alpha, beta)


def _exp(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).clamp(-700, 700).exp())


def _runs(
    parameters: Tensor, tokens: Tensor, losses: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three columns in float64 when they determine five constants."""
    n, d, losses = _columns(parameters=parameters, tokens=tokens, losses=losses)
    _enough("parameters", n, 5, 3)
    _enough("tokens", d, 5, 3)
    return n, d, losses


def _columns(**given: Tensor) -> list[Tensor]:
    """Return columns of equal length and of positive numbers, in float64."""
    length = None
    for name, column in given.items():
        checks.tensor(
            name, column, shape=("n" if length is None else length,), floating=True
        )
        length = len(column)
        positive(name, column)
    return [column.detach().cpu().double() for column in given.values()]


def _enough(name: str, column: Tensor, points: int, different: int) -> None:
    """Refuse fewer points, or fewer different ones, than there are constants to fit."""
    if len(column) < points:
        raise ValueError(
            f"{name} holds {len(column)} points, fewer than {points} constants need"
        )
    found = len(column.unique())
    if found < different:
        raise ValueError(
            f"{name} must take {different} different values or more, got {found}"
        )
