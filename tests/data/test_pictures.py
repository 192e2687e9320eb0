"""Pictures: sizes, units, and where they come from."""

import pytest
import torch

from nnlib.data.pictures import china, elevation
from tests.support import refuses


@pytest.mark.parametrize("size", [8, 33, 427])
def test_photograph_is_cut_to_size(size):
    picture = china(size)
    assert picture.pixels.shape == (size, size, 3)
    assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    assert "CC BY" in picture.licence and "photograph by" in picture.source


def test_small_photograph_is_the_mean_of_its_areas():
    large, small = china(427).pixels, china(61).pixels  # 427 = 7 × 61
    blocks = large.reshape(61, 7, 61, 7, 3).mean(dim=(1, 3))
    torch.testing.assert_close(small, blocks, atol=1e-5, rtol=0)


def test_terrain_is_in_metres():
    terrain = elevation()
    assert terrain.height.shape == (344, 403)
    assert 200 < terrain.height.min() < terrain.height.max() < 1200
    assert "matplotlib" in terrain.source and "no licence" in terrain.licence


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: china(7), ValueError, "size=7"),
        (lambda: china(428), ValueError, "size=428"),
        (lambda: china(64.0), TypeError, "size=64.0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
