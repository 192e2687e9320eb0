"""Cached generation of WaveNet in NumPy: what a sample costs on a CPU is calls, and its are cheap.

Part of `nnlib.sequence.wavenet`, with its axes; the same sums in the same order as `WaveNet.step`,
up to rounding.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnlib.blocks import sampling

if TYPE_CHECKING:
    from nnlib.sequence.wavenet import Cache, WaveNet

KINDS = (torch.float32, torch.float64)


def generate(
    model: "WaveNet",
    whole: Tensor,
    start: int,
    u: Tensor,
    rule: sampling.Rule,
    cache: "Cache",
    condition: Tensor | None,
) -> None:
    """Fill in `whole` from `start` on, each level drawn by one of the numbers `u`.

    `cache` holds what comes before sample `start` − 1, and is moved on.
    """
    stream = Stream(model, cache, condition)
    levels, uniform = whole.numpy(), u.numpy()
    plain = rule[0] == 1 and rule[1:] == (None, None, None)
    for at in range(start, levels.shape[1]):
        logits = stream.step(levels[:, at - 1])
        p = _softmax(logits) if plain else _filtered(logits, rule)
        cumulative = p.cumsum(-1)
        above = uniform[at - start][:, None] * cumulative[:, -1:]
        drawn = (cumulative <= above).sum(-1)
        levels[:, at] = np.minimum(drawn, model.num_levels - 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)


def _filtered(logits: np.ndarray, rule: sampling.Rule) -> np.ndarray:
    return sampling.filtered(torch.from_numpy(logits), *rule).double().numpy()


class Stream:
    """A network that reads one sample after the other, its weights laid out for that.

    tanh(a) σ(g) is computed as tanh(a) (1 + tanh(g / 2)) / 2: the halves are put into the weights,
    so that one call of tanh does both.
    """

    @torch.no_grad()
    def __init__(self, model: "WaveNet", cache: "Cache", condition: Tensor | None):
        self.taps, self.channels = model.kernel_size, model.channels
        self.cache, self.recent = cache, cache.levels.numpy()
        front = model.front.weight.permute(2, 1, 0)
        self.tables = front.contiguous().numpy()  # k v c; the present last
        assert model.front.bias is not None
        self.front_bias = model.front.bias.detach().numpy()
        halves = torch.ones(2 * self.channels, dtype=model.front.weight.dtype)
        halves[self.channels :] = 0.5
        self.layers = []
        layer: Any
        for layer, dilation, ring in zip(
            model.layers, model.dilations, cache.rings, strict=True
        ):
            weight = layer.conv.weight.transpose(1, 2).flatten(1) * halves[:, None]
            bias = layer.conv.bias * halves
            heard = None
            if condition is not None:
                heard = layer.condition(condition) * halves + bias  # b t 2c, or b 1 2c
                heard = np.ascontiguousarray(heard.transpose(0, 1).numpy())
            out = layer.skip.weight / 2
            if layer.residual is not None:
                out = torch.cat([layer.residual.weight / 2, out])
            self.layers.append(
                (
                    dilation,
                    ring.numpy(),
                    np.ascontiguousarray(weight.T.numpy()),
                    bias.numpy(),
                    heard,
                    np.ascontiguousarray(out.T.numpy()),
                    None
                    if layer.residual is None
                    else layer.residual.bias.detach().numpy(),
                )
            )
        batch = cache.levels.shape[1]
        self.seen = np.zeros(
            (batch, self.taps * self.channels), dtype=self.front_bias.dtype
        )
        skips: list[Any] = list(model.layers)
        self.skip_bias = (
            torch.stack([layer.skip.bias for layer in skips]).sum(0).numpy()
        )
        self.hidden = (
            model.hidden.weight.T.contiguous().numpy(),
            model.hidden.bias.detach().numpy(),
        )
        self.out = (
            model.out.weight.T.contiguous().numpy(),
            model.out.bias.detach().numpy(),
        )

    def step(self, level: np.ndarray) -> np.ndarray:
        """Return the logits of the next level."""
        time, c, taps, seen = self.cache.time, self.channels, self.taps, self.seen
        x = self.front_bias + self.tables[taps - 1][level]
        for back in range(1, min(taps - 1, time) + 1):
            before = self.recent[(time - back) % (taps - 1)]
            x += self.tables[taps - 1 - back][before]
        if taps > 1:
            self.recent[time % (taps - 1)] = level
        skips = self.skip_bias
        for dilation, ring, weight, bias, heard, out, onward in self.layers:
            span = len(ring)
            for tap in range(taps - 1):
                row = (time - dilation * (taps - 1 - tap)) % span
                seen[:, tap * c : (tap + 1) * c] = ring[row]
            seen[:, (taps - 1) * c :] = x
            if span:
                ring[time % span] = x
            a = seen @ weight
            a += bias if heard is None else heard[time if len(heard) > 1 else 0]
            np.tanh(a, out=a)
            a[:, c:] += 1
            sent = (a[:, :c] * a[:, c:]) @ out
            if onward is None:
                skips = skips + sent
            else:
                x = x + sent[:, :c]
                x += onward
                skips = skips + sent[:, c:]
        self.cache.time += 1
        hidden = np.maximum(skips, 0) @ self.hidden[0]
        hidden += self.hidden[1]
        np.maximum(hidden, 0, out=hidden)
        return hidden @ self.out[0] + self.out[1]
