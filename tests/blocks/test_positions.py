"""Sinusoidal positions against the printed waves and their inner products."""

import math

import pytest
import torch

from nnlib.blocks.positions import sinusoidal
from tests.support import refuses

TIGHT = {"rtol": 0, "atol": 1e-12}


@pytest.mark.equation("transformer-sine", "transformer-cosine")
def test_sinusoidal_positions_are_the_printed_waves():
    table = sinusoidal(50, 6, start=3, dtype=torch.float64)
    for row, p in enumerate(range(3, 53)):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert float(table[row, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-12)
            assert float(table[row, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.equation("transformer-sinusoidal-offset")
def test_inner_products_of_sinusoidal_positions_depend_on_their_distance():
    table = sinusoidal(40, 16, dtype=torch.float64)
    products = table @ table.T
    for offset in range(40):
        rate = 10000 ** (-torch.arange(0, 16, 2).double() / 16)
        wanted = (offset * rate).cos().sum().expand(40 - offset)
        torch.testing.assert_close(products.diagonal(offset), wanted, **TIGHT)


def test_far_positions_are_exact_in_single_precision():
    far = sinusoidal(1, 2, start=2**24 + 1)
    assert float(far[0, 0]) == pytest.approx(math.sin(2**24 + 1), abs=1e-6)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0, 4), ValueError, "length=0"), ((4, 3), ValueError, "embed_dim=3 must be even"),
    ((4, 4.0), TypeError, "embed_dim=4.0"), ((4, 0), ValueError, "embed_dim=0"),
])  # fmt: skip
def test_bad_positions_are_refused(arguments, error, message):
    with refuses(error, message):
        sinusoidal(*arguments)
    with refuses(ValueError, "base=-1.0"):
        sinusoidal(4, 4, base=-1.0)
    with refuses(ValueError, "start=-1"):
        sinusoidal(4, 4, start=-1)
