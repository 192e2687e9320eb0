"""The letters of the figures."""

import pytest
from matplotlib.font_manager import FontProperties, findfont, fontManager

from nnlib.plot import faces


@pytest.mark.parametrize(
    "options, file",
    [
        ({}, "NNSans-Regular"),
        ({"style": "italic"}, "NNSans-Italic"),
        ({"weight": 600}, "NNSans-Semibold"),
        ({"weight": "bold"}, "NNSans-Semibold"),
    ],
)
def test_matplotlib_finds_every_face(options, file):
    faces.register()
    found = findfont(FontProperties(family=faces.FAMILY, **options), fallback_to_default=False)
    assert found == str(faces.FOLDER / f"{file}.ttf")


def test_a_face_is_registered_once():
    faces.register()
    known = len(fontManager.ttflist)
    faces.register()
    assert len(fontManager.ttflist) == known
