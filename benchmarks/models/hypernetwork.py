"""A hypernetwork beside torch.func, the weights of its generator being the same.

What a user of torch would write: the generator as a `Sequential`, the main network as another, and
`vmap` of `functional_call` over the rows of weights.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.approximation.hypernetwork import HyperNetwork


class WithTorchFunc(nn.Module):
    """The same hypernetwork by `torch.func`."""

    def __init__(self, mine: HyperNetwork):
        super().__init__()
        (hidden,) = mine.layers
        inputs, width, outputs = mine.layer_sizes
        self.generator = nn.Sequential(
            nn.Linear(hidden.in_features, hidden.out_features), nn.ReLU(),
            nn.Linear(hidden.out_features, mine.num_generated),
        )  # fmt: skip
        self.main = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
        self.main.requires_grad_(False)  # its own weights are never used
        self.register_buffer("scale", mine.scale.clone())
        states = zip(self.generator.parameters(), mine.parameters(), strict=True)
        with torch.no_grad():
            for theirs, ours in states:
                theirs.copy_(ours)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        def one(theta: Tensor) -> Tensor:
            cut, at = {}, 0
            for name, parameter in self.main.named_parameters():
                cut[name] = theta[at : at + parameter.numel()].view_as(parameter)
                at += parameter.numel()
            return functional_call(self.main, cut, (x,))

        return vmap(one)(self.generator(z) * self.scale)


def hypernetwork(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step: b codes of e numbers, h hidden units in the main network, 256 points."""
    torch.manual_seed(0)
    mine = HyperNetwork(size["e"], [18, size["h"], 1], device=device, dtype=dtype)
    peer = WithTorchFunc(mine).to(device, dtype)
    z = torch.randn(size["b"], size["e"]).to(device, dtype)
    x = torch.randn(256, 18).to(device, dtype)
    y = torch.randn(size["b"], 256, 1).to(device, dtype)

    def loss(module: nn.Module) -> Tensor:
        return F.mse_loss(module(z, x), y)

    return [training("hypernetwork training step", size, "torch.func", (mine, loss), (peer, loss))]


SIZES = sized("beh", (64, 32, 16), (256, 32, 32), (1024, 64, 32))
CASES = {"hypernetwork": Case(hypernetwork, SIZES, SIZES)}
