r"""B-splines: bumps of piecewise polynomials, by the recursion, and by its k + 1 that are not zero.

Axes: b examples, i inputs, m knots (m - k - 1 basis functions), all of an input in one row.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def bspline_basis(
    x: Float[Tensor, "b i"], knots: Float[Tensor, "i m"], k: int = 3
) -> Float[Tensor, "b i c"]:
    r"""Return the values of all B-splines of order k, $B_{m,k}(x)$ (equation `kan-recursion`).

    Each is zero beyond its own k + 2 knots, so at most k + 1 are not zero anywhere; only these are
    computed. Before the first knot, and from the last one on, all are zero. Where a graph is
    compiled or exported, the recursion `bspline_recursion` stands in, with the same values.
    Differentiable in x, as often as one likes; knots are constants.

    Args:
        x: where, one column an input.
        knots: of each input, rising; k + 2 or more.
        k: order of the polynomials, ≥ 0; 3 is cubic.

    Returns:
        One value a basis function: m - k - 1 for each input.

    Raises:
        ValueError: fewer knots than the order needs, or knots that do not rise.

    Example:
        >>> knots = torch.arange(5.0)[None]
        >>> bspline_basis(torch.tensor([[1.0], [2.0]]), knots, 3).flatten()
        tensor([0.1667, 0.6667])

    Source: Cox 1972; de Boor 1972.
    """
    knots, k = _held(x, knots, k)
    if x.requires_grad and torch.is_grad_enabled():
        return _Basis.apply(x, knots, k)
    return _values(x, knots, k)


def bspline_recursion(
    x: Float[Tensor, "b i"], knots: Float[Tensor, "i m"], k: int = 3
) -> Float[Tensor, "b i c"]:
    """Return what `bspline_basis` does, by the recursion itself: slow, and easy to read.

    Args:
        x: where, one column an input.
        knots: of each input, rising; k + 2 or more.
        k: order of the polynomials, ≥ 0.
    """
    knots, k = _held(x, knots, k)
    return _recursion(x, knots, k)


def _recursion(x: Tensor, knots: Tensor, k: int) -> Tensor:
    x, t = x[..., None], knots
    basis = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)  # eq. kan-indicator
    for d in range(1, k + 1):
        rising = (x - t[:, : -d - 1]) / (t[:, d:-1] - t[:, : -d - 1])
        falling = (t[:, d + 1 :] - x) / (t[:, d + 1 :] - t[:, 1:-d])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]  # eq. kan-recursion
    return basis


def bspline_derivative(
    x: Float[Tensor, "b i"], knots: Float[Tensor, "i m"], k: int = 3
) -> Float[Tensor, "b i c"]:
    """Return the slope of each B-spline, from those of order k - 1 (equation `kan-derivative`).

    Args:
        x: where, one column an input.
        knots: of each input, rising; k + 2 or more.
        k: order of the polynomials, ≥ 0.
    """
    knots, k = _held(x, knots, k)
    if k == 0:
        return x.new_zeros(*x.shape, knots.shape[1] - 1)
    lower = bspline_basis(x, knots, k - 1)
    slopes = k / (knots[:, k:] - knots[:, :-k])
    return (
        slopes[:, :-1] * lower[..., :-1] - slopes[:, 1:] * lower[..., 1:]
    )  # eq. kan-derivative


def uniform_knots(grid: Tensor, k: int) -> Tensor:
    """Return a grid of each input with k more knots on both sides, one mean interval apart.

    Args:
        grid: G + 1 rising points of each input, one row an input.
        k: order of the polynomials, ≥ 0.
    """
    k = checks.count("k", k, least=0)
    checks.tensor("grid", grid, shape=("i", "g"), floating=True)
    if grid.shape[1] < 2:
        raise ValueError(
            f"grid has {grid.shape[1]} points an input, it needs 2 or more"
        )
    step = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
    beyond = step * torch.arange(1, k + 1, device=grid.device, dtype=grid.dtype)
    return torch.cat([grid[:, :1] - beyond.flip(1), grid, grid[:, -1:] + beyond], 1)


def _held(x: Tensor, knots: Tensor, k: int) -> tuple[Tensor, int]:
    """Hold the arguments of a basis to what it takes."""
    k = checks.count("k", k, least=0)
    checks.tensor("x", x, shape=("b", "i"), floating=True)
    checks.tensor("knots", knots, shape=(x.shape[1], "m"), floating=True)
    if knots.shape[1] < k + 2:
        raise ValueError(
            f"knots has {knots.shape[1]} points an input, order k={k} needs {k + 2} or more"
        )
    if checks.readable(knots) and not bool((knots.diff(dim=1) > 0).all()):
        raise ValueError("knots must rise from each point to the next, in every row")
    return knots, k


def _values(x: Tensor, knots: Tensor, k: int) -> Tensor:
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or x.is_meta:
        return _recursion(x, knots, k)
    return _local(x, knots, k)


def _local(x: Tensor, knots: Tensor, k: int) -> Tensor:
    """Compute the k + 1 B-splines that are not zero at x, and put them into their places.

    With k further knots on each side, whose values none of the wanted functions depends on, every
    interval has k + 1; those which the input does not have go into a row that is cut off. In
    memory examples stand last, so that each step runs over long rows.
    """
    count = knots.shape[1] - k - 1
    padded = uniform_knots(knots, k).contiguous()
    rows = x.mT.contiguous()
    after = torch.searchsorted(
        knots.contiguous(), rows, right=True
    )  # knots at or before x
    inside = (after > 0) & (after < knots.shape[1])
    at = after.clamp(1, knots.shape[1] - 1) + (k - 1)
    left = [rows - padded.gather(1, at - d) for d in range(k)]
    right = [padded.gather(1, at + 1 + d) - rows for d in range(k)]
    values = [torch.ones_like(rows)]
    for d in range(k):  # from order d to d + 1
        parts = [values[r] / (right[r] + left[d - r]) for r in range(d + 1)]
        rising = [left[d - r] * parts[r] for r in range(d + 1)]
        falling = [right[r] * parts[r] for r in range(d + 1)]
        shared = [rising[r] + falling[r + 1] for r in range(d)]
        values = [falling[0], *shared, rising[d]]
    first = torch.where(
        inside, at - 2 * k, -k - 1
    )  # of the k + 1, as the input numbers its own
    places = first[:, None] + torch.arange(k + 1, device=x.device)[:, None]
    places = torch.where((places < 0) | (places >= count), count, places)
    placed = x.new_zeros(x.shape[1], count + 1, x.shape[0])
    placed.scatter_(1, places, torch.stack(values, 1))
    return placed[:, :count].permute(2, 0, 1)


class _Basis(torch.autograd.Function):
    """Values whose gradient is the B-splines of the order below; nothing else is kept for it."""

    generate_vmap_rule = True  # for torch.func and vectorised Jacobians

    @staticmethod
    def forward(x: Tensor, knots: Tensor, k: int) -> Tensor:
        return _values(x, knots, k)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor
    ) -> None:
        x, knots, ctx.k = inputs
        ctx.save_for_backward(x, knots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, knots = ctx.saved_tensors
        return (grads[0] * bspline_derivative(x, knots, ctx.k)).sum(-1), None, None
