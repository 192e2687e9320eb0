"""The stages of a tile: what stands in its cells, and what the sums have come to."""

import numpy as np
import pytest

from nnlib.kernels.quantization import nf4_levels, nf4_quantize, nf4_values, unpack
from nnlib.plot.chapters.quantized_matmul import STAGES, tile_stage

LEVELS = nf4_levels().numpy()
CODES = np.random.default_rng(0).integers(0, 16, (3, 8))
ABSMAX, X = np.array([0.5, 1.0, 2.0]), np.arange(1.0, 9.0)


def words(at, panel):
    return [text.get_text() for text in tile_stage(CODES, ABSMAX, X, LEVELS, at).axes[panel].texts]


def test_a_byte_holds_two_codes_the_first_in_its_high_half():
    packed = CODES[:, ::2] * 16 + CODES[:, 1::2]
    assert words(0, 0) == [str(byte) for byte in packed.flatten()]
    assert words(6, 1)[:12] == [str(code) for code in CODES[:, 4:].flatten()]


def test_levels_are_multiplied_by_the_scale_of_their_row():
    assert words(2, 1)[:12] == [f"{x:.2f}" for x in LEVELS[CODES[:, :4]].flatten()]
    wanted = (LEVELS[CODES] * ABSMAX[:, None])[:, 4:]
    assert words(8, 1)[:12] == [f"{x:.2f}" for x in wanted.flatten()]


def test_sums_end_at_the_product():
    whole = (LEVELS[CODES] * ABSMAX[:, None]) @ X
    assert words(2 * len(STAGES) - 1, 1)[-3:] == [f"{x:.2f}" for x in whole]
    assert words(0, 1)[-3:] == ["0.00"] * 3


def test_columns_that_make_no_tiles_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 4 columns, got \(3, 6\)"):
        tile_stage(CODES[:, :6], ABSMAX, X, LEVELS, 0)


def test_it_draws_what_nf4_holds():
    import torch

    weight = torch.randn(3, 16)
    q = nf4_quantize(weight, 16)
    low_first = (q.codes << 4 | q.codes >> 4).to(torch.uint8)  # unpack reads the low half first
    codes = unpack(low_first, 4, 48).view(3, 16).numpy()
    drawn = LEVELS[codes] * q.absmax.numpy()[:, None]
    np.testing.assert_allclose(drawn, nf4_values(q).numpy(), rtol=1e-6)
