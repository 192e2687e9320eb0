"""Cross-entropy of logits."""

import functools
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.cross_entropy import cross_entropy, cross_entropy_cost, cross_entropy_reference

CPU = sizes("v", [64, 1024, 16384], n=256)
GPU = sizes("v", [4096, 32000, 128256], n=4096)


def build(like: dict[str, Any], n: int, v: int) -> Case:
    forms = {
        "nnlib": cross_entropy,
        "reference": cross_entropy_reference,
        "torch": F.cross_entropy,
    } | peers(
        like,
        cross_entropy_reference,
        liger=lambda logits, target: liger_kernel().liger_cross_entropy(logits, target),
    )
    cost = functools.partial(cross_entropy_cost, (n, v), like["dtype"].itemsize)
    target = torch.arange(n, device=like["device"]) * 7 % v
    inputs = [numbers((n, v), like), target]
    return Case(inputs, forms, cost(), cost(backward=True), together=True)
