r"""Two passes over edges that hold no list of e × h × o numbers: sums under weights, and scores.

Written plainly, each makes a row of h · o numbers for every edge, keeps it for the backward pass,
and waits for memory most of the time. Here edges are taken in pieces that fit into a core's cache,
and the backward pass makes each piece again. `*_plain` are the readable twins, which also serve
where there is little to do, and on accelerators, which have no use for pieces.

Axes: n nodes, e edges, h heads, o features of a head.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nnlib.graph._aggregate import scatter

PIECE = 1 << 18  # numbers in a piece: 1 MiB in float32
LITTLE = 1 << 14  # numbers below which pieces do not pay


def weighted_sum_plain(
    values: Float[Tensor, "n h o"],
    weights: Float[Tensor, "e h"],
    source: Int[Tensor, " e"],
    target: Int[Tensor, " e"],
) -> Float[Tensor, "n h o"]:
    """Return for each node the sum of its sources' values, each times its edge's weight."""
    sent = values.index_select(0, source) * weights[..., None]
    return scatter(sent, target, len(values), "sum")


def pair_scores_plain(
    keys: Float[Tensor, "n h o"],
    queries: Float[Tensor, "n h o"],
    att: Float[Tensor, "h o"],
    source: Int[Tensor, " e"],
    target: Int[Tensor, " e"],
    slope: float,
) -> Float[Tensor, "e h"]:
    """Return a · LeakyReLU(key of the source + query of the target) for each edge and head."""
    pairs = keys.index_select(0, source) + queries.index_select(0, target)
    return (F.leaky_relu(pairs, slope) * att).sum(-1)


def weighted_sum(
    values: Float[Tensor, "n h o"],
    weights: Float[Tensor, "e h"],
    source: Int[Tensor, " e"],
    target: Int[Tensor, " e"],
) -> Float[Tensor, "n h o"]:
    """Return what `weighted_sum_plain` does, in pieces where that pays."""
    if not _pays(values, source):
        return weighted_sum_plain(values, weights, source, target)
    return _WeightedSum.apply(values, weights, source, target)


def pair_scores(
    keys: Float[Tensor, "n h o"],
    queries: Float[Tensor, "n h o"],
    att: Float[Tensor, "h o"],
    source: Int[Tensor, " e"],
    target: Int[Tensor, " e"],
    slope: float,
) -> Float[Tensor, "e h"]:
    """Return what `pair_scores_plain` does, in pieces where that pays."""
    if not _pays(keys, source):
        return pair_scores_plain(keys, queries, att, source, target, slope)
    return _PairScores.apply(keys, queries, att, source, target, slope)


def _pays(values: Tensor, source: Tensor) -> bool:
    numbers = len(source) * values[:1].numel()
    there = values.device.type == "cpu" and not torch.compiler.is_compiling()
    return there and numbers > LITTLE


def _pieces(edges: int, width: int) -> Iterator[slice]:
    """Yield stretches of edges that hold at most a piece of numbers, each of one edge or more."""
    step = max(1, PIECE // width)
    for start in range(0, edges, step):
        yield slice(start, min(start + step, edges))


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weights: Tensor, source: Tensor, target: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values, weights, source, target)
        rows = values.flatten(1)
        out = torch.zeros_like(rows)
        for piece in _pieces(len(source), rows.shape[1]):
            sent = rows.index_select(0, source[piece])
            sent.unflatten(1, values.shape[1:]).mul_(weights[piece, :, None])
            out.index_add_(0, target[piece], sent)
        return out.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values, weights, source, target = ctx.saved_tensors
        heads, rows, grad = values.shape[1:], values.flatten(1), grads[0].flatten(1)
        dvalues, dweights = torch.zeros_like(rows), torch.empty_like(weights)
        for piece in _pieces(len(source), rows.shape[1]):
            back = grad.index_select(0, target[piece]).unflatten(1, heads)
            met = rows.index_select(0, source[piece]).unflatten(1, heads).mul_(back)
            torch.sum(met, -1, out=dweights[piece])
            dvalues.index_add_(
                0, source[piece], back.mul_(weights[piece, :, None]).flatten(1)
            )
        return dvalues.view_as(values), dweights, None, None


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, queries: Tensor, att: Tensor, source: Tensor, target: Tensor,
        slope: float,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(keys, queries, att, source, target)
        ctx.slope = slope
        scores = keys.new_empty(len(source), len(att))
        for piece in _pieces(len(source), att.numel()):
            met = F.leaky_relu_(
                _pairs(keys, queries, source[piece], target[piece]), slope
            )
            torch.sum(met.unflatten(1, att.shape).mul_(att), -1, out=scores[piece])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        keys, queries, att, source, target = ctx.saved_tensors
        dkeys, dqueries = (
            torch.zeros_like(keys.flatten(1)),
            torch.zeros_like(queries.flatten(1)),
        )
        datt = torch.zeros_like(att)
        for piece in _pieces(len(source), att.numel()):
            pairs = _pairs(keys, queries, source[piece], target[piece])
            grad = grads[0][piece, :, None]
            back = torch.ops.aten.leaky_relu_backward(
                (grad * att).flatten(1), pairs, ctx.slope, False
            )
            dkeys.index_add_(0, source[piece], back)
            dqueries.index_add_(0, target[piece], back)
            met = F.leaky_relu_(pairs, ctx.slope).unflatten(1, att.shape)
            datt += met.mul_(grad).sum(0)
        return dkeys.view_as(keys), dqueries.view_as(queries), datt, None, None, None


def _pairs(keys: Tensor, queries: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return a key and a query, summed, for each edge: e (h o), a new tensor."""
    pairs = keys.flatten(1).index_select(0, source)
    return pairs.add_(queries.flatten(1).index_select(0, target))
