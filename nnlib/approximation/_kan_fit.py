r"""Grids of a KAN that follow its data, and splines fitted by least squares.

Axes: b examples, i inputs, o outputs, c coefficients.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.approximation._kan_splines import bspline_basis


def fit_spline(
    x: Float[Tensor, "b i"],
    y: Float[Tensor, "b o i"],
    knots: Float[Tensor, "i m"],
    k: int = 3,
) -> Float[Tensor, "o i c"]:
    """Return the coefficients whose splines are nearest to given curves, by least squares.

    Solved in float64 by singular values: where the examples leave a coefficient open, the smallest
    solution is taken.

    Args:
        x: where, one column an input.
        y: the values there of each curve, one for each output and input.
        knots: of each input.
        k: order of the polynomials.

    Example:
        >>> x, knots = torch.linspace(-1, 1, 50)[:, None], torch.linspace(-4, 4, 9)[None]
        >>> coef = fit_spline(x, x[:, None] ** 2, knots)
        >>> spline = torch.einsum("bic,oic->boi", bspline_basis(x, knots), coef)
        >>> bool((spline - x[:, None] ** 2).abs().max() < 1e-5)
        True
    """
    checks.tensor("x", x, shape=("b", "i"), floating=True, finite=True, empty=False)
    checks.tensor("y", y, shape=(len(x), "o", x.shape[1]), floating=True, finite=True)
    basis = bspline_basis(x.detach().double(), knots.double(), k).transpose(0, 1)
    curves = y.detach().double().permute(2, 0, 1)
    solved = torch.linalg.lstsq(basis.cpu(), curves.cpu(), driver="gelsd").solution
    return solved.permute(2, 0, 1).contiguous().to(y)


def sample_grid(
    x: Float[Tensor, "b i"], grid: int, eps: float = 0.02
) -> Float[Tensor, "i g"]:
    r"""Return a grid of each input that follows its examples (equation `kan-grid`).

    Args:
        x: examples, one column an input; more than `grid` of them.
        grid: G, the number of intervals, ≥ 1.
        eps: 1 spaces the grid evenly between the least and the greatest, 0 puts equally many
            examples into each interval, and what lies between mixes both.

    Raises:
        ValueError: too few examples, or an input with one value only, which spans no grid; or so
            many equal values, with eps = 0, that an interval has no width.

    Example:
        >>> sample_grid(torch.tensor([[0.0], [1.0], [2.0], [10.0]]), 2, eps=0.0)
        tensor([[ 0.,  2., 10.]])
    """
    grid = checks.count("grid", grid)
    eps = checks.number("eps", eps, least=0, most=1)
    checks.tensor("x", x, shape=("b", "i"), floating=True, finite=True)
    if len(x) <= grid:
        raise ValueError(
            f"x has {len(x)} examples, grid={grid} intervals need {grid + 1} or more"
        )
    rising = x.detach().sort(0).values.mT
    share = torch.arange(grid + 1, device=x.device) / grid
    places = [int(len(x) / grid * at) for at in range(grid)] + [len(x) - 1]
    quantiles = rising[:, places]
    low, high = rising[:, :1], rising[:, -1:]
    even = low + (high - low) * share.to(x)
    mixed = eps * even + (1 - eps) * quantiles  # eq. kan-grid
    mixed[:, 0], mixed[:, -1] = (
        low[:, 0],
        high[:, 0],
    )  # whatever rounding has made of them
    if checks.readable(mixed) and not bool((mixed.diff(dim=1) > 0).all()):
        flat = int((mixed.diff(dim=1) > 0).all(1).logical_not().nonzero()[0])
        raise ValueError(
            f"x has too many equal values in input {flat} for grid={grid} at eps={eps:g}"
        )
    return mixed


def finer_grid(points: Float[Tensor, "i g"], grid: int) -> Float[Tensor, "i n"]:
    """Return a grid of other many intervals with the same ends and the same crowding.

    Its points are read off the old ones by linear interpolation; if `grid` is a multiple of the old
    number, all old points stay.

    Args:
        points: the old grid of each input.
        grid: the new number of intervals, ≥ 1.
    """
    grid = checks.count("grid", grid)
    checks.tensor("points", points, shape=("i", "g"), floating=True)
    if points.shape[1] < 2:
        raise ValueError(f"points has {points.shape[1]} an input, it needs 2 or more")
    old = points.shape[1] - 1
    at = torch.arange(grid + 1, device=points.device) * old
    below = (at // grid).clamp(max=old - 1)
    share = ((at - below * grid) / grid).to(points)
    return points[:, below] * (1 - share) + points[:, below + 1] * share
