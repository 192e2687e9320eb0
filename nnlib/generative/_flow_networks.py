"""What couplings and autoregressive layers are made of: bounded scales, small networks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks

MAX_LOG_SCALE = 2.0
"""No single layer stretches or shrinks an axis by more than e² = 7.4 times."""


def _bounded(raw: Tensor) -> Tensor:
    """Bring logarithms of scales smoothly between ±`MAX_LOG_SCALE`; small ones stay as they are."""
    return MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)


def _network(
    sizes: Sequence[int], dropout: float, device: Device, dtype: torch.dtype | None
) -> nn.Sequential:
    pairs = pairwise(sizes)
    maps = [nn.Linear(a, b, device=device, dtype=dtype) for a, b in pairs]
    return _with_nonlinearities(maps, dropout)


def _with_nonlinearities(maps: Sequence[nn.Linear], dropout: float) -> nn.Sequential:
    """Return the maps with ReLU and dropout between them, the last one at 0: the identity."""
    dropout = checks.number("dropout", dropout, least=0, below=1)
    *first, last = maps
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    parts: list[nn.Module] = []
    for one in first:
        parts += [one, nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
    return nn.Sequential(*parts, last)
