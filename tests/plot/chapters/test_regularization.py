"""A tensor as a cube: which entries its three faces show, and which of them stand out."""

import numpy as np

from nnlib.plot.chapters.regularization import tensor_cube
from nnlib.plot.style import subplots
from tests.support import refuses


def drawn(values, **options):
    _, ax = subplots()
    return ax, tensor_cube(ax, values, limit=options.pop("limit", 1), **options)


def test_the_faces_are_the_first_slice_the_first_row_and_the_last_column():
    values = np.arange(24.0).reshape(2, 3, 4)
    _, tiles = drawn(values)
    shown = tiles.get_array()
    assert shown[:12].tolist() == values[0].flatten().tolist()
    assert shown[12:20].tolist() == values[:, 0].flatten().tolist()
    assert shown[20:].tolist() == values[:, :, -1].flatten().tolist()


def test_colours_are_signed_and_reach_the_limit():
    _, tiles = drawn(np.zeros((1, 1, 1)), limit=3)
    assert tiles.get_clim() == (-3, 3)


def test_the_corner_box_stands_out_and_the_rest_is_faded():
    values = np.zeros((2, 2, 3))
    ax, tiles = drawn(values, box=(1, 1, 2), fade=0.5)
    front = tiles.get_alpha()[:6].reshape(2, 3)
    assert front.tolist() == [[0.5, 1.0, 1.0], [0.5, 0.5, 0.5]]
    assert len(ax.patches) == 3, "an outline on each face"
    ax, tiles = drawn(values)
    assert set(tiles.get_alpha()) == {1.0} and not ax.patches


def test_no_tile_overlaps_another():
    """Along each face, neighbours keep the gap between them."""
    _, tiles = drawn(np.zeros((2, 2, 2)), gap=0.2)
    corners = np.array([path.vertices[:4] for path in tiles.get_paths()])
    left, right = corners[0], corners[1]
    assert np.isclose(right[:, 0].min() - left[:, 0].max(), 0.2)


def test_axes_are_named():
    ax, _ = drawn(np.zeros((1, 2, 3)), labels=("heads", "queries", "keys"))
    assert [text.get_text() for text in ax.texts] == ["heads", "queries", "keys"]


def test_bad_values_are_named():
    with refuses(ValueError, "values must have three axes, got shape (2, 2)"):
        drawn(np.zeros((2, 2)))
    with refuses(ValueError, "limit=0 must be greater than 0"):
        drawn(np.zeros((1, 1, 1)), limit=0)
