"""The device that a chapter asks for."""

import pytest
import torch

from nnlib.device import pick_device
from tests.support import refuses


def test_device_is_picked_or_named():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    with refuses(ValueError, "device='gpu'"):
        pick_device("gpu")
    with refuses(ValueError, "device='cuda:99' is not present here"):
        pick_device("cuda:99")


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_that_is_present_is_taken(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 * cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == torch.device(best)
    if cuda:
        assert pick_device("cuda:1") == torch.device("cuda:1")
        with refuses(ValueError, "device='cuda:2' is not present here; device='cpu' always is"):
            pick_device("cuda:2")
