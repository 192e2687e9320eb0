r"""The weights of the output: a linear least squares problem, and what rounding does to it."""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.approximation._rbf_functions import alike

METHODS = ("svd", "qr", "normal", "inverse")
"""The methods of `least_squares`."""


def least_squares(
    features: Float[Tensor, "n k"],
    targets: Float[Tensor, "n o"],
    *,
    ridge: float = 0.0,
    method: str = "svd",
    cutoff: float | None = None,
) -> Float[Tensor, "k o"]:
    r"""Return the weights of least squares, with a ridge or without.

    They minimise $\lVert\boldsymbol{\Phi}\mathbf{W} - \mathbf{Y}\rVert_F^2 +
    \lambda \lVert\mathbf{W}\rVert_F^2$ (equation `rbf-network-ridge`).

    Args:
        features: $\boldsymbol{\Phi}$, a row for each example.
        targets: $\mathbf{Y}$.
        ridge: λ ≥ 0, beside a *sum* over the examples.
        method: `svd`, by the singular values of the triangular factor of Φ: those that rounding has
            made of nothing are left out, so the weights stay the shortest (`rbf-network-svd`);
            `qr`, by the triangular factor itself, which needs independent columns; `normal`, by
            the normal equations, whose condition number is the square (`rbf-network-normal`);
            `inverse`, by the inverse of their matrix, as textbooks print it.
        cutoff: with `svd` and no ridge, the least singular value that counts, as a share of the
            largest; None: the larger side of Φ times the rounding of its dtype.

    Raises:
        ValueError: `qr` without ridge has fewer examples than features, or a column that is a
            combination of others; the matrix of `normal` or `inverse` is singular after rounding.

    Example:
        >>> least_squares(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
        tensor([[2.0000]])
    """
    checks.tensor(
        "features", features, shape=("n", "k"), floating=True, finite=True, empty=False
    )
    checks.tensor(
        "targets", targets, shape=(len(features), "o"), floating=True, finite=True
    )
    alike("targets", targets, "features", features)
    ridge = checks.number("ridge", ridge, least=0)
    checks.one_of("method", method, METHODS)
    if cutoff is not None:
        cutoff = checks.number("cutoff", cutoff, least=0, below=1)
    if method in ("normal", "inverse"):
        return _by_normal_equations(features, targets, ridge, method)
    if method == "qr":
        return _by_qr(features, targets, ridge)
    if len(features) > features.shape[1]:  # a square triangle in place of a tall table
        rotated, features_ = torch.linalg.qr(features)
        targets = rotated.mT @ targets
    else:
        features_ = features
    left, s, right = torch.linalg.svd(features_, full_matrices=False)
    if ridge:
        inverse = s / (s.square() + ridge).clamp(min=torch.finfo(s.dtype).tiny)
    else:
        share = (
            max(features.shape) * torch.finfo(s.dtype).eps if cutoff is None else cutoff
        )
        inverse = torch.where(s > share * s[0], 1 / s, torch.zeros_like(s))
    return right.mT @ (inverse[:, None] * (left.mT @ targets))  # eq. rbf-network-svd


def _by_qr(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Solve by the triangular factor, of Φ with √λ I below it where there is a ridge."""
    n, k = features.shape
    if ridge:
        below = torch.eye(k, dtype=features.dtype, device=features.device) * ridge**0.5
        features = torch.cat([features, below])
        targets = torch.cat([targets, targets.new_zeros(k, targets.shape[1])])
    elif n < k:
        raise ValueError(
            f"features must have {k} rows or more for method='qr', got {n}"
        )
    rotated, triangle = torch.linalg.qr(features)
    if not bool((triangle.diagonal() != 0).all()):
        raise ValueError(
            f"features have columns that depend on others in {features.dtype}: use method='svd'"
        )
    return torch.linalg.solve_triangular(triangle, rotated.mT @ targets, upper=True)


def _by_normal_equations(
    features: Tensor, targets: Tensor, ridge: float, method: str
) -> Tensor:
    """Solve what squares the condition number: to be compared with, and for small problems."""
    gram, right = features.mT @ features, features.mT @ targets
    gram.diagonal().add_(ridge)
    if method == "normal":
        weight, failed = torch.linalg.solve_ex(gram, right)  # eq. rbf-network-normal
    else:
        inverse, failed = torch.linalg.inv_ex(gram)
        weight = inverse @ right
    if bool(failed):
        raise ValueError(
            f"features have a singular normal matrix in {features.dtype}: use method='svd'"
        )
    return weight
