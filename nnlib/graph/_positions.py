r"""Where a node stands in its graph, in numbers: Laplacian eigenvectors, random walks, distances.

Papers: Dwivedi and Bresson 2020 (Laplacian); Dwivedi et al. 2021 (random walks); Ying et al. 2021
(distances)
Axes: n nodes in all, b graphs, s nodes of the largest graph, k positions, d features.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.graph._edges import check_edges

Edges = Int[Tensor, "2 e"]
Batch = Int[Tensor, " n"]


class Packing:
    """Nodes of several graphs, and where each stands in rows that are padded to the largest.

    Args:
        batch: for each node, the number of its graph, in order; None is a single graph.
        num_nodes: nodes in all.
        device: where to build, if there is no `batch`.

    Example:
        >>> packing = Packing(torch.tensor([0, 0, 1]), num_nodes=3)
        >>> packing.pack(torch.tensor([[5.0], [6.0], [7.0]]))[..., 0]
        tensor([[5., 6.],
                [7., 0.]])
        >>> packing.real
        tensor([[ True,  True],
                [ True, False]])
    """

    def __init__(self, batch: Batch | None, num_nodes: int, device: Any = None):
        if batch is None:
            batch = torch.zeros(num_nodes, dtype=torch.int64, device=device)
        checks.tensor("batch", batch, shape=(num_nodes,), floating=False)
        looked = checks.readable(batch) and num_nodes > 0
        if looked and (bool((batch.diff() < 0).any()) or int(batch[0]) < 0):
            raise ValueError("batch must be sorted, 0 or more, got graphs out of order")
        sizes = torch.bincount(batch)
        starts = sizes.cumsum(0) - sizes
        self.graph = batch
        self.place = torch.arange(num_nodes, device=batch.device) - starts[batch]
        longest = int(sizes.max()) if num_nodes else 0
        self.sizes = sizes
        self.real: Bool[Tensor, "b s"] = (
            torch.arange(longest, device=batch.device) < sizes[:, None]
        )

    def pack(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "b s d"]:
        """Return rows of zeros where a graph has no node."""
        packed = rows.new_zeros(*self.real.shape, rows.shape[1])
        return packed.index_put((self.graph, self.place), rows)

    def unpack(self, packed: Float[Tensor, "b s d"]) -> Float[Tensor, "n d"]:
        """Return the rows of nodes, in their order."""
        return packed[self.graph, self.place]

    def adjacency(self, edge_index: Edges) -> Bool[Tensor, "b s s"]:
        """Return at [graph, target, source] whether there is an edge."""
        source, target = edge_index
        if checks.readable(edge_index) and bool(
            (self.graph[source] != self.graph[target]).any()
        ):
            at = int((self.graph[source] != self.graph[target]).nonzero()[0])
            pair = edge_index[:, at].tolist()
            raise ValueError(
                f"edge_index joins nodes {pair} of two different graphs of batch"
            )
        joined = torch.zeros(*self.real.shape, self.real.shape[1], dtype=torch.bool,
                             device=edge_index.device)  # fmt: skip
        joined[self.graph[source], self.place[target], self.place[source]] = True
        return joined


def _undirected(
    edge_index: Any, num_nodes: int, batch: Batch | None
) -> tuple[Packing, Tensor]:
    """Return the packing and the adjacency without loops, of edges that stand both ways."""
    num_nodes = checks.count("num_nodes", num_nodes)
    check_edges(edge_index, num_nodes)
    packing = Packing(batch, num_nodes, edge_index.device)
    joined = packing.adjacency(edge_index)
    joined.diagonal(dim1=1, dim2=2).fill_(False)
    if checks.readable(joined) and bool((joined != joined.mT).any()):
        raise ValueError(
            "edge_index must hold each edge in both directions: see undirected"
        )
    return packing, joined


def laplacian(joined: Bool[Tensor, "b s s"]) -> Float[Tensor, "b s s"]:
    r"""Return $\mathbf I - \mathbf D^{-1/2}\mathbf A\mathbf D^{-1/2}$, with 0 for isolated nodes.

    Args:
        joined: adjacency of each graph.
    """
    a = joined.double()
    degree = a.sum(-1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)
    own = torch.diag_embed((degree > 0).double())
    return (
        own - scale[:, :, None] * a * scale[:, None, :]
    )  # eq. graph-attention-laplacian


def laplacian_positions(
    edge_index: Edges, num_nodes: int, num_positions: int, batch: Batch | None = None
) -> Float[Tensor, "n k"]:
    r"""Return the eigenvectors of the Laplacian with the smallest eigenvalues but the first.

    $\mathbf L = \mathbf I - \mathbf D^{-1/2}\mathbf A\mathbf D^{-1/2} =
    \mathbf U\boldsymbol\Lambda\mathbf U^\top$, and node $i$ gets
    $(u_2(i), \dots, u_{k+1}(i))$ (equations `graph-attention-laplacian`,
    `graph-attention-positions`). Each has length 1. Its *sign* is arbitrary, and where eigenvalues
    coincide, so is the basis; here the first of the largest entries is made positive, which is no
    cure: see `flip_signs`. Computed densely, at a cost of n³.

    Args:
        edge_index: of undirected graphs: each edge in both directions. Loops do not count.
        num_nodes: nodes in all, ≥ 1.
        num_positions: eigenvectors k, ≥ 1; columns that a small graph lacks are 0.
        batch: for each node, the number of its graph; None is a single graph.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
        >>> laplacian_positions(path, 4, 1).flatten()  # from one end to the other
        tensor([ 0.5774,  0.4082, -0.4082, -0.5774])

    Source: Dwivedi and Bresson 2020; the eigenvectors are Belkin and Niyogi's, 2003.
    """
    k = checks.count("num_positions", num_positions)
    packing, joined = _undirected(edge_index, num_nodes, batch)
    matrix = laplacian(joined) + torch.diag_embed(
        4.0 * ~packing.real
    )  # padding comes last
    vectors = torch.linalg.eigh(matrix).eigenvectors[:, :, 1 : k + 1]
    vectors = torch.nn.functional.pad(vectors, (0, k - vectors.shape[-1]))
    kept = torch.arange(1, k + 1, device=vectors.device) < packing.sizes[:, None]
    vectors = vectors * kept[:, None] * packing.real[..., None]
    sizes = vectors.abs()
    large = sizes > sizes.amax(1, keepdim=True) - 1e-6  # symmetric graphs have several
    first = (large.cumsum(1) == 0).sum(1, keepdim=True)
    vectors = torch.where(vectors.gather(1, first) < 0, -vectors, vectors)
    return packing.unpack(vectors).to(torch.get_default_dtype())


def flip_signs(
    positions: Float[Tensor, "n k"],
    batch: Batch | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n k"]:
    """Return the positions with a random sign for each graph and column.

    Both signs of an eigenvector are equally right, so a network should see both in training: this
    is what Dwivedi and Bresson do in every step.

    Args:
        positions: as from `laplacian_positions`.
        batch: for each node, the number of its graph; None is a single graph.
        generator: of the signs; torch's own if None.

    Example:
        >>> flip_signs(torch.ones(3, 2)).abs()
        tensor([[1., 1.],
                [1., 1.],
                [1., 1.]])

    Source: Dwivedi and Bresson 2020.
    """
    checks.tensor("positions", positions, shape=("n", "k"), floating=True)
    packing = Packing(batch, len(positions), positions.device)
    draws = torch.rand(len(packing.sizes), positions.shape[1], generator=generator)
    signs = torch.where(draws < 0.5, -1.0, 1.0).to(positions)
    return positions * signs[packing.graph]


def random_walk_positions(
    edge_index: Edges, num_nodes: int, num_positions: int, batch: Batch | None = None
) -> Float[Tensor, "n k"]:
    r"""Return the chances that a random walk from each node is back after 1, 2, …, k steps.

    $(\mathbf R_{ii}, \mathbf R^2_{ii}, \dots, \mathbf R^k_{ii})$ with $\mathbf R = \mathbf D^{-1}
    \mathbf A$ (equation `graph-attention-random-walk`). There is no sign to choose, and nodes that
    an automorphism exchanges are alike. A walk from an isolated node does not come back: 0.

    Args:
        edge_index: of undirected graphs: each edge in both directions. Loops do not count.
        num_nodes: nodes in all, ≥ 1.
        num_positions: steps k, ≥ 1.
        batch: for each node, the number of its graph; None is a single graph.

    Example:
        >>> triangle = torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]])
        >>> random_walk_positions(triangle, 3, 3)[0]
        tensor([0.0000, 0.5000, 0.2500])

    Source: Dwivedi et al. 2021, Graph neural networks with learnable structural and positional
    representations.
    """
    k = checks.count("num_positions", num_positions)
    packing, joined = _undirected(edge_index, num_nodes, batch)
    walk = joined.to(torch.get_default_dtype())
    walk = walk / walk.sum(-1, keepdim=True).clamp(min=1)
    power, back = walk, []
    for _ in range(k):
        back.append(power.diagonal(dim1=1, dim2=2))  # eq. graph-attention-random-walk
        power = power @ walk
    return packing.unpack(torch.stack(back, -1))


def shortest_paths(
    edge_index: Edges, num_nodes: int, most: int, batch: Batch | None = None
) -> Int[Tensor, "b s s"]:
    """Return how many edges lie between each two nodes of a graph, in rows padded to the largest.

    Args:
        edge_index: sources and targets; a path follows the edges' direction.
        num_nodes: nodes in all, ≥ 1.
        most: the longest that is told apart, ≥ 1; `most` + 1 stands for farther, for out of
            reach, and for padding.
        batch: for each node, the number of its graph; None is a single graph.

    Returns:
        At [graph, i, j], the length of the shortest path from j to i.

    Example:
        >>> shortest_paths(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3, most=5)[0]
        tensor([[0, 1, 2],
                [1, 0, 1],
                [2, 1, 0]])

    Source: Ying et al. 2021, whose spatial encoding looks these up.
    """
    most = checks.count("most", most)
    num_nodes = checks.count("num_nodes", num_nodes)
    check_edges(edge_index, num_nodes)
    packing = Packing(batch, num_nodes, edge_index.device)
    step = packing.adjacency(edge_index).to(torch.get_default_dtype())
    reached = torch.diag_embed(packing.real)
    lengths = torch.where(reached, 0, most + 1)
    for length in range(1, most + 1):
        further = (step @ reached.to(step.dtype) > 0) | reached
        if bool((further == reached).all()):
            break
        lengths = torch.where(further & ~reached, length, lengths)
        reached = further
    return lengths
