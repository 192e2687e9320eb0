"""The training loop: seeded, resumable, and plain about bad input."""

import inspect
import math
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnlib.train.history import History
from nnlib.train.loop import train
from nnlib.train.metrics import accuracy
from nnlib.train.schedules import step_decay
from tests.support import refuses
from tests.train.test_batches import BAD_DATA

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def run(model, loss=loss, **kwargs) -> History:
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


def test_clipping_bounds_the_step():
    model, twin = net(), net()
    run(model, steps=1, optimizer=torch.optim.SGD, lr=1.0, clip=0.01)
    assert (weights(model) - weights(twin)).norm() == pytest.approx(0.01, rel=1e-3)


def test_schedule_multiplies_the_learning_rate():
    history = run(net(), steps=6, lr=0.5, schedule=step_decay(2, 0.1))
    assert history.lr == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_measures_are_taken_in_evaluation_mode_and_leave_training_mode():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    modes = []
    run(model, steps=2, measures={"mode": lambda m: modes.append(m.training) or 0.0})
    assert modes == [False] and model.training


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


@BAD_DATA
def test_bad_data_is_named(data, error, message):
    with refuses(error, message):
        train(net(), loss, data, steps=1, batch_size=4)


def test_a_loss_that_explodes_stops_the_run():
    with refuses(FloatingPointError, "at step 0"):
        train(net(), lambda m, x, y: loss(m, x, y) * math.inf, (X, Y), steps=3, batch_size=4)


class Reads(TorchDispatchMode):
    """Counts what makes the CPU wait for a device: a number that is read out of a tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation is torch.ops.aten._local_scalar_dense.default
        return operation(*args, **kwargs or {})


def reads(steps: int, **kwargs) -> int:
    with Reads() as mode:
        run(net(), steps=steps, clip=1.0, schedule=step_decay(5), **kwargs)
    return mode.count


def test_a_step_reads_no_number_from_the_device():
    assert reads(90) == reads(10)


def test_numbers_are_read_when_a_measure_is_due():
    def measure(m):
        return float(m[0].weight.sum())  # itself one number

    measures = {"sum": measure}
    counts = [reads(80, measures=measures, measure_every=at) for at in (80, 40, 20, 10)]
    assert [count - counts[0] for count in counts] == [0, 1, 3, 7]


@pytest.mark.gpu
@pytest.mark.parametrize("mixed_precision", ["no", "bf16", "fp16"])
def test_no_step_waits_for_the_gpu(mixed_precision):
    def strict(step):  # the loop begins, and from its second step on must not wait
        if step == 1:
            torch.cuda.set_sync_debug_mode("error")
        if step == 30:
            torch.cuda.set_sync_debug_mode("default")
        return 1.0

    try:
        run(
            net(),
            steps=40,
            clip=1.0,
            device="cuda",
            schedule=strict,
            mixed_precision=mixed_precision,
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("at", [0, 7, 150])
def test_a_loss_that_stops_being_finite_is_named_by_its_step(at):
    calls = []

    def breaks(model, x, y):
        calls.append(0)
        return loss(model, x, y) * (math.nan if len(calls) == at + 1 else 1.0)

    with refuses(FloatingPointError, f"the loss is nan at step {at}"):
        run(net(), loss=breaks, steps=300)
    assert len(calls) <= at + 100


def test_no_checkpoint_is_made_of_what_a_broken_step_left(tmp_path):
    calls = []

    def breaks(model, x, y):
        calls.append(0)
        return loss(model, x, y) * (math.inf if len(calls) == 8 else 1.0)

    with refuses(FloatingPointError, "the loss is inf at step 7"):
        run(net(), loss=breaks, steps=50, checkpoint=tmp_path, checkpoint_every=5)
    assert run(net(), steps=5, checkpoint=tmp_path).loss == run(net(), steps=5).loss


def test_a_loss_that_is_no_scalar_is_named():
    with refuses(ValueError, "loss must have shape (), got (16, 2)"):
        run(net(), loss=lambda m, x, y: m(x))


@pytest.mark.parametrize("mixed_precision", ["bf16", "fp16"])
def test_16_bits_are_used_in_the_loss_and_leave_the_model_as_it_was(mixed_precision):
    model, seen = net(), []

    def half(m, x, y):
        logits = m(x)
        seen.append(logits.dtype)
        return nn.functional.cross_entropy(logits.float(), y)

    history = run(model, loss=half, steps=60, mixed_precision=mixed_precision)
    assert set(seen) == {torch.bfloat16 if mixed_precision == "bf16" else torch.float16}
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert "forward" not in vars(model)  # no wrapper stays on it
    assert model(X).dtype == torch.float32 == weights(model).dtype


def test_one_process_may_change_its_precision_from_run_to_run():
    before = run(net()).loss
    run(net(), mixed_precision="bf16")
    assert run(net()).loss == before


@pytest.mark.parametrize(
    ("optimizer", "fused"),
    [
        (torch.optim.AdamW, True),
        (torch.optim.SGD, True),
        (partial(torch.optim.Adam, betas=(0.9, 0.99)), True),
        (partial(torch.optim.Adam, fused=False), False),
        (partial(torch.optim.Adam, foreach=True), None),
        (torch.optim.Adamax, None),
    ],
)
def test_optimizers_are_fused_where_torch_can_and_nobody_declines(optimizer, fused):
    def spying(parameters, lr, **options):
        made.append(optimizer(parameters, lr=lr, **options))
        return made[-1]

    made: list[torch.optim.Optimizer] = []
    if "fused" in inspect.signature(optimizer).parameters:
        spying.__signature__ = inspect.signature(optimizer)
    run(net(), steps=2, optimizer=spying)
    assert made[-1].defaults.get("fused") is fused


def test_the_loop_needs_no_drawing():
    code = "import sys, nnlib.train.loop; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
