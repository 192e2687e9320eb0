"""Softmax over rows."""

import functools
from typing import Any

from torch.nn import functional as F

from benchmarks.kernels._case import Case, numbers, peers, sizes
from nnlib.kernels.softmax import softmax, softmax_cost, softmax_reference

CPU = sizes("c", [64, 512, 4096], n=512)
GPU = sizes("c", [512, 2048, 8192, 32768], n=8192)


def build(like: dict[str, Any], n: int, c: int) -> Case:
    size = like["dtype"].itemsize
    forms = {
        "nnlib": softmax,
        "reference": softmax_reference,
        "torch": lambda x: F.softmax(x, -1),
    } | peers(like, softmax_reference)
    cost = functools.partial(softmax_cost, (n, c), size)
    return Case([numbers((n, c), like)], forms, cost(), cost(backward=True))
