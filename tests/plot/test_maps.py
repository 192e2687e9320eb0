"""Matrices, attention maps, pictures, decisions."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from nnlib.plot.maps import decision, matrix, picture, token_map, token_row
from nnlib.plot.style import subplots
from tests.support import refuses


def test_signed_matrix_has_zero_in_the_middle():
    _, ax = subplots()
    image = matrix(ax, np.array([[-1.0, 0.5]]), signed=True)
    assert image.get_clim() == (-1.0, 1.0)
    with refuses(ValueError, "values must be a matrix, got shape (3,)"):
        matrix(ax, np.ones(3))


def test_decision_colours_the_positive_side_red():
    _, ax = subplots()
    image = decision(ax, lambda p: p[:, 0], (-1, 1), (-1, 1), resolution=8)
    assert image.get_array()[:, 0].max() < 0 < image.get_array()[:, -1].min()


def test_rows_and_columns_of_a_matrix_have_names():
    _, ax = subplots()
    matrix(ax, np.eye(3), rows=("one", "two", "three"), columns=(), bar=None)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two", "three"]
    assert not len(ax.get_xticks())
    with refuses(ValueError, "columns must name 3 or nothing, got 2"):
        matrix(ax, np.eye(3), columns="ab")


def test_matrix_takes_other_colours_and_options_of_imshow():
    _, ax = subplots()
    image = matrix(ax, np.eye(2), cmap="RdPu", vmin=-1, vmax=3, aspect="auto", bar=None)
    assert image.get_cmap().name == "RdPu" and image.get_clim() == (-1, 3)
    assert ax.get_aspect() == "auto"


def test_token_map_has_the_lookers_at_the_left_and_the_same_colours_everywhere():
    _, ax = subplots()
    image = token_map(ax, np.full((2, 3), 0.25), ["ein", "Hund"], ["a", "dog", "."])
    assert image.get_clim() == (0, 1) and image.get_array().shape == (2, 3)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ein", "Hund"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "dog", "."]
    assert {tick.get_size() for tick in ax.get_xticklabels()} == {9}


def test_boxes_of_tokens_are_as_full_as_their_strength_and_words_stay_readable():
    _, ax = subplots()
    token_row(ax, "a b", 2.0, "gate", [0.0, 0.5, 7.0], left=1.0)
    assert [box.get_x() for box in ax.patches] == pytest.approx([1.04, 2.04, 3.04])
    shades = [box.get_facecolor()[3] for box in ax.patches]
    assert shades == pytest.approx([0.04, 0.49, 0.94])
    assert [(t.get_text(), t.get_color()) for t in ax.texts] == [("a", "ink"), ("b", "white")]
    assert ax.patches[0].get_facecolor()[:3] == to_rgba("gate")[:3]


def test_tokens_and_strengths_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        token_row(subplots()[1], "abc", 0, "gate", [1.0])


def test_picture_has_a_title_and_no_axes():
    _, ax = subplots()
    image = picture(ax, np.eye(8), "a digit")
    assert ax.get_title(loc="left") == "a digit" and not len(ax.get_xticks())
    assert image.get_cmap().name == "gray_r"
    assert picture(ax, np.eye(8), cmap="Blues").get_cmap().name == "Blues"


def test_decision_is_square_when_one_range_is_given():
    _, ax = subplots()
    image = decision(ax, lambda p: p[:, 0], (-1, 2), resolution=4)
    assert tuple(image.get_extent()) == (-1, 2, -1, 2)
