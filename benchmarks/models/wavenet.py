"""WaveNet: a training step beside torch's convolutions, generation with a cache and without one.

No maintained library that installs beside this torch has WaveNet, so the peer is the obvious one:
the same network of `torch.nn.Conv1d`, padded on the left, as a user would write it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.sequence.wavenet import WaveNet

LEVELS, SAMPLES = 256, 100  # a softmax as in the paper; samples that are generated


class Convolutions(nn.Module):
    """The same network in torch's layout, b c t, with the weights of ours."""

    def __init__(self, model: WaveNet):
        super().__init__()
        c, s = model.channels, model.hidden.in_features
        self.dilations = [1, *model.dilations]
        self.front = nn.Conv1d(model.num_levels, c, 2)
        self.convs = nn.ModuleList(nn.Conv1d(c, 2 * c, 2, dilation=d) for d in model.dilations)
        self.residuals = nn.ModuleList(nn.Conv1d(c, c, 1) for _ in model.dilations[1:])
        self.skips = nn.ModuleList(nn.Conv1d(c, s, 1) for _ in model.dilations)
        self.hidden, self.out = nn.Conv1d(s, s, 1), nn.Conv1d(s, model.num_levels, 1)
        pairs = [(self.front, model.front), (self.hidden, model.hidden), (self.out, model.out)]
        for at, layer in enumerate(model.layers):
            pairs += [(self.convs[at], layer.conv), (self.skips[at], layer.skip)]
            if layer.residual is not None:
                pairs.append((self.residuals[at], layer.residual))
        with torch.no_grad():
            for mine, theirs in pairs:
                mine.weight.copy_(theirs.weight.view_as(mine.weight))
                mine.bias.copy_(theirs.bias)

    def forward(self, levels: Tensor) -> Tensor:
        """Return logits b t v."""
        x = F.one_hot(levels, self.out.out_channels).mT.to(self.front.weight.dtype)
        x, total = self.front(F.pad(x, (1, 0))), 0
        for at, (conv, skip) in enumerate(zip(self.convs, self.skips, strict=True)):
            f, g = conv(F.pad(x, (self.dilations[at + 1], 0))).chunk(2, 1)
            z = f.tanh() * g.sigmoid()
            total = total + skip(z)
            x = x + self.residuals[at](z) if at < len(self.residuals) else x
        return self.out(self.hidden(total.relu()).relu()).mT


def wavenet(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step; and a hundred samples, naively by both, and with a cache by ours."""
    dilations = [2**layer for layer in range(size["L"])]
    mine = WaveNet(LEVELS, size["h"], 2 * size["h"], dilations=dilations).to(device, dtype)
    peer = Convolutions(mine).to(device, dtype)
    levels = torch.randint(LEVELS, (size["b"], size["t"] + 1), device=device)

    def loss(module):
        return F.cross_entropy(module(levels[:, :-1]).flatten(0, 1), levels[:, 1:].flatten())

    field = mine.receptive_field
    start = torch.randint(LEVELS, (1, field), device=device)

    @torch.no_grad()
    def by_convolutions():
        sound = start
        for _ in range(SAMPLES):
            level = peer(sound[:, -field:])[:, -1].argmax(-1, keepdim=True)
            sound = torch.cat([sound, level], 1)
        return sound

    def by_ours(use_cache):
        return mine.generate(start, SAMPLES, temperature=0, use_cache=use_cache)

    runs = {
        "nnlib": lambda: by_ours(True),
        "torch.nn": by_convolutions,
        "nnlib naively": lambda: by_ours(False),
    }
    told = {side: (lambda run=run: {"sound": run()}) for side, run in runs.items()}
    generation = Contest(f"WaveNet, {SAMPLES} samples", {**size, "t": field}, runs, told)
    return [
        training("WaveNet training step", size, "torch.nn", (mine, loss), (peer, loss)),
        generation,
    ]


CPU = sized("bthL", (4, 512, 16, 7), (4, 1024, 32, 10))
GPU = sized("bthL", (8, 4096, 64, 10), (8, 16384, 64, 10))
CASES = {
    "wavenet": Case(wavenet, CPU, GPU),
}
