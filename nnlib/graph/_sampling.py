"""Neighbour sampling: a few neighbours of a few nodes, however large the graph is.

Axes: n nodes, e edges, s sampled nodes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.graph._edges import check_edges


class Sample(NamedTuple):
    """A part of a graph, as `sample_neighbours` draws it.

    Attributes:
        nodes: the numbers that its nodes have in the whole graph; those asked for come first.
        edge_index: its edges, in the numbers that nodes have in `nodes`.
    """

    nodes: Int[Tensor, " s"]
    edge_index: Int[Tensor, "2 f"]


def sample_neighbours(
    edge_index: Int[Tensor, "2 e"],
    num_nodes: int,
    nodes: Int[Tensor, " s"],
    sizes: Sequence[int],
    generator: torch.Generator | None = None,
) -> Sample:
    """Draw at most `sizes[0]` of each node's neighbours, `sizes[1]` of each of theirs, and so on.

    Draws are without replacement. A model of as many layers as there are sizes gives the nodes that
    were asked for what it would give on the whole graph, if sizes are as large as degrees; with
    fewer, an estimate.

    Args:
        edge_index: of the whole graph.
        num_nodes: of the whole graph.
        nodes: for which outputs are wanted, each once.
        sizes: neighbours to draw, one number a layer; −1 takes them all.
        generator: source of the randomness, on the CPU.

    Example:
        >>> star = torch.stack([torch.arange(1, 9), torch.zeros(8, dtype=torch.int64)])
        >>> part = sample_neighbours(star, 9, torch.tensor([0]), [3])
        >>> part.nodes.shape, part.edge_index.shape
        (torch.Size([4]), torch.Size([2, 3]))

    Source: Hamilton, Ying and Leskovec 2017, Inductive representation learning on large graphs.
    """
    check_edges(edge_index, num_nodes)
    checks.tokens("nodes", nodes, num_nodes, shape=("s",), of="num_nodes")
    if len(nodes.unique()) < len(nodes):
        raise ValueError("nodes must name each node once")
    if not isinstance(sizes, Sequence) or not sizes:
        raise TypeError(f"sizes={sizes!r} must be one number a layer")
    kept = torch.zeros(edge_index.shape[1], dtype=torch.bool)
    known, frontier = nodes, nodes
    for at, size in enumerate(sizes):
        size = checks.count(f"sizes[{at}]", size, least=-1)
        wanted = torch.zeros(num_nodes, dtype=torch.bool)
        wanted[frontier] = True
        into = wanted[edge_index[1]].nonzero().flatten()
        if size >= 0:
            into = into[_rank(edge_index[1, into], generator) < size]
        kept[into] = True
        frontier = torch.cat([frontier, edge_index[0, into]]).unique()
        known = torch.cat([known, frontier[~torch.isin(frontier, known)]])
    place = torch.full((num_nodes,), -1, dtype=torch.int64)
    place[known] = torch.arange(len(known))
    return Sample(known, place[edge_index[:, kept]])


def _rank(groups: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the place of each entry in a random order of those of its group."""
    mixed = torch.randperm(len(groups), generator=generator)
    order = mixed[groups[mixed].argsort(stable=True)]
    sizes = groups.bincount()
    starts = (sizes.cumsum(0) - sizes)[groups[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - starts
    return rank
