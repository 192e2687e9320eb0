"""Attention by plain numbers, and small inputs for it."""

import itertools
import math

import torch

from nnlib.blocks.scored_attention import MultiplicativeAttention

DOUBLE = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def parts(b=2, q=3, k=5, dq=4, dk=6, dv=7):
    return normal(b, q, dq), normal(b, k, dk, seed=1), normal(b, k, dv, seed=2)


def general(dq=4, dk=6):
    torch.manual_seed(4)
    return MultiplicativeAttention(dq, dk).double()


def by_loops(score, query, keys, values, mask=None):
    """Each query by itself: scores, exponentials, a sum of values; no tensor operation at all."""
    (b, q, _), k = query.shape, keys.shape[1]
    weights, context = (
        torch.zeros(b, q, k, dtype=DOUBLE),
        torch.zeros(b, q, values.shape[2]).double(),
    )
    for n, j in itertools.product(range(b), range(q)):
        seen = [i for i in range(k) if mask is None or bool(mask[n, j, i])]
        powers = {i: math.exp(float(score(query[n, j], keys[n, i]))) for i in seen}
        for i in seen:
            weights[n, j, i] = powers[i] / sum(powers.values())
            context[n, j] += weights[n, j, i] * values[n, i]
    return context, weights


def same(got, wanted, **tolerance):
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **tolerance)
