import pytest
import torch

from nnlib.live.inputs.damage import Damage


def test_a_picture_is_read_in_the_shape_of_the_model():
    damage = Damage(label="d", shape=(1, 3), feed=(3,))
    assert damage.read(torch.ones(1, 3))[0][0].shape == (3,)


def test_a_choice_is_a_second_tensor_and_a_value_may_name_it():
    damage = Damage(label="d", shape=(1, 2), choices=("one", "other"), choice_label="Way")
    picture = torch.ones(1, 2)
    assert damage.read(picture)[0][1].tolist() == [[1, 0]]
    assert damage.read(("other", picture))[0][1].tolist() == [[0, 1]]
    assert damage.plain(picture) == [1, 1]
    assert damage.plain(("other", picture)) == {"choice": 1, "picture": [1, 1]}
    assert '<option value="1" selected>other' in damage.body(("other", picture))
    with pytest.raises(ValueError, match="choice='third' must be one of"):
        damage.read(("third", picture))
    box, read, put = damage.widget(picture)
    box.children[1].value = "other"
    assert read()[0] == "other"
    put(("one", picture))
    assert read()[0] == "one" and len(damage.config()["examples"]) == 0


def test_rows_are_wiped_out_in_a_notebook():
    rows, wiped, _ = Damage(label="d", shape=(3, 2)).widget(torch.ones(3, 2))
    rows.value = 2
    assert wiped().sum() == 2
