r"""xLSTM: LSTMs with exponential gates, one of which keeps a matrix and reads all at once.

Chapter: chapters/sequence/xlstm.md     Papers: Beck et al. 2024; Beck et al. 2025 (xLSTM 7B)
Forms: the mLSTM as a loop (`mlstm_recurrent`), as one product with a table of all pairs of steps
(`mlstm_parallel`), and in chunks (`mlstm_chunkwise`, which models run); all are one function. The
sLSTM reads its own output, so it is a loop, and nothing else. Both as layers and the first model
stand here, the recurrences in `_xlstm_mlstm` and `_xlstm_slstm`, the blocks in `_xlstm_blocks`,
and the model of 7 billion weights in `_xlstm_large`.
Axes: b batch, t time, x input features, e width of the stream, h hidden features, n heads, d width
of queries and keys, v width of values, w tokens, l layers.
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.sequence._xlstm_blocks import (
    BlockDiagonal,
    HeadNorm,
    MLSTMBlock,
    MLSTMBlockState,
    SLSTMBlock,
    SLSTMBlockState,
    begin_gates,
    by_head,
    dividing,
    joined,
    small,
)
from nnlib.sequence._xlstm_large import soft_cap, xLSTMLarge, xLSTMLargeBlock
from nnlib.sequence._xlstm_mlstm import (
    MLSTMState,
    empty_mlstm,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_recurrent,
    mlstm_weights,
)
from nnlib.sequence._xlstm_slstm import SLSTMState, empty_slstm, slstm
from nnlib.sequence._xlstm_stack import Stack
from nnlib.sequence._xlstm_state import FORGET
from nnlib.sequence._xlstm_weights import read_package

__all__ = [
    "MLSTM",
    "SLSTM",
    "BlockDiagonal",
    "HeadNorm",
    "MLSTMBlock",
    "MLSTMBlockState",
    "MLSTMState",
    "SLSTMBlock",
    "SLSTMBlockState",
    "SLSTMState",
    "mlstm_chunkwise",
    "mlstm_parallel",
    "mlstm_recurrent",
    "mlstm_weights",
    "slstm",
    "soft_cap",
    "xLSTM",
    "xLSTMLarge",
    "xLSTMLargeBlock",
]


class MLSTM(nn.Module):
    r"""The mLSTM as a layer: keys, values, queries and gates from the input, a matrix for a state.

    $h_t = o_t \odot C_t^\top q_t / \max(|z_t^\top q_t|, 1)$ (equations `xlstm-keys`,
    `xlstm-memory`, `xlstm-normaliser`, `xlstm-read`, `xlstm-output`). It has no path from one
    output to the next step, so `forward`, which is `chunkwise`, reads all steps at once.

    Args:
        input_size: features of the input, ≥ 1.
        hidden_size: features of the output, ≥ 1.
        num_heads: memories beside each other, each hidden_size / num_heads wide; they divide it.
        bias: whether keys, values, queries and output gate have one; the other gates always do.
        forget_gate: "sigmoid", or "exp".
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = MLSTM(input_size=3, hidden_size=8, num_heads=2)
        >>> h, state = layer(torch.zeros(2, 5, 3))
        >>> h.shape, state.C.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 2, 4, 4]))

    Source: Beck et al. 2024, section 2.3. Their C is our C transposed, their n our z.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        bias: bool = True,
        forget_gate: str = "sigmoid",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        x = self.input_size = checks.count("input_size", input_size)
        h = self.hidden_size = checks.count("hidden_size", hidden_size)
        self.num_heads = dividing("num_heads", num_heads, "hidden_size", h)
        checks.flag("bias", bias)
        self.forget_gate = checks.one_of("forget_gate", forget_gate, FORGET)
        self.q_proj = nn.Linear(x, h, bias=bias, **like)
        self.k_proj = nn.Linear(x, h, bias=bias, **like)
        self.v_proj = nn.Linear(x, h, bias=bias, **like)
        self.o_proj = nn.Linear(x, h, bias=bias, **like)
        self.input_gate = nn.Linear(x, num_heads, **like)
        self.forget = nn.Linear(x, num_heads, **like)
        begin_gates(self.input_gate, self.forget)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            layer.reset_parameters()
        begin_gates(self.input_gate, self.forget)

    def forward(
        self, x: Float[Tensor, "b t x"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t h"], MLSTMState]:
        """Return the outputs, and the state after the last step: `chunkwise`.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
        """
        return self.chunkwise(x, state)

    def chunkwise(
        self,
        x: Float[Tensor, "b t x"],
        state: MLSTMState | None = None,
        chunk_size: int | None = None,
    ) -> tuple[Float[Tensor, "b t h"], MLSTMState]:
        """Read in chunks: within one a table, between them a state.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
            chunk_size: steps of a chunk; None leaves it to the kernel.
        """
        return self._by(mlstm_chunkwise, x, state, chunk_size=chunk_size)

    def parallel(
        self, x: Float[Tensor, "b t x"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t h"], MLSTMState]:
        """Read all steps by one table of t · t weights; arguments as for `forward`."""
        return self._by(mlstm_parallel, x, state)

    def recurrent(
        self, x: Float[Tensor, "b t x"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t h"], MLSTMState]:
        """Read step after step: the loop of the equations; arguments as for `forward`."""
        return self._by(mlstm_recurrent, x, state)

    def step(
        self, x: Float[Tensor, "b x"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b h"], MLSTMState]:
        """Read one step.

        Args:
            x: its input.
            state: after what was read before; None: nothing was.
        """
        checks.tensor("x", x, shape=("b", self.input_size), floating=True)
        h, state = self.chunkwise(x[:, None], state)
        return h[:, 0], state

    def new_state(self, batch: int) -> MLSTMState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        d = self.hidden_size // self.num_heads
        shape = (checks.count("batch", batch), self.num_heads, d, d)
        return empty_mlstm(self.q_proj.weight, shape)

    def _by(
        self, form: Any, x: Tensor, state: MLSTMState | None, **how: Any
    ) -> tuple[Tensor, MLSTMState]:
        checks.tensor("x", x, shape=("b", "t", self.input_size), floating=True)
        maps = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (by_head(each(x), self.num_heads) for each in maps)  # eq. xlstm-keys
        i, f = (gate(x).transpose(1, 2) for gate in (self.input_gate, self.forget))
        h, state = form(q, k, v, i, f, state, forget_gate=self.forget_gate, **how)
        return self.o_proj(x).sigmoid() * joined(h), state  # eq. xlstm-output


class SLSTM(nn.Module):
    r"""The sLSTM as a layer: an LSTM with exponential gates and a weighted mean for a cell.

    Equations `xlstm-gates`, `xlstm-cell`, `xlstm-sum`, `xlstm-hidden`; the recurrence is `slstm`.

    Args:
        input_size: features of the input, ≥ 1.
        hidden_size: features of the state, ≥ 1.
        num_heads: groups of units that mix with one another and with no others; they divide it.
        bias: whether the gates have one.
        forget_gate: "sigmoid", or "exp".
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = SLSTM(input_size=3, hidden_size=8, num_heads=2)
        >>> h, state = layer(torch.zeros(2, 5, 3))
        >>> h.shape, state.c.shape, layer.weight_hh.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 8]), torch.Size([2, 16, 4]))

    Source: Beck et al. 2024, section 2.2.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        *,
        bias: bool = True,
        forget_gate: str = "sigmoid",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        x = self.input_size = checks.count("input_size", input_size)
        h = self.hidden_size = checks.count("hidden_size", hidden_size)
        n = self.num_heads = dividing("num_heads", num_heads, "hidden_size", h)
        self.forget_gate = checks.one_of("forget_gate", forget_gate, FORGET)
        self.weight_ih = nn.Parameter(torch.empty(4 * h, x, **like))
        self.weight_hh = nn.Parameter(torch.empty(n, 4 * (h // n), h // n, **like))
        self.bias = (
            nn.Parameter(torch.empty(4 * h, **like))
            if checks.flag("bias", bias)
            else None
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights as torch.nn.LSTM does, and begin with forget gates that are open."""
        bound = self.hidden_size**-0.5
        for weight in (self.weight_ih, self.weight_hh):
            nn.init.uniform_(weight, -bound, bound)
        if self.bias is not None:
            h = self.hidden_size
            nn.init.zeros_(self.bias)
            self.bias[h : 2 * h] = torch.linspace(3, 6, h).to(self.bias)

    def forward(
        self, x: Float[Tensor, "b t x"], state: SLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t h"], SLSTMState]:
        """Return the outputs, and the state after the last step.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
        """
        checks.tensor("x", x, shape=("b", "t", self.input_size), floating=True)
        projected = F.linear(x, self.weight_ih, self.bias)
        return slstm(projected, self.weight_hh, state, forget_gate=self.forget_gate)

    def step(
        self, x: Float[Tensor, "b x"], state: SLSTMState | None = None
    ) -> tuple[Float[Tensor, "b h"], SLSTMState]:
        """Read one step.

        Args:
            x: its input.
            state: after what was read before; None: nothing was.
        """
        checks.tensor("x", x, shape=("b", self.input_size), floating=True)
        h, state = self(x[:, None], state)
        return h[:, 0], state

    def new_state(self, batch: int) -> SLSTMState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        shape = (checks.count("batch", batch), self.hidden_size)
        return empty_slstm(self.weight_ih, shape)


class xLSTM(Stack):
    r"""A language model of mLSTM and sLSTM blocks: no attention, and a state of constant size.

    `forward` reads all tokens at once where all blocks are mLSTMs; an sLSTM block walks through
    them. `step` takes one.

    Args:
        vocab_size: number of tokens w, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: blocks l, ≥ 1.
        num_heads: memories of an mLSTM, groups of an sLSTM; they divide the widths of both.
        slstm_at: numbers of the blocks that are sLSTMs, from 0; the others are mLSTMs.
        expand: inner width of an mLSTM block over e, > 0.
        conv_kernel: taps k of the convolutions, ≥ 1.
        qkv_block_size: features that the maps to queries, keys and values mix.
        dim_feedforward: hidden width of an sLSTM block's network; None is 4e/3, rounded up to a
            multiple of 8.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps at both ends of a block have one.
        tie_embeddings: whether the token vectors are the last layer's weights, too.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = xLSTM(vocab_size=11, embed_dim=8, num_layers=2, num_heads=2, slstm_at=[1])
        >>> logits, state = model.with_state(torch.tensor([[1, 2, 3]]))
        >>> logits.shape, model.step(torch.tensor([4]), state)[0].shape
        (torch.Size([1, 3, 11]), torch.Size([1, 11]))

    Source: Beck et al. 2024.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        num_heads: int = 4,
        slstm_at: Collection[int] = (),
        expand: float = 2,
        conv_kernel: int = 4,
        qkv_block_size: int = 4,
        dim_feedforward: int | None = None,
        norm_eps: float = 1e-5,
        bias: bool = False,
        tie_embeddings: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = self.embed_dim = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        mixing = _places(slstm_at, depth)
        both: dict[str, Any] = {"norm_eps": norm_eps, "bias": bias, **like}
        self.token_embedding = nn.Embedding(vocab_size, e, **like)
        self.layers = nn.ModuleList(
            SLSTMBlock(
                e, num_heads, conv_kernel, dim_feedforward, number, depth, **both
            )
            if number in mixing
            else MLSTMBlock(
                e, num_heads, expand, conv_kernel, qkv_block_size, depth, **both
            )
            for number in range(depth)
        )
        eps = checks.number("norm_eps", norm_eps, above=0)
        self.norm = LayerNorm(e, eps=eps, bias=False, **like)
        free = not checks.flag("tie_embeddings", tie_embeddings)
        self.head = nn.Linear(e, vocab_size, bias=False, **like) if free else None
        self._begin()

    def _begin(self) -> None:
        small(self.token_embedding.weight, self.embed_dim)
        if self.head is not None:
            small(self.head.weight, self.embed_dim)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in self.layers:
            layer.reset_parameters()
        nn.init.ones_(self.norm.weight)
        self._begin()

    def _logits(self, x: Tensor) -> Tensor:
        weight = self.token_embedding.weight if self.head is None else self.head.weight
        return F.linear(self.norm(x), weight)

    @classmethod
    def from_xlstm(cls, model: nn.Module) -> "xLSTM":
        """Return the `xLSTMLMModel` of the authors' package `xlstm` with its weights.

        Args:
            model: an instance; its dropout is left behind.

        Raises:
            TypeError: no such model.
            ValueError: it has an option that ours has not.
        """
        made: xLSTM = read_package(cls, model)
        return made


def _places(slstm_at: Any, depth: int) -> set[int]:
    """Return the numbers of the sLSTM blocks."""
    if not isinstance(slstm_at, list | tuple | set | range):
        kind = type(slstm_at).__name__
        raise TypeError(f"slstm_at must be a list of numbers of blocks, got {kind}")
    places = [checks.count("slstm_at", place, least=0) for place in slstm_at]
    if places and max(places) >= depth:
        raise ValueError(f"slstm_at={places} must be below num_layers={depth}")
    return set(places)
