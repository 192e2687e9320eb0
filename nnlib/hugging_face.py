"""Weights of Hugging Face models: read a folder, put each tensor in its place, name what is amiss.

Only safetensors are read, which hold numbers and nothing that runs; nothing is unpickled.
Nothing here imports `transformers`: an instance of one of its models is read by its own methods.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnlib.distribution import extra


class Part(NamedTuple):
    """Where a tensor stands among several that ours holds under one another, from 0."""

    number: int


def transposed(value: Tensor) -> Tensor:
    """Return a weight as (out, in) that was stored as (in, out)."""
    return value.T


Transform = Callable[[Tensor], Tensor] | Part | None
Rule = tuple[str, str | None, Transform]
"""A pattern for the whole of their name, our name (None: dropped knowingly), what to do to it."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)


def read_model(
    model_or_path: nn.Module | str | Path | tuple[Mapping[str, Tensor], Any],
    model_type: str | Collection[str],
    needed: Iterable[str] = (),
    accept: Callable[[dict[str, Any]], object] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the tensors of a model, wherever it is.

    Args:
        model_or_path: an instance of a `transformers` model, a folder, a name on the hub, or a
            pair: its tensors by name, and its configuration, a dictionary or theirs.
        model_type: what the configuration must call itself, such as "gpt2", or several such.
        needed: what the configuration must say.
        accept: called with the configuration before any tensor is read; raises what it refuses.

    Raises:
        ConnectionError: a name on the hub, which cannot be reached.
    """
    tensors: dict[str, Tensor] | None = None
    if isinstance(model_or_path, str | Path):
        settings = read_config(_folder_of(model_or_path, _FILES[:1]))
    elif isinstance(model_or_path, tuple) and len(model_or_path) == 2:
        given, config = model_or_path
        settings = dict(config) if isinstance(config, Mapping) else config.to_dict()
        tensors = dict(given)
    elif isinstance(model_or_path, nn.Module) and hasattr(model_or_path, "config"):
        theirs: Any = model_or_path.config
        settings, tensors = theirs.to_dict(), dict(model_or_path.state_dict())
    else:
        raise TypeError(
            "model_or_path must be a transformers model, a folder or a hub id, "
            f"got {type(model_or_path).__name__}"
        )
    got = settings.get("model_type")
    if got != model_type if isinstance(model_type, str) else got not in model_type:
        kinds = repr(model_type) if isinstance(model_type, str) else list(model_type)
        raise ValueError(
            f"model_or_path must hold a model of type {kinds}, got {got!r}"
        )
    if lost := [name for name in needed if name not in settings]:
        raise ValueError(f"model_or_path has a configuration without {lost}")
    if accept is not None:
        accept(settings)
    if tensors is None and isinstance(model_or_path, str | Path):
        tensors = read_folder(_folder_of(model_or_path, _FILES))[1]
    return settings, tensors or {}


def refuse_options(config: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse what their model can do and ours cannot, rather than answer wrongly.

    Args:
        config: from `read_model`.
        wanted: the only value of each option that ours has; one that is not set has it.
    """
    for name, value in wanted.items():
        if (got := config.get(name, value)) != value:
            raise ValueError(f"model_or_path has {name}={got!r}, it must be {value!r}")


def read_config(path: str | Path) -> dict[str, Any]:
    """Return `config.json` of a folder that `save_pretrained` wrote.

    Args:
        path: the folder.

    Raises:
        ValueError: no such folder, or its file is missing or broken.
    """
    if not Path(path).is_dir():
        raise ValueError(f"path={str(path)!r} must be a folder that exists")
    return _json(Path(path), "config.json")


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return `config.json` and all tensors of a folder that `save_pretrained` wrote.

    The tensors stand in `model.safetensors`, or in the shards that
    `model.safetensors.index.json` names.

    Args:
        path: the folder.

    Raises:
        ValueError: no such folder, a file is missing or broken, a shard lacks a tensor that the
            index promises, or the weights are pickled (`.bin`, `.pt`), which is never read.

    Example:
        >>> read_folder("no/such/folder")
        Traceback (most recent call last):
            ...
        ValueError: path='no/such/folder' must be a folder that exists
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, folder = read_config(path), Path(path)
    index = folder / "model.safetensors.index.json"
    promised: Any = {}  # which tensor stands in which file
    if (folder / "model.safetensors").is_file():
        shards = ["model.safetensors"]
    elif index.is_file():
        promised = _json(folder, index.name).get("weight_map")
        if not isinstance(promised, dict) or not all(map(_plain, promised.values())):
            raise ValueError(
                f"path={str(path)!r}: {index.name} must map tensors to files beside it"
            )
        shards = sorted(set(promised.values()))
    else:
        pickled = sorted(
            f.name for p in ("*.bin", "*.pt", "*.pth") for f in folder.glob(p)
        )
        why = (
            f"; {pickled} may run code when read, save it with safetensors"
            if pickled
            else ""
        )
        raise ValueError(
            f"path={str(path)!r} must hold model.safetensors or its index{why}"
        )
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if not (folder / shard).is_file():
            raise ValueError(
                f"path={str(path)!r} lacks the shard {shard!r} that its index names"
            )
        try:
            part = load_file(folder / shard)
        except SafetensorError as error:
            raise ValueError(
                f"path={str(path)!r}: {shard} is no safetensors file"
            ) from error
        lost = sorted(
            n for n, file in promised.items() if file == shard and n not in part
        )
        if lost:
            raise ValueError(
                f"path={str(path)!r}: {shard} lacks {_some(lost)} of its index"
            )
        tensors |= part
    return config, tensors


def load_renamed(
    model: nn.Module, tensors: dict[str, Tensor], rules: Sequence[Rule]
) -> None:
    r"""Copy tensors into a model whose parameters have other names.

    Args:
        model: what receives them; every entry of its `state_dict` must be filled.
        tensors: by their own names.
        rules: tried in order. Our name may use groups of the pattern (`\1`).

    Raises:
        ValueError: a tensor is missing, left over, given twice, or of another shape; all that are
            amiss are named.

    Example:
        >>> theirs = {"fc.w": torch.ones(3, 2), "fc.b": torch.ones(2), "step": torch.ones(())}
        >>> layer = nn.Linear(3, 2)
        >>> rules = [
        ...     (r"fc\.w", "weight", transposed), (r"fc\.b", "bias", None), ("step", None, None),
        ... ]
        >>> load_renamed(layer, theirs, rules)
        >>> layer(torch.ones(3)).tolist()
        [4.0, 4.0]
    """
    found: dict[str, dict[int, Tensor]] = {}
    extra, twice = [], []
    for theirs, value in tensors.items():
        for pattern, name, change in rules:
            if not (match := re.fullmatch(pattern, theirs)):
                continue
            if name is not None:
                parts = found.setdefault(match.expand(name), {})
                at = change.number if isinstance(change, Part) else 0
                if at in parts:
                    twice.append(theirs)
                parts[at] = change(value) if callable(change) else value
            break
        else:
            extra.append(theirs)
    ours = model.state_dict()
    extra += [name for name in found if name not in ours]
    missing = [name for name in ours if name not in found]
    missing += [
        f"{name}[{i}]"
        for name, parts in found.items()
        for i in range(max(parts))
        if i not in parts
    ]
    said = (("missing", missing), ("extra", extra), ("given twice", twice))
    told = [f"{what}: {_some(names)}" for what, names in said if names]
    if told:
        raise ValueError(
            f"tensors do not fit {type(model).__name__}: " + "; ".join(told)
        )
    whole = {
        name: torch.cat([parts[i] for i in sorted(parts)])
        if len(parts) > 1
        else parts[0]
        for name, parts in found.items()
    }
    wrong = [
        f"{name} must have shape {tuple(ours[name].shape)}, got {tuple(value.shape)}"
        for name, value in whole.items()
        if value.shape != ours[name].shape
    ]
    if wrong:
        raise ValueError(
            f"tensors do not fit {type(model).__name__}: " + "; ".join(wrong[:4])
        )
    model.load_state_dict(whole)


def _folder_of(path: str | Path, files: Sequence[str]) -> Path:
    """Return a local folder; of a name on the hub, these files are fetched first."""
    if Path(path).exists() or not _HUB_ID.fullmatch(str(path)):
        return Path(path)
    with extra("hub"):
        from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(str(path), allow_patterns=list(files)))
    # the hub's client fails in many ways; all mean the same here
    except Exception as error:
        raise ConnectionError(
            f"model_or_path={str(path)!r} is no folder here and could not be fetched from the "
            f"Hugging Face hub ({type(error).__name__}); give a folder of a saved model"
        ) from error


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"path={str(folder)!r} must hold {name}") from None
    except ValueError as error:
        raise ValueError(f"path={str(folder)!r}: {name} is no JSON") from error
    if not isinstance(content, dict):
        raise ValueError(f"path={str(folder)!r}: {name} must hold an object")
    return content


def _plain(name: object) -> bool:
    """Tell whether a name is that of a file in the folder itself."""
    return (
        isinstance(name, str)
        and name == Path(name).name
        and name not in ("", ".", "..")
    )


def _some(names: Iterable[str]) -> str:
    """Return a few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
