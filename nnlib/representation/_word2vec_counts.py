r"""Words by counting: co-occurrences, PMI, its singular vectors, and GloVe.

Axes: v words, w the same words as contexts, d numbers of a vector.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.representation._word2vec_text import Corpus, a_corpus

WEIGHTS = ("flat", "linear", "harmonic")


def cooccurrences(
    text: Corpus,
    window: int = 5,
    weight: str = "linear",
    *,
    vocab_size: int | None = None,
) -> Float[Tensor, "v v"]:
    r"""Count how often each word has each other one within a window of it.

    Args:
        text: as `corpus` makes it.
        window: words to either side, ≥ 1.
        weight: what a pair at distance δ counts. "flat": 1. "linear": (window - δ + 1) / window,
            how often a window of random reach holds it, as in word2vec. "harmonic": 1/δ, as in
            GloVe.
        vocab_size: the first so many words only; all if None.

    Returns:
        A symmetric matrix.

    Example:
        >>> from nnlib.representation.word2vec import corpus
        >>> cooccurrences(corpus([["a", "b", "a"]], 1), window=2)
        tensor([[1., 2.],
                [2., 0.]])
    """
    a_corpus(text)
    checks.count("window", window)
    checks.one_of("weight", weight, WEIGHTS)
    size = len(text.counts)
    if (
        vocab_size is not None
        and checks.count("vocab_size", vocab_size, least=2) > size
    ):
        raise ValueError(
            f"vocab_size={vocab_size} must be at most {size}, the words of the text"
        )
    taken = vocab_size or size
    known = text.ids < taken
    found = torch.zeros(taken * taken)
    for distance in range(1, min(window, len(text.ids) - 1) + 1):
        first, second = slice(None, -distance), slice(distance, None)
        pairs = (
            (text.sentence[first] == text.sentence[second])
            & known[first]
            & known[second]
        )
        keys = text.ids[first][pairs] * taken + text.ids[second][pairs]
        share = {"flat": 1.0, "linear": (window - distance + 1) / window}.get(
            weight, 1 / distance
        )
        found += share * torch.bincount(keys, minlength=taken * taken)
    counted = found.view(taken, taken)
    return counted + counted.T


def pmi(
    counts: Float[Tensor, "v w"],
    *,
    shift: float = 1.0,
    power: float = 1.0,
    positive: bool = True,
) -> Float[Tensor, "v w"]:
    r"""Return the pointwise mutual information of words and contexts, shifted by $\ln$ of `shift`.

    $\ln \frac{\#(w, c)\, N}{\#(w)\,\#(c)} - \ln k$ (equation `word2vec-pmi`): with k = 1, PMI.
    With `positive`, what is below zero becomes zero, and with it all pairs that never occur, whose
    PMI is minus infinity: PPMI, a matrix that is mostly zeros.

    Args:
        counts: of pairs, ≥ 0.
        shift: k, > 0; the negatives of a model that this is compared with.
        power: to which the contexts' counts are raised, ≥ 0; 0.75 smooths rare contexts.
        positive: whether to cut at zero.

    Example:
        >>> pmi(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
        tensor([[0.6931, 0.0000],
                [0.0000, 0.6931]])

    Source: Church and Hanks 1990; shifted: Levy and Goldberg 2014; smoothed: Levy et al. 2015.
    """
    checks.tensor(
        "counts", counts, shape=("v", "w"), floating=True, finite=True, empty=False
    )
    shift = checks.number("shift", shift, above=0)
    power = checks.number("power", power, least=0)
    if bool((counts < 0).any()) or not bool(counts.any()):
        raise ValueError("counts must be 0 or more, and not all of them 0")
    contexts = counts.sum(0) ** power
    expected = counts.sum(1, keepdim=True) * (contexts / contexts.sum())
    found = counts.log() - expected.log() - math.log(shift)  # eq. word2vec-pmi
    if not positive:
        return torch.where(expected > 0, found, -torch.inf)
    return torch.where(counts > 0, found, 0.0).clamp(min=0)


def singular_vectors(
    matrix: Float[Tensor, "v w"], embed_dim: int, power: float = 0.5, *, seed: int = 0
) -> Float[Tensor, "v d"]:
    r"""Return $\mathbf U_d \boldsymbol\Sigma_d^{\,p}$ of a matrix: a vector for each of its rows.

    Equation `word2vec-svd`. A randomised method finds the leading singular vectors, which is exact
    to a few digits where the singular values fall.

    Args:
        matrix: such as `pmi` returns.
        embed_dim: d, 1 … the smaller side.
        power: p, of the singular values, 0 … 1; 1 keeps distances, ½ is the symmetric split, 0
            forgets them.
        seed: of the random directions.

    Source: Levy, Goldberg and Dagan 2015; randomised: Halko, Martinsson and Tropp 2011.
    """
    checks.tensor(
        "matrix", matrix, shape=("v", "w"), floating=True, finite=True, empty=False
    )
    power = checks.number("power", power, least=0, most=1)
    if checks.count("embed_dim", embed_dim) > min(matrix.shape):
        raise ValueError(f"embed_dim={embed_dim} must be at most {min(matrix.shape)}")
    seed = checks.count("seed", seed, least=0)
    kind = matrix.dtype
    matrix = matrix.to(torch.promote_types(kind, torch.float32))
    draw = torch.Generator(device=matrix.device).manual_seed(seed)
    wide = min(embed_dim + 8, *matrix.shape)
    like: dict[str, Any] = {"device": matrix.device, "dtype": matrix.dtype}
    basis = matrix @ torch.randn(matrix.shape[1], wide, generator=draw, **like)
    for _ in range(3):
        basis = torch.linalg.qr(matrix @ (matrix.T @ torch.linalg.qr(basis)[0]))[0]
    left, values, _ = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    left, values = (basis @ left)[:, :embed_dim], values[:embed_dim]
    return (left * values**power).to(kind)  # eq. word2vec-svd


def expected_loss(
    scores: Float[Tensor, "v w"],
    counts: Float[Tensor, "v w"],
    negatives: float = 5.0,
    noise: Float[Tensor, " w"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return the loss of negative sampling, per pair, with its expectation taken over all noise.

    Equation `word2vec-expected`. Nothing is sampled, so it can be minimised to the last digit where
    the vocabulary is small.

    Args:
        scores: $\mathbf u_c \cdot \mathbf v_w$ of every word and context.
        counts: of pairs, ≥ 0, not all zero.
        negatives: K, > 0.
        noise: the contexts' distribution q; if None, the one that they have in `counts`.

    Source: Levy and Goldberg 2014, Neural word embedding as implicit matrix factorization.
    """
    counts, drawn = _with_noise(counts, negatives, noise)
    checks.tensor("scores", scores, shape=tuple(counts.shape), floating=True)
    # eq. word2vec-expected
    return (
        counts * F.softplus(-scores) + drawn * F.softplus(scores)
    ).sum() / counts.sum()


def best_scores(
    counts: Float[Tensor, "v w"],
    negatives: float = 5.0,
    noise: Float[Tensor, " w"] | None = None,
) -> Float[Tensor, "v w"]:
    r"""Return the scores that minimise `expected_loss` when every one of them is free.

    $\ln \frac{\#(w, c)}{K\,\#(w)\,q(c)}$ (equation `word2vec-optimum`), which is the PMI less ln K
    where q is the contexts' own distribution; minus infinity for a pair that never occurs.
    Arguments as for `expected_loss`.
    """
    counts, drawn = _with_noise(counts, negatives, noise)
    found = counts.log() - drawn.log()  # eq. word2vec-optimum
    return torch.where(counts > 0, found, -torch.inf)


def _with_noise(
    counts: Tensor, negatives: float, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the counts, and how often each pair is drawn as a negative."""
    checks.tensor(
        "counts", counts, shape=("v", "w"), floating=True, finite=True, empty=False
    )
    negatives = checks.number("negatives", negatives, above=0)
    if bool((counts < 0).any()) or not bool(counts.any()):
        raise ValueError("counts must be 0 or more, and not all of them 0")
    if noise is None:
        noise = counts.sum(0) / counts.sum()
    checks.tensor("noise", noise, shape=(counts.shape[1],), floating=True, finite=True)
    if bool((noise < 0).any()):
        raise ValueError(f"noise must be 0 or more, got {noise.min().item():g}")
    return counts, negatives * counts.sum(1, keepdim=True) * noise.to(counts.dtype)


def glove_weight(
    counts: Float[Tensor, "*n"], x_max: float = 100.0, alpha: float = 0.75
) -> Float[Tensor, "*n"]:
    r"""Return the weight of a cell in GloVe's loss: $\min(1, (x / x_{\max})^\alpha)$.

    Equation `word2vec-glove-weight`. It is 0 for a pair that never occurs.

    Args:
        counts: x ≥ 0.
        x_max: from which count on the weight is 1, > 0.
        alpha: > 0.

    Example:
        >>> glove_weight(torch.tensor([0.0, 1.0, 100.0, 1e4]))
        tensor([0.0000, 0.0316, 1.0000, 1.0000])

    Source: Pennington, Socher and Manning 2014.
    """
    checks.tensor("counts", counts, floating=True)
    if checks.readable(counts) and bool((counts < 0).any()):
        raise ValueError(f"counts must be 0 or more, got {counts.min().item():g}")
    ratio = counts / checks.number("x_max", x_max, above=0)
    return ratio.clamp(max=1) ** checks.number("alpha", alpha, above=0)


class GloVe(nn.Module):
    r"""Global vectors: two vectors and two biases a word, which explain the logarithms of counts.

    $\mathbf w_i \cdot \tilde{\mathbf w}_j + b_i + \tilde b_j \approx \ln X_{ij}$, weighted least
    squares over the pairs that occur (equation `word2vec-glove`).

    Args:
        vocab_size: words, ≥ 2.
        embed_dim: numbers of a vector, ≥ 1.

    Example:
        >>> model = GloVe(vocab_size=6, embed_dim=4)
        >>> model().shape, glove_loss(model, torch.ones(6, 6)).shape
        (torch.Size([6, 6]), torch.Size([]))

    Source: Pennington, Socher and Manning 2014, GloVe: global vectors for word representation.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 100,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size, least=2)
        self.embed_dim = checks.count("embed_dim", embed_dim)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.word = nn.Parameter(torch.empty(vocab_size, embed_dim, **like))
        self.context = nn.Parameter(torch.empty(vocab_size, embed_dim, **like))
        self.word_bias = nn.Parameter(torch.empty(vocab_size, **like))
        self.context_bias = nn.Parameter(torch.empty(vocab_size, **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all vectors and biases between ±1/(2d), as the authors' code does."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.5 / self.embed_dim, 0.5 / self.embed_dim)

    @property
    def vectors(self) -> Float[Tensor, "v d"]:
        """Words' and contexts' vectors added, as the paper does."""
        return (self.word + self.context).detach()

    def forward(self) -> Float[Tensor, "v v"]:
        """Return what the model takes for the logarithm of each count."""
        biases = self.word_bias[:, None] + self.context_bias
        return self.word @ self.context.T + biases


def glove_loss(
    model: GloVe,
    counts: Float[Tensor, "v v"],
    x_max: float = 100.0,
    alpha: float = 0.75,
) -> Float[Tensor, ""]:
    """Return GloVe's weighted squares, a mean over the pairs that occur.

    Args:
        model: vectors and biases.
        counts: of pairs, ≥ 0, not all zero.
        x_max: as for `glove_weight`.
        alpha: as there.
    """
    size = (model.vocab_size, model.vocab_size)
    checks.tensor("counts", counts, shape=size, floating=True)
    if checks.readable(counts) and not bool(counts.any()):
        raise ValueError("counts must not all be 0")
    weight = glove_weight(counts, x_max, alpha)
    # where nothing was counted the weight is 0, and any finite logarithm does
    off = model() - torch.where(counts > 0, counts, 1.0).log()
    return (weight * off.square()).sum() / (counts > 0).sum()  # eq. word2vec-glove


def counted_pairs(pairs: Int[Tensor, "2 p"], vocab_size: int) -> Float[Tensor, "v v"]:
    """Return how often each pair, centre above context, is among `pairs`.

    Example:
        >>> counted_pairs(torch.tensor([[0, 0, 1], [1, 1, 0]]), 2).tolist()
        [[0.0, 2.0], [1.0, 0.0]]
    """
    vocab_size = checks.count("vocab_size", vocab_size, least=2)
    checks.tokens("pairs", pairs, vocab_size, shape=(2, "p"), empty=True)
    keys = pairs[0].long() * vocab_size + pairs[1]
    return torch.bincount(keys, minlength=vocab_size**2).view(vocab_size, -1).float()
