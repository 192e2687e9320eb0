"""Hierarchical softmax: a word is a path down a binary tree, one yes or no a node.

Axes: b examples, v words, L nodes on the longest path, d numbers of a vector.
"""

import heapq
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks


class Paths(NamedTuple):
    """The way from the root of a tree to each word.

    Attributes:
        nodes: inner nodes that are passed, 0 the root; 0 after the path's end too.
        signs: +1 where the path goes to the first child, -1 to the second; 0 after the end.
    """

    nodes: Int[Tensor, "v L"]
    signs: Float[Tensor, "v L"]

    @property
    def lengths(self) -> Int[Tensor, " v"]:
        """How many nodes each path passes."""
        return (self.signs != 0).sum(1)


def huffman(counts: Int[Tensor, " v"]) -> Paths:
    """Return the paths of Huffman's tree, which gives frequent words the short ones.

    Twice or more, the two rarest nodes get a parent, until one is left. No other tree has a shorter
    path on average over the text.

    Args:
        counts: of two words or more, ≥ 0.

    Example:
        >>> huffman(torch.tensor([8, 4, 2, 2])).lengths
        tensor([1, 2, 3, 3])

    Source: Huffman 1952, A method for the construction of minimum-redundancy codes.
    """
    checks.tensor("counts", counts, shape=("v",), floating=False)
    if len(counts) < 2 or int(counts.min()) < 0:
        raise ValueError("counts must hold two numbers or more, each 0 or more")
    size = len(counts)
    heap = [(times, word) for word, times in enumerate(counts.tolist())]
    heapq.heapify(heap)
    parent: dict[int, tuple[int, float]] = {}
    for made in range(size, 2 * size - 1):
        (one, first), (two, second) = heapq.heappop(heap), heapq.heappop(heap)
        parent[first], parent[second] = (made, 1.0), (made, -1.0)
        heapq.heappush(heap, (one + two, made))
    root = 2 * size - 2
    rows = []
    for word in range(size):
        at, row = word, []
        while at != root:
            at, sign = parent[at]
            row.append((root - at, sign))
        rows.append(row[::-1])
    longest = max(map(len, rows))
    nodes, signs = (
        torch.zeros(size, longest, dtype=torch.int64),
        torch.zeros(size, longest),
    )
    for word, row in enumerate(rows):
        nodes[word, : len(row)] = torch.tensor([node for node, _ in row])
        signs[word, : len(row)] = torch.tensor([sign for _, sign in row])
    return Paths(nodes, signs)


class HierarchicalSoftmax(nn.Module):
    r"""The logarithm of a word's probability as a sum over the nodes on its path.

    $\ln p(w \mid \mathbf h) = \sum_j \ln \sigma(s_j\, \mathbf n_j \cdot \mathbf h)$ (equation
    `word2vec-tree`), about $\log_2 v$ products instead of v. All words' probabilities add up to 1
    whatever the weights are.

    Args:
        counts: of the words, which shape the tree.
        embed_dim: numbers of h, ≥ 1.

    Example:
        >>> tree = HierarchicalSoftmax(torch.tensor([8, 4, 2, 2]), embed_dim=3)
        >>> tree(torch.randn(4, 3), torch.arange(4)).exp()
        tensor([0.5000, 0.2500, 0.1250, 0.1250], grad_fn=<ExpBackward0>)

    Source: Morin and Bengio 2005; with Huffman's tree: Mikolov et al. 2013.
    """

    nodes: Tensor
    signs: Tensor

    def __init__(
        self,
        counts: Int[Tensor, " v"],
        embed_dim: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        paths = huffman(counts)
        self.embed_dim = checks.count("embed_dim", embed_dim)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("nodes", paths.nodes.to(device))
        self.register_buffer("signs", paths.signs.to(**like))
        self.node_vectors = nn.Parameter(
            torch.empty(len(counts) - 1, embed_dim, **like)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the nodes' vectors to zero: each turns either way with probability one half."""
        nn.init.zeros_(self.node_vectors)

    def forward(
        self, hidden: Float[Tensor, "b d"], words: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return ln p of a word for each hidden vector."""
        checks.tensor("hidden", hidden, shape=("b", self.embed_dim), floating=True)
        checks.tokens(
            "words", words, len(self.nodes), shape=(len(hidden),), empty=True, of="v"
        )
        signs = self.signs[words]
        turns = torch.einsum("bd,bld->bl", hidden, self.node_vectors[self.nodes[words]])
        return (F.logsigmoid(signs * turns) * (signs != 0)).sum(1)  # eq. word2vec-tree
