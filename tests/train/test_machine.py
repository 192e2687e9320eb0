"""Where a run takes place: one process keeps its model and its rows; a precision is the run's."""

import pytest
import torch
from torch import nn

from nnlib.train.machine import Machine
from tests.support import refuses


def test_a_single_process_has_all_rows_and_the_model_as_it_is():
    machine, model = Machine("cpu"), nn.Linear(2, 2)
    assert (machine.processes, machine.is_first, machine.device.type) == (1, True, "cpu")
    assert machine.prepared(model) is model
    x, y = torch.arange(6).view(3, 2), torch.arange(3)
    assert [part.tolist() for part in machine.share([x, y])] == [x.tolist(), y.tolist()]
    assert machine.mean(torch.tensor(2.5)).item() == 2.5


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_a_precision_holds_within_its_context_alone(precision, dtype):
    machine, layer, x = Machine("cpu", precision), nn.Linear(2, 2), torch.zeros(1, 2)
    with machine.autocast():
        assert layer(x).dtype == dtype
    assert layer(x).dtype == torch.float32
    assert machine.scaler.is_enabled() == (precision == "fp16")


def test_bad_places_are_named():
    with refuses(ValueError, "mixed_precision='fp8' must be one of"):
        Machine("cpu", "fp8")
    with refuses(ValueError, "device='gpu' must be"):
        Machine("gpu")
