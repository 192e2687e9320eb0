"""Linear attention in plain torch: products within chunks of steps, one short scan over them.

Axes: b batch, h heads, c chunks, l steps of a chunk, d width of queries and keys, v of values.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels import linear_scan

LEAST = -800.0  # below it nothing is left, in float64 either; and sums are finite


def state_dtype(x: Tensor) -> torch.dtype:
    """Return what the state is kept in: float32, or float64 where all else is."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class Decays(NamedTuple):
    """What decay leaves on each way through a stretch of steps."""

    pair: Tensor  # from step j to step i ≥ j, `… i j`; 0 where j comes later
    rise: Tensor  # from before the stretch to each step
    rest: Tensor  # from each step to the last one
    whole: Tensor  # from before the stretch to its last step


def decays(log_decay: Tensor, dtype: torch.dtype) -> Decays:
    """Return the products of decays between any two steps of the last axis.

    They are exponentials of differences of sums. Two sums of some hundreds may differ by a
    hundredth, which float32 would round away: sums and differences are taken in float64.
    """
    total = log_decay.double().clamp(min=LEAST).cumsum(-1)
    steps = total.shape[-1]
    later = torch.ones(steps, steps, dtype=torch.bool, device=total.device).triu(1)
    between = (total[..., :, None] - total[..., None, :]).to(dtype)
    rest = (total[..., -1:] - total).to(dtype).exp()
    rise = total.to(dtype).exp()
    pair = between.masked_fill_(later, -torch.inf).exp_()
    return Decays(pair, rise, rest, rise[..., -1])


def chunked(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, start: Tensor | None, scale: float,
    length: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the outputs and the last state."""
    dtype = v.dtype
    q, k, v, g = _cut(length, q, k, v, log_decay)
    way = decays(g, q.dtype)
    entering, end = _entering(k, v, way, start)
    q = q * scale
    y = (q @ k.mT).mul_(way.pair) @ v
    y += (q * way.rise[..., None]) @ entering
    return _join(y, log_decay).to(dtype), end


def _cut(length: int, *tensors: Tensor) -> list[Tensor]:
    """Return `b h t …` as `b h c l …` in the state's dtype; zeros fill the last chunk."""
    steps = tensors[0].shape[2]
    rest, cut = -steps % length, []
    for x in tensors:
        x = x.to(state_dtype(tensors[0]))
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, rest)) if rest else x
        cut.append(x.unflatten(2, (-1, length)))
    return cut


def _join(x: Tensor, like: Tensor) -> Tensor:
    return x.flatten(2, 3)[:, :, : like.shape[2]]


def _entering(
    k: Tensor, v: Tensor, way: Decays, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the state that enters each chunk, `b h c d v`, and the one that leaves the last."""
    # what a chunk leaves when it starts from 0
    added = (k * way.rest[..., None]).mT @ v
    first = torch.zeros_like(added[:, :, :1]) if start is None else start[:, :, None]
    states = torch.cat([first, added[:, :, :-1]], 2)
    kept = F.pad(way.whole[..., :-1], (1, 0))
    entering = _scan(kept, states, reverse=False)
    last = way.whole[..., -1, None, None]
    return entering, last * entering[:, :, -1] + added[:, :, -1]


def _scan(kept: Tensor, added: Tensor, *, reverse: bool) -> Tensor:
    """Scan matrices: linear_scan's loop, in which all entries of a matrix share their factor."""
    b, h, c, d, v = added.shape
    factors = kept.reshape(b * h, c, 1).expand(-1, -1, d * v)
    states = added.reshape(b * h, c, d * v)
    return linear_scan._loop(factors, states, None, reverse).view(added.shape)


def chunked_backward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, start: Tensor | None, dy: Tensor,
    dend: Tensor, scale: float, length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of q, k, v, log_decay and of the first state."""
    given = q, k, v, log_decay
    q, k, v, g, dy = _cut(length, *given, dy)
    way = decays(g, q.dtype)
    entering, _ = _entering(k, v, way, start)
    q = q * scale
    rise, rest = way.rise[..., None], way.rest[..., None]
    # the gradient of the state that leaves each chunk: the same scan, from the end
    added = (q * rise).mT @ dy
    states = torch.cat([added[:, :, 1:], dend[:, :, None]], 2)
    leaving = _scan(way.whole, states, reverse=True)
    dstart = way.whole[..., 0, None, None] * leaving[:, :, 0] + added[:, :, 0]

    dweights = (dy @ v.mT).mul_(way.pair)
    dq, dk = (dy @ entering.mT).mul_(rise), (v @ leaving.mT).mul_(rest)
    flow = (q * dq).sum(-1)  # of what came from before the chunk
    after = (k * dk).sum(-1)  # of what goes on behind it
    dq, dk = dq.add_(dweights @ k).mul_(scale), dk.add_(dweights.mT @ q)
    scores = q @ k.mT
    both = dweights.mul_(scores)
    flow = flow + both.sum(-1) - both.sum(-2)
    dv = (scores.mul_(way.pair).mT @ dy).add_((k @ leaving).mul_(rest))
    # a decay at step t weighs what goes from before t to t or later
    dg = flow.flip(-1).cumsum(-1).flip(-1) + after.cumsum(-1) - after
    dg += (way.whole * (entering * leaving).sum((-1, -2)))[..., None]
    made = zip((dq, dk, dv, dg), given, strict=True)
    dq, dk, dv, dg = (_join(x, log_decay).to(of.dtype) for x, of in made)
    return dq, dk, dv, dg, dstart
