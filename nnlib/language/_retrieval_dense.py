"""Retrieval by vectors: exact search, latent semantic analysis, MaxSim, weights of words.

Part of `nnlib.language.retrieval`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.language._retrieval_lexical import Found

METRICS = ("cosine", "inner", "euclidean")
"""How vectors are compared; of the last, scores are squared distances below 0."""


def vectors_of(
    name: str, value: Tensor, dim: int | None = None, *, empty: bool = True
) -> Tensor:
    """Return `value` when it holds finite vectors, a row each, of one width."""
    shape = ("n", "d" if dim is None else dim)
    return checks.tensor(
        name, value, shape=shape, floating=True, finite=True, empty=empty
    )


class DenseIndex:
    r"""Vectors of passages, searched exactly: every one is compared, equation `retrieval-dense`.

    Args:
        vectors: one row a passage, at least one.
        metric: "cosine", of which a zero vector has 0 to all; "inner", the product; or
            "euclidean", whose scores are $-\lVert q - x \rVert^2$.

    Example:
        >>> index = DenseIndex(torch.eye(3))
        >>> index.search(torch.tensor([[0.1, 3.0, 0.2]]), k=2).ids.tolist()
        [[1, 2]]

    Source: as `IndexFlat` of Douze et al. 2024 (faiss).
    """

    def __init__(self, vectors: Float[Tensor, "n d"], metric: str = "cosine"):
        vectors_of("vectors", vectors, empty=False)
        self.metric = checks.one_of("metric", metric, METRICS)
        self.vectors = F.normalize(vectors, dim=1) if metric == "cosine" else vectors

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.vectors)

    def prepared(self, queries: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Return the queries as they are compared: of length 1 under "cosine"."""
        vectors_of("queries", queries, self.vectors.shape[1])
        if queries.dtype != self.vectors.dtype:
            raise TypeError(
                f"queries must be {self.vectors.dtype} like the vectors, got {queries.dtype}"
            )
        return F.normalize(queries, dim=1) if self.metric == "cosine" else queries

    def scores(self, queries: Float[Tensor, "q d"]) -> Float[Tensor, "q n"]:
        """Return how near each vector is to each query; larger is nearer."""
        return likeness(self.prepared(queries), self.vectors, self.metric)

    def search(self, queries: Float[Tensor, "q d"], k: int) -> Found:
        """Return the k nearest of each query; all of them, in order, if there are no k.

        Args:
            queries: one row each, as wide as the vectors; none at all give none.
            k: how many, ≥ 1.
        """
        k = min(checks.count("k", k), len(self))
        scores, ids = self.scores(queries).topk(k, dim=1)
        return Found(ids, scores, torch.full((len(queries),), len(self)))


def likeness(
    queries: Float[Tensor, "q d"], vectors: Float[Tensor, "n d"], metric: str
) -> Float[Tensor, "q n"]:
    """Return products, or minus squared distances: equation `retrieval-dense`."""
    products = queries @ vectors.T
    if metric != "euclidean":
        return products
    lengths = queries.square().sum(1, keepdim=True), vectors.square().sum(1)
    return (2 * products - lengths[0] - lengths[1]).clamp(max=0)


def lsa(x: Float[Tensor, "n v"], embed_dim: int) -> Float[Tensor, "v d"]:
    r"""Return the d directions that keep most of the rows of x: equation `retrieval-lsa`.

    They are the first right singular vectors, the largest first; `x @ lsa(x, d)` are vectors of
    the texts, and a query becomes one by the same product.

    Args:
        x: a row for each text, such as `tf_idf` makes.
        embed_dim: d, 1 … the smaller of n and v.

    Example:
        >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> lsa(x, 1).abs()
        tensor([[1.],
                [0.]])

    Source: Deerwester et al. 1990.
    """
    vectors_of("x", x, empty=False)
    d = checks.count("embed_dim", embed_dim)
    if d > min(x.shape):
        raise ValueError(
            f"embed_dim={d} must be at most {min(x.shape)} for x of {tuple(x.shape)}"
        )
    wide = x.double()
    # The smaller of the two square matrices has all that is needed.
    if len(x) < x.shape[1]:
        values, left = torch.linalg.eigh(wide @ wide.T)
        kept = values[-d:].flip(0).clamp(min=1e-12).sqrt()
        right = wide.T @ left[:, -d:].flip(1) / kept
    else:
        right = torch.linalg.eigh(wide.T @ wide)[1][:, -d:].flip(1)
    return right.to(x.dtype)


def late_interaction(
    queries: Float[Tensor, "q t d"],
    passages: Float[Tensor, "n s d"],
    query_mask: Bool[Tensor, "q t"] | None = None,
    passage_mask: Bool[Tensor, "n s"] | None = None,
) -> Float[Tensor, "q n"]:
    r"""Return $\sum_i \max_j \mathbf{q}_i \cdot \mathbf{p}_j$, ColBERT's score: `retrieval-maxsim`.

    Args:
        queries: a vector for each word of each query.
        passages: likewise.
        query_mask: True at real words; all are if None.
        passage_mask: likewise; a passage without any has −∞.

    Example:
        >>> late_interaction(torch.eye(2)[None], torch.tensor([[[1.0, 0.0], [0.6, 0.8]]]))
        tensor([[1.8000]])

    Source: Khattab and Zaharia 2020.
    """
    checks.tensor("queries", queries, shape=("q", "t", "d"), floating=True)
    checks.tensor(
        "passages", passages, shape=("n", "s", queries.shape[2]), floating=True
    )
    if passages.dtype != queries.dtype:
        raise TypeError(
            f"passages must be {queries.dtype} like queries, got {passages.dtype}"
        )
    if not passages.shape[1]:
        raise ValueError("passages must have a word or more each, got none")
    scores = torch.einsum("qtd,nsd->qnts", queries, passages)
    if passage_mask is not None:
        checks.key_mask("passage_mask", passage_mask, tuple(passages.shape[:2]))
        scores = scores.masked_fill(~passage_mask[None, :, None], -torch.inf)
    best = scores.amax(3)  # eq. retrieval-maxsim
    if query_mask is not None:
        checks.key_mask("query_mask", query_mask, tuple(queries.shape[:2]))
        best = best.masked_fill(~query_mask[:, None], 0)
    return best.sum(2)


def splade_weights(
    logits: Float[Tensor, "b t v"], mask: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, "b v"]:
    r"""Return a weight for every word of a vocabulary: equation `retrieval-splade`.

    $w_v = \max_i \log(1 + \max(z_{iv}, 0))$ of a masked language model's logits: most are 0, and
    words that do not stand in the text can have one, so that an inverted index finds them.

    Args:
        logits: for each position.
        mask: True at real tokens; all are if None.

    Example:
        >>> splade_weights(torch.tensor([[[-1.0, 0.0, 1.7183], [6.3891, -3.0, 0.5]]]))
        tensor([[2.0000, 0.0000, 1.0000]])

    Source: Formal et al. 2021 (SPLADE v2, which takes the largest; the first version added).
    """
    checks.tensor("logits", logits, shape=("b", "t", "v"), floating=True)
    if not logits.shape[1]:
        raise ValueError("logits must have a position or more, got none")
    weights = logits.clamp(min=0).log1p()
    if mask is not None:
        checks.key_mask("mask", mask, tuple(logits.shape[:2]))
        weights = weights.masked_fill(~mask[..., None], 0)
    return weights.amax(1)  # eq. retrieval-splade
