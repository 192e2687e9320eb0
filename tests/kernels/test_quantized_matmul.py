"""The chapter's equations, each against something independent; what the contract runs."""

import torch

from nnlib.kernels.quantization import quantize
from tests.support import Example


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    weight = quantize(torch.randn(5, 8))
    return Example({}, (torch.randn(3, 8), weight), {"bias": torch.randn(5)})
