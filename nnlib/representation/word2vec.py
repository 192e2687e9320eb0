r"""Word2vec: a vector for each word, learned by predicting the words around it.

Chapter: chapters/representation/word2vec.md
Papers: Mikolov, Chen, Corrado and Dean 2013, Efficient estimation of word representations in vector
space; Mikolov, Sutskever, Chen, Corrado and Dean 2013, Distributed representations of words and
phrases and their compositionality. How text becomes numbers stands in `_word2vec_text`, the
training in `_word2vec_training`, counting and GloVe in `_word2vec_counts`, fastText in
`_word2vec_subwords`, hierarchical softmax in `_word2vec_tree`, analogies in `_word2vec_analogies`.
Axes: b examples, c context words of one, m candidates, v words, d numbers of a vector.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.representation._word2vec_analogies import (
    Answers,
    Neighbours,
    analogies,
    neighbours,
)
from nnlib.representation._word2vec_counts import (
    GloVe,
    best_scores,
    cooccurrences,
    counted_pairs,
    expected_loss,
    glove_loss,
    glove_weight,
    pmi,
    singular_vectors,
)
from nnlib.representation._word2vec_subwords import FastText, bucket, letter_groups
from nnlib.representation._word2vec_text import (
    Corpus,
    corpus,
    keep_probability,
    noise_distribution,
    phrase_scores,
    window_pairs,
)
from nnlib.representation._word2vec_training import band_slopes, train
from nnlib.representation._word2vec_tree import HierarchicalSoftmax, Paths, huffman

__all__ = [
    "Answers",
    "Corpus",
    "FastText",
    "GloVe",
    "HierarchicalSoftmax",
    "Neighbours",
    "Paths",
    "Word2Vec",
    "analogies",
    "band_slopes",
    "best_scores",
    "bucket",
    "cooccurrences",
    "corpus",
    "counted_pairs",
    "expected_loss",
    "glove_loss",
    "glove_weight",
    "huffman",
    "keep_probability",
    "letter_groups",
    "negative_sampling_loss",
    "neighbours",
    "noise_distribution",
    "phrase_scores",
    "pmi",
    "singular_vectors",
    "train",
    "window_pairs",
]


class Word2Vec(nn.Module):
    r"""Two vectors a word: one as input, one as output, whose products score pairs.

    $s = \mathbf u_o \cdot \mathbf h$ (equation `word2vec-score`), where h is the input vector of
    one word (skip-gram), or the mean of those of several (CBOW, `word2vec-cbow`). `vectors` are the
    input vectors, which are what users keep. Train it with `train`.

    Args:
        vocab_size: words v, ≥ 2.
        embed_dim: numbers of a vector d, ≥ 1; 100 … 300 for large texts.

    Example:
        >>> model = Word2Vec(vocab_size=1000, embed_dim=64)
        >>> given = torch.randint(1000, (8, 4))  # four context words, or one for skip-gram
        >>> model(given, torch.randint(1000, (8, 6))).shape
        torch.Size([8, 6])

    Source: Mikolov, Chen, Corrado and Dean 2013, Efficient estimation of word representations in
    vector space.
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
        self.in_vectors = nn.Parameter(torch.empty(vocab_size, embed_dim, **like))
        self.out_vectors = nn.Parameter(torch.empty(vocab_size, embed_dim, **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw input vectors between ±1/(2d), and set output vectors to zero, as the code does."""
        nn.init.uniform_(self.in_vectors, -0.5 / self.embed_dim, 0.5 / self.embed_dim)
        nn.init.zeros_(self.out_vectors)

    @property
    def vectors(self) -> Float[Tensor, "v d"]:
        """The input vectors, without their gradient."""
        return self.in_vectors.detach()

    def hidden(
        self, given: Int[Tensor, "b c"], mask: Bool[Tensor, "b c"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Return the mean of the given words' input vectors; of no word at all, zeros.

        Args:
            given: words, one (skip-gram) or several (CBOW) a row.
            mask: True at words, False at what only fills a row up.
        """
        checks.tokens("given", given, self.vocab_size, shape=("b", "c"))
        rows = self.in_vectors[given]
        if mask is None:
            return rows.mean(1)  # eq. word2vec-cbow
        checks.key_mask("mask", mask, tuple(given.shape))
        counts = mask.sum(1, keepdim=True).clamp(min=1)
        return (rows * mask[..., None]).sum(1) / counts

    def forward(
        self,
        given: Int[Tensor, "b c"],
        candidates: Int[Tensor, "b m"],
        mask: Bool[Tensor, "b c"] | None = None,
    ) -> Float[Tensor, "b m"]:
        """Return a score for each candidate, larger where it is more likely beside `given`.

        Args:
            given: as for `hidden`.
            candidates: words that may stand there, such as the true one and negatives.
            mask: as for `hidden`.
        """
        hidden = self.hidden(given, mask)
        checks.tokens(
            "candidates", candidates, self.vocab_size, shape=(len(given), "m")
        )
        # eq. word2vec-score
        return torch.einsum("bd,bmd->bm", hidden, self.out_vectors[candidates])

    def log_probabilities(
        self, given: Int[Tensor, "b c"], mask: Bool[Tensor, "b c"] | None = None
    ) -> Float[Tensor, "b v"]:
        """Return the logarithms of the full softmax over all words (equation `word2vec-softmax`).

        It costs a product with every output vector, which is what negative sampling avoids.
        """
        scores = self.hidden(given, mask) @ self.out_vectors.T
        return scores.log_softmax(1)  # eq. word2vec-softmax

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return f"{self.vocab_size}, {self.embed_dim}"


def negative_sampling_loss(
    positive: Float[Tensor, " b"], negative: Float[Tensor, "b k"]
) -> Float[Tensor, ""]:
    r"""Return the loss of negative sampling, a mean over pairs.

    $-\ln \sigma(s) - \sum_{j=1}^{K} \ln \sigma(-s_j)$ (equation `word2vec-negative`), in a form
    that is finite at any score.

    Args:
        positive: scores of pairs that stood in the text.
        negative: scores of the same givens with K ≥ 1 words that were drawn.

    Example:
        >>> negative_sampling_loss(torch.zeros(3), torch.zeros(3, 5))  # 6 ln 2
        tensor(4.1589)

    Source: Mikolov, Sutskever, Chen, Corrado and Dean 2013.
    """
    checks.tensor("positive", positive, shape=("b",), floating=True, empty=False)
    checks.tensor("negative", negative, shape=(len(positive), "k"), floating=True)
    if negative.shape[1] < 1:
        raise ValueError(
            "negative must hold K ≥ 1 scores a pair, got 0: nothing would push apart"
        )
    each = F.softplus(-positive) + F.softplus(negative).sum(1)  # eq. word2vec-negative
    return each.mean()
