"""The scan of a linear recurrence."""

import functools
from typing import Any

from benchmarks.kernels._case import Case, numbers, sizes
from nnlib.kernels.linear_scan import linear_scan, linear_scan_cost, linear_scan_reference

CPU = [*sizes("t", [64, 256, 1024], b=4, d=64), {"b": 16, "t": 1024, "d": 256}]
GPU = [*sizes("t", [512, 2048, 8192], b=8, d=4096), {"b": 1, "t": 16384, "d": 256}]


def build(like: dict[str, Any], b: int, t: int, d: int) -> Case:
    forms = {"nnlib": linear_scan, "reference": linear_scan_reference}
    cost = functools.partial(linear_scan_cost, (b, t, d), like["dtype"].itemsize)
    inputs = [numbers((b, t, d), like).sigmoid(), numbers((b, t, d), like)]
    return Case(inputs, forms, cost(), cost(backward=True))
