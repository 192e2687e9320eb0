"""Early stopping: what is kept, when it stops, and how it takes NaN."""

import pytest
import torch
from torch import nn

from nnlib.train.early_stopping import EarlyStopping
from tests.support import refuses


def test_it_keeps_a_copy_of_the_best_state():
    layer, stopping = nn.Linear(2, 1), EarlyStopping(patience=3)
    values = [1.0, 0.5, 0.7, 0.6, 0.6, 0.1]
    told, states = [], []
    for value in values:
        nn.init.normal_(layer.weight)
        states.append(layer.weight.detach().clone())
        told.append(stopping.update(value, layer))
    assert told == [False, False, False, False, True, True]
    assert (stopping.best, stopping.at) == (0.5, 1)  # what came after the stop does not count
    torch.testing.assert_close(stopping.state["weight"], states[1], rtol=0, atol=0)
    layer.load_state_dict(stopping.state)


def test_it_can_climb_and_takes_nan_for_no_improvement():
    stopping = EarlyStopping(patience=2, mode="max")
    for value, stop in ((0.1, False), (float("nan"), False), (0.3, False), (0.3, False), (0, True)):
        assert stopping.update(value, {}) is stop
    assert stopping.best == 0.3
    first = EarlyStopping(patience=5)
    first.update(float("nan"), {})
    first.update(2.0, {})
    assert first.best == 2.0


def test_it_goes_on_from_its_state():
    values = (3.0, 1.0, 2.0, 1.5, 0.5)
    whole, first, second = (EarlyStopping(patience=2) for _ in range(3))
    told = [whole.update(value, {"w": torch.tensor(value)}) for value in values]
    for value in values[:3]:
        first.update(value, {"w": torch.tensor(value)})
    second.load_state_dict(first.state_dict())
    assert [second.update(value, {}) for value in values[3:]] == told[3:]
    assert (second.best, second.state) == (1.0, {"w": torch.tensor(1.0)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EarlyStopping(0), ValueError, "patience=0"),
        (lambda: EarlyStopping(2.0), TypeError, "patience=2.0"),
        (lambda: EarlyStopping(2, mode="up"), ValueError, "mode='up'"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
