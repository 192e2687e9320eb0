import pytest

from nnlib.live.inputs.sliders import Sliders


def test_sliders_hold_to_their_ends():
    sliders = Sliders(label="s", ranges={"wind": (0, 1, 0.1), "rain": (-2, 2, 1)})
    assert sliders.read([0.5, -2])[0][0].tolist() == [[0.5, -2.0]]
    with pytest.raises(ValueError, match=r"value\[1\], rain"):
        sliders.read([0.5, 3])
