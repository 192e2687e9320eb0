"""RMSNorm over rows."""

import functools
from typing import Any

from torch.nn import functional as F

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.rms_norm import rms_norm, rms_norm_cost, rms_norm_reference

CPU = sizes("c", [64, 512, 4096], n=512)
GPU = sizes("c", [1024, 4096, 8192, 16384], n=8192)


def build(like: dict[str, Any], n: int, c: int) -> Case:
    forms = {
        "nnlib": functools.partial(rms_norm, eps=1e-6),
        "reference": functools.partial(rms_norm_reference, eps=1e-6),
        "torch": lambda x, weight: F.rms_norm(x, (c,), weight, 1e-6),
    } | peers(
        like,
        functools.partial(rms_norm_reference, eps=1e-6),
        liger=lambda x, weight: liger_kernel().liger_rms_norm(x, weight, 1e-6, in_place=False),
    )
    cost = functools.partial(rms_norm_cost, (n, c), like["dtype"].itemsize)
    inputs = [numbers((n, c), like), numbers((c,), like)]
    return Case(inputs, forms, cost(), cost(backward=True))
