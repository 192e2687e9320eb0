"""Splits: disjoint, complete, the same in every run."""

import pytest
import torch

from nnlib.data.split import split_indices
from tests.support import refuses


def test_indices_of_the_splits_are_disjoint():
    parts = [split_indices(101, 0.25, split) for split in ("train", "test")]
    assert sorted(torch.cat(parts).tolist()) == list(range(101))
    assert len(parts[1]) == 25


def test_the_shuffle_is_the_same_in_every_run_whatever_the_seed():
    torch.manual_seed(1)
    first = split_indices(50, 0.2, "train")
    torch.manual_seed(2)
    assert first.equal(split_indices(50, 0.2, "train"))
    assert split_indices(3, 0.5, "all").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: split_indices(9, 0.5, "valid"), ValueError, "split='valid' must be one of"),
        (lambda: split_indices(9, 1.0, "test"), ValueError, "test_share=1.0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
