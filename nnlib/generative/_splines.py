"""A monotonic rational-quadratic spline and its inverse, both in closed form.

Axes: n examples, d features, k bins.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

LEAST = 1e-3
"""The least width and height of a bin, as a share of all, and the least slope at a knot."""


def spline(
    x: Float[Tensor, "*n"],
    widths: Float[Tensor, "*n k"],
    heights: Float[Tensor, "*n k"],
    slopes: Float[Tensor, "*n k1"],
    bound: float = 3.0,
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    r"""Return a monotone rational-quadratic spline of x, and the logarithm of its slope.

    In a bin of width $w$ and height $h$ with $\sigma = h / w$, slopes $\delta_0$ and $\delta_1$ at
    its ends and $\xi = (x - x_0)/w$ (equations `normalizing-flow-spline` and
    `normalizing-flow-spline-slope`):
    $y = y_0 + h\,\dfrac{\sigma\xi^2 + \delta_0\xi(1-\xi)}
    {\sigma + (\delta_0 + \delta_1 - 2\sigma)\xi(1-\xi)}$.
    Outside $[-B, B]$ it is the identity: linear tails, of slope 1.

    Args:
        x: any numbers.
        widths: before a softmax, one for each bin, k ≥ 2.
        heights: likewise.
        slopes: at the k − 1 inner knots, before a softplus; zeros give slope 1.
        bound: B > 0.

    Returns:
        Values, and logarithms of the derivative.

    Example:
        >>> y, log_slope = spline(torch.tensor([0.5]), *torch.zeros(1, 23).split([8, 8, 7], 1))
        >>> y, log_slope.abs() < 1e-6  # all zeros: the identity
        (tensor([0.5000]), tensor([True]))

    Source: Durkan et al. 2019; the interpolant: Gregory and Delbourgo 1982.
    """
    inside, x_in = _inside(x, bound)
    x0, w, y0, h, d0, d1 = _bin(x_in, widths, heights, slopes, bound, by=0)
    sigma, xi = h / w, ((x_in - x0) / w).clamp(0, 1)
    y, log_slope = _piece(xi, sigma, y0, h, d0, d1)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def spline_inverse(
    y: Float[Tensor, "*n"],
    widths: Float[Tensor, "*n k"],
    heights: Float[Tensor, "*n k"],
    slopes: Float[Tensor, "*n k1"],
    bound: float = 3.0,
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return the x whose `spline` is y, and the logarithm of the slope of this inverse.

    In each bin y gives a quadratic equation for ξ, whose root in [0, 1] is computed in the form
    that does not cancel. Arguments are those of `spline`.
    """
    inside, y_in = _inside(y, bound)
    x0, w, y0, h, d0, d1 = _bin(y_in, widths, heights, slopes, bound, by=1)
    sigma, up = h / w, (y_in - y0).clamp(min=0)
    both = d0 + d1 - 2 * sigma
    a = h * (sigma - d0) + up * both  # eq. normalizing-flow-spline-root
    b = h * d0 - up * both
    c = -sigma * up
    root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
    xi = (2 * c / (-b - root)).clamp(0, 1)
    _, log_slope = _piece(xi, sigma, y0, h, d0, d1)
    x = x0 + xi * w
    return torch.where(inside, x, y), torch.where(inside, -log_slope, 0.0)


def _piece(
    xi: Tensor, sigma: Tensor, y0: Tensor, h: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the interpolant at ξ within a bin and the logarithm of its slope."""
    mid = xi * (1 - xi)
    below = sigma + (d0 + d1 - 2 * sigma) * mid
    y = y0 + h * (sigma * xi.square() + d0 * mid) / below  # eq. normalizing-flow-spline
    above = d1 * xi.square() + 2 * sigma * mid + d0 * (1 - xi).square()
    log_slope = 2 * sigma.log() + above.log() - 2 * below.log()
    return y, log_slope  # eq. normalizing-flow-spline-slope


def _inside(x: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Return where x lies between the tails, and x with 0 for what lies in them.

    What lies outside is replaced before anything is computed: a gradient through a NaN is NaN,
    even where its value is not taken.
    """
    bound = checks.number("bound", bound, above=0)
    inside = (x > -bound) & (x < bound)
    return inside, torch.where(inside, x, 0.0)


def _bin(
    value: Tensor,
    widths: Tensor,
    heights: Tensor,
    slopes: Tensor,
    bound: float,
    by: int,
) -> tuple[Tensor, ...]:
    """Return x₀, w, y₀, h, δ₀, δ₁ of the bin in which the value lies, an x or (`by=1`) a y."""
    k = widths.shape[-1]
    for name, raw, numbers in (
        ("widths", widths, k), ("heights", heights, k), ("slopes", slopes, k - 1),
    ):  # fmt: skip
        checks.tensor(name, raw, shape=(*value.shape, numbers), floating=True)
    # bins first: a softmax over a short last axis is slow
    w, h, raw = (part.movedim(-1, 0) for part in (widths, heights, slopes))
    shares = LEAST + (1 - LEAST * k) * torch.stack([w, h]).softmax(1)
    zeros = torch.zeros_like(shares[:, :1])
    # the last end is set and not summed: exactly B, whatever rounding says
    ends = torch.cat([zeros, shares.cumsum(1)[:, :-1], zeros + 1], 1)
    raw = torch.cat([zeros[0], raw, zeros[0]])[None]
    knots = torch.cat([2 * bound * ends - bound, raw])
    at = (value >= knots[by, 1:-1]).sum(0)
    both = torch.stack([at, at + 1]).expand(3, 2, *value.shape)
    (x0, y0, raw0), (x1, y1, raw1) = knots.gather(1, both).unbind(1)
    d0, d1 = _slope(raw0), _slope(raw1)
    return x0, x1 - x0, y0, y1 - y0, d0, d1


def _slope(raw: Tensor) -> Tensor:
    """Return a slope above `LEAST`, which is 1 for 0: at the outer knots, as in the tails."""
    return LEAST + F.softplus(raw + math.log(math.expm1(1 - LEAST)))
