"""SwiGLU of two tensors."""

import functools
from typing import Any

from torch.nn import functional as F

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.swiglu import swiglu, swiglu_cost, swiglu_reference

CPU = sizes("c", [64, 512, 4096], n=512)
GPU = sizes("c", [1024, 4096, 11008, 32768], n=8192)


def build(like: dict[str, Any], n: int, c: int) -> Case:
    forms = {
        "nnlib": swiglu,
        "reference": swiglu_reference,
        "torch": lambda a, b: F.silu(a) * b,
    } | peers(like, swiglu_reference, liger=lambda a, b: liger_kernel().liger_swiglu(a, b))
    cost = functools.partial(swiglu_cost, (n, c), like["dtype"].itemsize)
    inputs = [numbers((n, c), like), numbers((n, c), like)]
    return Case(inputs, forms, cost(), cost(backward=True))
