"""Checkpoints as safetensors: a folder that a run can be resumed from; nothing is unpickled."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from nnlib.train.history import History


def save(folder: Path, model, optimizer: Optimizer, step: int, history: History, seed: int) -> None:
    """Write model, optimizer, step and history; an interrupted write leaves the last one whole."""
    folder.mkdir(parents=True, exist_ok=True)
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict] = {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{slot}"] = value.detach().cpu().contiguous()
            else:
                numbers.setdefault(str(index), {})[slot] = value
    for name, value in model.state_dict().items():
        tensors[f"model.{name}"] = value.detach().cpu().clone().contiguous()
    meta = {
        "step": step,
        "seed": seed,
        "history": asdict(history),
        "groups": state["param_groups"],
        "numbers": numbers,
    }
    partial = folder / "checkpoint.safetensors.partial"
    save_file(tensors, partial, metadata={"run": json.dumps(meta)})
    os.replace(partial, folder / "checkpoint.safetensors")


def load(folder: Path, model, optimizer: Optimizer) -> tuple[int, History, int] | None:
    """Restore model and optimizer from `folder`; return step, history and seed, or None if new.

    Raises:
        ValueError: the file is not a checkpoint of this loop.
        RuntimeError: its tensors do not fit the model (torch names them).
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        meta = json.loads((file.metadata() or {}).get("run", "null"))
    if meta is None:
        raise ValueError(f"checkpoint={str(path)!r} was not written by nnlib.train")
    slots: dict[int, dict] = {}
    weights: dict[str, Tensor] = {}
    for name, value in load_file(path).items():
        kind, rest = name.split(".", 1)
        if kind == "model":
            weights[rest] = value
        else:
            index, slot = rest.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
    for index, values in meta["numbers"].items():
        slots.setdefault(int(index), {}).update(values)
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": slots, "param_groups": meta["groups"]})
    return meta["step"], History(**meta["history"]), meta["seed"]
