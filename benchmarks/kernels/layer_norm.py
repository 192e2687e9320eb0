"""Layer norm over rows."""

import functools
from typing import Any

from torch.nn import functional as F

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.layer_norm import layer_norm, layer_norm_cost, layer_norm_reference

CPU = sizes("c", [64, 512, 4096], n=512)
GPU = sizes("c", [1024, 4096, 8192, 16384], n=8192)


def build(like: dict[str, Any], n: int, c: int) -> Case:
    forms = {
        "nnlib": layer_norm,
        "reference": layer_norm_reference,
        "torch": lambda x, weight, bias: F.layer_norm(x, (c,), weight, bias),
    } | peers(
        like,
        layer_norm_reference,
        liger=lambda x, weight, bias: liger_kernel().liger_layer_norm(x, weight, bias, 1e-5),
    )
    cost = functools.partial(layer_norm_cost, (n, c), like["dtype"].itemsize)
    inputs = [numbers((n, c), like), numbers((c,), like), numbers((c,), like)]
    return Case(inputs, forms, cost(), cost(backward=True))
