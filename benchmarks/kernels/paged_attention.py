"""A step of decoding over a cache in blocks, against torch's attention over one in a piece."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.kernels._case import Case, numbers
from nnlib.kernels.paged_attention import (
    paged_attention,
    paged_attention_cost,
    paged_attention_reference,
)

HEAD = {"b": 4, "h": 8, "g": 2, "d": 64, "c": 16}
WIDE = {"b": 32, "h": 32, "g": 8, "s": 8192, "d": 128, "c": 16}
CPU = [
    *({**HEAD, "s": s} for s in (64, 512, 2048)),
    {**HEAD, "s": 512, "g": 8},
]
GPU = [
    *({**WIDE, "s": s} for s in (512, 2048, 8192)),
    {**WIDE, "b": 1, "s": 65536},  # one long context: only its pieces can fill the GPU
    {**WIDE, "g": 32, "s": 2048},
    {**WIDE, "c": 128},
]


def build(like: dict[str, Any], b: int, h: int, g: int, s: int, d: int, c: int) -> Case:
    """Make a cache that is full, its blocks in no order."""
    blocks, device = b * -(-s // c), like["device"]
    generator = torch.Generator().manual_seed(0)
    table = torch.randperm(blocks, generator=generator).view(b, -1).int().to(device)
    lengths = torch.full((b,), s, dtype=torch.int32, device=device)
    inputs = [numbers((b, h, d), like), numbers((2, blocks, g, c, d), like), table, lengths]
    forms = {
        "nnlib": paged_attention,
        "reference": paged_attention_reference,
        "torch": _dense,
    }
    if device.type == "cuda":
        forms["gathered"] = _without_kernels(paged_attention)
    cost = paged_attention_cost((b, h, d), g, [s] * b, like["dtype"].itemsize)
    return Case(inputs, forms, cost, None, own={"torch": functools.partial(_in_one_piece, s)})


def _in_one_piece(s: int, q: Tensor, cache: Tensor, table: Tensor, _: Tensor) -> list[Tensor]:
    """Return what torch's attention takes: queries b g (h/g) d, and keys and values b g s d."""
    b, _, d = q.shape
    keys = cache[:, table].transpose(2, 3).flatten(3, 4)[:, :, :, :s]
    k, v = keys.contiguous()
    return [q.view(b, k.shape[1], -1, d), k, v]


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).flatten(1, 2)


def _without_kernels(form: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form as it runs where `NNLIB_KERNELS=torch`."""

    def call(*given: Tensor) -> Tensor:
        before = os.environ.get("NNLIB_KERNELS")
        os.environ["NNLIB_KERNELS"] = "torch"
        try:
            return form(*given)
        finally:
            if before is None:
                del os.environ["NNLIB_KERNELS"]
            else:
                os.environ["NNLIB_KERNELS"] = before

    return call
