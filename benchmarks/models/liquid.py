"""LTC and CfC beside ncps, the authors' package, with the same weights and the same wiring."""

import torch
from torch import nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.dynamics.liquid import LTC, CfC, wiring


def liquid(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step: all neurons joined, a sparse circuit of them, and the closed form."""
    import ncps.torch as peers
    from ncps.wirings import AutoNCP

    d, n = size["d"], size["h"]
    x = torch.randn(size["b"], size["t"], d, device=device, dtype=dtype)
    circuit = wiring(d, n, 2), AutoNCP(n, 2)
    pairs: dict[str, tuple[nn.Module, nn.Module]] = {
        "LTC training step": (LTC(d, n), peers.LTC(d, n)),
        "LTC training step, sparse circuit": (LTC(d, circuit[0]), peers.LTC(d, circuit[1])),
        "CfC training step": (CfC(d, n), peers.CfC(d, n)),
    }

    def loss(module: nn.Module) -> torch.Tensor:
        return module(x)[0].square().mean()

    contests = []
    for what, (mine, peer) in pairs.items():
        mine.load_state_dict(peer.state_dict())
        sides = (mine.to(device, dtype), loss), (peer.to(device, dtype), loss)
        contests.append(training(what, size, "ncps", *sides))
    return contests


SIZES = sized("bthd", (8, 8, 8, 3), (16, 32, 19, 8), (32, 32, 32, 8))
CASES = {"liquid": Case(liquid, SIZES, SIZES)}
