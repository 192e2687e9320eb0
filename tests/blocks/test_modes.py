"""Evaluation mode for a while: every module gets back the mode that it had."""

import pytest
from torch import nn

from nnlib.blocks.modes import evaluating


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
