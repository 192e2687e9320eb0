"""Rotary positions."""

import functools
from typing import Any

import torch

from benchmarks.kernels._case import Case, liger_kernel, numbers, peers, sizes
from nnlib.kernels.rope import angles, rope, rope_cost, rope_reference

CPU = sizes("t", [64, 256, 1024], b=1, h=4, d=64)
GPU = sizes("t", [1024, 4096, 16384], b=4, h=32, d=128)


def build(like: dict[str, Any], b: int, h: int, t: int, d: int) -> Case:
    positions = torch.arange(t, device=like["device"])
    turn = angles(positions, d).repeat(1, 2)[None]
    cos, sin = turn.cos().to(like["dtype"]), turn.sin().to(like["dtype"])

    def laid_out(x, positions):  # as liger reads it: b t h d, seen as b h t d; and one more head
        return [x.transpose(1, 2).contiguous().transpose(1, 2), x[:, :1].clone()]

    forms = {"nnlib": rope, "reference": rope_reference} | peers(
        like,
        rope_reference,
        liger=lambda q, k: liger_kernel().liger_rope(q, k, cos, sin)[0],
    )
    cost = functools.partial(rope_cost, (b, h, t, d), element_size=like["dtype"].itemsize)
    return Case(
        [numbers((b, h, t, d), like), positions], forms, cost(), cost(backward=True),
        own={"liger": laid_out},
    )  # fmt: skip
