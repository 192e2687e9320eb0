"""Approximate search among vectors: lists around centroids, and codes of a byte for each part.

Part of `nnlib.language.retrieval`.
"""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.language._retrieval_dense import DenseIndex, likeness, vectors_of
from nnlib.language._retrieval_lexical import Found


def kmeans(
    x: Float[Tensor, "n d"],
    num_centroids: int,
    *,
    iterations: int = 10,
    spherical: bool = False,
    seed: int = 0,
) -> Float[Tensor, "c d"]:
    r"""Return centroids that lie near the vectors, by Lloyd's rule: equation `retrieval-kmeans`.

    Each vector joins its nearest centroid, each centroid moves to the mean of its own, and so on.
    One that is left without any moves to the vector that is farthest from its own.

    Args:
        x: vectors, at least as many as centroids.
        num_centroids: c ≥ 1.
        iterations: ≥ 1.
        spherical: whether centroids have length 1, for vectors that have.
        seed: of the vectors that are the first centroids.

    Example:
        >>> kmeans(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), 2).sort(dim=0).values.tolist()
        [[0.5], [10.5]]

    Source: Lloyd 1982.
    """
    vectors_of("x", x, empty=False)
    count = checks.count("num_centroids", num_centroids)
    if count > len(x):
        raise ValueError(f"num_centroids={count} must be at most {len(x)}, the vectors")
    iterations = checks.count("iterations", iterations)
    checks.flag("spherical", spherical)
    dice = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    centroids = x[torch.randperm(len(x), generator=dice)[:count]].clone()
    for _ in range(iterations):
        near, nearest = likeness(x, centroids, "euclidean").max(1)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, x)
        full = sizes > 0
        centroids[full] = sums[full] / sizes[full, None]  # eq. retrieval-kmeans
        farthest = near.topk(count - int(full.sum()), largest=False).indices
        centroids[~full] = x[farthest]
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    return centroids


class IVFIndex(DenseIndex):
    r"""Vectors in lists around centroids, of which a query visits the nearest: `retrieval-ivf`.

    With all lists the search is exact. Vectors of one list lie side by side in memory, so that a
    visit is one product of matrices for all queries that make it.

    Args:
        vectors: one row a passage.
        num_lists: c ≥ 1; None is the root of their number, rounded.
        metric: as for `DenseIndex`; under "cosine" centroids have length 1 too.
        iterations: of `kmeans`.
        seed: of `kmeans`.

    Attributes:
        centroids: one a list.
        sizes: vectors of each list.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> found = IVFIndex(vectors, num_lists=2).search(vectors[:1], k=2, num_probes=1)
        >>> found.ids.tolist(), found.compared.tolist()
        ([[0, 1]], [2])

    Source: Jégou, Douze and Schmid 2011; as `IndexIVFFlat` of faiss.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "n d"],
        num_lists: int | None = None,
        metric: str = "cosine",
        *,
        iterations: int = 10,
        seed: int = 0,
    ):
        super().__init__(vectors, metric)
        if num_lists is None:
            num_lists = max(1, round(math.sqrt(len(vectors))))
        if checks.count("num_lists", num_lists) > len(vectors):
            raise ValueError(
                f"num_lists={num_lists} must be at most {len(vectors)}, the vectors"
            )
        self.centroids = kmeans(
            self.vectors,
            num_lists,
            iterations=iterations,
            spherical=metric == "cosine",
            seed=seed,
        )
        nearest = likeness(self.vectors, self.centroids, metric).argmax(1)
        self._order = nearest.argsort(stable=True)
        self._sorted = self.vectors[self._order]
        self.sizes = torch.bincount(nearest, minlength=num_lists)
        self._ends = [0, *self.sizes.cumsum(0).tolist()]

    def members(self, number: int) -> Int[Tensor, " _"]:
        """Return the numbers of the vectors in one list."""
        if checks.count("number", number, least=0) >= len(self.centroids):
            raise ValueError(
                f"number={number} must be below {len(self.centroids)}, the lists"
            )
        return self._order[self._ends[number] : self._ends[number + 1]]

    def search(
        self, queries: Float[Tensor, "q d"], k: int, num_probes: int = 1
    ) -> Found:
        """Return the k nearest among the vectors of the lists that each query visits.

        Args:
            queries: one row each, as wide as the vectors.
            k: how many, ≥ 1; at most as many as there are vectors come back.
            num_probes: lists that are visited, ≥ 1; all if there are fewer.
        """
        k = min(checks.count("k", k), len(self))
        probes = min(checks.count("num_probes", num_probes), len(self.centroids))
        queries = self.prepared(queries)
        visited = (
            likeness(queries, self.centroids, self.metric).topk(probes, dim=1).indices
        )
        scores = queries.new_full((len(queries), probes, k), -torch.inf)
        ids = torch.full(scores.shape, -1)
        for number in visited.unique().tolist():
            row, turn = (visited == number).nonzero(as_tuple=True)
            start, end = self._ends[number], self._ends[number + 1]
            near = likeness(queries[row], self._sorted[start:end], self.metric)
            best, at = near.topk(min(k, end - start), dim=1)
            scores[row, turn, : best.shape[1]] = best
            ids[row, turn, : best.shape[1]] = self._order[start:end][at]
        best, at = scores.flatten(1).topk(k, dim=1)
        return Found(ids.flatten(1).gather(1, at), best, self.sizes[visited].sum(1))


class ProductQuantizer:
    r"""Vectors cut into parts, each replaced by the number of a centroid: `retrieval-pq`.

    A vector takes `num_parts` bytes. Its distance to a query is a sum of entries of a table that
    the query makes once: `retrieval-pq-distance`.

    Args:
        vectors: to learn the centroids from.
        num_parts: m, which divides their width.
        num_centroids: of each part, 1 … 256.
        iterations: of `kmeans`.
        seed: of `kmeans`.

    Attributes:
        centroids: m c d/m.

    Example:
        >>> vectors = torch.tensor([[0.0, 5.0], [1.0, 5.0], [0.0, 7.0], [1.0, 7.0]])
        >>> quantizer = ProductQuantizer(vectors, num_parts=2, num_centroids=2)
        >>> torch.equal(quantizer.decode(quantizer.encode(vectors)), vectors)
        True

    Source: Jégou, Douze and Schmid 2011.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "n d"],
        num_parts: int,
        num_centroids: int = 256,
        *,
        iterations: int = 10,
        seed: int = 0,
    ):
        vectors_of("vectors", vectors, empty=False)
        width = vectors.shape[1]
        if width % checks.count("num_parts", num_parts):
            raise ValueError(
                f"num_parts={num_parts} does not divide the width {width} of vectors"
            )
        if checks.count("num_centroids", num_centroids) > min(256, len(vectors)):
            raise ValueError(
                f"num_centroids={num_centroids} must be at most {min(256, len(vectors))}, "
                "a byte and the vectors"
            )
        self.centroids = torch.stack([
            kmeans(part.contiguous(), num_centroids, iterations=iterations, seed=seed)
            for part in vectors.chunk(num_parts, dim=1)
        ])  # fmt: skip

    def encode(self, vectors: Float[Tensor, "n d"]) -> UInt8[Tensor, "n m"]:
        """Return the number of the nearest centroid of each part."""
        vectors_of(
            "vectors", vectors, self.centroids.shape[0] * self.centroids.shape[2]
        )
        parts = vectors.chunk(len(self.centroids), dim=1)
        near = [
            likeness(part, centroids, "euclidean").argmax(1)
            for part, centroids in zip(parts, self.centroids, strict=True)
        ]
        return torch.stack(near, 1).to(torch.uint8)

    def decode(self, codes: UInt8[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """Return the vectors that codes stand for."""
        return self._look_up(codes, self.centroids).flatten(1)

    def scores(
        self, queries: Float[Tensor, "q d"], codes: UInt8[Tensor, "n m"]
    ) -> Float[Tensor, "q n"]:
        """Return minus the squared distance of each query to each coded vector."""
        vectors_of(
            "queries", queries, self.centroids.shape[0] * self.centroids.shape[2]
        )
        parts = queries.chunk(len(self.centroids), dim=1)
        total = torch.zeros((), dtype=queries.dtype)
        numbers = self._checked(codes)
        for part, centroids, code in zip(parts, self.centroids, numbers.T, strict=True):
            table = likeness(part, centroids, "euclidean")  # eq. retrieval-pq-distance
            total = total + table[:, code]
        return total

    def _checked(self, codes: Tensor) -> Int[Tensor, "n m"]:
        m, count, _ = self.centroids.shape
        checks.tensor("codes", codes, shape=("n", m), floating=False)
        numbers = codes.long()
        if (
            numbers.numel()
            and not 0 <= int(numbers.min()) <= int(numbers.max()) < count
        ):
            raise ValueError(f"codes must be 0 … {count - 1}, got {int(numbers.max())}")
        return numbers

    def _look_up(self, codes: Tensor, centroids: Tensor) -> Float[Tensor, "n m _"]:
        numbers = self._checked(codes)
        return centroids[torch.arange(len(centroids)), numbers]
