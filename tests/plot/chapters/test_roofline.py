"""The walk of a softmax's program: what is lit, what is masked, what is stored when."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from nnlib.plot.chapters.roofline import LINES, softmax_program

X = np.array([[2, 0, 1, 1, 0], [1, 3, 0, 2, 1], [0, 0, 2, 0, 1]])
Y = np.exp(X) / np.exp(X).sum(1, keepdims=True)


def filled(step, color):
    """Return how many boxes have this colour and opacity."""
    return sum(
        np.allclose(patch.get_facecolor(), to_rgba(*color))
        for patch in softmax_program(step, X, Y).axes[0].patches
    )


def words(step):
    return [text.get_text() for text in softmax_program(step, X, Y).axes[0].texts]


def test_every_line_has_a_picture_that_names_it():
    assert [words(step)[-1] for step in range(len(LINES))] == list(LINES)


def test_the_program_reads_its_own_row_and_no_other():
    assert [filled(step, ("input", 0.4)) for step in (1, 4, 8)] == [1, 5, 5]


def test_lanes_beyond_the_row_are_masked_from_the_line_on_that_says_so():
    assert [filled(step, ("muted", 0.22)) for step in (2, 3, 4, 6)] == [0, 3, 6, 9]


def test_nothing_is_stored_before_the_store():
    assert [filled(step, ("learned", 0.4)) for step in (7, 8, 9)] == [0, 5, 15]
    shares = [f"{share:.2f}".lstrip("0") for share in Y[1]]
    assert not set(shares) & set(words(7)) and set(shares) <= set(words(8))


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"3 × 5, got \(2, 5\)"):
        softmax_program(0, X[:2], Y[:2])
