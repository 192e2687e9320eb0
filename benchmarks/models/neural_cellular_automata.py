"""A neural cellular automaton beside its usual form in PyTorch: four convolutions and two pools."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.dynamics.neural_cellular_automata import NeuralCellularAutomaton

SOBEL = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])) / 8


class Convolutions(nn.Module):
    """A depthwise convolution, two of 1 × 1, and max-pools, as most public code has it."""

    def __init__(self, channels: int, hidden_size: int):
        super().__init__()
        dot = torch.zeros(3, 3)
        dot[1, 1] = 1
        filters = torch.stack([dot, SOBEL, SOBEL.T]).repeat(channels, 1, 1)
        self.register_buffer("filters", filters[:, None])
        self.hidden = nn.Conv2d(3 * channels, hidden_size, 1)
        self.out = nn.Conv2d(hidden_size, channels, 1, bias=False)
        self.channels = channels

    def living(self, state: Tensor) -> Tensor:
        """Return who lives, by a max-pool of the fourth channel."""
        return F.max_pool2d(state[:, 3:4], 3, 1, 1) > 0.1

    def forward(self, state: Tensor, num_steps: int) -> Tensor:
        """Grow."""
        for _ in range(num_steps):
            seen = F.conv2d(state, self.filters, padding=1, groups=self.channels)
            new = state + self.out(self.hidden(seen).relu())
            state = new * (self.living(state) & self.living(new)).to(new.dtype)
        return state


def automaton(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step through t steps of growth, with the same weights; all cells fire."""
    channels, hidden, steps = (8, 48, size["t"]) if size["s"] < 32 else (16, 128, size["t"])
    torch.manual_seed(0)
    mine = NeuralCellularAutomaton(channels, hidden, fire_rate=1.0)
    nn.init.normal_(mine.out.weight, std=0.02)
    peer = Convolutions(channels, hidden)
    with torch.no_grad():
        # the depthwise convolution has what a channel gives side by side
        order = torch.arange(3 * channels).view(3, channels).T.flatten()
        peer.hidden.weight.copy_(mine.hidden.weight[:, order, None, None])
        peer.hidden.bias.copy_(mine.hidden.bias)
        peer.out.weight.copy_(mine.out.weight[..., None, None])
    state = torch.rand(size["b"], channels, size["s"], size["s"]).to(device, dtype)

    def loss(module: nn.Module) -> Tensor:
        return module(state, steps)[:, :4].square().mean()

    sides = (mine.to(device, dtype), loss), (peer.to(device, dtype), loss)
    return [training("neural cellular automaton, training step", size, "torch.nn", *sides)]


SIZES = sized("bst", (6, 16, 14), (4, 40, 32), (8, 72, 64))
CASES = {"neural_cellular_automata": Case(automaton, SIZES, SIZES)}
