"""A product with a weight of four bits, against the same weight put back together first."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.kernels._case import Case, numbers
from nnlib.kernels.nf4_matmul import nf4_matmul, nf4_matmul_cost, nf4_matmul_reference
from nnlib.kernels.quantization import nf4_quantize, nf4_values

SIZES = {"k": 4096, "n": 4096, "double": 0}
CPU = [{"m": m, "k": 512, "n": 512, "double": 0} for m in (1, 32, 256)]
GPU = [
    *({"m": m, **SIZES} for m in (1, 4, 16, 64, 256, 4096)),
    {"m": 1, "k": 4096, "n": 14336, "double": 0},
    {"m": 1, **SIZES, "double": 1},
]


def build(like: dict[str, Any], m: int, k: int, n: int, double: int) -> Case:
    """Make a weight of random numbers; `double` is 1 where its scales are in eight bits."""
    plain = {**like, "dtype": torch.float32}
    raw = numbers((n, k), plain)
    weight = nf4_quantize(raw, double=bool(double))
    full = nf4_values(weight).to(like["dtype"])  # in 16 bits, as it would be without quantisation
    forms: dict[str, Callable[..., Tensor]] = {
        "nnlib": lambda x: nf4_matmul(x, weight),
        "reference": lambda x: nf4_matmul_reference(x, weight),
        "linear": lambda x: F.linear(x, full),
    }
    if like["device"].type == "cuda" and importlib.util.find_spec("bitsandbytes"):
        forms["bitsandbytes"] = _theirs(raw.to(like["dtype"]), bool(double))
    size = like["dtype"].itemsize
    costs = [
        nf4_matmul_cost(m, k, n, size, double=bool(double), backward=backward)
        for backward in (False, True)
    ]
    return Case([numbers((m, k), like)], forms, *costs, arithmetic=m >= 256)


def _theirs(raw: Tensor, double: bool) -> Callable[[Tensor], Tensor]:
    library = importlib.import_module("bitsandbytes")
    codes, state = library.functional.quantize_4bit(
        raw, quant_type="nf4", blocksize=64, compress_statistics=double
    )
    return lambda x: library.matmul_4bit(x, codes.t(), quant_state=state)
