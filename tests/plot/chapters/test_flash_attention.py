"""The walk over tiles: which are drawn how, and how full the queries' sums are."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from nnlib.plot.chapters.flash_attention import tile_order, tile_walk

SCORES = np.where(np.tri(12, dtype=bool), np.random.default_rng(0).normal(size=(12, 12)), -np.inf)


def tiles(at, color):
    """Return how many tiles of the grid have this colour."""
    patches = tile_walk(SCORES, 4, at).axes[0].patches
    return sum(np.allclose(patch.get_facecolor(), to_rgba(color)) for patch in patches)


def shares(at):
    return [bar.get_width() for bar in tile_walk(SCORES, 4, at).axes[1].patches[4:]]


def test_no_tile_above_the_diagonal_is_visited_and_the_longest_row_goes_first():
    assert tile_order(3) == [(2, 0), (2, 1), (2, 2), (1, 0), (1, 1), (0, 0)]


def test_one_tile_is_at_hand_and_those_before_it_are_tinted():
    assert [(tiles(at, "highlight"), tiles(at, ("gate", 0.19))) for at in (0, 2, 5)] == [
        (1, 0), (1, 2), (1, 5)
    ]  # fmt: skip


def test_the_sum_of_a_query_is_its_share_of_the_whole_row_and_full_at_the_end():
    e = np.exp(SCORES[8:])
    assert np.allclose(shares(1), e[:, :8].sum(1) / e.sum(1))
    assert np.allclose(shares(2), 1)


def test_scores_that_make_no_tiles_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 5, got \(12, 12\)"):
        tile_walk(SCORES, 5, 0)
