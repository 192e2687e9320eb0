r"""Radial functions: numbers that depend on a point only through its distance from a centre.

Every one is written in $u = \lVert\mathbf{x} - \boldsymbol{\mu}\rVert / \sigma$ and computed from
$u^2$, so that its gradient is finite at the centre itself.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

RADIAL = ("gaussian", "inverse_multiquadric", "wendland", "multiquadric", "thin_plate")
"""The radial functions, in the order of what they ask of a polynomial tail."""

ORDER = {"multiquadric": 1, "thin_plate": 2}
"""The order of conditional positive definiteness, where it is not 0."""

NORMALIZED = ("gaussian", "inverse_multiquadric")
"""Those that are positive everywhere, so that their shares are defined everywhere."""

DIRECT = 2**24
"""Numbers up to which differences of points and centres are kept; beyond, products are."""

FEW = 8
"""Features up to which differences are taken one feature at a time, in tables of points and centres
alone: a sum over a short last axis is slow."""


def squared_distances(
    x: Float[Tensor, "*b d"], centers: Float[Tensor, "k d"]
) -> Float[Tensor, "*b k"]:
    r"""Return $\lVert\mathbf{x} - \boldsymbol{\mu}_j\rVert^2$ for each point and each centre.

    By differences, which are exact where a point is near a centre. A table of them that would hold
    more than `DIRECT` numbers is not made: then by $\lVert\mathbf{a}\rVert^2 +
    \lVert\mathbf{b}\rVert^2 - 2\,\mathbf{a}^\top\mathbf{b}$, about the middle of the centres.
    """
    checks.tensor("x", x, floating=True)
    checks.tensor("centers", centers, shape=("k", "d"), floating=True)
    if x.ndim == 0 or x.shape[-1] != centers.shape[1]:
        raise ValueError(
            f"x must have shape (*, {centers.shape[1]}), got {tuple(x.shape)}"
        )
    if x.numel() * centers.shape[0] <= DIRECT:
        return _squared_distances_by_differences(x, centers)
    return squared_distances_by_products(x, centers)


def _squared_distances_by_differences(x: Tensor, centers: Tensor) -> Tensor:
    if not 0 < x.shape[-1] <= FEW:
        return (x.unsqueeze(-2) - centers).square().sum(-1)
    first, *rest = (
        points.unsqueeze(-1) - places
        for points, places in zip(x.unbind(-1), centers.unbind(-1), strict=True)
    )
    total = first.square()
    for gap in rest:
        total = torch.addcmul(total, gap, gap)
    return total


def squared_distances_by_products(
    x: Float[Tensor, "*b d"], centers: Float[Tensor, "k d"]
) -> Float[Tensor, "*b k"]:
    """Return the same with one matrix product and no table of differences."""
    middle = centers.detach().mean(0)
    a, b = x - middle, centers - middle
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1)
    return (squares - 2 * a @ b.mT).clamp(min=0)


def radial(
    name: str, squared: Float[Tensor, "*b k"], *, normalized: bool = False
) -> Float[Tensor, "*b k"]:
    r"""Return a radial function of $u^2$ (equations `rbf-network-gaussian`, `rbf-network-radial`).

    | name | function of u | tail it needs |
    |---|---|---|
    | `gaussian` | $e^{-u^2/2}$ | none |
    | `inverse_multiquadric` | $1/\sqrt{1 + u^2}$ | none |
    | `wendland` | $(1 - u)_+^4\,(4u + 1)$, zero from $u = 1$ on | none in up to 3 dimensions |
    | `multiquadric` | $\sqrt{1 + u^2}$ | a constant |
    | `thin_plate` | $u^2 \ln u$ | a plane |

    Args:
        name: one of `RADIAL`.
        squared: $u^2 \ge 0$.
        normalized: whether each row is divided by its sum (`rbf-network-normalized`), for those in
            `NORMALIZED`; computed as a softmax, so that nothing is lost far from all centres.

    Example:
        >>> radial("gaussian", torch.tensor([[0.0, 2.0]]))
        tensor([[1.0000, 0.3679]])

    Source: Hardy 1971 (multiquadric); Duchon 1977 (thin plate); Wendland 1995.
    """
    checks.one_of("kernel", name, RADIAL)
    checks.tensor("squared", squared, floating=True)
    if normalized:
        return _logarithm(name, squared).softmax(-1)  # eq. rbf-network-normalized
    match name:
        case "gaussian":
            return (-squared / 2).exp()  # eq. rbf-network-gaussian
        case "inverse_multiquadric":
            return (1 + squared).rsqrt()
        case "multiquadric":
            return (1 + squared).sqrt()
        case "thin_plate":  # u² ln u = ½ u² ln u², and 0 at 0
            return torch.xlogy(squared, squared.clamp(min=_tiny(squared))) / 2
        case _:
            u = squared.clamp(_tiny(squared), 1).sqrt()
            return (1 - u) ** 4 * (4 * u + 1)


def alike(name: str, value: Tensor, other: str, model: Tensor) -> None:
    """Refuse a tensor that is not of the precision of another one."""
    if value.dtype != model.dtype:
        raise TypeError(
            f"{name} must be {model.dtype}, as {other} is, got {value.dtype}"
        )


def _logarithm(name: str, squared: Tensor) -> Tensor:
    checks.one_of("kernel, when normalized,", name, NORMALIZED)
    return -squared / 2 if name == "gaussian" else -torch.log1p(squared) / 2


def _tiny(value: Tensor) -> float:
    return torch.finfo(value.dtype).tiny
