"""A history looks at its numbers late, and knows which step they belong to."""

import math

import pytest
import torch

from nnlib.train.history import LONGEST, History
from tests.support import refuses


def test_curves_come_back_in_the_order_of_their_steps():
    history = History()
    for step in range(2 * LONGEST + 7):
        history.add(loss=torch.tensor(step / 3, dtype=torch.float64), lr=step / 7)
        if step == 11:
            assert history.latest() == {"loss": 11 / 3, "lr": 11 / 7}
    assert history.loss == [step / 3 for step in range(2 * LONGEST + 7)]
    assert history.lr == [step / 7 for step in range(2 * LONGEST + 7)]


def test_what_is_added_does_not_keep_its_graph():
    x, history = torch.ones((), requires_grad=True), History()
    history.add(loss=x * 2)
    assert not history._waiting["loss"][0].requires_grad


@pytest.mark.parametrize("at", [0, 5, LONGEST, 2 * LONGEST + 3])
def test_a_number_that_is_not_finite_is_named_by_its_curve_and_step(at):
    history = History()
    with refuses(FloatingPointError, f"the critic is -inf at step {at}"):
        for step in range(3 * LONGEST):
            history.add(critic=torch.tensor(-math.inf if step == at else 1.0), generator=0.0)


def test_smooth_loss_is_the_mean_of_the_last_ones():
    history = History()
    for value in (4.0, 2.0, 6.0, 1.0):
        history.add(loss=value)
    assert history.smooth_loss(2) == [4.0, 3.0, 4.0, 3.5]


def test_measures_are_found_by_name_and_what_is_missing_is_named():
    history = History()
    history.note(5, accuracy=0.5)
    history.note(10, accuracy=0.75)
    assert history.at == [5, 10] and history.last("accuracy") == 0.75
    with refuses(KeyError, "name='acc' was not measured; there are ['accuracy']"):
        history.last("acc")
    with refuses(KeyError, "name='loss' has no curve; there are []"):
        _ = history.loss


def test_a_history_goes_on_from_its_state():
    first, second = History(), History()
    first.add(loss=torch.tensor(1.0))
    first.note(1, accuracy=0.5)
    second.load_state_dict(first.state_dict())
    second.add(loss=torch.tensor(2.0))
    assert second.loss == [1.0, 2.0] and second.measures == {"accuracy": [0.5]}
