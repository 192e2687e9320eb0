"""Measures, and the modes of what is measured, which are afterwards as they were."""

import pytest
import torch
from torch import nn

from nnlib.train.evaluating import evaluate
from nnlib.train.loop import train
from nnlib.train.metrics import accuracy
from tests.blocks.test_modes import mixed, modes

X = torch.randn(6, 3)
Y = torch.zeros(6, dtype=torch.long)


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("no scores today")


def test_measures_are_taken_in_evaluation_mode_without_gradients():
    model = mixed()
    before = modes(model)

    def measure(model):
        assert not any(modes(model)) and not torch.is_grad_enabled()
        return model(X).sum()

    told = evaluate(model, {"sum": measure, "one": lambda model: 1})
    assert told == {"sum": model.eval()(X).sum().item(), "one": 1.0}
    model = mixed()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, {"none": lambda model: 1 / 0})
    assert modes(model) == before


@pytest.mark.parametrize("last", [nn.Linear(4, 2), Fails()])
def test_accuracy_leaves_a_mixed_tree_as_it_was(last):
    model = mixed(last)
    before = modes(model)
    try:
        accuracy(model, X, Y)
    except RuntimeError as error:
        assert str(error) == "no scores today"
    assert modes(model) == before


def test_the_loops_measures_leave_a_mixed_tree_as_they_found_it():
    model, seen = mixed(), []
    frozen = model[0].train()

    def loss(model, x, y):
        frozen.eval()  # as a chapter does that keeps the statistics of a part
        seen.append(modes(model))
        return nn.functional.cross_entropy(model(x), y)

    def measure(model):
        assert not any(modes(model))
        return 0.0

    train(model, loss, (X, Y), steps=3, batch_size=3, measures={"zero": measure}, measure_every=1)
    assert seen[0] == seen[1] == seen[2] == modes(model)


def test_a_measure_that_raises_leaves_the_modes_of_training():
    model = mixed()
    model[0].train()

    def measure(model):
        raise RuntimeError("no ruler")

    with pytest.raises(RuntimeError, match="no ruler"):
        train(
            model,
            lambda m, x, y: nn.functional.cross_entropy(m(x), y),
            (X, Y),
            steps=1,
            batch_size=3,
            measures={"broken": measure},
        )
    assert all(modes(model))
