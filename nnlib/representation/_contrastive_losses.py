r"""Losses that compare: pairs, triplets, a positive among negatives, two views with no negatives.

Axes: b pairs, n examples, d width of an embedding, m negatives, k outputs of DINO's head.

All of them return the mean over the batch. What they compare by direction they normalise
themselves, so that embeddings are handed over as they are.
"""

import math
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks


def pair_of(
    first: str, a: Tensor, second: str, b: Tensor, *, least: int = 1
) -> tuple[Tensor, Tensor]:
    """Return two tables of embeddings, row beside row, each checked by its name."""
    checks.tensor(first, a, shape=("b", "d"), floating=True, empty=False)
    checks.tensor(second, b, floating=True)
    if a.shape != b.shape:
        raise ValueError(
            f"{second} must have the shape of {first}, {tuple(a.shape)}, got {tuple(b.shape)}"
        )
    if a.dtype != b.dtype:
        raise TypeError(f"{second} must be {a.dtype} as {first} is, got {b.dtype}")
    if len(a) < least:
        raise ValueError(
            f"{first} must hold {least} rows or more, got {len(a)}: "
            "one example alone has no other to be told from"
        )
    return a, b


def _scale(scale: Tensor | float) -> Tensor | float:
    """Return a factor of similarities > 0, a number or a learned scalar."""
    if isinstance(scale, Tensor):
        checks.tensor("scale", scale, shape=(), floating=True)
        if checks.readable(scale):
            checks.number("scale", scale.item(), above=0)
        return scale
    return checks.number("scale", scale, above=0)


def _length(square: Tensor) -> Tensor:
    """Return the square root, with a gradient of 0 where it is 0, where it has none."""
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def contrastive_loss(
    first: Float[Tensor, "b d"],
    second: Float[Tensor, "b d"],
    different: Tensor,
    margin: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Return the contrastive loss of pairs, $(1-y)\tfrac12 D^2 + y\tfrac12\max(0, m-D)^2$.

    Equation `contrastive-pair`, with the Euclidean distance $D$ of a pair (`contrastive-distance`).

    Args:
        first: one embedding of each pair.
        second: the other one.
        different: y of each pair, 1 or True where it is dissimilar, 0 or False where it is similar.
        margin: m > 0, the distance beyond which dissimilar pairs are left alone.

    Example:
        >>> a, b = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.3, 0.4], [0.3, 0.4]])
        >>> contrastive_loss(a, b, torch.tensor([0, 1]))  # both at 0.5: (1/8 + 1/8) / 2
        tensor(0.1250)

    Source: Hadsell, Chopra and LeCun 2006, equation 4.
    """
    pair_of("first", first, "second", second)
    margin = checks.number("margin", margin, above=0)
    checks.tensor("different", different, shape=(len(first),))
    y = different.to(first.dtype)
    if checks.readable(y) and not bool(((y == 0) | (y == 1)).all()):
        raise ValueError("different must hold 0 (similar) and 1 (dissimilar) only")
    square = (first - second).square().sum(1)
    short = F.relu(margin - _length(square))
    return ((1 - y) * square + y * short.square()).mean() / 2  # eq. contrastive-pair


def triplet_loss(
    anchor: Float[Tensor, "b d"],
    positive: Float[Tensor, "b d"],
    negative: Float[Tensor, "b d"],
    margin: float = 0.2,
    *,
    squared: bool = True,
) -> Float[Tensor, ""]:
    r"""Return the triplet loss, $\max(0, d(a, p)^2 - d(a, n)^2 + \alpha)$ on average.

    Equation `contrastive-triplet`. No triplets at all cost nothing: 0, with a gradient of 0.

    Args:
        anchor: embeddings a.
        positive: embeddings p of the same class.
        negative: embeddings n of another class.
        margin: α > 0.
        squared: whether distances are squared, as in FaceNet; `nn.TripletMarginLoss` does not.

    Example:
        >>> a, p, n = torch.tensor([[0.0]]), torch.tensor([[0.5]]), torch.tensor([[0.6]])
        >>> triplet_loss(a, p, n)  # 0.25 - 0.36 + 0.2
        tensor(0.0900)

    Source: Schroff, Kalenichenko and Philbin 2015, equation 3; a mean where they have a sum.
    """
    checks.tensor("anchor", anchor, shape=("b", "d"), floating=True)
    for name, other in (("positive", positive), ("negative", negative)):
        checks.tensor(name, other, shape=tuple(anchor.shape), floating=True)
    margin = checks.number("margin", margin, above=0)
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    if not checks.flag("squared", squared):
        near, far = _length(near), _length(far)
    return F.relu(near - far + margin).sum() / max(len(anchor), 1)


def nt_xent(
    z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], temperature: float = 0.5
) -> Float[Tensor, ""]:
    r"""Return SimCLR's loss: each of 2b views has to find its partner among the 2b - 1 others.

    $\ell_{ij} = -\log \frac{\exp(s_{ij}/\tau)}{\sum_{k \ne i} \exp(s_{ik}/\tau)}$ with the cosine
    $s$ (equations `contrastive-cosine`, `contrastive-ntxent`), averaged over all 2b views.

    Args:
        z1: embeddings of one view of each of b examples, b ≥ 2.
        z2: embeddings of the other view, in the same order.
        temperature: τ > 0.

    Example:
        >>> nt_xent(torch.eye(2), torch.eye(2), temperature=1.0)  # ln(e + 2) - 1
        tensor(0.5514)

    Source: Chen et al. 2020; the loss is that of Sohn 2016 with a temperature.
    """
    pair_of("z1", z1, "z2", z2, least=2)
    temperature = checks.number("temperature", temperature, above=0)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    scores = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    scores = scores.masked_fill(itself, -math.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(scores, partner)


def info_nce(
    query: Float[Tensor, "b d"],
    positive: Float[Tensor, "b d"],
    negatives: Float[Tensor, "m d"],
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    r"""Return InfoNCE with negatives at hand, such as MoCo's queue: one positive, m negatives.

    Equation `contrastive-infonce`; vectors are normalised.

    Args:
        query: embeddings that ask.
        positive: what each of them should find.
        negatives: what none of them should find, m ≥ 1.
        temperature: τ > 0.

    Example:
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> info_nce(one, one, other, temperature=1.0)  # ln(1 + 1/e)
        tensor(0.3133)

    Source: van den Oord, Li and Vinyals 2018; with a queue: He et al. 2020.
    """
    pair_of("query", query, "positive", positive)
    checks.tensor("negatives", negatives, shape=("m", query.shape[1]), floating=True)
    if len(negatives) < 1:
        raise ValueError("negatives must hold one row or more, got none")
    temperature = checks.number("temperature", temperature, above=0)
    q, p, n = (F.normalize(x, dim=1) for x in (query, positive, negatives))
    scores = torch.cat([(q * p).sum(1, keepdim=True), q @ n.T], 1) / temperature
    return F.cross_entropy(scores, scores.new_zeros(len(q), dtype=torch.long))


def supervised_contrastive_loss(
    z: Float[Tensor, "n d"], labels: Int[Tensor, " n"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    r"""Return the supervised contrastive loss: every other example of the class is a positive.

    Equation `contrastive-supcon`, a mean over the examples that have a positive.

    Args:
        z: embeddings.
        labels: the class of each; at least one class occurs twice.
        temperature: τ > 0.

    Example:
        >>> z = torch.eye(2).repeat(2, 1)
        >>> supervised_contrastive_loss(z, torch.tensor([0, 1, 0, 1]), temperature=1.0)
        tensor(0.5514)

    Source: Khosla et al. 2020, equation 2 (the logarithm inside the mean).
    """
    checks.tensor("z", z, shape=("n", "d"), floating=True, empty=False)
    checks.tensor("labels", labels, shape=(len(z),), floating=False)
    temperature = checks.number("temperature", temperature, above=0)
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    scores = (z @ z.T / temperature).masked_fill(itself, -math.inf)
    same = (labels[:, None] == labels) & ~itself
    many = same.sum(1)
    if checks.readable(many) and not bool(many.any()):
        raise ValueError("labels must hold some class twice, or nothing is a positive")
    told = scores.log_softmax(1).masked_fill(~same, 0.0).sum(1) / many.clamp(min=1)
    return -told.sum() / (many > 0).sum()


def cosine_logits(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "s d"],
    scale: Tensor | float = 1.0,
) -> Float[Tensor, "b s"]:
    r"""Return $\kappa$ times the cosine of every image and every text (`contrastive-clip-logits`).

    Args:
        images: embeddings of images.
        texts: embeddings of texts, as many as one likes.
        scale: κ > 0, a number or a scalar tensor.

    Example:
        >>> cosine_logits(torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 2.0]]), 10.0)
        tensor([[10.,  0.]])
    """
    checks.tensor("images", images, shape=("b", "d"), floating=True)
    checks.tensor("texts", texts, shape=("s", images.shape[1]), floating=True)
    return (
        _scale(scale) * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    )  # eq. contrastive-clip-logits


def clip_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    scale: Tensor | float = 1 / 0.07,
) -> Float[Tensor, ""]:
    r"""Return CLIP's loss: each image has to find its text in the batch, each text its image.

    The mean of the cross-entropies of the rows and of the columns of the logits, whose diagonal is
    right (equation `contrastive-clip`).

    Args:
        images: embeddings of images; of any length, they are normalised here.
        texts: embeddings of their texts, in the same order; b ≥ 2.
        scale: the inverse temperature κ > 0: a number, or `model.logit_scale.exp()`.

    Example:
        >>> clip_loss(torch.eye(2), torch.eye(2), scale=1.0)  # ln(1 + 1/e)
        tensor(0.3133)

    Source: Radford et al. 2021, figure 3, who write t for ln κ; Zhang et al. 2020 before them.
    """
    pair_of("images", images, "texts", texts, least=2)
    logits = cosine_logits(images, texts, scale)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def sigmoid_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    scale: Tensor | float = 10.0,
    bias: Tensor | float = -10.0,
) -> Float[Tensor, ""]:
    r"""Return SigLIP's loss: of each of b² pairs, whether it matches (`contrastive-siglip`).

    Args:
        images: embeddings of images.
        texts: embeddings of their texts, in the same order.
        scale: κ > 0.
        bias: β, added to every logit; it begins at -10 because most pairs do not match.

    Example:
        >>> sigmoid_loss(torch.eye(2), torch.eye(2), scale=1.0, bias=0.0)
        tensor(1.0064)

    Source: Zhai et al. 2023; summed over a row, averaged over rows.
    """
    pair_of("images", images, "texts", texts)
    logits = cosine_logits(images, texts, scale) + bias
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum(1).mean()


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
    return 2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1).mean()


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
    a, b = (
        (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-12).sqrt() for z in (z1, z2)
    )
    cross = a.T @ b / len(a)
    diagonal = cross.diagonal()
    others = cross.square().sum() - diagonal.square().sum()
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
        terms[1] = terms[1] + F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
        away = z - z.mean(0)
        cov = away.T @ away / (len(z) - 1)
        beside = cov.square().sum() - cov.diagonal().square().sum()
        terms[2] = terms[2] + beside / z.shape[1]
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
    return (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(1).mean()


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
    z = F.normalize(z, dim=1)
    row, column = torch.triu_indices(len(z), len(z), 1, device=z.device)
    square = (2 - 2 * (z @ z.T))[row, column].clamp(min=0)
    return torch.logsumexp(-t * square, 0) - math.log(len(row))
