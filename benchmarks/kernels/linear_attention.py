"""Linear attention with a decay for each head and step."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels._case import Case, numbers
from nnlib.kernels.linear_attention import (
    linear_attention,
    linear_attention_chunked,
    linear_attention_cost,
    linear_attention_parallel,
    linear_attention_reference,
)

HEAD = {"b": 1, "h": 4, "d": 64, "v": 64}
WIDE = {"b": 4, "h": 16, "t": 4096, "d": 128, "v": 128}
CPU = [{**HEAD, "t": t} for t in (64, 256, 1024)]
GPU = [
    *({**WIDE, "b": 16384 // t, "t": t} for t in (512, 2048, 8192)),
    {**WIDE, "h": 32, "d": 64, "v": 64},
    {**WIDE, "h": 32, "d": 128, "v": 64},  # as Mamba-2 has them
]


def build(like: dict[str, Any], b: int, h: int, t: int, d: int, v: int) -> Case:
    inputs = [numbers((b, h, t, width), like) for width in (d, d, v)]
    inputs += [torch.nn.functional.logsigmoid(3 + numbers((b, h, t), like)).float()]
    forms = {
        "nnlib": _outputs(linear_attention),
        "reference": _outputs(linear_attention_reference),
        "chunked": _outputs(linear_attention_chunked),
    }
    if t <= 4096:  # else its tables do not fit
        forms["parallel"] = _outputs(linear_attention_parallel)
    own = {}
    if like["device"].type == "cuda" and importlib.util.find_spec("fla") is not None:
        from fla.ops.simple_gla import chunk_simple_gla

        forms["fla"] = lambda *given: chunk_simple_gla(*given, scale=1.0)[0]
        own["fla"] = lambda *given: [x.transpose(1, 2).contiguous() for x in given]  # b t h d
    cost = functools.partial(linear_attention_cost, (b, h, t, d), v, like["dtype"].itemsize)
    return Case(inputs, forms, cost(), cost(backward=True), own=own)


def _outputs(form: Callable) -> Callable[..., Tensor]:
    return lambda *given: form(*given)[0]
