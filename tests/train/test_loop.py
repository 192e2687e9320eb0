"""The training loop: seeded, resumable, and plain about bad input."""

import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from nnlib.train.history import History
from nnlib.train.loop import train
from nnlib.train.metrics import accuracy, parameter_count
from nnlib.train.schedules import constant, step_decay, warmup_cosine
from tests.support import refuses

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def run(model, **kwargs) -> History:
    return train(model, loss, (X, Y), **{"steps": 20, "batch_size": 16, "lr": 0.05} | kwargs)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_learns():
    model = net()
    history = run(model, steps=80, measures={"accuracy": lambda m: accuracy(m, X, Y)})
    assert history.last("accuracy") > 0.95
    assert len(history.loss) == len(history.lr) == 80
    assert history.smooth_loss()[-1] < 0.5 * history.loss[0]


def test_same_seed_gives_the_same_numbers_and_another_seed_others():
    first, second, other = net(), net(), net()
    assert run(first, seed=1).loss == run(second, seed=1).loss != run(other, seed=2).loss
    assert torch.equal(weights(first), weights(second))


def test_full_batch_is_plain_gradient_descent():
    model, twin = net(), net()
    run(model, steps=5, batch_size=500, optimizer=torch.optim.SGD, lr=0.1)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss(twin, X, Y).backward()
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin))


def test_each_epoch_sees_every_example_once():
    seen = []

    def spy(model, x, y, rows):
        seen.append(rows)
        return loss(model, x, y)

    train(net(), spy, (X, Y, torch.arange(50)), steps=10, batch_size=10)
    for epoch in (torch.cat(seen[:5]), torch.cat(seen[5:])):
        assert sorted(epoch.tolist()) == list(range(50))
    assert seen[0].tolist() != seen[5].tolist()


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, optimizer):
    kwargs = {"optimizer": optimizer, "schedule": warmup_cosine(40, warmup=5)}
    measures = {"accuracy": lambda m: accuracy(m, X, Y)}
    straight, broken = net(), net()
    whole = run(straight, steps=40, measures=measures, measure_every=10, **kwargs)
    run(broken, steps=20, measures=measures, measure_every=10, checkpoint=tmp_path, **kwargs)
    resumed = net()
    rest = run(
        resumed, steps=40, measures=measures, measure_every=10, checkpoint=tmp_path, **kwargs
    )
    assert rest.loss == whole.loss and rest.lr == whole.lr and rest.measures == whole.measures
    assert torch.equal(weights(resumed), weights(straight))


def test_checkpoint_is_one_safetensors_file(tmp_path):
    run(net(), checkpoint=tmp_path, checkpoint_every=5)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        assert "model.0.weight" in file.keys()  # noqa: SIM118  (safe_open is no mapping)
    assert len(run(net(), checkpoint=tmp_path).loss) == 20  # nothing is left to do


def test_checkpoint_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with refuses(ValueError, "was not written by nnlib.train"):
        run(net(), checkpoint=tmp_path)


def test_clipping_bounds_the_step():
    model, twin = net(), net()
    run(model, steps=1, optimizer=torch.optim.SGD, lr=1.0, clip=0.01)
    assert (weights(model) - weights(twin)).norm() == pytest.approx(0.01, rel=1e-3)


def test_schedule_multiplies_the_learning_rate():
    history = run(net(), steps=6, lr=0.5, schedule=step_decay(2, 0.1))
    assert history.lr == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_schedules_begin_and_end_where_they_say():
    cosine = warmup_cosine(100, warmup=10, final=0.2)
    assert [cosine(s) for s in range(10)] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert cosine(10) == 1.0 and cosine(100) == cosine(1000) == pytest.approx(0.2)
    assert cosine(55) == pytest.approx(0.6)
    assert constant()(7) == 1.0


def test_measures_are_taken_in_evaluation_mode_and_leave_training_mode():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    modes = []
    run(model, steps=2, measures={"mode": lambda m: modes.append(m.training) or 0.0})
    assert modes == [False] and model.training


def test_history_draws_itself_and_names_what_it_lacks():
    history = run(net(), measures={"accuracy": lambda m: accuracy(m, X, Y)}, measure_every=5)
    assert len(history.plot("A run").axes) == 2
    assert history.at == [5, 10, 15, 20]
    with refuses(KeyError, "name='acc' was not measured; there are ['accuracy']"):
        history.last("acc")


def test_parameter_count_leaves_frozen_ones_out():
    model = net()
    assert parameter_count(model) == 3 * 8 + 8 + 8 * 2 + 2
    model[0].weight.requires_grad_(False)
    assert parameter_count(model) == 8 + 8 * 2 + 2


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps=0"),
        ({"steps": 2.5}, TypeError, "steps=2.5"),
        ({"batch_size": -1}, ValueError, "batch_size=-1"),
        ({"lr": 0.0}, ValueError, "lr=0.0"),
        ({"lr": math.nan}, ValueError, "lr=nan"),
        ({"clip": -1.0}, ValueError, "clip=-1.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"measure_every": 0}, ValueError, "measure_every=0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every=0"),
        ({"mixed_precision": "fp8"}, ValueError, "mixed_precision='fp8' must be one of"),
        ({"device": "tpu?"}, ValueError, "device='tpu?'"),
        ({"optimizer": "adam"}, TypeError, "optimizer='adam'"),
    ],
)
def test_bad_arguments_are_named(wrong, error, message):
    with refuses(error, message):
        run(net(), **wrong)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X, TypeError, "data must be a sequence of tensors"),
        ((), TypeError, "data must be a sequence of tensors"),
        ((X[:0], Y[:0]), ValueError, "data[0] must not be empty"),
        ((X, Y[:10]), ValueError, "data[1] must have 50 rows like data[0], got (10,)"),
        ((X * math.nan, Y), ValueError, "data[0] must be finite"),
    ],
)
def test_bad_data_is_named(data, error, message):
    with refuses(error, message):
        train(net(), loss, data, steps=1, batch_size=4)


def test_a_loss_that_explodes_stops_the_run():
    with refuses(FloatingPointError, "at step 0"):
        train(net(), lambda m, x, y: loss(m, x, y) * math.inf, (X, Y), steps=3, batch_size=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warmup_cosine(0), "steps=0"),
        (lambda: warmup_cosine(5, warmup=6), "warmup=6"),
        (lambda: warmup_cosine(5, final=1.5), "final=1.5"),
        (lambda: step_decay(0), "every=0"),
        (lambda: step_decay(5, 0.0), "factor=0.0"),
        (lambda: accuracy(net(), X, Y[:3]), "y must have shape"),
    ],
)
def test_schedules_and_metrics_name_bad_input(call, message):
    with refuses(ValueError, message):
        call()
