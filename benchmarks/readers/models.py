"""One frame for every reader: input → blocks of its kind → norm → read-out, at each step.

Blocks are those of nnlib, as its models begin them, two of each kind (WaveNet's are thin, and it
has one for each dilation). One whole number, such as a width, is chosen for every reader so that
all have as many parameters as `PARAMETERS` says, input and read-out included.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.sequence.gru import GRU
from nnlib.sequence.lstm import LSTM, forget_bias_
from nnlib.sequence.mamba import Mamba, Mamba2
from nnlib.sequence.rnn import RNN
from nnlib.sequence.rwkv import NOTHING, RWKV, RWKVState
from nnlib.sequence.s4 import S4Block
from nnlib.sequence.wavenet import WaveNet, gated
from nnlib.sequence.xlstm import MLSTMBlock
from nnlib.train.metrics import parameter_count

PARAMETERS = 24_000
WIDTH, LAYERS = 32, 2  # of the stream, where the width is not what is chosen
DILATIONS = (1, 2, 4, 8, 16, 32, 64)  # so that WaveNet hears 128 steps, as many as a task has
LONGEST = 4096 + 64  # steps that a transformer's cache has room for


class Recurrent(nn.Module):
    """A recurrent layer behind a norm; a linear map adds what it says to the stream."""

    def __init__(self, layer: RNN | LSTM | GRU):
        super().__init__()
        self.norm, self.layer = RMSNorm(layer.input_size), layer
        self.out = nn.Linear(layer.hidden_size, layer.input_size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.layer(self.norm(x))[0])

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.layer.step(self.norm(x), state)
        return x + self.out(y), state


class Convolutions(nn.Module):
    """The gated layers of a WaveNet, whose skips are summed and mixed."""

    def __init__(self, channels: int):
        super().__init__()
        net = WaveNet(2, channels, channels, kernel_size=2, dilations=DILATIONS)
        self.layers, self.hidden = net.layers, net.hidden

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.layers:
            x, skip = layer(x)
            skips.append(skip)
        return self.hidden(sum(skips).relu()).relu()

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """With the inputs of each layer since the one that its older tap needs."""
        if state is None:
            state = [deque([torch.zeros_like(x)] * dilation) for dilation in DILATIONS]
        skips = []
        for layer, past in zip(self.layers, state, strict=True):
            weight = layer.conv.weight.transpose(1, 2).flatten(1)
            z = gated(F.linear(torch.cat([past.popleft(), x], -1), weight, layer.conv.bias))
            past.append(x)
            skips.append(layer.skip(z))
            x = x if layer.residual is None else x + layer.residual(z)
        return self.hidden(sum(skips).relu()).relu(), state


class Stateful(nn.Module):
    """A block that maps a stream and a state to both: of Mamba, Mamba-2 or RWKV."""

    def __init__(self, block: nn.Module, begin: Callable[[int], Any] = lambda batch: None):
        super().__init__()
        self.block, self.begin = block, begin

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.begin(len(x)))[0]

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.block(x[:, None], self.begin(len(x)) if state is None else state)
        return y[:, 0], state


class Attending(nn.Module):
    """A causal block of a transformer, with rotary positions."""

    def __init__(self, hidden: int):
        super().__init__()
        self.block = TransformerEncoderLayer(
            WIDTH, 2, hidden, 0.0, "gelu", norm_first=True, rotary_base=10_000.0
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, is_causal=True)

    def step(self, x: Tensor, state: KVCache | None = None) -> tuple[Tensor, KVCache]:
        cache = KVCache(LONGEST) if state is None else state
        return self.block(x[:, None], is_causal=True, cache=cache)[:, 0], cache


def _recurrent(kind: type, **options: Any) -> Callable[[int], list[nn.Module]]:
    return lambda size: [Recurrent(kind(WIDTH, size, **options)) for _ in range(LAYERS)]


def _lstm(size: int) -> list[nn.Module]:
    return [Recurrent(forget_bias_(LSTM(WIDTH, size), 1.0)) for _ in range(LAYERS)]


def _nothing_read(batch: int) -> RWKVState:
    zero = torch.zeros(batch, WIDTH)
    return RWKVState(zero, zero, zero, zero, torch.full_like(zero, NOTHING))


def _rwkv(size: int) -> list[nn.Module]:
    net = RWKV(2, WIDTH, LAYERS, dim_feedforward=size)
    return [Stateful(block, _nothing_read) for block in net.layers]


def _mamba2(size: int) -> list[nn.Module]:
    net = Mamba2(2, WIDTH, LAYERS, state_size=size, head_dim=WIDTH)
    return [Stateful(layer) for layer in net.layers]


def _mlstm(size: int) -> list[nn.Module]:
    # keys, queries and values are made of four features each: the inner width is a multiple of it
    expand = 4 * size / WIDTH
    return [Stateful(MLSTMBlock(WIDTH, 2, expand, num_layers=LAYERS)) for _ in range(LAYERS)]


# name → blocks of a size, and the width of the stream where the size is that
BLOCKS: dict[str, Callable[[int], list[nn.Module]]] = {
    "rnn": _recurrent(RNN),
    "lstm": _lstm,
    "gru": _recurrent(GRU),
    "wavenet": lambda size: [Convolutions(size)],
    "s4d": lambda size: [S4Block(size, state_size=32) for _ in range(LAYERS)],
    "rwkv": _rwkv,
    "mamba": lambda size: [Stateful(layer) for layer in Mamba(2, size, LAYERS).layers],
    "mamba2": _mamba2,
    "mlstm": _mlstm,
    "transformer": lambda size: [Attending(size) for _ in range(LAYERS)],
}
WIDE = ("wavenet", "s4d", "mamba")  # whose size is the width of the stream


class Reader(nn.Module):
    """Outputs at every step of a sequence of tokens, or of vectors.

    Args:
        kind: of `BLOCKS`.
        size: see there.
        inputs: tokens, or features of a vector.
        outputs: numbers that come out at each step.
        tokens: whether the sequence is one of tokens.
    """

    def __init__(self, kind: str, size: int, inputs: int, outputs: int, tokens: bool):
        super().__init__()
        width = size if kind in WIDE else WIDTH
        self.input = nn.Embedding(inputs, width) if tokens else nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(BLOCKS[kind](size))
        self.norm, self.out = RMSNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Read all of time at once: `b t` or `b t d` → `b t o`."""
        x = self.input(x)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))

    def step(self, x: Tensor, states: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Read one step more: `b` or `b d` → `b o`, and the states after it."""
        x, after = self.input(x), []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            x, state = block.step(x, state)
            after.append(state)
        return self.out(self.norm(x)), after


def sized(kind: str, inputs: int, outputs: int, tokens: bool) -> int:
    """Return the size at which a reader's parameters are nearest to `PARAMETERS`."""

    def count(size: int) -> int:
        return parameter_count(Reader(kind, size, inputs, outputs, tokens))

    sizes = range(4, 512)
    at = bisect_left(sizes, PARAMETERS, key=count)
    return min(sizes[at - 1 : at + 1], key=lambda size: abs(count(size) - PARAMETERS))


def held(state: Any) -> int:
    """Return the bytes of all tensors in a state, counting of a cache what is filled."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, KVCache):
        return state.bytes * state.length // state.max_length
    return sum(map(held, state)) if state is not None else 0
