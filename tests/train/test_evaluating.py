"""Evaluation mode for a while: every module gets back the mode that it had."""

import pytest
import torch
from torch import nn

from nnlib.train.evaluating import evaluating
from nnlib.train.loop import train
from nnlib.train.metrics import accuracy

X = torch.randn(6, 3)
Y = torch.zeros(6, dtype=torch.long)


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("no scores today")


def mixed(last: nn.Module | None = None) -> nn.Module:
    """A frozen part in evaluation mode below a part that learns."""
    frozen = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    return nn.Sequential(frozen, nn.Dropout(0.5), last or nn.Linear(4, 2))


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_inside_every_module_evaluates_and_after_it_each_has_its_own_mode_back():
    model, other = mixed(), mixed().eval()
    before = modes(model)
    with evaluating(model, other):
        assert not any(modes(model))
    assert modes(model) == before and True in before and False in before
    assert not any(modes(other))


def test_modes_come_back_whatever_is_raised():
    model = mixed()
    before = modes(model)
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        raise KeyboardInterrupt
    assert modes(model) == before


def test_modes_come_back_when_a_module_refuses_to_evaluate():
    class Stubborn(nn.Linear):
        def train(self, mode: bool = True):
            if not mode:
                raise RuntimeError("always learning")
            return super().train(mode)

    model = mixed(Stubborn(4, 2))
    before = modes(model)
    with pytest.raises(RuntimeError, match="always learning"), evaluating(model):
        pass
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
