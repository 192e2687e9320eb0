"""The xLSTM of 7 billion weights: its block, and the model of them.

Part of `nnlib.sequence.xlstm`, with its axes.
"""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.sequence._xlstm_blocks import (
    HeadNorm,
    begin_gates,
    block_state,
    by_head,
    dividing,
    joined,
    last,
    small,
)
from nnlib.sequence._xlstm_mlstm import MLSTMState, chunkwise, empty_mlstm
from nnlib.sequence._xlstm_stack import Stack
from nnlib.sequence._xlstm_state import wide as gate_dtype
from nnlib.sequence._xlstm_weights import read_large


def soft_cap(x: Float[Tensor, "..."], cap: float) -> Float[Tensor, "..."]:
    r"""Return $a \tanh(x / a)$, which is x near 0 and never beyond ±a (equation `xlstm-cap`).

    Args:
        x: any numbers.
        cap: a > 0.

    Example:
        >>> soft_cap(torch.tensor([0.1, 100.0]), 15).round(decimals=3).tolist()
        [0.10000000149011612, 15.0]
    """
    checks.tensor("x", x, floating=True)
    checks.number("cap", cap, above=0)
    return cap * torch.tanh(x / cap)  # eq. xlstm-cap


class xLSTMLargeBlock(nn.Module):
    r"""The block of xLSTM 7B: an mLSTM in the width of the stream, then a gated network.

    Equation `xlstm-large`. There is no convolution, queries and keys may be narrower than values,
    and gates are kept within ± a cap.

    Args:
        embed_dim: width e of the stream, ≥ 1.
        num_heads: memories, which divide the widths of keys and values.
        qk_dim: width of queries and keys, all heads together, ≥ 1.
        v_dim: width of values, all heads together, ≥ 1.
        dim_feedforward: hidden width of the network, ≥ 1.
        gate_cap: cap of the gates before their functions, > 0.
        num_layers: of the model, which sets how small the last maps begin.
        norm_eps: ε of the norms, > 0.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> block = xLSTMLargeBlock(8, 2, qk_dim=4, v_dim=8, dim_feedforward=24)
        >>> x, state = block(torch.zeros(2, 5, 8))
        >>> x.shape, state.C.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 2, 2, 4]))

    Source: Beck et al. 2025.
    """

    norm: Any
    norm2: Any

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        qk_dim: int,
        v_dim: int,
        dim_feedforward: int,
        gate_cap: float = 15.0,
        num_layers: int = 1,
        *,
        norm_eps: float = 1e-6,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = self.embed_dim = checks.count("embed_dim", embed_dim)
        d = self.qk_dim = checks.count("qk_dim", qk_dim)
        v = self.v_dim = checks.count("v_dim", v_dim)
        n = self.num_heads = dividing("num_heads", num_heads, "qk_dim", d)
        dividing("num_heads", num_heads, "v_dim", v)
        wide = checks.count("dim_feedforward", dim_feedforward)
        self.gate_cap = checks.number("gate_cap", gate_cap, above=0)
        self.num_layers = checks.count("num_layers", num_layers)
        eps = checks.number("norm_eps", norm_eps, above=0)
        self.norm = RMSNorm(e, eps=eps, **like)
        self.q_proj = nn.Linear(e, d, bias=False, **like)
        self.k_proj = nn.Linear(e, d, bias=False, **like)
        self.v_proj = nn.Linear(e, v, bias=False, **like)
        self.o_proj = nn.Linear(e, v, bias=False, **like)
        self.input_gate = nn.Linear(e, n, **like)
        self.forget = nn.Linear(e, n, **like)
        self.head_norm = HeadNorm(v, n, eps, **like)
        self.out_proj = nn.Linear(v, e, bias=False, **like)
        self.norm2 = RMSNorm(e, eps=eps, **like)
        self.gate = nn.Linear(e, wide, bias=False, **like)
        self.up = nn.Linear(e, wide, bias=False, **like)
        self.down = nn.Linear(wide, e, bias=False, **like)
        self._begin()

    def _begin(self) -> None:
        e = self.embed_dim
        for layer in (
            self.q_proj, self.k_proj, self.v_proj, self.o_proj, self.gate, self.up,
        ):  # fmt: skip
            small(layer.weight, e)
        begin_gates(self.input_gate, self.forget, opened=-10.0)  # eq. xlstm-large-start
        last(self.out_proj.weight, e, self.num_layers)
        last(self.down.weight, self.down.in_features, self.num_layers)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        norms: tuple[Any, ...] = (self.norm, self.head_norm, self.norm2)
        for norm in norms:
            nn.init.ones_(norm.weight)
        self._begin()

    def forward(
        self, x: Float[Tensor, "b t e"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MLSTMState]:
        """Return the stream after the block, and its state.

        Args:
            x: the stream.
            state: after what was read before; None: nothing was.
        """
        kept = block_state(self, MLSTMState, x, state)
        u = self.norm(x)
        maps = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (by_head(each(u), self.num_heads) for each in maps)
        i, f = (
            soft_cap(gate(u), self.gate_cap).transpose(1, 2)
            for gate in (self.input_gate, self.forget)
        )
        kept, fresh = (
            MLSTMState(*(part.to(gate_dtype(q)) for part in kept)),
            state is None,
        )
        h, state = chunkwise(q, k, v, i, f, kept, fresh)
        h = self.o_proj(u).sigmoid() * self.head_norm(joined(h))
        x = x + self.out_proj(h)  # eq. xlstm-large
        u = self.norm2(x)
        return x + self.down(F.silu(self.gate(u)) * self.up(u)), state

    def new_state(self, batch: int) -> MLSTMState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        memory = self._state_shapes(checks.count("batch", batch))[0]
        return empty_mlstm(self.norm.weight, memory)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, ...], ...]:
        n, d, v = (
            self.num_heads,
            self.qk_dim // self.num_heads,
            self.v_dim // self.num_heads,
        )
        return (batch, n, d, v), (batch, n, d), (batch, n)


class xLSTMLarge(Stack):
    r"""The language model of xLSTM 7B: mLSTM blocks in the width of the stream, and capped logits.

    Args:
        vocab_size: number of tokens w, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: blocks l, ≥ 1.
        num_heads: memories of each, which divide the widths of keys and values.
        qk_dim: width of queries and keys; None is e/2.
        v_dim: width of values; None is e.
        dim_feedforward: hidden width of the networks; None is 8e/3, rounded up to a multiple of 64.
        gate_cap: cap of the gates, > 0.
        logit_cap: cap of the logits, > 0.
        norm_eps: ε of the norms, > 0.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = xLSTMLarge(vocab_size=11, embed_dim=8, num_layers=2, num_heads=2)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 11])

    Source: Beck et al. 2025.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        num_heads: int = 8,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        dim_feedforward: int | None = None,
        gate_cap: float = 15.0,
        logit_cap: float = 30.0,
        norm_eps: float = 1e-6,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = self.embed_dim = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        self.logit_cap = checks.number("logit_cap", logit_cap, above=0)
        widths = (
            e // 2 if qk_dim is None else qk_dim,
            e if v_dim is None else v_dim,
            64 * math.ceil(e / 24) if dim_feedforward is None else dim_feedforward,
        )
        self.token_embedding = nn.Embedding(vocab_size, e, **like)
        self.layers = nn.ModuleList(
            xLSTMLargeBlock(
                e, num_heads, *widths, gate_cap, depth, norm_eps=norm_eps, **like
            )
            for _ in range(depth)
        )
        self.norm = RMSNorm(e, eps=norm_eps, **like)
        self.head = nn.Linear(e, vocab_size, bias=False, **like)
        self._begin()

    def _begin(self) -> None:
        for layer in (self.token_embedding, self.head):
            small(layer.weight, self.embed_dim)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in self.layers:
            layer.reset_parameters()
        nn.init.ones_(self.norm.weight)
        self._begin()

    def _logits(self, x: Tensor) -> Tensor:
        return soft_cap(self.head(self.norm(x)), self.logit_cap)

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "xLSTMLarge":
        """Return the xLSTM of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `xLSTMForCausalLM`, the folder of a saved one, or its
                name on the hub, such as "NX-AI/xLSTM-7b".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        made: xLSTMLarge = read_large(cls, model_or_path)
        return made
