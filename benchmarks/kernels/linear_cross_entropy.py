"""Cross-entropy of a linear map, without its logits in memory."""

import functools
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_cost,
    linear_cross_entropy_reference,
)

CPU = sizes("n", [256, 1024, 4096], v=1000, d=64)
GPU = [*sizes("n", [2048, 8192, 16384], v=32000, d=2048), {"n": 8192, "v": 128256, "d": 4096}]


def build(like: dict[str, Any], n: int, v: int, d: int) -> Case:
    forms = {
        "nnlib": linear_cross_entropy,
        "reference": linear_cross_entropy_reference,
        "torch": lambda x, weight, target: F.cross_entropy(F.linear(x, weight), target),
    } | peers(
        like,
        liger=lambda x, weight, target: liger_kernel().liger_fused_linear_cross_entropy(
            x, weight, target
        ),
    )
    cost = functools.partial(linear_cross_entropy_cost, n, v, d, like["dtype"].itemsize)
    target = torch.arange(n, device=like["device"]) * 7 % v
    inputs = [numbers((n, d), like), numbers((v, d), like, d**-0.5), target]
    return Case(inputs, forms, cost(), cost(backward=True), arithmetic=True, together=True)
