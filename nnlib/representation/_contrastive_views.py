r"""Losses of two views without negatives, and what embeddings are judged by.

Axes: b pairs, n examples, d width of an embedding, k outputs of DINO's head.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.representation._contrastive_losses import in_range, pair_of, unit
from nnlib.representation._jepa_collapse import covariance_penalty, variance_penalty


def byol_loss(
    prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    r"""Return $\lVert\hat q - \hat z\rVert^2 = 2 - 2\cos(q, z)$, one way (`contrastive-byol`).

    No gradient flows into the target. The whole loss of BYOL adds the other way round:
    `byol_loss(q1, z2) + byol_loss(q2, z1)`. That of SimSiam, the negative cosine, is half of it
    minus 1.

    Args:
        prediction: q, the predictor's guess from one view.
        target: z, what the other view became; from an average of the network in BYOL, from the
            network itself in SimSiam.

    Example:
        >>> byol_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(2.)

    Source: Grill et al. 2020, equation 2; Chen and He 2020.
    """
    pair_of("prediction", prediction, "target", target)
    (q, none), (z, nothing) = in_range(prediction), in_range(target.detach())
    cosine = torch.where((none | nothing)[:, 0], 0.0, F.cosine_similarity(q, z, dim=1))
    return 2 - 2 * cosine.mean()


def dino_loss(
    student: Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    center: Float[Tensor, " k"] | float = 0.0,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    r"""Return DINO's cross-entropy from the teacher's sharpened answer (`contrastive-dino`).

    No gradient flows into the teacher.

    Args:
        student: its outputs for one view.
        teacher: the outputs of its average for another view.
        center: the running mean of the teacher's outputs, which is subtracted.
        student_temperature: > 0.
        teacher_temperature: > 0, lower than the student's: it sharpens.

    Example:
        >>> dino_loss(torch.zeros(1, 4), torch.zeros(1, 4))  # ln 4
        tensor(1.3863)

    Source: Caron et al. 2021, algorithm 1.
    """
    pair_of("student", student, "teacher", teacher)
    own = checks.number("student_temperature", student_temperature, above=0)
    sharp = checks.number("teacher_temperature", teacher_temperature, above=0)
    if isinstance(center, Tensor):
        checks.tensor("center", center, shape=(student.shape[1],), floating=True)
    else:
        center = checks.number("center", center)
    wanted = ((teacher - center) / sharp).softmax(1).detach()
    return -(wanted * (student / own).log_softmax(1)).sum(1).mean()


def barlow_twins_loss(
    z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], weight: float = 0.005
) -> Float[Tensor, ""]:
    r"""Return how far the views' cross-correlation is from the identity (`contrastive-barlow`).

    Args:
        z1: embeddings of one view, b ≥ 2.
        z2: embeddings of the other view.
        weight: λ ≥ 0 of what stands beside the diagonal.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(barlow_twins_loss(z, z).item(), 6)
        0.0

    Source: Zbontar et al. 2021.
    """
    pair_of("z1", z1, "z2", z2, least=2)
    weight = checks.number("weight", weight, least=0)
    least = max(1e-12, torch.finfo(z1.dtype).tiny)  # 1e-12 is 0 in float16
    a, b = (
        (z - z.mean(0)) / (z.var(0, unbiased=False) + least).sqrt() for z in (z1, z2)
    )
    cross = a.T @ b / len(a)
    diagonal = cross.diagonal()
    others = (cross - diagonal.diag_embed()).square().sum()
    return (diagonal - 1).square().sum() + weight * others


def vicreg_loss(
    z1: Float[Tensor, "b d"],
    z2: Float[Tensor, "b d"],
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Return VICReg's terms: agree, spread, do not repeat one another (`contrastive-vicreg`).

    Args:
        z1: embeddings of one view, b ≥ 2.
        z2: embeddings of the other view.
        invariance: weight ≥ 0 of the mean squared difference of the views.
        variance: weight ≥ 0 of what each feature's standard deviation lacks to 1.
        covariance: weight ≥ 0 of the squared covariances of different features, over d.

    Example:
        >>> vicreg_loss(torch.zeros(4, 3), torch.zeros(4, 3))  # 25 · 0.99, on either side
        tensor(49.5000)

    Source: Bardes, Ponce and LeCun 2021; ε = 1e-4, and the two sides are added.
    """
    pair_of("z1", z1, "z2", z2, least=2)
    weights = [
        checks.number(name, value, least=0)
        for name, value in (
            ("invariance", invariance), ("variance", variance), ("covariance", covariance)
        )
    ]  # fmt: skip
    terms = [F.mse_loss(z1, z2), z1.new_zeros(()), z1.new_zeros(())]
    for z in (z1, z2):
        terms[1] = terms[1] + variance_penalty(z)
        terms[2] = terms[2] + covariance_penalty(z)
    return cast(Tensor, sum(w * term for w, term in zip(weights, terms, strict=True)))


def alignment(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""Return the mean squared distance of two views on the sphere (`contrastive-alignment`).

    Args:
        z1: embeddings of one view; they are normalised here.
        z2: embeddings of the other view.

    Example:
        >>> alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
        tensor(2.)

    Source: Wang and Isola 2020.
    """
    pair_of("z1", z1, "z2", z2)
    return (unit(z1) - unit(z2)).square().sum(1).mean()


def uniformity(z: Float[Tensor, "n d"], t: float = 2.0) -> Float[Tensor, ""]:
    r"""Return $\log \mathbb{E}\, e^{-t \lVert z - z' \rVert^2}$ (`contrastive-uniformity`).

    Zero when all embeddings are one; the lower, the more evenly they cover the sphere.

    Args:
        z: embeddings, n ≥ 2; they are normalised here.
        t: > 0.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))  # one pair, at distance 2
        tensor(-8.)

    Source: Wang and Isola 2020.
    """
    checks.tensor("z", z, shape=("n", "d"), floating=True)
    if len(z) < 2:
        raise ValueError(f"z must hold 2 rows or more, got {len(z)}")
    t = checks.number("t", t, above=0)
    z = unit(z)
    row, column = torch.triu_indices(len(z), len(z), 1, device=z.device)
    square = (2 - 2 * (z @ z.T))[row, column].clamp(min=0)
    return torch.logsumexp(-t * square, 0) - math.log(len(row))
