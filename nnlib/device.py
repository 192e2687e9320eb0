"""Where a chapter runs: CUDA, then MPS, then the CPU."""

import torch


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device that `device` names; `"auto"` is the best one present.

    Args:
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, …

    Raises:
        ValueError: no such kind of device, or this machine has none of it.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} must be 'auto', 'cpu', 'cuda', 'cuda:<n>' or 'mps'"
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available()
        and (picked.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(picked.type, False):
        raise ValueError(
            f"device={device!r} is not present here; device='cpu' always is"
        )
    return picked
