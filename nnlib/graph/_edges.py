"""Edges as pairs of node numbers, as PyTorch Geometric has them: checked, counted, looped.

`edge_index[0]` holds the sources j, `edge_index[1]` the targets i: messages flow from j to i. An
undirected edge stands in the list twice, once in each direction.

Axes: n nodes, e edges, d features.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

Edges = Int[Tensor, "2 e"]


def check_edges(edge_index: Any, num_nodes: int) -> None:
    """Refuse what is no list of edges between nodes 0 … `num_nodes` − 1.

    Where looking at the numbers would wait for an accelerator, or while compiling, only the shape
    and the kind are looked at.

    Raises:
        TypeError: no tensor, or not of int64.
        ValueError: not 2 × e, or a node that there is none of; the message names it.

    Example:
        >>> check_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> check_edges(torch.tensor([[0, 7], [1, 2]]), num_nodes=3)
        Traceback (most recent call last):
        ...
        ValueError: edge_index names node 7, but nodes are 0 … 2
    """
    edges = checks.tensor("edge_index", edge_index, shape=(2, "e"), floating=False)
    if edges.dtype != torch.int64:
        raise TypeError(f"edge_index must be of int64, got {edges.dtype}")
    if not checks.readable(edges) or not edges.numel():
        return
    low, high = map(int, edges.aminmax())
    if low < 0 or high >= num_nodes:
        wrong = low if low < 0 else high
        nodes = f"nodes are 0 … {num_nodes - 1}" if num_nodes else "there are no nodes"
        raise ValueError(f"edge_index names node {wrong}, but {nodes}")


def add_self_loops(edge_index: Edges, num_nodes: int) -> Int[Tensor, "2 looped"]:
    """Return the edges without loops, and then one loop for each node, in the order of the nodes.

    Loops that are in the list already are not doubled: however many a node has, one remains. That
    is GCN's rule ("add the remaining loops") and GAT's ("take all away, then add all"), which
    differ only where loops have weights; for those see `add_weighted_self_loops`.

    Args:
        edge_index: sources and targets.
        num_nodes: nodes in all, ≥ 0.

    Example:
        >>> add_self_loops(torch.tensor([[0, 1], [1, 1]]), num_nodes=3)
        tensor([[0, 0, 1, 2],
                [1, 0, 1, 2]])
    """
    check_edges(edge_index, num_nodes)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    others = (
        edge_index  # on the meta device there are no numbers, and so no loops to find
    )
    if not edge_index.is_meta:
        others = edge_index[:, edge_index[0] != edge_index[1]]
    return torch.cat([others, nodes.expand(2, -1)], 1)


def add_weighted_self_loops(
    edge_index: Edges, weight: Float[Tensor, " e"], num_nodes: int, fill: float = 1.0
) -> tuple[Int[Tensor, "2 looped"], Float[Tensor, " looped"]]:
    """Return what `add_self_loops` does, and a weight for each edge.

    A loop that was there keeps its weight (the last one, if there are several), the others weigh
    `fill`.

    Example:
        >>> edges = torch.tensor([[0, 1], [1, 1]])
        >>> add_weighted_self_loops(edges, torch.tensor([0.5, 3.0]), num_nodes=2)
        (tensor([[0, 0, 1],
                [1, 0, 1]]), tensor([0.5000, 1.0000, 3.0000]))
    """
    looped = add_self_loops(edge_index, num_nodes)
    checks.tensor("weight", weight, shape=(edge_index.shape[1],), floating=True)
    loop = edge_index[0] == edge_index[1]
    own = weight.new_full((num_nodes,), fill)
    own = own.index_put((edge_index[0, loop],), weight[loop])
    return looped, torch.cat([weight[~loop], own])


def degrees(index: Int[Tensor, " e"], num_nodes: int) -> Int[Tensor, " n"]:
    """Return how often each node stands in a row of `edge_index`: its degree, in or out.

    Args:
        index: `edge_index[1]` for the number of messages that a node gets, `edge_index[0]` for
            those that it sends.
        num_nodes: nodes in all, ≥ 0.

    Example:
        >>> degrees(torch.tensor([1, 1, 2]), num_nodes=4)
        tensor([0, 2, 1, 0])
    """
    if checks.readable(index):
        return index.bincount(minlength=num_nodes)
    counts = torch.zeros(num_nodes, dtype=torch.int64, device=index.device)
    return counts.index_add(0, index, torch.ones_like(index))


def coalesce(edge_index: Edges) -> Int[Tensor, "2 once"]:
    """Return every edge once, sorted by source and then by target.

    Example:
        >>> coalesce(torch.tensor([[1, 0, 1], [0, 1, 0]]))
        tensor([[0, 1],
                [1, 0]])
    """
    return torch.unique(edge_index, dim=1)


def undirected(edge_index: Edges) -> Int[Tensor, "2 both"]:
    """Return every edge in both directions, each once.

    Example:
        >>> undirected(torch.tensor([[0, 1], [1, 2]]))
        tensor([[0, 1, 1, 2],
                [1, 0, 2, 1]])
    """
    return coalesce(torch.cat([edge_index, edge_index.flip(0)], 1))
