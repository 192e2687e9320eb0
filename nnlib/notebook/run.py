"""One run of one chapter: how strict it is, where its figures go, what it has promised."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nnlib import checks, distribution
from nnlib.device import pick_device

with distribution.extra("notebook"):
    from nnlib.plot import style


@dataclass
class Run:
    """What the parts of this package know of the run that goes on."""

    strict: bool = True
    figures_dir: Path | None = None
    held: dict[str, int] = field(default_factory=lambda: {"check": 0, "band": 0})
    broken: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


_run = Run()


def current() -> Run:
    """Return the run that the last `setup` began."""
    return _run


def setup(
    seed: int = 0,
    device: str = "cpu",
    figures_dir: str | None = None,
    strict: bool = True,
) -> torch.device:
    """Begin a chapter: seed everything, apply the style, forget the run before.

    Args:
        seed: for `random`, numpy and torch, ≥ 0.
        device: `"auto"` or a torch device.
        figures_dir: a folder that receives every figure as SVG and PNG, or None.
        strict: whether a broken check or band raises; otherwise it is printed and counted.

    Returns:
        The device to use.
    """
    global _run
    seed = checks.count("seed", seed, least=0)
    _run = Run(
        checks.flag("strict", strict), Path(figures_dir) if figures_dir else None
    )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    style.apply()
    return pick_device(device)
