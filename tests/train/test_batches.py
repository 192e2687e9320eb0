"""Batches: every row once an epoch, an order that the seed decides, and a place to go on from."""

import math
from itertools import islice

import pytest
import torch

from nnlib.train.batches import Batches, Steps
from tests.support import refuses

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
Y = torch.arange(50)


def rows(batches, count=None):
    return [batch[-1].tolist() for batch in islice(batches, count)]


def test_each_epoch_has_every_row_once_in_another_order():
    order = rows(Batches((Y,), 10, steps=10))
    for epoch in (order[:5], order[5:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(50))
    assert order[0] != order[5]


def test_rows_of_all_parts_belong_together():
    for x, y in Batches((X, Y), 8, steps=9):
        assert torch.equal(x, X[y])


def test_a_batch_is_as_large_as_asked_or_all_there_is():
    assert {len(batch) for batch in rows(Batches((Y,), 16, steps=20))} == {16}
    assert {len(batch) for batch in rows(Batches((Y,), 500, steps=3))} == {50}


def test_the_seed_alone_decides_the_order():
    torch.manual_seed(0)
    first = rows(Batches((Y,), 16, seed=1), 5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert rows(Batches((Y,), 16, seed=1), 5) == first != rows(Batches((Y,), 16, seed=2), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_number_of_steps_they_never_end():
    batches = Batches((Y,), 25)
    assert len(rows(batches, 1000)) == batches.step == 1000
    with refuses(TypeError, "steps=None"):
        len(batches)


@pytest.mark.parametrize("make", [lambda: Batches((Y,), 16, steps=20), lambda: Steps(20)])
@pytest.mark.parametrize("stop", [1, 3, 4, 19, 20])
def test_a_state_taken_within_a_step_goes_on_with_the_next(make, stop):
    def taken(steps):
        return [step[0].tolist() if isinstance(step, tuple) else step for step in steps]

    whole, first, second = taken(make()), make(), make()
    for _ in first:
        if first.step == stop:
            second.load_state_dict(first.state_dict())
    assert taken(second) == whole[stop:]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 3}, "seed=3 differs from seed=0 of the run that is resumed"),
        ({"batch_size": 8}, "batch_size=8 differs from batch_size=16"),
        ({"data": (Y[:40],)}, "rows=40 differs from rows=50"),
    ],
)
def test_a_state_of_other_batches_is_refused_by_name(other, message):
    kwargs = {"data": (Y,), "batch_size": 16}
    with refuses(ValueError, message):
        Batches(**kwargs | other).load_state_dict(Batches(**kwargs).state_dict())


BAD_DATA = pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X, TypeError, "data must be a sequence of tensors"),
        ((), TypeError, "data must be a sequence of tensors"),
        ((X[:0], Y[:0]), ValueError, "data[0] must not be empty"),
        ((X, Y[:10]), ValueError, "data[1] must have 50 rows like data[0], got (10,)"),
        ((X * math.nan, Y), ValueError, "data[0] must be finite"),
    ],
)


@BAD_DATA
def test_bad_data_is_named(data, error, message):
    with refuses(error, message):
        Batches(data, 4)
