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


def test_a_large_picture_is_moved():
    given = torch.zeros(16, 16)
    given[5, 6] = 1
    box, read, put = DrawingPad(label="p", size=16).widget(torch.zeros(16, 16))
    assert not read().any()
    put(given)
    down, right = box.children
    assert torch.equal(read(), given) and (down.max, right.min) == (4, -4)
    down.value, right.value = 2, -3
    assert read().nonzero().tolist() == [[7, 3]] and read().shape == (16, 16)
    put(torch.eye(16))
    assert read().sum() == 11 and read()[2, 0] == 0 and read()[5, 0] == 1


def test_a_box_lies_within_the_square():
    config = DrawingPad(label="p", size=4, pen=1, box=(4, 2.5), squeeze=2).config()
    assert config["box"] == (4, 2.5) and config["squeeze"] == 2
    assert DrawingPad(label="p", size=4).config()["box"] == (4, 4)
    for wrong in ({"box": (4, 5)}, {"box": (0.5, 4)}, {"squeeze": 0.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DrawingPad(label="p", size=4, pen=1, **wrong)
