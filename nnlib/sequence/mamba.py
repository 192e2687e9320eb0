r"""Mamba: a linear recurrence whose step size, write and read directions the input sets.

Chapter: chapters/sequence/mamba.md     Papers: Gu and Dao 2023 (Mamba); Dao and Gu 2024 (Mamba-2);
Lieber et al. 2024 (Jamba, the hybrid)
Forms: `selective_scan` is the recurrence of Mamba, `ssd` that of Mamba-2, each as one pass over all
of time, in chunks, and step by step, all equal. The models stand here, their blocks in
`_mamba_mixers`, the recurrences in `_mamba_scan` and `_mamba_ssd`, and `_mamba_family` has one step
of each relative.
Axes: b batch, t time, s time looked back at, e model width, d channels, n state, h heads, p head
width, g groups of heads that share B and C, k taps of the convolution, r rank of Δ, l layers.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.language_model import RecurrentLanguageModel
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.sequence import _mamba_hugging_face as theirs
from nnlib.sequence._mamba_family import (
    delta_update,
    gated_delta_update,
    gla_update,
    linear_attention_update,
    mlstm_update,
    retnet_update,
    rwkv7_update,
    ssd_update,
)
from nnlib.sequence._mamba_mixers import Mamba2Mixer, MambaMixer, ShortConv
from nnlib.sequence._mamba_scan import (
    selective_scan,
    selective_scan_chunked,
    selective_scan_reference,
    selective_scan_with_state,
    zoh_factor,
)
from nnlib.sequence._mamba_ssd import ssd, ssd_matrix, ssd_with_state
from nnlib.sequence._mamba_state import MambaState, checked_state

__all__ = [
    "HybridMamba",
    "Mamba",
    "Mamba2",
    "Mamba2Mixer",
    "MambaLayer",
    "MambaMixer",
    "MambaState",
    "ShortConv",
    "delta_update",
    "gated_delta_update",
    "gla_update",
    "linear_attention_update",
    "mlstm_update",
    "retnet_update",
    "rwkv7_update",
    "selective_scan",
    "selective_scan_chunked",
    "selective_scan_reference",
    "selective_scan_with_state",
    "ssd",
    "ssd_matrix",
    "ssd_update",
    "ssd_with_state",
    "zoh_factor",
]


class MambaLayer(nn.Module):
    r"""A mixer behind a norm, added to the stream: $x + \mathrm{mixer}(\mathrm{norm}(x))$.

    Args:
        mixer: a `MambaMixer` or a `Mamba2Mixer`.
        norm: what comes before it.
    """

    def __init__(self, mixer: MambaMixer | Mamba2Mixer, norm: RMSNorm):
        super().__init__()
        self.norm, self.mixer = norm, mixer

    def forward(
        self, x: Float[Tensor, "b t e"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MambaState]:
        """Return the stream after the layer, and the mixer's state.

        Args:
            x: the stream.
            state: of the mixer.
        """
        y, state = self.mixer(self.norm(x), state)
        return x + y, state  # eq. mamba-layer


class _Stack(RecurrentLanguageModel[MambaState]):
    """What both models share: tokens, layers, a norm, logits."""

    layers: Any  # of MambaLayer
    norm: Any

    def __init__(
        self, vocab_size: int, embed_dim: int, num_layers: int,
        mixer: Callable[[], MambaMixer | Mamba2Mixer], norm_eps: float, tie_embeddings: bool,
        **like: Any,
    ):  # fmt: skip
        super().__init__()
        mixers = [mixer() for _ in range(checks.count("num_layers", num_layers))]
        self.vocab_size = checks.count("vocab_size", vocab_size)
        eps = checks.number("norm_eps", norm_eps, above=0)
        self.token_embedding = nn.Embedding(vocab_size, embed_dim, **like)
        self.layers = nn.ModuleList(
            MambaLayer(mixer, RMSNorm(embed_dim, eps=eps, **like)) for mixer in mixers
        )
        self.norm = RMSNorm(embed_dim, eps=eps, **like)
        free = not checks.flag("tie_embeddings", tie_embeddings)
        self.head = (
            nn.Linear(embed_dim, vocab_size, bias=False, **like) if free else None
        )
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Draw token vectors; scale what is added to the stream by 1/√l, as in GPT-2."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        for layer in self.layers:
            layer.mixer.out_proj.weight.div_(len(self.layers) ** 0.5)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in self.layers:
            nn.init.ones_(layer.norm.weight)
            layer.mixer.reset_parameters()
        nn.init.ones_(self.norm.weight)
        if self.head is not None:
            self.head.reset_parameters()
        self._begin()

    def new_state(self, batch: int) -> MambaState:
        """Return the state of sequences of which nothing was read; its size never changes.

        Args:
            batch: how many sequences, ≥ 1.
        """
        return _stacked([layer.mixer.new_state(batch) for layer in self.layers])

    def _checked(self, batch: int, state: Any) -> MambaState:
        return checked_state(state, self.new_state(batch))

    def _read(self, ids: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        x, after = self.token_embedding(ids), []
        for layer, *parts in zip(self.layers, *state, strict=True):
            x, one = layer(x, MambaState(*parts))
            after.append(one)
        x = self.norm(x)
        weight = self.token_embedding.weight if self.head is None else self.head.weight
        return F.linear(x, weight), _stacked(after)


class Mamba(_Stack):
    r"""A language model of selective scans: no attention, and a state of constant size.

    `forward` reads all tokens at once; `step` takes one, with d (n + k − 1) numbers a layer,
    however many came before.

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        state_size: numbers n a channel keeps, ≥ 1.
        expand: channels d over e, > 0.
        conv_kernel: taps k of the convolutions, ≥ 1.
        dt_rank: rank r of the map to Δ; None is e / 16, rounded up.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps at both ends of a mixer have one.
        conv_bias: whether the convolutions have one.
        tie_embeddings: whether the token vectors are the last layer's weights, too.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Mamba(vocab_size=11, embed_dim=8, num_layers=2)
        >>> logits, state = model.with_state(torch.tensor([[1, 2, 3]]))
        >>> logits.shape, model.step(torch.tensor([4]), state)[0].shape
        (torch.Size([1, 3, 11]), torch.Size([1, 11]))

    Source: Gu and Dao 2023.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        state_size: int = 16,
        expand: float = 2,
        conv_kernel: int = 4,
        dt_rank: int | None = None,
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
        tie_embeddings: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        mixer = partial(
            MambaMixer, embed_dim, state_size, expand, conv_kernel, dt_rank, bias=bias,
            conv_bias=conv_bias, **like,
        )  # fmt: skip
        super().__init__(
            vocab_size, embed_dim, num_layers, mixer, norm_eps, tie_embeddings, **like
        )

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "Mamba":
        """Return the Mamba of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `MambaForCausalLM`, the folder of a saved one, or its
                name on the hub, such as "state-spaces/mamba-130m-hf".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        made: Mamba = theirs.read(cls, model_or_path, "mamba")
        return made


class Mamba2(_Stack):
    r"""Mamba with heads: one decay a head and step, so that it computes by matrix products.

    Arguments that are not named here are those of `Mamba`.

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        state_size: numbers n for each channel, ≥ 1.
        head_dim: channels p of a head, which divide expand · e.
        num_groups: groups of heads with a B and a C of their own; they divide the heads.

    Example:
        >>> model = Mamba2(vocab_size=11, embed_dim=8, num_layers=2, state_size=4, head_dim=4)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 11])

    Source: Dao and Gu 2024.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        state_size: int = 128,
        head_dim: int = 64,
        expand: float = 2,
        conv_kernel: int = 4,
        num_groups: int = 1,
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
        tie_embeddings: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        mixer = partial(
            Mamba2Mixer, embed_dim, state_size, head_dim, expand, conv_kernel, num_groups,
            norm_eps=norm_eps, bias=bias, conv_bias=conv_bias, **like,
        )  # fmt: skip
        super().__init__(
            vocab_size, embed_dim, num_layers, mixer, norm_eps, tie_embeddings, **like
        )

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "Mamba2":
        """Do what `Mamba.from_hugging_face` does with a `Mamba2ForCausalLM`.

        Args:
            model_or_path: an instance, a folder, or a name such as "AntonV/mamba2-130m-hf".
        """
        made: Mamba2 = theirs.read(cls, model_or_path, "mamba2")
        return made


class HybridMamba(nn.Module):
    r"""Jamba's mixture: of every so many layers one attends, the others scan.

    Each layer is a mixer and then a SwiGLU network, each behind a norm and added to the stream
    (equation `mamba-hybrid`). The attention has no positions: the scans below it know the order.
    (Jamba also gives every second network several experts.)

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        num_heads: heads of the attention, which divide e.
        attention_every: one of as many layers attends, the middle one; ≥ 1.
        state_size: numbers n a channel of the scans keeps, ≥ 1.
        dim_feedforward: hidden width of the networks; None is 2e.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = HybridMamba(vocab_size=11, embed_dim=8, num_layers=8, num_heads=2)
        >>> [type(layer).__name__ for layer in model.mixers][3:6]
        ['MambaMixer', 'MultiHeadAttention', 'MambaMixer']
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 11])

    Source: Lieber et al. 2024, figure 2.
    """

    mixers: Any  # of MambaMixer and MultiHeadAttention

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        attention_every: int = 8,
        *,
        state_size: int = 16,
        dim_feedforward: int | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = checks.count("embed_dim", embed_dim)
        every = checks.count("attention_every", attention_every)
        wide = 2 * e
        if dim_feedforward is not None:
            wide = checks.count("dim_feedforward", dim_feedforward)
        depth = range(checks.count("num_layers", num_layers))
        self.token_embedding = nn.Embedding(vocab_size, e, **like)
        self.mixers = nn.ModuleList(
            MultiHeadAttention(e, num_heads, bias=False, **like)
            if number % every == every // 2
            else MambaMixer(e, state_size, **like)
            for number in depth
        )
        self.mixer_norms = nn.ModuleList(RMSNorm(e, eps=1e-6, **like) for _ in depth)
        self.network_norms = nn.ModuleList(RMSNorm(e, eps=1e-6, **like) for _ in depth)
        self.up = nn.ModuleList(
            nn.Linear(e, 2 * wide, bias=False, **like) for _ in depth
        )
        self.down = nn.ModuleList(nn.Linear(wide, e, bias=False, **like) for _ in depth)
        self.norm = RMSNorm(e, eps=1e-6, **like)
        self.head = nn.Linear(e, vocab_size, bias=False, **like)

    def forward(
        self, ids: Int[Tensor, "b t"], state: list[Any] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers.
            state: from `new_state`, to read on from what was read before; it is updated. (Without
                gradients.)
        """
        checks.tokens("ids", ids, self.vocab_size)
        if state is not None and len(state) != len(self.mixers):
            raise ValueError(
                f"state must have {len(self.mixers)} entries, got {len(state)}"
            )
        x = self.token_embedding(ids)
        for number, mixer in enumerate(self.mixers):
            before = self.mixer_norms[number](x)
            kept = None if state is None else state[number]
            if isinstance(mixer, MultiHeadAttention):
                y = mixer(before, is_causal=True, cache=kept)
            else:
                y, kept = mixer(before, kept)
                if state is not None:
                    state[number] = kept
            x = x + y  # eq. mamba-hybrid
            gate, up = self.up[number](self.network_norms[number](x)).chunk(2, -1)
            x = x + self.down[number](F.silu(gate) * up)
        return self.head(self.norm(x))

    def new_state(self, batch: int, max_length: int) -> list[Any]:
        """Return an empty state: a `MambaState` for each scan, a cache for each attention.

        Args:
            batch: how many sequences, ≥ 1.
            max_length: positions that the caches have room for, ≥ 1.
        """
        return [
            KVCache(max_length)
            if isinstance(mixer, MultiHeadAttention)
            else mixer.new_state(batch)
            for mixer in self.mixers
        ]


def _stacked(states: list[MambaState]) -> MambaState:
    return MambaState(*map(torch.stack, zip(*states, strict=True)))
