r"""Interpolation: as many centres as points, so that the sum of bumps passes through every one."""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.approximation._rbf_centers import distinct
from nnlib.approximation._rbf_functions import (
    ORDER,
    RADIAL,
    alike,
    radial,
    squared_distances,
)


@dataclass(frozen=True, eq=False)
class Interpolant:
    """A sum of radial functions and a polynomial; call it with points.

    Attributes:
        centers: the points that it was made from.
        weight: one row a centre.
        tail: one row a monomial; none where there is no polynomial.
        kernel, sigma, degree: as `interpolate` was told.
    """

    centers: Float[Tensor, "n d"]
    weight: Float[Tensor, "n o"]
    tail: Float[Tensor, "q o"]
    kernel: str
    sigma: float
    degree: int

    def __call__(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        """Return the values at points."""
        checks.tensor("x", x, shape=("b", self.centers.shape[1]), floating=True)
        alike("x", x, "the points of the fit", self.centers)
        phi = _signed(self.kernel, x, self.centers, self.sigma)
        return phi @ self.weight + _monomials(x, self.centers, self.degree) @ self.tail


def interpolate(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n o"],
    *,
    kernel: str = "gaussian",
    sigma: float = 1.0,
    degree: int | None = None,
    smoothing: float = 0.0,
) -> Interpolant:
    r"""Return the sum of bumps on all points, and a polynomial, that passes through the values.

    The weights and the polynomial's coefficients solve one symmetric system
    (equation `rbf-network-saddle`),

    $$ \begin{pmatrix} \mathbf{A} + \lambda \mathbf{I} & \mathbf{P} \\ \mathbf{P}^\top & 0
    \end{pmatrix} \begin{pmatrix} \mathbf{W} \\ \mathbf{C} \end{pmatrix} =
    \begin{pmatrix} \mathbf{Y} \\ 0 \end{pmatrix} $$

    Args:
        x: different points.
        y: the values there.
        kernel: one of `RADIAL`; Wendland's is for one to three dimensions.
        sigma: width σ > 0, in the unit of x.
        degree: of the polynomial, −1 for none; None: the least that the kernel needs.
        smoothing: λ ≥ 0; 0 passes through every value.

    Raises:
        ValueError: two points are equal; the degree is too low for the kernel; the points do not
            determine the polynomial, as three on a line do not determine a plane; the system is
            singular after rounding, as where bumps are far wider than the points are apart.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [3.0]]).double()
        >>> f = interpolate(line, line.square(), kernel="multiquadric")
        >>> torch.allclose(f(line), line.square())
        True

    Source: Micchelli 1986; the polynomial: Duchon 1977.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
    checks.tensor("y", y, shape=(len(x), "o"), floating=True, finite=True)
    alike("y", y, "x", x)
    checks.one_of("kernel", kernel, RADIAL)
    sigma = checks.number("sigma", sigma, above=0)
    smoothing = checks.number("smoothing", smoothing, least=0)
    if kernel == "wendland" and x.shape[1] > 3:
        raise ValueError(
            f"kernel='wendland' is for 1 to 3 dimensions, x has {x.shape[1]}"
        )
    least = ORDER.get(kernel, 0) - 1
    degree = least if degree is None else checks.count("degree", degree, least=least)
    distinct("x", x)
    table, monomials = _signed(kernel, x, x, sigma), _monomials(x, x, degree)
    if smoothing:
        table = table.diagonal_scatter(table.diagonal() + smoothing)
    count = monomials.shape[1]
    if count and int(torch.linalg.matrix_rank(monomials)) < count:
        raise ValueError(
            f"degree={degree} has {count} coefficients, which these {len(x)} points in x "
            "do not determine"
        )
    whole = x.new_zeros(len(x) + count, len(x) + count)
    whole[: len(x), : len(x)] = table
    whole[: len(x), len(x) :], whole[len(x) :, : len(x)] = monomials, monomials.mT
    right = torch.cat([y, y.new_zeros(count, y.shape[1])])
    solved, failed = torch.linalg.solve_ex(whole, right)
    if bool(failed) or not bool(solved.isfinite().all()):
        raise ValueError(
            f"sigma={sigma:g} makes a system that is singular in {x.dtype} after rounding: "
            "take another sigma, some smoothing, or more precision"
        )
    return Interpolant(x, solved[: len(x)], solved[len(x) :], kernel, sigma, degree)


def _signed(kernel: str, x: Tensor, centers: Tensor, sigma: float) -> Tensor:
    """Return features whose matrix on the points is positive definite, beside the tail."""
    phi = radial(kernel, squared_distances(x / sigma, centers / sigma))
    return -phi if ORDER.get(kernel, 0) % 2 else phi


def _monomials(x: Tensor, centers: Tensor, degree: int) -> Tensor:
    """Return all products of up to `degree` coordinates, in the box of the centres."""
    low, high = centers.min(0).values, centers.max(0).values
    half = ((high - low) / 2).where(high > low, torch.ones_like(low))
    scaled = (x - (low + high) / 2) / half
    powers = [
        scaled[:, list(axes)].prod(1)
        for total in range(degree + 1)
        for axes in combinations_with_replacement(range(x.shape[1]), total)
    ]
    return torch.stack(powers, 1) if powers else x.new_zeros(len(x), 0)
