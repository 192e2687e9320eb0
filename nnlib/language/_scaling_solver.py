r"""One solver for every law: Levenberg and Marquardt's method from many starts, with Huber's loss.

Part of `nnlib.language.scaling_laws`. A sum of powers is a log-sum-exp of terms that are linear in
the constants, $\log y = \log \sum_k \exp(T_k \theta)$, so one power, a power with a floor and
the parametric law differ only in their terms T.

Axes: k terms, n points, m constants, s starts.
"""

import torch
from torch import Tensor

ROUNDS = 300
"""Steps of the solver, at most."""


def solve(
    terms: Tensor,
    log_y: Tensor,
    starts: Tensor,
    delta: float | None,
    least: Tensor | None = None,
) -> Tensor:
    """Return the best constants reached from any of the starts."""
    counts = torch.ones(len(starts), len(log_y), dtype=log_y.dtype)
    found, values = descend(terms, log_y, starts, delta, counts, least)
    return found[values.argmin()]


def descend(
    terms: Tensor,
    log_y: Tensor,
    starts: Tensor,
    delta: float | None,
    counts: Tensor,
    least: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run Levenberg and Marquardt's method from all starts at once, with Huber's weights.

    Args:
        terms: k terms by n points by m constants.
        log_y: n.
        starts: s by m.
        delta: of Huber's loss; None: squares.
        counts: s by n, how often each point counts.
        least: m, what the constants may not fall below.

    Returns:
        The constants, s by m, and what is left of the objective, s.
    """
    theta = starts.clone()
    damping = torch.full((len(theta), 1), 1e-2, dtype=theta.dtype)
    parts, residual = _residual(terms, log_y, theta)
    value = (counts * huber(residual, delta)).sum(1)
    eye = torch.eye(theta.shape[1], dtype=theta.dtype)
    for _ in range(ROUNDS):
        weight = (
            counts if delta is None else counts * (delta / residual.abs()).clamp(max=1)
        )
        jacobian = torch.einsum("skn,knm->snm", parts, terms)
        weighted = jacobian * weight[..., None]
        gradient = torch.einsum("snm,sn->sm", weighted, residual)
        hessian = torch.einsum("snm,snl->sml", weighted, jacobian)
        scale = hessian.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
        lifted = hessian + (damping * scale)[..., None] * eye
        step = torch.linalg.solve(lifted, gradient[..., None])[..., 0]
        tried = theta - step.clamp(-5, 5)
        tried = tried if least is None else tried.maximum(least)
        new_parts, new_residual = _residual(terms, log_y, tried)
        new_value = (counts * huber(new_residual, delta)).sum(1)
        better = new_value < value
        done = ~better | (value - new_value <= 1e-13 * value)
        theta = torch.where(better[:, None], tried, theta)
        parts = torch.where(better[:, None, None], new_parts, parts)
        residual = torch.where(better[:, None], new_residual, residual)
        value = torch.where(better, new_value, value)
        damping = torch.where(better[:, None], damping / 4, damping * 4).clamp(
            1e-12, 1e8
        )
        if bool((done & (damping[:, 0] >= 1e6)).all()) or bool((value <= 0).all()):
            break
    return theta, value


def _residual(terms: Tensor, log_y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of each term in the sum, s by k by n, and log ŷ − log y, s by n."""
    each = torch.einsum("knm,sm->skn", terms, theta)
    return each.softmax(1), each.logsumexp(1) - log_y


def huber(residual: Tensor, delta: float | None) -> Tensor:
    """Return half the square up to δ, and a line beyond."""
    if delta is None:
        return residual * residual / 2
    size = residual.abs()
    return torch.where(size <= delta, size * size / 2, delta * (size - delta / 2))
