"""An ensemble whose members learn side by side, against torch.nn's layers one after the other."""

import torch
from torch import nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.probabilistic.bayesian import Ensemble


def ensemble(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of m networks with two hidden layers, with the same weights."""
    hidden = size["h"]

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Linear(size["d"], hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    mine = Ensemble(make, size["m"])
    peer = nn.ModuleList([mine.member(i) for i in range(size["m"])]).to(device, dtype)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(size["b"], size["d"], generator=draw).to(device, dtype)
    y = torch.randn(size["b"], 1, generator=draw).to(device, dtype)

    def side_by_side(module: nn.Module) -> torch.Tensor:
        return (module(x) - y).square().mean((1, 2)).sum()

    def one_by_one(module: nn.Module) -> torch.Tensor:
        return torch.stack([(each(x) - y).square().mean() for each in module]).sum()

    sides = (mine.to(device, dtype), side_by_side), (peer, one_by_one)
    return [training("ensemble training step", size, "torch.nn", *sides)]


SIZES = sized("bmdh", (40, 10, 1, 20), (256, 5, 16, 50), (256, 30, 64, 50))
GPU_SIZES = sized("bmdh", (256, 10, 16, 50), (1024, 32, 64, 256))
CASES = {"ensemble": Case(ensemble, SIZES, GPU_SIZES)}
