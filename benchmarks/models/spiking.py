"""A spiking network beside snnTorch's neurons, with the same maps: both resets."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.dynamics.spiking import SpikingNetwork


class Peer(nn.Module):
    """The same network, its neurons called once a step, as snnTorch's tutorials do."""

    def __init__(self, mine: SpikingNetwork, reset: str):
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.maps = mine.maps
        slope = surrogate.fast_sigmoid(25)
        self.neuron = snntorch.Leaky(beta=0.9, spike_grad=slope, reset_mechanism=reset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores after the last step."""
        membrane, out = self.neuron.reset_mem(), []
        for now in x.unbind(1):
            spikes, membrane = self.neuron(self.maps[0](now), membrane)
            out.append(self.maps[1](spikes))
        return torch.stack(out).mean(0)


class Mine(nn.Module):
    """The scores of nnlib's network after the last step."""

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores after the last step."""
        return self.network(x)[0][:, -1]


def spiking(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step on random spikes, ten classes."""
    draw = torch.Generator().manual_seed(0)
    rates = torch.rand(size["b"], size["t"], size["d"], generator=draw)
    x = (rates < 0.4).to(device, dtype)
    y = torch.randint(10, (size["b"],), generator=draw).to(device)

    def loss(module: nn.Module) -> torch.Tensor:
        return F.cross_entropy(module(x), y)

    contests = []
    for reset in ("subtract", "zero"):
        mine = SpikingNetwork(size["d"], size["h"], 10, reset=reset).to(device, dtype)
        twin = SpikingNetwork(size["d"], size["h"], 10).to(device, dtype)
        twin.load_state_dict(mine.state_dict())
        sides = (Mine(mine), loss), (Peer(twin, reset).to(device, dtype), loss)
        what = f"spiking network, training step, reset: {reset}"
        contests.append(training(what, size, "snntorch", *sides))
    return contests


SIZES = sized("btdh", (16, 10, 16, 32), (64, 25, 64, 128), (128, 100, 700, 256))
CASES = {"spiking": Case(spiking, SIZES, SIZES)}
