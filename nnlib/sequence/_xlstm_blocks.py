"""The residual blocks around an mLSTM and an sLSTM, and what they are made of.

Axes: b batch, t time, e width of the stream, h inner features, n heads, d width of a head, k taps.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.kernels.layer_norm import layer_norm
from nnlib.sequence._mamba_mixers import ShortConv
from nnlib.sequence._xlstm_mlstm import MLSTMState, chunkwise, empty_mlstm
from nnlib.sequence._xlstm_slstm import SLSTMState, empty_slstm, slstm
from nnlib.sequence._xlstm_state import checked_state, wide


def dividing(name: str, value: Any, of: str, whole: int) -> int:
    """Return a count that divides another; refuse one that does not."""
    if whole % checks.count(name, value):
        raise ValueError(f"{name}={value} does not divide {of}={whole}")
    return int(value)


def by_head(x: Tensor, heads: int) -> Tensor:
    """Return `b t h` as `b n t d`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def joined(h: Tensor) -> Tensor:
    """Return `b n t d` as `b t h`."""
    return h.transpose(1, 2).flatten(2)


@torch.no_grad()
def begin_gates(input_gate: nn.Linear, forget: nn.Linear, opened: float = 0.0) -> None:
    """Begin with gates that do not look at the input: heads of many lengths of memory."""
    nn.init.zeros_(input_gate.weight)
    nn.init.zeros_(forget.weight)
    nn.init.normal_(input_gate.bias, mean=opened, std=0.1)
    forget.bias.copy_(torch.linspace(3, 6, len(forget.bias)))  # eq. xlstm-start


class BlockDiagonal(nn.Module):
    """A linear map of groups of features, each by itself: one small matrix a group.

    Args:
        features: of input and output, ≥ 1.
        blocks: groups, which divide them.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = BlockDiagonal(features=8, blocks=4)
        >>> layer(torch.zeros(2, 8)).shape, layer.weight.shape
        (torch.Size([2, 8]), torch.Size([4, 2, 2]))
    """

    def __init__(
        self, features: int, blocks: int, *, device: Device = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        features = checks.count("features", features)
        size = features // dividing("blocks", blocks, "features", features)
        weight = torch.empty(blocks, size, size, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        small(self.weight, self.weight.shape[2])

    def forward(self, x: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        """Return the features, mapped group by group."""
        return grouped(x, self.weight)


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """Return the features, mapped group by group, each by its matrix g o i of `weight`."""
    groups = x.reshape(-1, weight.shape[0], weight.shape[2]).transpose(0, 1)
    y = groups @ weight.transpose(1, 2)
    return y.transpose(0, 1).reshape(*x.shape[:-1], -1)


def mapped(layers: tuple[BlockDiagonal, ...], *inputs: Tensor) -> Tensor:
    """Return the outputs of layers, each of its own input, side by side: one product for all."""
    return grouped(torch.cat(inputs, -1), torch.cat([layer.weight for layer in layers]))


@torch.no_grad()
def small(weight: Tensor, width: int) -> None:
    """Draw with a variance of 2 / 5 width, as Nguyen and Salazar 2019 do."""
    nn.init.normal_(weight, std=math.sqrt(2 / (5 * width)))


@torch.no_grad()
def last(weight: Tensor, width: int, layers: int) -> None:
    """Draw what is added to the stream the smaller, the more layers add to it."""
    nn.init.normal_(weight, std=2 / (layers * math.sqrt(width)))


class HeadNorm(nn.Module):
    """Layer norm of each head by itself, and one scale for each feature; no shift.

    Args:
        features: of all heads together, ≥ 1.
        num_heads: which divide them.
        eps: ε > 0, added to the variance.
        device: of the weight.
        dtype: of the weight.
    """

    def __init__(
        self, features: int, num_heads: int, eps: float = 1e-5, *, device: Device = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        features = checks.count("features", features)
        self.num_heads = dividing("num_heads", num_heads, "features", features)
        self.eps = checks.number("eps", eps, above=0)
        self.weight = nn.Parameter(torch.ones(features, device=device, dtype=dtype))

    def forward(self, h: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
        """Return the outputs of the heads, each with mean 0 and variance 1, scaled."""
        each = h.unflatten(-1, (self.num_heads, -1))
        each = layer_norm(each, None, None, self.eps)
        return each.flatten(-2) * self.weight  # eq. xlstm-head-norm


class MLSTMBlockState(NamedTuple):
    """What an `MLSTMBlock` keeps.

    Attributes:
        past: the last inputs of the convolution, b k−1 h.
        C: the memory, b n d d.
        z: the normaliser, b n d.
        m: the stabiliser, b n.
    """

    past: Tensor
    C: Tensor
    z: Tensor
    m: Tensor


class MLSTMBlock(nn.Module):
    r"""The residual block around an mLSTM: widen first, remember in the wide space, gate, narrow.

    Equations `xlstm-up`, `xlstm-block-keys`, `xlstm-head-norm` and `xlstm-down`.

    Args:
        embed_dim: width e of the stream, ≥ 1.
        num_heads: memories, which divide the inner width.
        expand: inner width over e, > 0.
        conv_kernel: taps k of the convolution, ≥ 1.
        qkv_block_size: features that the maps to queries, keys and values mix, ≥ 1; it divides
            the inner width.
        num_layers: of the model, which sets how small the last map begins.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps at both ends have one.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> block = MLSTMBlock(embed_dim=8, num_heads=2)
        >>> x, state = block(torch.zeros(2, 5, 8))
        >>> x.shape, state.C.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 2, 8, 8]))

    Source: Beck et al. 2024, figure 11.
    """

    norm: Any

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 4,
        expand: float = 2,
        conv_kernel: int = 4,
        qkv_block_size: int = 4,
        num_layers: int = 1,
        *,
        norm_eps: float = 1e-5,
        bias: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = self.embed_dim = checks.count("embed_dim", embed_dim)
        h = round(checks.number("expand", expand, above=0) * e)
        self.hidden_size = checks.count("expand * embed_dim", h)
        n = self.num_heads = dividing("num_heads", num_heads, "expand * embed_dim", h)
        size = dividing("qkv_block_size", qkv_block_size, "expand * embed_dim", h)
        self.num_layers = checks.count("num_layers", num_layers)
        eps = checks.number("norm_eps", norm_eps, above=0)
        self.norm = LayerNorm(e, eps=eps, bias=False, **like)
        self.up = nn.Linear(e, 2 * h, bias=checks.flag("bias", bias), **like)
        self.conv = ShortConv(h, checks.count("conv_kernel", conv_kernel), **like)
        self.q_proj = BlockDiagonal(h, h // size, **like)
        self.k_proj = BlockDiagonal(h, h // size, **like)
        self.v_proj = BlockDiagonal(h, h // size, **like)
        self.input_gate = nn.Linear(3 * h, n, **like)
        self.forget = nn.Linear(3 * h, n, **like)
        self.head_norm = HeadNorm(h, n, eps, **like)
        self.skip = nn.Parameter(torch.ones(h, **like))
        self.down = nn.Linear(h, e, bias=bias, **like)
        self._begin()

    def _begin(self) -> None:
        small(self.up.weight, self.embed_dim)
        for each in (self.q_proj, self.k_proj, self.v_proj):
            small(each.weight, self.embed_dim)
        begin_gates(self.input_gate, self.forget)
        last(self.down.weight, self.embed_dim, self.num_layers)
        for layer in (self.up, self.down):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for weight in (self.norm.weight, self.head_norm.weight, self.skip):
            nn.init.ones_(weight)
        self.conv.reset_parameters()
        self._begin()

    def forward(
        self, x: Float[Tensor, "b t e"], state: MLSTMBlockState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MLSTMBlockState]:
        """Return the stream after the block, and its state.

        Args:
            x: the stream.
            state: after what was read before; None: nothing was.
        """
        past, *memory = block_state(self, MLSTMBlockState, x, state)
        u, gate = self.up(self.norm(x)).chunk(2, -1)  # eq. xlstm-up
        q, k, v, i, f, near, past = self.select(u, past)
        dtype = wide(q)
        kept = MLSTMState(*(part.to(dtype) for part in memory))
        h, memory = chunkwise(q, k, v, i, f, kept, state is None)
        h = self.head_norm(joined(h))
        h = torch.addcmul(h, self.skip, near) * F.silu(gate)
        return x + self.down(h), MLSTMBlockState(past, *memory)  # eq. xlstm-down

    def select(
        self, u: Float[Tensor, "b t h"], past: Float[Tensor, "b j h"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return q, k, v, i and f by head, the convolved input, and its inputs for later.

        Args:
            u: the widened input.
            past: the inputs of the convolution before it.
        """
        near, past = self.conv(u, past)
        near = F.silu(near)
        layers = self.q_proj, self.k_proj, self.v_proj
        seen = mapped(layers, near, near, u)  # eq. xlstm-block-keys
        i, f = (gate(seen).transpose(1, 2) for gate in (self.input_gate, self.forget))
        q, k, v = (by_head(part, self.num_heads) for part in seen.chunk(3, -1))
        return q, k, v, i, f, near, past

    def new_state(self, batch: int) -> MLSTMBlockState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        past, memory = self.conv.new_past(batch), self._state_shapes(batch)[1]
        return MLSTMBlockState(past, *empty_mlstm(past, memory))

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], ...]:
        n, d = self.num_heads, self.hidden_size // self.num_heads
        past = batch, self.conv.weight.shape[1] - 1, self.hidden_size
        return past, (batch, n, d, d), (batch, n, d), (batch, n)


class SLSTMBlockState(NamedTuple):
    """What an `SLSTMBlock` keeps.

    Attributes:
        past: the last inputs of the convolution, b k−1 e.
        h: the last output, b e.
        c: the cell, b e.
        n: the normaliser, b e.
        m: the stabiliser, b e.
    """

    past: Tensor
    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


class SLSTMBlock(nn.Module):
    r"""The residual block around an sLSTM: remember first, then a gated network of two layers.

    Equations `xlstm-slstm-block` and `xlstm-network`.

    Args:
        embed_dim: width e of the stream, ≥ 1.
        num_heads: groups of units that mix, which divide e.
        conv_kernel: taps k of the convolution, ≥ 1.
        dim_feedforward: hidden width of the network, ≥ 1; None is 4e/3, rounded up to a multiple
            of 8.
        layer: number of the block in the model, from 0, which sets where forget gates begin.
        num_layers: of the model.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps of the network have one.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> block = SLSTMBlock(embed_dim=8, num_heads=2)
        >>> x, state = block(torch.zeros(2, 5, 8))
        >>> x.shape, state.c.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 8]))

    Source: Beck et al. 2024, figure 10.
    """

    norm: Any
    norm2: Any

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 4,
        conv_kernel: int = 4,
        dim_feedforward: int | None = None,
        layer: int = 0,
        num_layers: int = 1,
        *,
        norm_eps: float = 1e-5,
        bias: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = self.embed_dim = checks.count("embed_dim", embed_dim)
        n = self.num_heads = dividing("num_heads", num_heads, "embed_dim", e)
        self.layer = checks.count("layer", layer, least=0)
        self.num_layers = checks.count("num_layers", num_layers)
        eps = checks.number("norm_eps", norm_eps, above=0)
        wide = 8 * math.ceil(e / 6)
        if dim_feedforward is not None:
            wide = checks.count("dim_feedforward", dim_feedforward)
        self.norm = LayerNorm(e, eps=eps, bias=False, **like)
        self.conv = ShortConv(e, checks.count("conv_kernel", conv_kernel), **like)
        self.i_proj = BlockDiagonal(e, n, **like)
        self.f_proj = BlockDiagonal(e, n, **like)
        self.z_proj = BlockDiagonal(e, n, **like)
        self.o_proj = BlockDiagonal(e, n, **like)
        self.weight_hh = nn.Parameter(torch.empty(n, 4 * (e // n), e // n, **like))
        self.bias = nn.Parameter(torch.empty(4 * e, **like))
        self.head_norm = HeadNorm(e, n, eps, **like)
        self.norm2 = LayerNorm(e, eps=eps, bias=False, **like)
        self.up = nn.Linear(e, 2 * wide, bias=checks.flag("bias", bias), **like)
        self.down = nn.Linear(wide, e, bias=bias, **like)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        for each in (self.i_proj, self.f_proj, self.z_proj, self.o_proj):
            small(each.weight, self.embed_dim)
        nn.init.zeros_(self.weight_hh)  # no mixing at the start
        nn.init.zeros_(self.bias)
        e, d = self.embed_dim, self.embed_dim // self.num_heads
        depth = self.layer / max(self.num_layers - 1, 1)  # 0 … 1
        place = torch.arange(d, dtype=torch.float64) / max(d - 1, 1)
        start = 5 - 12 * place ** (0.3 + 1.3 * depth)  # eq. xlstm-slstm-start
        self.bias[e : 2 * e] = start.to(self.bias).repeat(self.num_heads)
        small(self.up.weight, self.embed_dim)
        last(self.down.weight, self.embed_dim, self.num_layers)
        for layer in (self.up, self.down):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        norms: tuple[Any, ...] = (self.norm, self.head_norm, self.norm2)
        for norm in norms:
            nn.init.ones_(norm.weight)
        self.conv.reset_parameters()
        self._begin()

    def forward(
        self, x: Float[Tensor, "b t e"], state: SLSTMBlockState | None = None
    ) -> tuple[Float[Tensor, "b t e"], SLSTMBlockState]:
        """Return the stream after the block, and its state.

        Args:
            x: the stream.
            state: after what was read before; None: nothing was.
        """
        past, *cells = block_state(self, SLSTMBlockState, x, state)
        u = self.norm(x)
        near, past = self.conv(u, past)
        near = F.silu(near)
        layers = self.i_proj, self.f_proj, self.z_proj, self.o_proj
        projected = mapped(layers, near, near, u, u) + self.bias
        h, cells = slstm(projected, self.weight_hh, SLSTMState(*cells))
        x = x + self.head_norm(h)  # eq. xlstm-slstm-block
        gate, u = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.gelu(gate) * u), SLSTMBlockState(past, *cells)

    def new_state(self, batch: int) -> SLSTMBlockState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        past = self.conv.new_past(batch)
        return SLSTMBlockState(past, *empty_slstm(past, (batch, self.embed_dim)))

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], ...]:
        past = batch, self.conv.weight.shape[1] - 1, self.embed_dim
        return past, *((batch, self.embed_dim),) * 4


def block_state(block: Any, kind: Any, x: Tensor, state: Any) -> Any:
    """Return the state to begin with; refuse one of another block or batch."""
    checks.tensor("x", x, shape=("b", "t", block.embed_dim), floating=True)
    if state is None:
        return block.new_state(len(x))
    return checked_state(state, kind, block._state_shapes(len(x)), None)
