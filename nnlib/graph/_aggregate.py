r"""What arrives at a node, made one: sums, means and maxima over neighbours, and their softmax.

Messages stand one an edge, in a list; `index` says at which node each of them arrives. Everything
here is a scatter: no loop over nodes, no padding to the largest number of neighbours.

Axes: e messages, n nodes, d features (any number of axes).
"""

from typing import Any

import torch
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
        if messages.numel() >= SMALL and checks.readable(messages):
            order = index.argsort(stable=True)
            messages, index = messages.index_select(0, order), index[order]
            return _Maximum.apply(messages, index, degrees(index, num_nodes))
        index = _like(index, messages)
        return out.scatter_reduce(0, index, messages, "amax", include_self=False)
    out = out.index_add(0, index, messages)
    if how == "sum":
        return out
    counts = degrees(index, num_nodes).clamp(min=1).to(out.dtype)
    return out / _like(counts, out)


def neighbour_sum(
    x: Float[Tensor, "n d"],
    edge_index: Int[Tensor, "2 e"],
    weight: Float[Tensor, " e"] | None = None,
) -> Float[Tensor, "n d"]:
    r"""Return $\sum_{j\to i} w_{ji}\,\mathbf x_j$ for each node, where messages are features.

    The same as `aggregate` of the gathered rows. A large graph on a CPU takes a product with a
    sparse matrix instead, which reads each row where it stands and writes no list of messages.

    Args:
        x: features of the nodes.
        edge_index: looked at before, by `check_edges`.
        weight: of each edge; 1 if None.
    """
    source, target = edge_index[0], edge_index[1]
    if _as_product(x, edge_index, weight):
        ones = x.new_ones(len(source)) if weight is None else weight
        size = (len(x), len(x))
        adjacency = torch.sparse_coo_tensor(
            edge_index.flip(0), ones, size, check_invariants=False
        )
        return torch.sparse.mm(adjacency, x)
    messages = x.index_select(0, source)
    if weight is not None:
        messages = messages * weight[:, None]
    return scatter(messages, target, len(x), "sum")


def neighbour_max(
    x: Float[Tensor, "n d"], edge_index: Int[Tensor, "2 e"]
) -> Float[Tensor, "n d"]:
    """Return the maximum over each node's neighbours, feature by feature; 0 where there are none.

    The same as `aggregate` of the gathered rows; a large graph on a CPU is sorted by target first,
    so that rows are gathered once, in the order in which they are needed.

    Args:
        x: features of the nodes.
        edge_index: looked at before, by `check_edges`.
    """
    source, target = edge_index[0], edge_index[1]
    if len(source) * x.shape[-1] >= SMALL and checks.readable(x):
        target, order = target.sort(stable=True)
        messages = x.index_select(0, source[order])
        return _Maximum.apply(messages, target, degrees(target, len(x)))
    return scatter(x.index_select(0, source), target, len(x), "max")


SMALL = (
    100_000  # numbers in all messages, below which sorting or a matrix saves nothing
)


class _Maximum(torch.autograd.Function):
    """The maximum of messages that are sorted by node: a run of memory for each node.

    Messages that are equal to it share its gradient equally, as in torch's `scatter_reduce`.
    """

    @staticmethod
    def forward(ctx: Any, messages: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
        out = torch.segment_reduce(messages, "max", lengths=sizes, unsafe=True)
        out[sizes == 0] = 0
        ctx.save_for_backward(messages, out, index, sizes)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        messages, out, index, sizes = ctx.saved_tensors
        hits = (messages == out.index_select(0, index)).to(grad.dtype)
        count = torch.segment_reduce(hits, "sum", lengths=sizes, unsafe=True)
        return hits * (grad / count.clamp(min=1)).index_select(0, index), None, None


def _as_product(x: Tensor, edge_index: Tensor, weight: Tensor | None) -> bool:
    """Return whether a sparse product is to be had, and is worth making the matrix."""
    fits = x.ndim == 2 and edge_index.shape[1] * x.shape[-1] >= SMALL
    learned = weight is not None and (weight.requires_grad or weight.dtype != x.dtype)
    double = x.dtype in (torch.float32, torch.float64)
    return fits and double and not learned and checks.readable(x)


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
        >>> softmax_over_neighbours(torch.tensor([0.0, 0.0, 900.0]), torch.tensor([1, 1, 0]), 2)
        tensor([0.5000, 0.5000, 1.0000])
    """
    checks.tensor("scores", scores, floating=True)
    nodes_of_messages("index", index, scores, num_nodes)
    return scatter_softmax(scores, index, num_nodes)


def scatter_softmax(scores: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    """Return what `softmax_over_neighbours` does, of arguments that were looked at before."""
    largest = scores.new_full((num_nodes, *scores.shape[1:]), -torch.inf)
    largest.scatter_reduce_(0, _like(index, scores), scores.detach(), "amax")
    weights = (scores - largest.index_select(0, index)).exp()
    return weights / scatter(weights, index, num_nodes, "sum").index_select(0, index)


def pna(
    messages: Float[Tensor, "e d"],
    index: Int[Tensor, " e"],
    num_nodes: int,
    delta: float,
) -> Float[Tensor, "n twelve_d"]:
    r"""Return mean, maximum, minimum and deviation, as they are and scaled up and down by degree.

    $\left[1,\ S_i,\ 1/S_i\right] \otimes [\mu, \max, \min, \sigma]$ with
    $S_i = \log(d_i + 1) / \delta$ (equation `message-passing-pna`). A node where nothing arrives
    gets 0, and a deviation below 0.003 counts as 0, because the root has no slope there.

    Args:
        messages: one a row.
        index: the node where each message arrives, 0 … `num_nodes` − 1.
        num_nodes: nodes in all, ≥ 0.
        delta: mean of $\log(d + 1)$ over the nodes of the training graphs, > 0.

    Example:
        >>> pna(torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]), 2, delta=1.2).shape
        torch.Size([2, 36])

    Source: Corso et al. 2020, Principal neighbourhood aggregation for graph nets.
    """
    delta = checks.number("delta", delta, above=0)
    checks.tensor("messages", messages, shape=("e", "d"), floating=True)
    mean = aggregate(messages, index, num_nodes, "mean")
    largest = aggregate(messages, index, num_nodes, "max")
    least = -scatter(-messages, index, num_nodes, "max")
    variance = scatter(messages.square(), index, num_nodes, "mean") - mean.square()
    floor = 1e-5
    spread = variance.clamp(min=floor).sqrt() * (variance > floor)
    seen = torch.cat([mean, largest, least, spread], 1)
    degree = degrees(index, num_nodes).to(seen.dtype)[:, None]
    up, down = (degree + 1).log(), (degree.clamp(min=1) + 1).log()
    return torch.cat([seen, seen * (up / delta), seen * (delta / down)], 1)


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
