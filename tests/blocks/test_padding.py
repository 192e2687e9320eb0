"""Lengths and masks of real tokens say the same."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlib.blocks.padding import lengths_of, mask_of
from tests.support import refuses


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_lengths_and_mask_are_one(lengths):
    mask = mask_of(torch.tensor(lengths), 7)
    assert [row.sum().item() for row in mask] == lengths
    assert all(row[:length].all() for row, length in zip(mask, lengths, strict=True))
    assert lengths_of(mask).tolist() == lengths


def test_a_gap_has_no_length():
    with refuses(ValueError, "got a gap"):
        lengths_of(torch.tensor([[True, False, True]]))


def test_bad_lengths_are_named():
    with refuses(ValueError, "lengths must lie in 1 … 3"):
        mask_of(torch.tensor([4]), 3)
    with refuses(TypeError, "steps=1.5"):
        mask_of(torch.tensor([1]), 1.5)
    with refuses(TypeError, "key_mask must hold True at real tokens"):
        lengths_of(torch.ones(2, 3))
