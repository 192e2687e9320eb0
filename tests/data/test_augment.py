"""Shifted images, pixel by pixel."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlib.data.augment import shift_images
from tests.support import refuses


@settings(max_examples=30, deadline=None)
@given(down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_a_shift_moves_pixels_and_brings_in_zeros(down, right):
    x = torch.arange(1.0, 25.0).view(2, 3, 4)
    got = shift_images(x, torch.tensor([down, 0]), torch.tensor([right, 0]))
    wanted = torch.zeros(3, 4)
    for r, c in itertools.product(range(3), range(4)):
        if 0 <= r + down < 3 and 0 <= c + right < 4:
            wanted[r + down, c + right] = x[0, r, c]
    assert got[0].equal(wanted) and got[1].equal(x[1])


X = torch.randn(4, 3)
ONE = torch.zeros(4).long()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: shift_images(X, ONE, ONE), ValueError, "x must have shape (n, y, x)"),
        (lambda: shift_images(X[None], ONE, ONE), ValueError, "down must have shape (1)"),
        (
            lambda: shift_images(X[None], ONE[:1], ONE[:1] / 2),
            TypeError,
            "right must hold integers",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
