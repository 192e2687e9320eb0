import pytest
import torch

from nnlib.live.inputs.cart import Cart


def test_a_cart_is_read_as_a_row_of_four_numbers():
    (row,), context = Cart(label="c").read([1, 2.0, 3, 4])
    assert torch.equal(row, torch.tensor([[1.0, 2, 3, 4]]))
    assert context == {}


def test_other_numbers_are_refused():
    with pytest.raises(ValueError, match="value must hold 4 numbers, got 3"):
        Cart(label="c").read([0, 0, 0])
    with pytest.raises(ValueError, match=r"value\[2\]=nan"):
        Cart(label="c").read([0, 0, float("nan"), 0])
    with pytest.raises(ValueError, match="push=0"):
        Cart(label="c", push=0)


def test_its_pole_leans_where_its_angle_says():
    body = Cart(label="c").body([0.5, 0, torch.pi / 2, 0])
    assert "translate(0.500 0)" in body
    assert 'x2="1.000" y2="-0.000"' in body or 'x2="1.000" y2="0.000"' in body


def test_sliders_set_it_in_a_notebook():
    box, read, put = Cart(label="c").widget([0.0, 0, 0, 0])
    put([1.0, 0.0, 0.1, 0.0])
    assert [round(slider.value, 3) for slider in box.children] == [1, 0, 0.1, 0]
    assert [round(number, 3) for number in read()] == [1, 0, 0.1, 0]
