r"""Losses that compare: pairs, triplets, one positive among negatives, images with texts.

Axes: b pairs, n examples, d width of an embedding, m negatives, s texts.

All of them return the mean over the batch. What they compare by direction they normalise
themselves, so that embeddings are handed over as they are.
"""

import math

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


def in_range(z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Return rows whose squares neither over- nor underflow, and which were zeros: now ones."""
    largest = z.detach().abs().amax(1, keepdim=True)
    empty = largest == 0
    bound = torch.finfo(z.dtype).max ** 0.25
    usual = (largest > 1 / bound) & (largest < bound)  # those stay as they are
    size = torch.where(usual | empty, 1.0, largest)
    return torch.where(empty, 1.0, z / size), empty


def unit(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return rows of length 1, however long they were; zeros stay zeros, and get no gradient."""
    rows, empty = in_range(z)
    return torch.where(empty, 0.0, F.normalize(rows, dim=1))


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
    y = different == 1
    if checks.readable(y) and not bool((y | (different == 0)).all()):
        raise ValueError("different must hold 0 (similar) and 1 (dissimilar) only")
    square = (first - second).square().sum(1)
    short = F.relu(margin - _length(square))
    # chosen, not multiplied: the square of what is far may be infinite
    return torch.where(y, short.square(), square).mean() / 2  # eq. contrastive-pair


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
    z = unit(torch.cat([z1, z2]))
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
    q, p, n = (unit(x) for x in (query, positive, negatives))
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
    z = unit(z)
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
    # eq. contrastive-clip-logits
    return _scale(scale) * unit(images) @ unit(texts).T


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
    if isinstance(bias, Tensor):
        checks.tensor("bias", bias, shape=(), floating=True, finite=True)
    else:
        bias = checks.number("bias", bias)
    logits = cosine_logits(images, texts, scale) + bias
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum(1).mean()
