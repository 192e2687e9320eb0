"""A product in eight bits, against torch's own integers and the weight put back together."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.kernels._case import Case, numbers
from nnlib.kernels.int8_matmul import int8_matmul, int8_matmul_cost, int8_matmul_reference
from nnlib.kernels.quantization import Quantized, dequantize, quantize

SIZES = {"k": 4096, "n": 4096}
CPU = [{"m": m, "k": 512, "n": 512} for m in (1, 32, 256)]
GPU = [*({"m": m, **SIZES} for m in (1, 16, 256, 4096)), {"m": 4096, "k": 4096, "n": 14336}]


def build(like: dict[str, Any], m: int, k: int, n: int) -> Case:
    """Make a weight of random numbers, and x with no outlier, as most rows of a batch are."""
    plain = {**like, "dtype": torch.float32}
    weight = quantize(numbers((n, k), plain))
    x = numbers((m, k), like).clamp(-5, 5)
    full = dequantize(weight).to(like["dtype"])  # in 16 bits, as it would be without quantisation
    forms: dict[str, Callable[..., Tensor]] = {
        "nnlib": lambda x: int8_matmul(x, weight),
        "no split": lambda x: int8_matmul(x, weight, threshold=None),
        "reference": lambda x: int8_matmul_reference(x, weight),
        "torch": functools.partial(_int_mm, weight=weight),
        "dequantised": lambda x: _rounded(x) @ dequantize(weight).to(x.dtype).T,
        "linear": lambda x: F.linear(x, full),
    }
    if like["device"].type == "cuda" and importlib.util.find_spec("bitsandbytes"):
        forms["bitsandbytes"] = _theirs(weight)
    cost = int8_matmul_cost(m, k, n, like["dtype"].itemsize)
    return Case([x], forms, cost, None, arithmetic=m >= 256)


def _rounded(x: Tensor) -> Tensor:
    return dequantize(quantize(x)).to(x.dtype)


def _int_mm(x: Tensor, weight: Quantized) -> Tensor:
    """Return what torch gives: rows rounded op by op, then its product of integers."""
    scale = x.abs().amax(1, keepdim=True).float() / 127
    codes = (x / scale).round().to(torch.int8)
    whole = torch._int_mm(codes, weight.values.T)
    return (whole * scale * weight.scale.T).to(x.dtype)


def _theirs(weight: Quantized) -> Callable[[Tensor], Tensor]:
    library = importlib.import_module("bitsandbytes")
    state = library.MatmulLtState()
    state.has_fp16_weights, state.threshold = False, 6.0
    state.CB, state.SCB = weight.values, weight.scale[:, 0] * 127
    return lambda x: library.matmul(x.half(), state.CB, state=state, threshold=6.0).to(x.dtype)
