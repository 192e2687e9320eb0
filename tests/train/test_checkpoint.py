"""A run that was interrupted equals one that was not: dropout, precision and all."""

import random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from nnlib.train.batches import Batches, Steps
from nnlib.train.checkpoint import load, save
from nnlib.train.history import History
from nnlib.train.loop import train
from nnlib.train.schedules import warmup_cosine
from tests.support import refuses

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(0.4), nn.Linear(16, 2))


def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def noisy(model):  # a measure that draws random numbers itself
    return torch.rand(()).item() + random.random() + np.random.rand()


def run(model, loss=loss, **kwargs) -> History:
    defaults = {
        "steps": 40, "batch_size": 16, "lr": 0.05, "schedule": warmup_cosine(40, 5),
        "measures": {"noise": noisy}, "measure_every": 7,
    }  # fmt: skip
    torch.manual_seed(8)
    random.seed(8)
    np.random.seed(8)
    return train(model, loss, (X, Y), **defaults | kwargs)


class Interrupted(Exception):
    pass


def cut(at: int, loss):
    """End the run in the middle of a step, as a lost machine does."""
    calls = []

    def broken(model, x, y):
        calls.append(0)
        if len(calls) == at:
            raise Interrupted
        return loss(model, x, y)

    return broken


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"optimizer": torch.optim.SGD, "clip": 0.5},
        {"optimizer": torch.optim.Adamax},
        {"accumulate": 3, "seed": 5},
        {"mixed_precision": "bf16"},
        {
            "mixed_precision": "fp16",
            "loss": lambda *given: 100 * loss(*given),
        },  # at first too steep
    ],
)
def test_a_resumed_run_with_dropout_equals_the_uninterrupted_one(tmp_path, kwargs):
    straight, broken, resumed = net(), net(), net()
    whole = run(straight, **kwargs)
    kept = {**kwargs, "checkpoint": tmp_path, "checkpoint_every": 10}
    calls = 27 * kwargs.get("accumulate", 1)
    with pytest.raises(Interrupted):
        run(broken, **kept | {"loss": cut(calls, kwargs.get("loss", loss))})
    rest = run(resumed, **kept)
    assert rest.loss == whole.loss and rest.lr == whole.lr
    assert rest.at == whole.at and rest.measures == whole.measures
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_finished_run_can_be_taken_further(tmp_path):
    whole = run(net(), measures={})
    run(net(), steps=20, measures={}, checkpoint=tmp_path)
    assert run(net(), measures={}, checkpoint=tmp_path).loss == whole.loss


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed=1 differs from seed=0 of the run that is resumed"),
        ({"batch_size": 8}, "batch_size=8 differs from batch_size=16"),
    ],
)
def test_a_resumed_run_refuses_what_would_make_it_another_one(tmp_path, changed, message):
    run(net(), steps=5, checkpoint=tmp_path)
    with refuses(ValueError, message):
        run(net(), checkpoint=tmp_path, **changed)


def test_a_checkpoint_is_one_safetensors_file(tmp_path):
    run(net(), checkpoint=tmp_path, checkpoint_every=5)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        assert "model.0.weight" in file.keys()  # noqa: SIM118  (safe_open is no mapping)
    assert len(run(net(), checkpoint=tmp_path).loss) == 40  # nothing is left to do


def test_a_write_that_fails_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    layer = nn.Linear(2, 2)
    save(tmp_path, {"layer": layer})
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("nnlib.train.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, {"layer": nn.Linear(2, 2)})
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_all_kinds_of_state_come_back_as_they_were(tmp_path):
    class Anything:
        def __init__(self, state=None):
            self.state = state

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    shared = torch.arange(6.0).reshape(2, 3)
    state = {
        0: {"step": torch.tensor(3.0), "seen": shared.T}, "a.b": shared, "a": {"b": shared + 1},
        "betas": (0.9, [1, None]), "flag": True, "text": "α", "empty": {}, "inf": float("inf"),
    }  # fmt: skip
    save(tmp_path, {"thing": Anything(state)})
    load(tmp_path, {"thing": (back := Anything())})
    assert repr(back.state) == repr(state)


def test_a_generator_and_a_counter_are_parts_too(tmp_path):
    draw, steps, wanted = torch.Generator().manual_seed(1), Steps(9), []
    for _ in steps:
        if steps.step == 4:
            save(tmp_path, {"draw": draw, "steps": steps})
        wanted.append(torch.rand(2, generator=draw))
    draw, steps = torch.Generator(), Steps(9)
    assert load(tmp_path, {"draw": draw, "steps": steps})
    assert list(steps) == [4, 5, 6, 7, 8]
    assert torch.equal(torch.rand(2, generator=draw), wanted[3])


@pytest.mark.gpu
def test_random_numbers_of_the_gpu_go_on_where_they_were(tmp_path):
    torch.rand(3, device="cuda")
    save(tmp_path, {})
    wanted = torch.rand(3, device="cuda").tolist()
    load(tmp_path, {})
    assert torch.rand(3, device="cuda").tolist() == wanted


def test_no_checkpoint_is_a_run_that_begins(tmp_path):
    assert load(tmp_path / "none", {"layer": nn.Linear(2, 2)}) is False


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with refuses(ValueError, "was not written by nnlib.train"):
        run(net(), checkpoint=tmp_path)


def test_a_checkpoint_of_other_parts_is_refused_by_their_names(tmp_path):
    save(tmp_path, {"critic": nn.Linear(2, 2), "batches": Batches((X,), 4)})
    with refuses(ValueError, "holds ['batches', 'critic'], not ['critic', 'generator']"):
        load(tmp_path, {"critic": nn.Linear(2, 2), "generator": nn.Linear(2, 2)})


def test_state_that_json_cannot_hold_is_named(tmp_path):
    class Odd(nn.Module):
        def get_extra_state(self):
            return {"when": {1, 2}}

        def set_extra_state(self, state):
            pass

    with refuses(TypeError, "odd._extra_state.when is a set; a checkpoint takes tensors"):
        save(tmp_path, {"odd": Odd()})
