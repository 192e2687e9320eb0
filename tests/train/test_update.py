"""One update: its own gradients, clipped, at the rate of its step."""

import pytest
import torch
from torch import nn

from nnlib.train.update import optimizer_of, take_step, update
from tests.support import refuses

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def square(model):
    return model(X).square().mean()


def test_an_update_is_a_step_down_the_gradient_of_its_loss_alone():
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (square(model) * 100).backward()  # left over from something else
    returned = update(square(model), optimizer)
    loss = square(twin)
    gradients = torch.autograd.grad(loss, twin.parameters())
    for theta, gradient, start in zip(
        model.parameters(), gradients, twin.parameters(), strict=True
    ):
        torch.testing.assert_close(theta, start - 0.1 * gradient)
    assert torch.equal(returned, loss.detach()) and not returned.requires_grad


def test_an_update_leaves_what_other_optimizers_hold_alone():
    model, other = net(), net(1)
    before = weights(other)
    torch.optim.SGD(other.parameters(), lr=0.1)
    update(square(model) + square(other), torch.optim.SGD(model.parameters(), lr=0.1))
    assert torch.equal(weights(other), before)


def test_clipping_bounds_the_step():
    model = net()
    start = weights(model)
    update(square(model), torch.optim.SGD(model.parameters(), lr=1.0), clip=0.01)
    assert (weights(model) - start).norm() == pytest.approx(0.01, rel=1e-3)


def test_the_rate_is_a_factor_of_each_groups_own_and_does_not_pile_up():
    first, second = net(), net(1)
    groups = [{"params": first.parameters()}, {"params": second.parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    for rate in (0.5, 0.5, 0.25):
        update(square(first) + square(second), optimizer, rate=rate)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.0025]
    update(square(first), optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.0025]


def test_a_scaler_changes_nothing_but_the_smallest_gradients():
    plain, scaled = net(), net()
    for model, scaler in ((plain, None), (scaled, torch.amp.GradScaler("cpu"))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            update(square(model), optimizer, clip=0.3, scaler=scaler)
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-6, atol=0)


def test_a_scaled_step_that_overflows_is_left_out():
    model = net()
    before, scaler = weights(model), torch.amp.GradScaler("cpu", init_scale=8.0)
    update(square(model) * 1e38 * 3, torch.optim.SGD(model.parameters(), lr=0.1), scaler=scaler)
    assert torch.equal(weights(model), before) and scaler.get_scale() == 4.0


def test_gradients_of_several_losses_take_one_step():
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    square(model).backward()
    (2 * square(model)).backward()
    take_step(optimizer)
    update(3 * square(twin), torch.optim.SGD(twin.parameters(), lr=0.1))
    torch.testing.assert_close(weights(model), weights(twin))


def test_an_update_refuses_what_is_no_scalar_and_a_norm_of_nought():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with refuses(ValueError, "loss must have shape (), got (8, 1)"):
        update(model(X), optimizer)
    with refuses(ValueError, "clip=0"):
        update(square(model), optimizer, clip=0)


def test_a_fused_optimizer_takes_the_steps_of_the_plain_one():
    ends = []
    for fused in (None, False):
        model = net()
        kind = torch.optim.AdamW if fused is None else _plain
        optimizer = optimizer_of(kind, model.parameters(), 0.1)
        assert optimizer.defaults["fused"] is (fused is None)
        for _ in range(20):
            update(square(model), optimizer)
        ends.append(weights(model))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def _plain(parameters, lr):
    return torch.optim.AdamW(parameters, lr=lr, fused=False)
