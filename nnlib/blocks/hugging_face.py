"""Weights of Hugging Face models: read a folder, put each tensor in its place, name what is amiss.

Only safetensors are read, which hold numbers and nothing that runs; nothing is unpickled.
Nothing here imports `transformers`: an instance of one of its models is read by its own methods.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

Rules = Sequence[tuple[str, str | None]]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors")


def read_model(model_or_path, model_type: str) -> tuple[dict, dict[str, Tensor]]:
    """Return the configuration and the tensors of a model, wherever it is.

    Args:
        model_or_path: an instance of a `transformers` model, a folder, or a name on the hub.
        model_type: what the configuration must call itself, such as "gpt2".

    Raises:
        TypeError: neither a path nor a model with a `config`.
        ValueError: another type of model, or whatever `read_folder` refuses.
        ConnectionError: a name on the hub, which cannot be reached.
    """
    if isinstance(model_or_path, str | Path):
        config, tensors = read_folder(_folder_of(model_or_path))
    elif isinstance(model_or_path, nn.Module) and hasattr(model_or_path, "config"):
        config, tensors = model_or_path.config.to_dict(), dict(model_or_path.state_dict())
    else:
        raise TypeError(
            "model_or_path must be a transformers model, a folder or a hub id, "
            f"got {type(model_or_path).__name__}"
        )
    got = config.get("model_type")
    if got != model_type:
        raise ValueError(f"model_or_path must hold a model of type {model_type!r}, got {got!r}")
    return config, tensors


def read_folder(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
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

    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"path={str(path)!r} must be a folder that exists")
    config = _json(folder, "config.json")
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        shards, promised = ["model.safetensors"], {}
    elif index.is_file():
        promised = _json(folder, index.name).get("weight_map")
        if not isinstance(promised, dict) or not all(map(_plain, promised.values())):
            raise ValueError(
                f"path={str(path)!r}: {index.name} must map tensors to files beside it"
            )
        shards = sorted(set(promised.values()))
    else:
        pickled = sorted(f.name for p in ("*.bin", "*.pt", "*.pth") for f in folder.glob(p))
        why = f"; {pickled} may run code when read, save it with safetensors" if pickled else ""
        raise ValueError(f"path={str(path)!r} must hold model.safetensors or its index{why}")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if not (folder / shard).is_file():
            raise ValueError(f"path={str(path)!r} lacks the shard {shard!r} that its index names")
        try:
            part = load_file(folder / shard)
        except SafetensorError as error:
            raise ValueError(f"path={str(path)!r}: {shard} is no safetensors file") from error
        lost = sorted(n for n, file in promised.items() if file == shard and n not in part)
        if lost:
            raise ValueError(f"path={str(path)!r}: {shard} lacks {_some(lost)} of its index")
        tensors |= part
    return config, tensors


def load_renamed(model: nn.Module, tensors: dict[str, Tensor], rules: Rules) -> None:
    r"""Copy tensors into a model whose parameters have other names.

    Args:
        model: what receives them; every entry of its `state_dict` must be filled.
        tensors: by their own names.
        rules: pairs of a pattern for the whole of their name and our name, tried in order. Our
            name may use groups (`\1`); `.T` at its end transposes, `[0]`, `[1]`, … put parts
            under one another; None drops the tensor knowingly.

    Raises:
        ValueError: a tensor is missing, left over, given twice, or of another shape; all that are
            amiss are named.

    Example:
        >>> theirs = {"fc.w": torch.ones(3, 2), "fc.b": torch.ones(2), "step": torch.ones(())}
        >>> layer = nn.Linear(3, 2)
        >>> rules = [(r"fc\.w", "weight.T"), (r"fc\.b", "bias"), ("step", None)]
        >>> load_renamed(layer, theirs, rules)
        >>> layer(torch.ones(3)).tolist()
        [4.0, 4.0]
    """
    found: dict[str, dict[int, Tensor]] = {}
    extra, twice = [], []
    for theirs, value in tensors.items():
        rule = next(((m, ours) for p, ours in rules if (m := re.fullmatch(p, theirs))), None)
        if rule is None:
            extra.append(theirs)
        elif rule[1] is not None:
            name, flip, part = _target(rule[0].expand(rule[1]))
            parts = found.setdefault(name, {})
            if part in parts:
                twice.append(theirs)
            parts[part] = value.T if flip else value
    ours = model.state_dict()
    extra += [name for name in found if name not in ours]
    missing = [name for name in ours if name not in found]
    missing += [
        f"{name}[{i}]" for name, parts in found.items() for i in range(max(parts)) if i not in parts
    ]
    said = (("missing", missing), ("extra", extra), ("given twice", twice))
    told = [f"{what}: {_some(names)}" for what, names in said if names]
    if told:
        raise ValueError(f"tensors do not fit {type(model).__name__}: " + "; ".join(told))
    whole = {
        name: torch.cat([parts[i] for i in sorted(parts)]) if len(parts) > 1 else parts[0]
        for name, parts in found.items()
    }
    wrong = [
        f"{name} must have shape {tuple(ours[name].shape)}, got {tuple(value.shape)}"
        for name, value in whole.items()
        if value.shape != ours[name].shape
    ]
    if wrong:
        raise ValueError(f"tensors do not fit {type(model).__name__}: " + "; ".join(wrong[:4]))
    model.load_state_dict(whole)


def _target(name: str) -> tuple[str, bool, int]:
    """Split our name into the name, whether to transpose, and the number of the part."""
    part = re.search(r"\[(\d+)\]$", name)
    name = name[: part.start()] if part else name
    return name.removesuffix(".T"), name.endswith(".T"), int(part[1]) if part else 0


def _folder_of(path: str | Path) -> Path:
    """Return a local folder; a name on the hub is fetched first."""
    if Path(path).exists() or not _HUB_ID.fullmatch(str(path)):
        return Path(path)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(path), allow_patterns=list(_FILES)))
    except Exception as error:  # the hub's client fails in many ways; all mean the same here
        raise ConnectionError(
            f"model_or_path={str(path)!r} is no folder here and could not be fetched from the "
            f"Hugging Face hub ({type(error).__name__}); give a folder of a saved model"
        ) from error


def _json(folder: Path, name: str) -> dict:
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
    return isinstance(name, str) and name == Path(name).name and name not in ("", ".", "..")


def _some(names: Iterable[str]) -> str:
    """Return a few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
