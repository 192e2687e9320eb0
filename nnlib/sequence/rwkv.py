r"""RWKV: attention whose weights only fade, so that a state of constant size replaces the past.

Chapter: chapters/sequence/rwkv.md     Papers: Peng et al. 2023; versions 5 and 6: Peng et al. 2024;
version 7: Peng et al. 2025
Axes: b batch, t time, s time looked back at, c channels, e model width, h heads, k key channels,
v value channels, l layers.

`RWKV` is version 4, the one of the first paper; its WKV is in `_rwkv_wkv`. Of the later versions
the recurrences are in `_rwkv_heads`, each as one step and as one pass over all of time:
`matrix_step` and `matrix_wkv` (versions 5 and 6), `delta_step` and `delta_wkv` (version 7). All
take the decay as a factor a step, in 0 … 1.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks, hugging_face
from nnlib.blocks.language_model import RecurrentLanguageModel
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.hugging_face import Rule
from nnlib.sequence._rwkv_heads import (
    delta_step,
    delta_wkv,
    matrix_step,
    matrix_wkv,
    transition,
)
from nnlib.sequence._rwkv_wkv import (
    NOTHING,
    WKVState,
    all_steps,
    one_step,
    wide,
    wkv,
    wkv_reference,
    wkv_step,
    wkv_weights,
    wkv_with_state,
)

__all__ = [
    "NOTHING",
    "RWKV",
    "ChannelMixing",
    "RWKVBlock",
    "RWKVState",
    "TimeMixing",
    "WKVState",
    "delta_step",
    "delta_wkv",
    "matrix_step",
    "matrix_wkv",
    "token_shift",
    "transition",
    "wkv",
    "wkv_reference",
    "wkv_step",
    "wkv_weights",
    "wkv_with_state",
]


class RWKVState(NamedTuple):
    """What an RWKV keeps between two tokens, for all its layers: five vectors each.

    Attributes:
        time: input of each time mixing at the last token, l b e.
        channel: input of each channel mixing at the last token, l b e.
        a: numerators of `WKVState`, l b c.
        b: denominators, l b c.
        m: exponents, l b c.
    """

    time: Tensor
    channel: Tensor
    a: Tensor
    b: Tensor
    m: Tensor


def token_shift(x: Float[Tensor, "b t e"], last: Float[Tensor, "b e"]) -> Tensor:
    """Return the input of one step before at every step; `last` stands before the first.

    Example:
        >>> token_shift(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.zeros(1, 1)).flatten().tolist()
        [0.0, 1.0, 2.0]
    """
    return torch.cat([last[:, None], x[:, :-1]], 1)


class TimeMixing(nn.Module):
    r"""$o_t = W_o(\sigma(r_t) \odot \mathrm{wkv}_t)$: what attention is elsewhere.

    Receptance r, key k and value v are linear maps of the input mixed with the one before
    (equations `rwkv-mix`, `rwkv-projections`, `rwkv-output`).

    Args:
        embed_dim: width e of the input, ≥ 1.
        hidden_size: channels c, ≥ 1.
        layer: number of the layer, from 0; how fast channels forget at first depends on it.
        num_layers: how many there are.
        device: of the parameters.
        dtype: of the parameters.

    Source: Peng et al. 2023.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_size: int,
        layer: int,
        num_layers: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        checks.count("embed_dim", embed_dim)
        checks.count("hidden_size", hidden_size)
        self.layer = checks.count("layer", layer, least=0)
        self.num_layers = checks.count("num_layers", num_layers)
        if layer >= num_layers:
            raise ValueError(f"layer={layer} must be below num_layers={num_layers}")
        self.log_decay = nn.Parameter(torch.empty(hidden_size, **like))
        self.bonus = nn.Parameter(torch.empty(hidden_size, **like))
        self.mix_key = nn.Parameter(torch.empty(embed_dim, **like))
        self.mix_value = nn.Parameter(torch.empty(embed_dim, **like))
        self.mix_receptance = nn.Parameter(torch.empty(embed_dim, **like))
        self.key = nn.Linear(embed_dim, hidden_size, bias=False, **like)
        self.value = nn.Linear(embed_dim, hidden_size, bias=False, **like)
        self.receptance = nn.Linear(embed_dim, hidden_size, bias=False, **like)
        self.output = nn.Linear(hidden_size, embed_dim, bias=False, **like)

    @property
    def decay(self) -> Float[Tensor, " c"]:
        """The rate w of every channel: positive, whatever is learned."""
        return self.log_decay.exp()  # eq. rwkv-decay

    def forward(
        self, x: Float[Tensor, "b t e"], last: Float[Tensor, "b e"], state: WKVState
    ) -> tuple[Float[Tensor, "b t e"], WKVState]:
        """Return what is added to the stream, and the state after the last step.

        Args:
            x: inputs.
            last: the input before the first of them.
            state: of what was read before.
        """
        before = token_shift(x, last)
        k = self.key(
            torch.lerp(before, x, self.mix_key)
        )  # eq. rwkv-mix, rwkv-projections
        v = self.value(torch.lerp(before, x, self.mix_value))
        r = self.receptance(torch.lerp(before, x, self.mix_receptance))
        if x.shape[1] == 1:
            y, state = one_step(self.decay, self.bonus, k[:, 0], v[:, 0], state)
            y = y[:, None]
        else:
            y, state = all_steps(self.decay, self.bonus, k, v, state)
        return self.output(r.sigmoid() * y), state  # eq. rwkv-output


class ChannelMixing(nn.Module):
    r"""$\sigma(r_t) \odot W_v \max(k_t, 0)^2$: what the network is in a transformer's block.

    Args:
        embed_dim: width e, ≥ 1.
        dim_feedforward: hidden width, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Source: Peng et al. 2023; the squared ReLU: So et al. 2021.
    """

    def __init__(
        self,
        embed_dim: int,
        dim_feedforward: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        checks.count("embed_dim", embed_dim)
        checks.count("dim_feedforward", dim_feedforward)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.mix_key = nn.Parameter(torch.empty(embed_dim, **like))
        self.mix_receptance = nn.Parameter(torch.empty(embed_dim, **like))
        self.key = nn.Linear(embed_dim, dim_feedforward, bias=False, **like)
        self.receptance = nn.Linear(embed_dim, embed_dim, bias=False, **like)
        self.value = nn.Linear(dim_feedforward, embed_dim, bias=False, **like)

    def forward(
        self, x: Float[Tensor, "b t e"], last: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t e"]:
        """Return what is added to the stream.

        Args:
            x: inputs.
            last: the input before the first of them.
        """
        before = token_shift(x, last)
        k = self.key(torch.lerp(before, x, self.mix_key)).relu()
        r = self.receptance(torch.lerp(before, x, self.mix_receptance)).sigmoid()
        return r * self.value(k * k)  # eq. rwkv-channel


class RWKVBlock(nn.Module):
    """Time mixing, then channel mixing, each added to the stream, with a norm before it.

    Args:
        embed_dim: width e, ≥ 1.
        hidden_size: channels c of the state, ≥ 1.
        dim_feedforward: hidden width of the channel mixing, ≥ 1.
        layer: number of the block, from 0.
        num_layers: how many there are.
        layer_norm_eps: ε of the norms.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_size: int,
        dim_feedforward: int,
        layer: int,
        num_layers: int,
        layer_norm_eps: float = 1e-5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm1 = LayerNorm(embed_dim, eps=layer_norm_eps, **like)
        self.time_mixing = TimeMixing(embed_dim, hidden_size, layer, num_layers, **like)
        self.norm2 = LayerNorm(embed_dim, eps=layer_norm_eps, **like)
        self.channel_mixing = ChannelMixing(embed_dim, dim_feedforward, **like)

    def forward(
        self, x: Float[Tensor, "b t e"], state: RWKVState
    ) -> tuple[Float[Tensor, "b t e"], RWKVState]:
        """Return the stream after the block, and its state; `state` is one layer's: b e, b c."""
        seen = self.norm1(x)
        mixed, wkv_state = self.time_mixing(seen, state.time, WKVState(*state[2:]))
        x = x + mixed  # eq. rwkv-block
        seen_too = self.norm2(x)
        x = x + self.channel_mixing(seen_too, state.channel)
        return x, RWKVState(seen[:, -1], seen_too[:, -1], *wkv_state)


class RWKV(RecurrentLanguageModel[RWKVState]):
    r"""A language model that reads like a transformer and writes like a recurrent network.

    Blocks of time mixing and channel mixing (equation `rwkv-block`), in which all that looks back
    is the input of one token before and `wkv`. `forward` reads all tokens at once; `step` takes
    one, with a state of 5 vectors a layer, however many came before.

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: blocks l, ≥ 1.
        hidden_size: channels c of the state; None is e.
        dim_feedforward: hidden width of the channel mixing; None is 4e.
        layer_norm_eps: ε of the norms, but for the last, where it is 10⁻⁵.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = RWKV(vocab_size=11, embed_dim=8, num_layers=2)
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> logits, state = model.with_state(ids)
        >>> model(ids).shape, model.step(torch.tensor([4]), state)[0].shape
        (torch.Size([1, 3, 11]), torch.Size([1, 11]))

    Source: Peng et al. 2023 (RWKV-4). What they call time_decay and time_first is `log_decay` and
    `bonus` here.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        hidden_size: int | None = None,
        dim_feedforward: int | None = None,
        layer_norm_eps: float = 1e-5,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size)
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        c = e if hidden_size is None else checks.count("hidden_size", hidden_size)
        wide = 4 * e
        if dim_feedforward is not None:
            wide = checks.count("dim_feedforward", dim_feedforward)
        eps = checks.number("layer_norm_eps", layer_norm_eps, above=0)
        self.hidden_size = c
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(vocab_size, e, **like)
        self.input_norm = LayerNorm(e, eps=eps, **like)
        self.layers = nn.ModuleList(
            RWKVBlock(e, c, wide, number, depth, eps, **like) for number in range(depth)
        )
        self.norm = LayerNorm(e, **like)
        self.head = nn.Linear(e, vocab_size, bias=False, **like)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Begin as the authors do: channels of many memories, longer ones in later layers.

        The log of a channel's decay runs from −5 to 3 (equation `rwkv-decay-start`), early layers
        mix in more of the token before (`rwkv-mix-start`), and token vectors begin tiny, behind a
        norm.
        """
        for name, parameter in self.named_parameters():
            if "norm" in name:
                parameter.fill_(name.endswith("weight"))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                out, inside = module.weight.shape
                _orthogonal(module.weight, max(1.0, out / inside) ** 0.5)
        nn.init.uniform_(self.token_embedding.weight, -1e-4, 1e-4)
        _orthogonal(
            self.head.weight, 0.5 * max(1.0, self.vocab_size / self.embed_dim) ** 0.5
        )
        for block in self._blocks():
            _start(block)

    def new_state(self, batch: int) -> RWKVState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        batch = checks.count("batch", batch)
        like = self.head.weight
        seen = like.new_zeros(len(self.layers), batch, self.embed_dim)
        zero = wide(like.new_zeros(len(self.layers), batch, self.hidden_size))
        return RWKVState(seen, seen, zero, zero, torch.full_like(zero, NOTHING))

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "RWKV":
        """Return the RWKV-4 of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `RwkvForCausalLM`, the folder of a saved one, or its name
                on the hub, such as "RWKV/rwkv-4-169m-pile".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        config, tensors = hugging_face.read_model(model_or_path, "rwkv", _SIZES)
        hugging_face.refuse_options(config, {"tie_word_embeddings": False})
        made = cls(
            **{ours: config[name] for name, ours in _SIZES.items()},
            hidden_size=config.get("attention_hidden_size"),
            dim_feedforward=config.get("intermediate_size"),
            layer_norm_eps=config.get("layer_norm_epsilon", 1e-5),
        )
        hugging_face.load_renamed(made, tensors, _RULES)
        made._undo_rescaling(model_or_path, config.get("rescale_every", 6))
        return made.eval()

    @torch.no_grad()
    def _undo_rescaling(self, theirs: Any, every: int) -> None:
        """Multiply back what an instance that has answered has halved, every few layers."""
        if (
            getattr(getattr(theirs, "rwkv", theirs), "layers_are_rescaled", False)
            and every > 0
        ):
            for number, layer in enumerate(self._blocks()):
                layer.time_mixing.output.weight.mul_(2.0 ** (number // every))
                layer.channel_mixing.value.weight.mul_(2.0 ** (number // every))

    def _blocks(self) -> Iterator[RWKVBlock]:
        for layer in self.layers:
            assert isinstance(layer, RWKVBlock)
            yield layer

    def _read(self, ids: Tensor, state: RWKVState) -> tuple[Tensor, RWKVState]:
        x = self.input_norm(self.token_embedding(ids))
        after = []
        for number, layer in enumerate(self.layers):
            x, one = layer(x, RWKVState(*(part[number] for part in state)))
            after.append(one)
        stacked = RWKVState(*map(torch.stack, zip(*after, strict=True)))
        return self.head(self.norm(x)), stacked

    def _checked(self, batch: int, state: Any) -> RWKVState:
        if state is None:
            return self.new_state(batch)
        if not isinstance(state, tuple) or len(state) != 5:
            raise TypeError(f"state must be an RWKVState, got {type(state).__name__}")
        for name, part in zip(RWKVState._fields, state, strict=True):
            width = self.embed_dim if name in ("time", "channel") else self.hidden_size
            shape = (len(self.layers), batch, width)
            checks.tensor(f"state.{name}", part, shape=shape, floating=True)
        return RWKVState(*state)


def _orthogonal(weight: Tensor, gain: float) -> None:
    """Draw an orthogonal matrix, in float32 where torch has no factorisation of its dtype."""
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    weight.copy_(nn.init.orthogonal_(wide, gain))


def _start(block: RWKVBlock) -> None:
    """Set decays, bonuses and mixtures of a fresh block, which depend on where it stands."""
    time, channel = block.time_mixing, block.channel_mixing
    depth = time.layer / max(time.num_layers - 1, 1)  # 0 … 1
    c, like = len(time.bonus), time.bonus
    place = torch.arange(c, dtype=torch.float64) / max(c - 1, 1)
    time.log_decay.copy_(-5 + 8 * place ** (0.7 + 1.3 * depth))  # eq. rwkv-decay-start
    time.bonus.copy_(math.log(0.3) + 0.5 * ((torch.arange(c) + 1) % 3 - 1).to(like))
    e = len(time.mix_key)
    place = torch.arange(e, dtype=torch.float64) / e
    rest = 1 - time.layer / time.num_layers  # 1 … nearly 0
    for mix in (time.mix_key, channel.mix_key, channel.mix_receptance):
        mix.copy_(place**rest)  # eq. rwkv-mix-start
    time.mix_value.copy_(place**rest + 0.3 * depth)
    time.mix_receptance.copy_(place ** (0.5 * rest))


_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
}
_BLOCK = r"(?:rwkv\.)?blocks\.(\d+)\."
_ATTENTION, _NETWORK = _BLOCK + r"attention\.", _BLOCK + r"feed_forward\."
_TIME, _CHANNEL = r"layers.\1.time_mixing.", r"layers.\1.channel_mixing."
_RULES: list[Rule] = [
    (r"(?:rwkv\.)?embeddings\.weight", "token_embedding.weight", None),
    (r"(?:rwkv\.)?blocks\.0\.pre_ln\.(weight|bias)", r"input_norm.\1", None),
    (_BLOCK + r"ln([12])\.(weight|bias)", r"layers.\1.norm\2.\3", None),
    (_ATTENTION + "time_decay", _TIME + "log_decay", None),
    (_ATTENTION + "time_first", _TIME + "bonus", None),
    (_ATTENTION + r"time_mix_(\w+)", _TIME + r"mix_\2", torch.flatten),
    (_ATTENTION + r"(\w+)\.weight", _TIME + r"\2.weight", None),
    (_NETWORK + r"time_mix_(\w+)", _CHANNEL + r"mix_\2", torch.flatten),
    (_NETWORK + r"(\w+)\.weight", _CHANNEL + r"\2.weight", None),
    (r"(?:rwkv\.)?ln_out\.(weight|bias)", r"norm.\1", None),
    (r"head\.weight", "head.weight", None),
]


# --------------------------------------------------------------- versions 5, 6 and 7: one head each
