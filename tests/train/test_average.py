"""The moving average of a model's weights."""

import pytest
import torch
from torch import nn

from nnlib.train.average import ExponentialMovingAverage
from tests.support import refuses


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@torch.no_grad()
def moved(model):
    for theta in model.parameters():
        theta.add_(torch.randn_like(theta))
    model(torch.randn(16, 3, dtype=model[0].weight.dtype))  # moves the running statistics


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(one, other):
    return all(map(torch.equal, one, other))


def test_the_average_is_the_sum_that_the_equation_unrolls_to():
    model, beta = net().double(), 0.9
    average, past = ExponentialMovingAverage(model, beta), [model[0].weight.detach().clone()]
    for _ in range(30):
        moved(model)
        average.update()
        past.append(model[0].weight.detach().clone())
    wanted = beta**30 * past[0]
    wanted = wanted + sum((1 - beta) * beta ** (30 - k) * past[k] for k in range(1, 31))
    torch.testing.assert_close(average.model[0].weight, wanted, rtol=1e-12, atol=1e-12)


def test_buffers_are_those_of_the_model():
    model = net()
    average = ExponentialMovingAverage(model)
    moved(model)
    average.update()
    assert same(average.model[1].buffers(), model[1].buffers())
    assert average.model[1].num_batches_tracked == 1


def test_the_average_learns_nothing_by_itself_and_evaluates():
    model = net().train()
    average = ExponentialMovingAverage(model)
    assert not any(theta.requires_grad for theta in average.model.parameters())
    assert not any(module.training for module in average.model.modules())
    assert model.training and all(theta.requires_grad for theta in model.parameters())


def test_swapped_in_the_model_is_its_average_and_then_itself_again():
    model = net()
    average = ExponentialMovingAverage(model, 0.5)
    moved(model)
    average.update()
    own, averaged, parameters = weights(model), weights(average.model), list(model.parameters())
    with pytest.raises(KeyboardInterrupt), average.swapped_in():
        assert same(weights(model), averaged) and not same(own, averaged)
        raise KeyboardInterrupt
    assert same(weights(model), own) and same(weights(average.model), averaged)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


def test_tied_weights_stay_tied():
    model = net()
    model[2].weight = model[0].weight = nn.Parameter(torch.randn(4, 4))
    average = ExponentialMovingAverage(model, 0.5)
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(4)
    average.update()
    assert average.model[2].weight is average.model[0].weight
    torch.testing.assert_close(average.model[0].weight.detach(), before + 2)


def test_an_average_goes_on_from_its_state():
    model = net()
    first, second = ExponentialMovingAverage(model), ExponentialMovingAverage(model)
    moved(model)
    first.update()
    second.load_state_dict(first.state_dict())
    assert same(weights(first.model), weights(second.model))


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_out_of_its_range_is_named(decay):
    with refuses(ValueError, f"decay={decay}"):
        ExponentialMovingAverage(net(), decay)
