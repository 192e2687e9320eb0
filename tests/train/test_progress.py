"""The bar: it hands on what it is given, and shows how far a run is and its latest values."""

import torch

from nnlib.train.batches import Steps
from nnlib.train.history import History
from nnlib.train.progress import bar


def test_a_bar_that_is_not_shown_hands_on_the_steps_and_prints_nothing(capsys):
    steps = Steps(5)
    assert next(iter(steps)) == 0
    assert list(bar(steps, shown=False)) == [1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_a_resumed_bar_begins_where_the_run_stands(capsys):
    steps = Steps(8)
    steps.load_state_dict({"step": 6})
    assert list(bar(steps)) == [6, 7]
    told = capsys.readouterr().err
    assert "6/8" in told and "8/8" in told and "0/8" not in told


def test_a_bar_shows_the_latest_values(capsys):
    steps, history = Steps(3), History()
    for step in bar(steps, history):
        history.add(loss=torch.tensor(float(step)))
    assert "3/3" in capsys.readouterr().err
