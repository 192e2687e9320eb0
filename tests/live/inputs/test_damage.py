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


def test_all_channels_are_wiped_and_the_first_is_shown():
    damage = Damage(label="d", shape=(2, 3), channels=4)
    state = torch.ones(4, 2, 3)
    state[0, 1] = 0
    assert damage.read(state)[0][0].shape == (1, 24)
    assert damage.body(state).count("h1v1h-1z") == 3
    assert damage.plain(state) == state.flatten().tolist()
    rows, wiped, put = damage.widget(state)
    rows.value = 1
    assert wiped()[:, 0].sum() == 0 and wiped()[:, 1].sum() == 9
    put(2 * state)
    assert wiped().sum() == 18
    with pytest.raises(ValueError, match="value must have shape"):
        damage.read(torch.ones(2, 3))
    with pytest.raises(ValueError, match="channels=0"):
        Damage(label="d", shape=(2, 3), channels=0)
