"""What decides the next random numbers: of torch, on every device, of NumPy and of Python."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the state of all generators that nobody holds by name, for `set_random_state`."""
    version, numbers, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    key, at = numpy["state"]["key"], numpy["state"]["pos"]
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": (version, torch.tensor(numbers), gauss),
        "numpy": {
            **numpy,
            "state": {"key": torch.tensor(key.astype(np.int64)), "pos": at},
        },
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Draw from now on what would have been drawn after `state` was taken.

    Generators of a device that is missing here are left out, as are devices that were missing
    there: another machine draws other numbers anyway.
    """
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})
    if "cuda" in state and torch.cuda.is_available():
        for device, its in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(its, device)
    if torch.backends.mps.is_available() and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
