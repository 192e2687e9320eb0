import pytest
import torch

from nnlib.live.inputs.drawing_pad import DrawingPad
from nnlib.live.inputs.given import NotGiven


def test_a_picture_is_read_in_the_shape_of_the_model():
    pad = DrawingPad(label="p", size=2, shape=(1, 1, 2, 2))
    (given,), _ = pad.read(torch.eye(2))
    assert torch.equal(given, torch.eye(2)[None, None])
    with pytest.raises(NotGiven, match="draw something"):
        pad.read(torch.zeros(2, 2))


def test_cells_switch_and_take_pictures():
    pad = DrawingPad(label="p", size=2)
    box, read, put = pad.widget(torch.zeros(2, 2))
    box.children[1].children[0].value = True
    assert read().tolist() == [[0, 0], [1, 0]]
    put(torch.full((2, 2), 0.7))
    assert read().tolist() == torch.full((2, 2), 0.7).tolist()
