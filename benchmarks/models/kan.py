"""A KAN beside pykan's, with the same weights: the answer, and a training step."""

import torch
from torch import Tensor, nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.approximation.kan import KAN


def kan(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Two layers of cubic splines; pykan without its symbolic half, as its `speed` mode runs."""
    from kan import KAN as PeerKAN

    widths = [size["d"], size["h"], 1]
    peer = PeerKAN(
        width=list(widths), grid=size["g"], k=3, seed=0, symbolic_enabled=False, save_act=False,
        auto_save=False,
    )  # fmt: skip
    mine = KAN(widths, size["g"], 3)
    with torch.no_grad():
        for own, other in zip(mine.layers, peer.act_fun, strict=True):
            own.coef.copy_(other.coef.transpose(0, 1))
            own.base_weight.copy_(other.scale_base.mT)
            own.spline_weight.copy_(other.scale_sp.mT)
            own.knots.copy_(other.grid)
    theirs = _Learned(peer).to(device, dtype)
    mine = mine.to(device, dtype)
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(size["b"], size["d"], generator=draw) * 2 - 1).to(device, dtype)
    y = torch.randn(size["b"], 1, generator=draw).to(device, dtype)

    def loss(module: nn.Module) -> Tensor:
        return (module(x) - y).square().mean()

    def answer(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(x)

    sides = {"nnlib": mine, "kan": theirs}
    runs = {name: lambda module=module: answer(module) for name, module in sides.items()}
    results = {name: lambda module=module: {"y": answer(module)} for name, module in sides.items()}
    return [
        Contest("KAN answer", size, runs, results),
        training("KAN training step", size, "kan", (mine, loss), (theirs, loss)),
    ]


class _Learned(nn.Module):
    """What both sides learn of pykan's network; the rest of it stays as it is."""

    def __init__(self, peer: nn.Module):
        super().__init__()
        self.layers = peer.act_fun
        for name, value in self.named_parameters():
            value.requires_grad_(name.rpartition(".")[2] in ("coef", "scale_base", "scale_sp"))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[0]
        return x


SIZES = sized("bdhg", (1000, 2, 5, 5), (1000, 32, 32, 5), (1000, 8, 8, 50))
CASES = {"kan": Case(kan, SIZES, SIZES)}
