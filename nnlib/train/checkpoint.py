"""Checkpoints: one file of safetensors that a run of any shape is resumed from.

Whatever decides the next step is a named part: models, optimizers, averages, the batches, the
history, a generator. Tensors are stored as they are, everything else as JSON beside them; nothing
is unpickled.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nnlib.train.randomness import random_state, set_random_state

NAME = "checkpoint.safetensors"


@runtime_checkable
class Stateful(Protocol):
    """What can be a part: a module, an optimizer, a `History`, `Batches`, an object of your own."""

    def state_dict(self) -> Any:
        """Return tensors, numbers, texts, and lists, tuples and dictionaries of them."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Become what `state_dict` was taken from."""


Parts = Mapping[str, Stateful | torch.Generator]


def save(folder: str | Path, parts: Parts) -> None:
    """Write the parts and the random state; an interrupted write leaves the last checkpoint whole.

    Where several processes train together, all of them call it, and the first one writes.

    Args:
        folder: made if need be.
        parts: whatever decides the next step, by name.

    Example:
        >>> import tempfile
        >>> layer, draw = torch.nn.Linear(2, 2), torch.Generator()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(folder, {"layer": layer, "draw": draw})
        ...     load(folder, {"layer": layer, "draw": draw})
        True
    """
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    states: list[Any] = [random_state()]
    if spread:
        states *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, states[0])
    if not spread or torch.distributed.get_rank() == 0:
        tensors: dict[str, Tensor] = {}
        meta = {
            name: _packed(name, _state(part), tensors) for name, part in parts.items()
        }
        meta = {"parts": meta, "random": _packed("random", states, tensors)}
        path = Path(folder) / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"run": json.dumps(meta)})
        os.replace(partial, path)
    if spread:
        torch.distributed.barrier()  # nobody goes on before the checkpoint is whole


def load(folder: str | Path, parts: Parts) -> bool:
    """Restore the parts and the random state; return whether there was a checkpoint.

    A resumed run equals an uninterrupted one, number by number, on as many processes and on the
    same kind of device. On other ones it goes on correctly, with other random numbers.

    Raises:
        ValueError: the file is no checkpoint, or has other parts.
        RuntimeError: its tensors do not fit a model (torch names them).
    """
    path = Path(folder) / NAME
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        meta = json.loads((file.metadata() or {}).get("run", "{}"))
        if "parts" not in meta:
            raise ValueError(f"checkpoint={str(path)!r} was not written by nnlib.train")
        if set(meta["parts"]) != set(parts):
            raise ValueError(
                f"checkpoint={str(path)!r} holds {sorted(meta['parts'])}, not {sorted(parts)}"
            )
        for name, part in parts.items():
            state = _unpacked(meta["parts"][name], file)
            if isinstance(part, torch.Generator):
                part.set_state(state)
            else:
                part.load_state_dict(state)
        states = _unpacked(meta["random"], file)
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    mine = torch.distributed.get_rank() if spread else 0
    if mine < len(states):
        set_random_state(states[mine])
    return True


def _state(part: Stateful | torch.Generator) -> Any:
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _packed(name: str, state: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `state` as JSON knows it, each tensor as its name in `tensors`."""
    if isinstance(state, Tensor):
        while name in tensors:  # {"a.b": …} beside {"a": {"b": …}}
            name += "'"
        # tied weights: once each
        tensors[name] = state.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(state, Mapping):
        pairs = [
            [key, _packed(f"{name}.{key}", value, tensors)]
            for key, value in state.items()
        ]
        return {
            "dict": pairs
        }  # pairs, since JSON would turn the numbers of parameters into text
    if isinstance(state, list | tuple):
        parts = [
            _packed(f"{name}.{at}", value, tensors) for at, value in enumerate(state)
        ]
        return {"tuple": parts} if isinstance(state, tuple) else parts
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(
        f"{name} is a {type(state).__name__}; a checkpoint takes tensors, numbers, texts, None, "
        "and lists, tuples and dictionaries of them"
    )


def _unpacked(packed: Any, file: Any) -> Any:
    if isinstance(packed, list):
        return [_unpacked(value, file) for value in packed]
    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        return file.get_tensor(packed["tensor"])
    if "tuple" in packed:
        return tuple(_unpacked(value, file) for value in packed["tuple"])
    return {key: _unpacked(value, file) for key, value in packed["dict"]}
