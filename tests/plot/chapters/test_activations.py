"""The strip of histograms of a deep network."""

import numpy as np
import pytest

from nnlib.plot.chapters.activations import layer_histograms
from nnlib.plot.style import subplots
from tests.support import refuses


def shapes_of(layers, **options):
    _, ax = subplots()
    layer_histograms(ax, layers, (0.0, 0.0, 4.0, 1.0), (-1.0, 1.0), **options)
    return [path.vertices for path in ax.collections[0].get_paths()]


def test_each_layer_stands_in_its_own_place():
    shapes = shapes_of([np.linspace(-1, 1, 50)] * 4)
    for at, shape in enumerate(shapes):
        assert at < shape[:, 0].min() < shape[:, 0].max() < at + 1
        assert shape[:, 0].mean() == pytest.approx(at + 0.5, abs=0.1)
        assert shape[:, 1].min() >= 0 and shape[:, 1].max() <= 1


def test_width_is_the_root_of_the_count():
    values = np.array([-0.75] * 4 + [0.25] * 16)
    shape = shapes_of([values], bins=4)[0]
    assert np.unique(shape[shape[:, 0] > 2, 0] - 2).max() == pytest.approx(0.46 * 4)
    lowest = shape[np.isclose(shape[:, 1], 0.125)]
    assert np.ptp(lowest[:, 0]) == pytest.approx(0.46 * 4)


def test_one_value_and_values_beyond_the_limits_are_drawn():
    for values in (np.zeros(9), np.full(9, 1e30), np.full(9, -1e30)):
        assert np.ptp(shapes_of([values], bins=10)[0][:, 1]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("layers", "limits", "bins", "message"),
    [
        ([], (-1, 1), 9, "layers must hold one array or more"),
        ([np.zeros(0)], (-1, 1), 9, "none of them empty"),
        ([np.zeros(3)], (1, -1), 9, "limits=(1, -1) must rise"),
        ([np.zeros(3)], (-1, 1), 1, "bins=1"),
    ],
)
def test_bad_input_is_named(layers, limits, bins, message):
    _, ax = subplots()
    with refuses(ValueError, message):
        layer_histograms(ax, layers, (0, 0, 1, 1), limits, bins=bins)
