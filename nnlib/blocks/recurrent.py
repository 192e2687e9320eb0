"""What recurrent layers share: torch.nn's parameters, layers, directions, and lengths.

Axes: b batch, t time, d input features, h hidden features, l layers times directions.

A recurrent layer says what one tick does (`cell`). `loop` walks over time with it, readable and
slow; `forward` is the same function by torch's fused operator; `step` is one tick, for generation.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nnlib import checks

LONG = 64  # steps from which torch's operator for packed sequences is the slower one to train
State = tuple[Tensor, ...]  # h, or h and c; each b × features of one layer and direction


class Recurrent(nn.Module):
    """A stack of recurrent layers that loads the `state_dict` of torch's module of the same name.

    Subclasses set `gates`, the number of hidden-sized blocks in a weight; `states`, how many
    tensors are carried; `fused`, torch's operator or None; and `cell`.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: features h of the state, ≥ 1.
        num_layers: layers, each reading the outputs of the one below, ≥ 1.
        bias: whether there are biases.
        batch_first: whether the batch is the first axis, as everywhere in this book, or the second.
        dropout: probability of dropping an output between two layers in training, 0 … 1.
        bidirectional: whether a second walk reads from the end.
    """

    gates: int
    states: int = 1
    fused: Callable | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
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

    def reset_parameters(self) -> None:
        """Draw every parameter from −1/√h … 1/√h, as torch does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def cell(
        self, projected: Float[Tensor, "b gates"], state: State, weights: dict[str, Tensor]
    ) -> State:
        """Return the next state; `projected` is the input's part of all gates, bias included."""
        raise NotImplementedError

    def forward(
        self,
        x: Float[Tensor, "..."] | PackedSequence,
        state: Tensor | State | None = None,
        lengths: Int[Tensor, " b"] | None = None,
    ):
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
        state = self._check(x, state, lengths)
        if self.fused is None:
            return self.loop(x, state, lengths)
        if lengths is not None:
            steps = x.shape[1 if self.batch_first else 0]
            if x.is_cpu and torch.is_grad_enabled() and steps >= LONG:
                return self._between_ends(x, state, lengths)
            packed = pack_padded_sequence(
                x, lengths.cpu(), batch_first=self.batch_first, enforce_sorted=False
            )
            out, final = self._packed(packed, state)
            out, _ = pad_packed_sequence(out, self.batch_first, total_length=steps)
            return out, final
        out, *final = self.fused(
            x, self._given(state), self._flat(), self.bias, self.num_layers, self.dropout,
            self.training, self.bidirectional, self.batch_first,
        )  # fmt: skip
        return out, self._taken(final)

    def loop(
        self,
        x: Float[Tensor, "..."],
        state: Tensor | State | None = None,
        lengths: Int[Tensor, " b"] | None = None,
    ):
        """Do what `forward` does, tick by tick with `cell`: the readable twin."""
        state = self._check(x, state, lengths)
        x = x if self.batch_first else x.transpose(0, 1)
        final, row = [], 0
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in self._suffixes(layer):
                start = tuple(part[row] for part in state)
                out, last = self._walk(x, start, suffix, lengths)
                outputs.append(out)
                final.append(last)
                row += 1
            x = torch.cat(outputs, -1)
        final = tuple(torch.stack(parts) for parts in zip(*final, strict=True))
        return x if self.batch_first else x.transpose(0, 1), self._taken(final)

    def step(self, x: Float[Tensor, "b d"], state: Tensor | State | None = None):
        """Return the output and the states after one more input: what generation uses.

        Raises:
            ValueError: the layer reads in both directions, which needs the end; or bad shapes.
        """
        if self.bidirectional:
            raise ValueError("step needs bidirectional=False, got True: it would start at the end")
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        state = self._check(x[:, None] if self.batch_first else x[None], state, None)
        final = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            weights = self._weights(f"_l{layer}")
            projected = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))
            final.append(self.cell(projected, tuple(part[layer] for part in state), weights))
            x = final[-1][0]
        return x, self._taken(tuple(torch.stack(parts) for parts in zip(*final, strict=True)))

    def _walk(self, x: Tensor, state: State, suffix: str, lengths: Tensor | None):
        """Run one layer in one direction; where a sequence has ended, the state waits."""
        weights = self._weights(suffix)
        projected = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))  # all of time at once
        ticks = list(enumerate(projected.unbind(1)))
        outputs: list[Tensor] = [x] * len(ticks)
        for t, now in reversed(ticks) if suffix.endswith("_reverse") else ticks:
            new = self.cell(now, state, weights)
            if lengths is None:
                state, outputs[t] = new, new[0]
                continue
            real = (t < lengths.to(x.device))[:, None]
            state = tuple(torch.where(real, a, b) for a, b in zip(new, state, strict=True))
            outputs[t] = torch.where(real, new[0], 0)
        return torch.stack(outputs, 1), state

    def _between_ends(self, x: Tensor, state: State, lengths: Tensor):
        """Run the fused operator from each sequence's end to the next, on those that go on.

        On a CPU, torch's operator for packed sequences cuts every step out of one long tensor, and
        each cut has a gradient as long as the whole: training takes the square of the time.
        """
        x = x if self.batch_first else x.transpose(0, 1)
        time, order = x.shape[1], lengths.argsort(descending=True)
        ends, counts = lengths.unique(return_counts=True)
        going = (len(x) - counts.cumsum(0) + counts).tolist()  # rows that reach each end
        spans = ends.diff(prepend=ends.new_zeros(1)).tolist()
        x = x[:, : sum(spans)].index_select(0, order)
        state = tuple(part.index_select(1, order) for part in state)
        final, row = [], 0
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            pieces, outputs = x.split(spans, 1), []
            for suffix in self._suffixes(layer):
                start = tuple(part[row : row + 1] for part in state)
                out, last = self._join(pieces, going, start, suffix)
                outputs.append(out)
                final.append(last)
                row += 1
            x = torch.cat(outputs, -1)
        back = order.argsort()
        x = F.pad(x.index_select(0, back), (0, 0, 0, time - x.shape[1]))
        final = tuple(torch.cat(parts).index_select(1, back) for parts in zip(*final, strict=True))
        return x if self.batch_first else x.transpose(0, 1), self._taken(final)

    def _join(self, pieces: tuple[Tensor, ...], going: list[int], state: State, suffix: str):
        """Run one layer in one direction over pieces of time, each on its first `going` rows."""
        weights, reverse = list(self._weights(suffix).values()), suffix.endswith("_reverse")
        now = tuple(part[:, :0] for part in state) if reverse else state
        outputs, ended = [], []
        walk = list(zip(pieces, going, strict=True))
        for piece, n in reversed(walk) if reverse else walk:
            if reverse:  # rows that end here begin
                joined = [(a, b[:, a.shape[1] : n]) for a, b in zip(now, state, strict=True)]
                now = tuple(torch.cat(parts, 1) for parts in joined)
            else:  # rows that ended before leave
                ended.append(tuple(part[:, n:] for part in now))
                now = tuple(part[:, :n] for part in now)
            real = piece[:n].flip(1) if reverse else piece[:n]
            out, *now = self.fused(
                real, self._given(tuple(now)), weights, self.bias, 1, 0.0, self.training, False,
                True,
            )  # fmt: skip
            out = out.flip(1) if reverse else out
            outputs.append(F.pad(out, (0, 0, 0, 0, 0, len(piece) - n)))
        outputs = outputs[::-1] if reverse else outputs
        last = tuple(torch.cat(parts, 1) for parts in zip(now, *ended[::-1], strict=True))
        return torch.cat(outputs, 1), last

    def _packed(self, x: PackedSequence, state: Tensor | State | None):
        """Run the fused operator on a packed batch, whose rows stand longest first."""
        if self.fused is None:
            padded, lengths = pad_packed_sequence(x, self.batch_first)
            out, final = self.loop(padded, state, lengths)
            again = pack_padded_sequence(out, lengths, self.batch_first, enforce_sorted=False)
            return again, final
        checks.tensor("x", x.data, shape=("n", self.input_size), floating=True, empty=False)
        state = self._states(state, int(x.batch_sizes[0]), x.data)
        if x.sorted_indices is not None:
            state = tuple(part.index_select(1, x.sorted_indices) for part in state)
        data, *final = self.fused(
            x.data, x.batch_sizes, self._given(state), self._flat(), self.bias, self.num_layers,
            self.dropout, self.training, self.bidirectional,
        )  # fmt: skip
        if x.unsorted_indices is not None:
            final = [part.index_select(1, x.unsorted_indices) for part in final]
        out = PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        return out, self._taken(final)

    def _check(self, x, state, lengths) -> State:
        shape = ("b", "t", self.input_size) if self.batch_first else ("t", "b", self.input_size)
        checks.tensor("x", x, shape=shape, floating=True, empty=False)
        batch, time = x.shape[:2] if self.batch_first else x.shape[1::-1]
        if lengths is not None:
            checks.lengths("lengths", lengths, batch, time)
        return self._states(state, batch, x)

    def _states(self, state, batch: int, like: Tensor) -> State:
        """Return the initial states as a tuple of tensors l b h."""
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        if state is None:
            return (like.new_zeros(shape),) * self.states
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        if len(parts) != self.states:
            raise ValueError(f"state must hold {self.states} tensors, got {len(parts)}")
        for name, part in zip(("state", "the second part of state"), parts, strict=False):
            checks.tensor(name, part, shape=shape, floating=True)
        return parts

    def _given(self, state: State):
        return state[0] if self.states == 1 else state

    def _taken(self, final):
        return final[0] if self.states == 1 else tuple(final)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one layer's weights in one direction, for inputs of this width."""
        rows, h = self.gates * self.hidden_size, self.hidden_size
        biases = {"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {}
        return {"weight_ih": (rows, width), "weight_hh": (rows, h)} | biases

    def _weights(self, suffix: str) -> dict[str, Tensor]:
        return {name: getattr(self, name + suffix) for name in self._shapes(0)}

    def _flat(self) -> list[Tensor]:
        layers = range(self.num_layers)
        suffixes = [suffix for layer in layers for suffix in self._suffixes(layer)]
        return [weight for suffix in suffixes for weight in self._weights(suffix).values()]

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        told = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return told + (", bidirectional=True" if self.bidirectional else "")
