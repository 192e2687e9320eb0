r"""What arrives at a node, made one: sums, means and maxima over neighbours, and their softmax.

Messages stand one an edge, in a list; `index` says at which node each of them arrives. Everything
here is a scatter: no loop over nodes, no padding to the largest number of neighbours.

Axes: e messages, n nodes, d features (any number of axes).
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.graph._edges import degrees

AGGREGATIONS = ("sum", "mean", "max")


def aggregate(
    messages: Float[Tensor, "e *d"],
    index: Int[Tensor, " e"],
    num_nodes: int,
    how: str = "sum",
) -> Float[Tensor, "n *d"]:
    r"""Return the sum, mean or maximum of the messages that arrive at each node.

    A node where none arrives gets 0 in all three cases, as PyTorch Geometric has it.

    Args:
        messages: one a row.
        index: the node where each message arrives, 0 … `num_nodes` − 1.
        num_nodes: nodes in all, ≥ 0.
        how: "sum", "mean" or "max". Where several messages are the maximum, each gets an equal
            part of its gradient.

    Example:
        >>> import torch
        >>> arrive = torch.tensor([[1.0], [5.0], [3.0]]), torch.tensor([0, 0, 2])
        >>> aggregate(*arrive, num_nodes=3, how="mean").flatten()
        tensor([3., 0., 3.])
    """
    checks.one_of("how", how, AGGREGATIONS)
    checks.tensor("messages", messages, floating=True)
    nodes_of_messages("index", index, messages, num_nodes)
    return scatter(messages, index, num_nodes, how)


def scatter(messages: Tensor, index: Tensor, num_nodes: int, how: str) -> Tensor:
    """Return what `aggregate` does, of arguments that were looked at before."""
    out = messages.new_zeros((num_nodes, *messages.shape[1:]))
    if how == "max":
        index = _like(index, messages)
        return out.scatter_reduce(0, index, messages, "amax", include_self=False)
    out = out.index_add(0, index, messages)
    if how == "sum":
        return out
    counts = degrees(index, num_nodes).clamp(min=1).to(out.dtype)
    return out / _like(counts, out)


def softmax_over_neighbours(
    scores: Float[Tensor, "e *d"], index: Int[Tensor, " e"], num_nodes: int
) -> Float[Tensor, "e *d"]:
    r"""Return $\exp(s_e) / \sum_{e'} \exp(s_{e'})$ over the messages that arrive where e does.

    The largest score of each node is taken off first, so that nothing overflows.

    Args:
        scores: one a message and, for example, one a head.
        index: the node where each message arrives, 0 … `num_nodes` − 1.
        num_nodes: nodes in all, ≥ 0.

    Example:
        >>> import torch
        >>> softmax_over_neighbours(torch.tensor([0.0, 0.0, 900.0]), torch.tensor([1, 1, 0]), 2)
        tensor([0.5000, 0.5000, 1.0000])
    """
    checks.tensor("scores", scores, floating=True)
    nodes_of_messages("index", index, scores, num_nodes)
    largest = scatter(scores.detach(), index, num_nodes, "max")
    weights = (scores - largest.index_select(0, index)).exp()
    return weights / scatter(weights, index, num_nodes, "sum").index_select(0, index)


def nodes_of_messages(name: str, index: Any, messages: Tensor, num_nodes: int) -> None:
    """Refuse an index that does not name a node for each message."""
    if messages.ndim < 1:
        raise ValueError("messages must stand one a row, got a single number")
    if num_nodes == 0 and not messages.shape[0]:
        return
    checks.count("num_nodes", num_nodes)
    checks.tokens(
        name, index, num_nodes, shape=(messages.shape[0],), empty=True, of="num_nodes"
    )


def _like(rows: Tensor, wanted: Tensor) -> Tensor:
    """Return one number a row, repeated (without a copy) to the shape of `wanted`."""
    return rows.view(-1, *[1] * (wanted.ndim - 1)).expand_as(wanted)
