import torch

from nnlib.live.inputs.damage import Damage


def test_a_picture_is_read_in_the_shape_of_the_model():
    damage = Damage(label="d", shape=(1, 3), feed=(3,))
    assert damage.read(torch.ones(1, 3))[0][0].shape == (3,)


def test_rows_are_wiped_out_in_a_notebook():
    rows, wiped, _ = Damage(label="d", shape=(3, 2)).widget(torch.ones(3, 2))
    rows.value = 2
    assert wiped().sum() == 2
