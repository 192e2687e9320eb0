"""What recurrent layers share: torch.nn's parameters, layers, directions, and lengths.

Axes: b batch, t time, d input features, h hidden features, l layers times directions.

A recurrent layer says what one tick does (`cell`). `loop` walks over time with it, readable and
slow; `forward` is the same function by torch's fused operator; `step` is one tick, for generation.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.types import Device

from nnlib import checks
from nnlib.blocks._between_ends import between_ends

LONG = 64  # steps from which torch's operator for packed sequences is the slower one to train
CUDNN_MODES: dict[Callable[..., Any] | None, str] = {  # what cuDNN calls torch's operators
    torch.rnn_tanh: "RNN_TANH", torch.rnn_relu: "RNN_RELU", torch.lstm: "LSTM", torch.gru: "GRU",
}  # fmt: skip
State = tuple[
    Tensor, ...
]  # h, or h and c; each b × features of one layer and direction
# the same of all layers, each l b h: h alone, or a pair as in torch.nn
Carried = Tensor | State


class Recurrent(nn.Module):
    """A stack of recurrent layers that loads the `state_dict` of torch's module of the same name.

    Subclasses set `gates`, the number of hidden-sized blocks in a weight; `num_states`, how many
    tensors are carried; `fused`, torch's operator or None; and `cell`.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: features h of the state, ≥ 1.
        num_layers: layers, each reading the outputs of the one below, ≥ 1.
        bias: whether there are biases; two a gate, as in torch, which act as their sum.
        batch_first: whether the batch is the first axis, as everywhere in this book, or the second.
        dropout: probability of dropping an output between two layers in training, 0 … 1.
        bidirectional: whether a second walk reads from the end.
        device: of the parameters.
        dtype: of the parameters.
    """

    gates: int
    num_states: int = 1
    fused: Callable[..., Any] | None = None
    proj_size = 0  # torch's LSTM may project its state; none here does

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        self.hidden_size = h = checks.count("hidden_size", hidden_size)
        self.num_layers = checks.count("num_layers", num_layers)
        self.bias = checks.flag("bias", bias)
        self.batch_first = checks.flag("batch_first", batch_first)
        self.dropout = checks.number("dropout", dropout, least=0, most=1)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        self.directions = 1 + bidirectional
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else h * self.directions
            for suffix in self._suffixes(layer):
                for name, shape in self._shapes(width).items():
                    value = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, nn.Parameter(value))
        self.reset_parameters()
        self.flatten_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from −1/√h … 1/√h, as torch does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Lay all weights into one block of memory, as cuDNN reads them; elsewhere do nothing.

        It is torch's own method, which reads the attributes of the same names. Otherwise cuDNN
        would warn, and copy them into one block at every call.
        """
        if self.fused in CUDNN_MODES:
            nn.RNNBase.flatten_parameters(self)  # type: ignore[arg-type]  # has what it reads

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "Recurrent":
        super()._apply(
            fn, recurse
        )  # `to`, `double`, `cuda`: each parameter is made anew
        self.flatten_parameters()
        return self

    @property
    def mode(self) -> str | None:
        """What cuDNN calls the layer's operator."""
        return CUDNN_MODES.get(self.fused)

    def cell(
        self,
        projected: Float[Tensor, "b gates"],
        state: State,
        weights: dict[str, Tensor],
    ) -> State:
        """Return the next state; `projected` is the input's part of all gates, bias included."""
        raise NotImplementedError

    def forward(
        self,
        x: Float[Tensor, "..."] | PackedSequence,
        state: Carried | None = None,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Tensor | PackedSequence, Carried]:
        """Return the outputs of the last layer at every step, and the final states.

        Args:
            x: b t d (t b d without `batch_first`), or a packed sequence.
            state: initial states, each l b h; a pair (h, c) for an LSTM. None is zero.
            lengths: real steps of each sequence, in any order; outputs after them are 0.

        Returns:
            Outputs b t h (twice h for two directions), packed where `x` was; and the states after
            each sequence's last real step, each l b h.
        """
        if isinstance(x, PackedSequence):
            return self._packed(x, state)
        if self.fused is None:
            return self.loop(x, state, lengths)
        parts = self._check(x, state, lengths)
        if lengths is not None:
            if x.is_meta or torch.compiler.is_compiling():  # packing reads the lengths
                return self.loop(x, state, lengths)
            steps = x.shape[1 if self.batch_first else 0]
            if x.is_cpu and torch.is_grad_enabled() and steps >= LONG:
                return between_ends(self, x, parts, lengths)
            packed = pack_padded_sequence(
                x, lengths.cpu(), batch_first=self.batch_first, enforce_sorted=False
            )
            out, last = self._packed(packed, state)
            return pad_packed_sequence(out, self.batch_first, total_length=steps)[
                0
            ], last
        out, *final = self.fused(
            x, self._bare(parts), self._flat_weights, self.bias, self.num_layers, self.dropout,
            self.training, self.bidirectional, self.batch_first,
        )  # fmt: skip
        return out, self._bare(tuple(final))

    def loop(
        self,
        x: Float[Tensor, "..."],
        state: Carried | None = None,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Tensor, Carried]:
        """Do what `forward` does, tick by tick with `cell`: the readable twin."""
        parts = self._check(x, state, lengths)
        x = x if self.batch_first else x.transpose(0, 1)
        final: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in self._suffixes(layer):
                start = tuple(part[len(final)] for part in parts)
                out, last = self._walk(x, start, suffix, lengths)
                outputs.append(out)
                final.append(last)
            x = torch.cat(outputs, -1)
        return x if self.batch_first else x.transpose(0, 1), self._stacked(final)

    def step(
        self, x: Float[Tensor, "b d"], state: Carried | None = None
    ) -> tuple[Float[Tensor, "b h"], Carried]:
        """Return the output and the states after one more input: what generation uses.

        Raises:
            ValueError: the layer reads in both directions, and one of them begins at the end.
        """
        if self.bidirectional:
            raise ValueError(
                "step needs bidirectional=False, got True: it would start at the end"
            )
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        parts = self._check(x[:, None] if self.batch_first else x[None], state, None)
        final: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            weights = self.weights_of(f"_l{layer}")
            projected = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))
            final.append(
                self.cell(projected, tuple(part[layer] for part in parts), weights)
            )
            x = final[-1][0]
        return x, self._stacked(final)

    def weights_of(self, suffix: str) -> dict[str, Tensor]:
        """Return the weights of one layer in one direction, such as "_l0", by name, as views."""
        return {name: getattr(self, name + suffix) for name in self._shapes(0)}

    def _walk(
        self, x: Tensor, state: State, suffix: str, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """Run one layer in one direction; where a sequence has ended, the state waits."""
        weights = self.weights_of(suffix)
        projected = F.linear(
            x, weights["weight_ih"], weights.get("bias_ih")
        )  # all of time at once
        ticks = list(enumerate(projected.unbind(1)))
        outputs: list[Tensor] = [x] * len(ticks)
        for t, now in reversed(ticks) if suffix.endswith("_reverse") else ticks:
            new = self.cell(now, state, weights)
            if lengths is None:
                state, outputs[t] = new, new[0]
                continue
            real = (t < lengths.to(x.device))[:, None]
            state = tuple(
                torch.where(real, a, b) for a, b in zip(new, state, strict=True)
            )
            outputs[t] = torch.where(real, new[0], 0)
        return torch.stack(outputs, 1), state

    def _packed(
        self, x: PackedSequence, state: Carried | None
    ) -> tuple[PackedSequence, Carried]:
        """Run the fused operator on a packed batch, whose rows stand longest first."""
        if self.fused is None:
            padded, lengths = pad_packed_sequence(x, self.batch_first)
            out, last = self.loop(padded, state, lengths)
            again = pack_padded_sequence(
                out, lengths, self.batch_first, enforce_sorted=False
            )
            return again, last
        checks.tensor(
            "x", x.data, shape=("n", self.input_size), floating=True, empty=False
        )
        parts = self._initial(state, int(x.batch_sizes[0]), x.data)
        if x.sorted_indices is not None:
            parts = tuple(part.index_select(1, x.sorted_indices) for part in parts)
        data, *final = self.fused(
            x.data, x.batch_sizes, self._bare(parts), self._flat_weights, self.bias,
            self.num_layers, self.dropout, self.training, self.bidirectional,
        )  # fmt: skip
        if x.unsorted_indices is not None:
            final = [part.index_select(1, x.unsorted_indices) for part in final]
        packed = PackedSequence(
            data, x.batch_sizes, x.sorted_indices, x.unsorted_indices
        )
        return packed, self._bare(tuple(final))

    def _check(self, x: Tensor, state: Carried | None, lengths: Tensor | None) -> State:
        """Return the initial states; refuse what does not fit."""
        shape = (
            ("b", "t", self.input_size)
            if self.batch_first
            else ("t", "b", self.input_size)
        )
        checks.tensor("x", x, shape=shape, floating=True, empty=False)
        batch, time = x.shape[:2] if self.batch_first else x.shape[1::-1]
        if lengths is not None:
            checks.lengths("lengths", lengths, batch, time)
        return self._initial(state, batch, x)

    def _initial(self, state: Carried | None, batch: int, like: Tensor) -> State:
        """Return the initial states as a tuple of tensors l b h."""
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        if state is None:
            return (like.new_zeros(shape),) * self.num_states
        if not isinstance(state, Tensor | tuple | list):
            raise TypeError(
                f"state must be a tensor or a pair of them, got {type(state).__name__}"
            )
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        if len(parts) != self.num_states:
            raise ValueError(
                f"state must hold {self.num_states} tensors, got {len(parts)}"
            )
        for name, part in zip(
            ("state", "the second part of state"), parts, strict=False
        ):
            checks.tensor(name, part, shape=shape, floating=True)
        return parts

    def _bare(self, parts: State) -> Carried:
        """Return the states as torch.nn has them: one tensor alone, or a tuple of several."""
        return parts[0] if self.num_states == 1 else parts

    def _stacked(self, rows: list[State]) -> Carried:
        """Return the states of all layers and directions, from those of each."""
        return self._bare(
            tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
        )

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one layer's weights in one direction, for inputs of this width."""
        rows, h = self.gates * self.hidden_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, width),
            "weight_hh": (rows, h),
        }
        return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {})

    @property
    def _flat_weights_names(self) -> list[str]:
        suffixes = [
            s for layer in range(self.num_layers) for s in self._suffixes(layer)
        ]
        return [name + suffix for suffix in suffixes for name in self._shapes(0)]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        told = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return told + (", bidirectional=True" if self.bidirectional else "")
