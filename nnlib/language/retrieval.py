r"""Retrieval: find the passages that answer a question, and answer with them in view.

What is trained stands here. Search by words, `BM25` and tf-idf, is in `_retrieval_lexical`; by
vectors, exact or approximate, in `_retrieval_dense` and `_retrieval_approximate`; measures and the
join of rankings in `_retrieval_measures`; chunks, the reader and `rag_answer` in
`_retrieval_answers`.

Chapter: chapters/language/retrieval.md     Papers: Robertson et al. 1994 (BM25); Deerwester et al.
1990 (LSA); Karpukhin et al. 2020 (DPR); Khattab and Zaharia 2020 (ColBERT); Formal et al. 2021
(SPLADE); Jégou, Douze and Schmid 2011 (lists, product quantisation); Lewis et al. 2020 (RAG)
Axes: n passages or vectors, q queries, v words, b batch, t and s words of a text, d width, k found,
c centroids, m parts of a vector.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.language._retrieval_answers import (
    Answer,
    Reading,
    VotingReader,
    paragraph_chunks,
    rag_answer,
    window_chunks,
)
from nnlib.language._retrieval_approximate import (
    IVFIndex,
    ProductQuantizer,
    kmeans,
)
from nnlib.language._retrieval_dense import (
    DenseIndex,
    late_interaction,
    lsa,
    splade_weights,
)
from nnlib.language._retrieval_lexical import (
    BM25,
    Found,
    bag_of_words,
    smooth_idf,
    tf_idf,
    words,
)
from nnlib.language._retrieval_measures import (
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    reciprocal_rank_fusion,
    success_at_k,
)

__all__ = [
    "BM25",
    "Answer",
    "BiEncoder",
    "DenseIndex",
    "Found",
    "IVFIndex",
    "ProductQuantizer",
    "Reading",
    "VotingReader",
    "bag_of_words",
    "in_batch_loss",
    "kmeans",
    "late_interaction",
    "lsa",
    "ndcg_at_k",
    "paragraph_chunks",
    "rag_answer",
    "recall_at_k",
    "reciprocal_rank",
    "reciprocal_rank_fusion",
    "smooth_idf",
    "splade_weights",
    "success_at_k",
    "tf_idf",
    "window_chunks",
    "words",
]


class BiEncoder(nn.Module):
    r"""A vector of length 1 for each text, from its words alone: equation `retrieval-encoder`.

    $E(x) = u / \lVert u \rVert$ with $u = \sum_{t \in x} \omega_t\, \mathbf{e}_t$. The same
    encoder reads questions and passages, each by itself, so that passages are encoded once.

    Args:
        vocab_size: words, with number 0, which is padding and counts nothing.
        embed_dim: width d of the vectors.
        device: where the parameters are made.
        dtype: of the parameters.

    Example:
        >>> encoder = BiEncoder(vocab_size=9, embed_dim=4)
        >>> encoder(torch.tensor([[3, 5, 0], [5, 3, 3], [1, 0, 0]])).shape
        torch.Size([3, 4])

    Source: the two towers of Karpukhin et al. 2020 (DPR), with words in place of BERT; a bag of
    vectors as Joulin et al. 2017.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size, least=2)
        self.embed_dim = checks.count("embed_dim", embed_dim)
        factory: Any = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(
            vocab_size, embed_dim, padding_idx=0, **factory
        )
        self.word_weight = nn.Parameter(torch.empty(vocab_size, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew; every word counts alike."""
        nn.init.normal_(self.token_embedding.weight, std=self.embed_dim**-0.5)
        nn.init.ones_(self.word_weight)
        with torch.no_grad():
            self.token_embedding.weight[0].zero_()

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Return the vectors of texts; of one without words, zeros."""
        checks.tokens("ids", ids, self.vocab_size)
        total = F.embedding_bag(
            ids,
            self.token_embedding.weight,
            per_sample_weights=self.word_weight[ids],
            mode="sum",
            padding_idx=0,
        )
        return F.normalize(total, dim=1)  # eq. retrieval-encoder

    def words(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return a vector of length 1 for each word, for `late_interaction`."""
        checks.tokens("ids", ids, self.vocab_size)
        return F.normalize(self.token_embedding(ids), dim=2)


def in_batch_loss(
    model: nn.Module,
    queries: Int[Tensor, "b t"],
    passages: Int[Tensor, "b s"],
    temperature: float = 0.05,
    same: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return how badly queries pick their own passage out of a batch: `retrieval-infonce`.

    $-\frac1b \sum_i \log \operatorname{softmax}_j\bigl(E(q_i) \cdot E(p_j) / \tau\bigr)_i$:
    the passages of the other queries are the wrong answers.

    Args:
        model: encodes texts, `b t` to `b d`.
        queries: one a row.
        passages: row i answers query i.
        temperature: τ > 0.
        same: True at (i, j ≠ i) where passage j is no wrong answer to query i.

    Example:
        >>> encoder = BiEncoder(9, 4)
        >>> ids = torch.tensor([[1, 2], [3, 4]])
        >>> bool(in_batch_loss(encoder, ids, ids) < in_batch_loss(encoder, ids, ids.flip(0)))
        True

    Source: Karpukhin et al. 2020; as InfoNCE, van den Oord et al. 2018.
    """
    tau = checks.number("temperature", temperature, above=0)
    checks.tensor("queries", queries, shape=("b", "t"), empty=False)
    checks.tensor("passages", passages, shape=(len(queries), "s"), empty=False)
    scores = model(queries) @ model(passages).T / tau
    if same is not None:
        checks.tensor("same", same, shape=tuple(scores.shape))
        if same.dtype != torch.bool:
            raise TypeError(
                f"same must hold True at no wrong answers, got {same.dtype}"
            )
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(same & ~own, -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
