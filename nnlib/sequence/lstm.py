r"""LSTM: a state that is added to, behind gates that decide what to forget, write and show.

Chapter: chapters/sequence/lstm.md     Papers: Hochreiter and Schmidhuber 1997; forget gate: Gers et
al. 1999
Axes: b batch, t time, d input features, h hidden features, l layers times directions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.recurrent import Recurrent, State


class Tick(NamedTuple):
    """What one step computes: three gates, the candidate, and the two states after it.

    Attributes:
        i: input gate, 0 … 1: how much of the candidate is written.
        f: forget gate, 0 … 1: how much of the cell is kept.
        g: candidate, −1 … 1.
        o: output gate, 0 … 1: how much of the cell is shown.
        c: the cell.
        h: the hidden state, which is also the output.
    """

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


class LSTM(Recurrent):
    r"""$c_t = f_t \odot c_{t-1} + i_t \odot g_t$, $h_t = o_t \odot \tanh c_t$.

    The gates $i, f, o$ are sigmoids and $g$ a tanh of $W x_t + R h_{t-1} + b$ (equations
    `lstm-input`, `lstm-forget`, `lstm-candidate`, `lstm-output`, `lstm-cell`, `lstm-hidden`).
    Takes the arguments of `Recurrent`, which are torch.nn.LSTM's without `proj_size` and batch
    first, and loads its `state_dict`.

    Example:
        >>> out, (h, c) = LSTM(3, 5)(torch.zeros(2, 7, 3))
        >>> out.shape, c.shape
        (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))

    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000. Papers differ in
    the order of the gates; here it is torch's: i, f, g, o.
    """

    gates = 4
    num_states = 2
    fused: Callable[..., Any] | None = staticmethod(torch.lstm)

    def cell(
        self, projected: Tensor, state: State, weights: dict[str, Tensor]
    ) -> State:
        """One tick: the states after it."""
        tick = self.tick(projected, state, weights)
        return tick.h, tick.c

    def tick(self, projected: Tensor, state: State, weights: dict[str, Tensor]) -> Tick:
        """One tick with all that it computes: forget, write, show."""
        h, c = state
        mixed = projected + F.linear(h, weights["weight_hh"], weights.get("bias_hh"))
        i, f, g, o = mixed.chunk(4, -1)
        i, f, o = (
            i.sigmoid(),
            f.sigmoid(),
            o.sigmoid(),
        )  # eq. lstm-input, lstm-forget, lstm-output
        g = g.tanh()  # eq. lstm-candidate
        c = f * c + i * g  # eq. lstm-cell
        return Tick(i, f, g, o, c, o * c.tanh())  # eq. lstm-hidden

    def trace(
        self, x: Float[Tensor, "..."], state: tuple[Tensor, Tensor] | None = None
    ) -> Tick:
        """Return gates, candidates and states at every step, each of the shape of the outputs.

        Args:
            x: b t d (t b d without `batch_first`).
            state: initial h and c, each 1 b h; None is zero.
        """
        if self.num_layers > 1 or self.bidirectional:
            raise ValueError(
                "trace needs num_layers=1 and bidirectional=False, "
                f"got {self.num_layers} and {self.bidirectional}"
            )
        start = self._check(x, state, None)
        axis = 1 if self.batch_first else 0
        weights = self.weights_of("_l0")
        projected = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))
        ticks: list[Tick] = []
        for now in projected.unbind(axis):
            before = (ticks[-1].h, ticks[-1].c) if ticks else (start[0][0], start[1][0])
            ticks.append(self.tick(now, before, weights))
        return Tick(*(torch.stack(parts, axis) for parts in zip(*ticks, strict=True)))


class PeepholeLSTM(LSTM):
    r"""An LSTM whose gates also see the cell: $i$ and $f$ the old one, $o$ the new one.

    Each gate gains one weight a unit, $p \odot c$, inside its sigmoid (equation `lstm-peephole`):
    `weight_ch_l0`, three rows of hidden_size, for i, f and o. No fused operator knows them, so
    `forward` is the loop. Arguments as for `LSTM`.

    Example:
        >>> layer = PeepholeLSTM(3, 5)
        >>> tuple(layer.weight_ch_l0.shape), layer(torch.zeros(2, 7, 3))[0].shape
        ((3, 5), torch.Size([2, 7, 5]))

    Source: Gers and Schmidhuber 2000.
    """

    fused = None

    def tick(self, projected: Tensor, state: State, weights: dict[str, Tensor]) -> Tick:
        """One tick, in which the gates look at the cell."""
        h, c = state
        mixed = projected + F.linear(h, weights["weight_hh"], weights.get("bias_hh"))
        i, f, g, o = mixed.chunk(4, -1)
        peek_i, peek_f, peek_o = weights["weight_ch"]
        i, f, g = (i + peek_i * c).sigmoid(), (f + peek_f * c).sigmoid(), g.tanh()
        c = f * c + i * g
        o = (o + peek_o * c).sigmoid()  # eq. lstm-peephole
        return Tick(i, f, g, o, c, o * c.tanh())

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(width) | {"weight_ch": (3, self.hidden_size)}


@torch.no_grad()
def forget_bias_(layer: LSTM | nn.LSTM, value: float) -> LSTM | nn.LSTM:
    r"""Set the bias of every forget gate to `value`, and return the layer.

    torch has two biases a gate, which are added; the second one is set to 0, so that `value` is the
    whole. A gate with this bias, and nothing else to see, keeps 1/e of the cell after
    $1/\ln(1 + e^{-b})$ steps (equation `lstm-timescale`).

    Args:
        layer: ours or torch's, with biases.
        value: any number; 1 or 2 is common, 0 keeps half.

    Example:
        >>> layer = forget_bias_(LSTM(3, 4), 1.0)
        >>> (layer.bias_ih_l0 + layer.bias_hh_l0)[4:8].tolist()
        [1.0, 1.0, 1.0, 1.0]

    Source: Gers, Schmidhuber and Cummins 2000; Jozefowicz, Zaremba and Sutskever 2015.
    """
    value = checks.number("value", value)
    for first, second in _biases(layer):
        h = layer.hidden_size
        first[h : 2 * h], second[h : 2 * h] = value, 0
    return layer


@torch.no_grad()
def chrono_(
    layer: LSTM | nn.LSTM, longest: int, generator: torch.Generator | None = None
) -> LSTM | nn.LSTM:
    r"""Give every unit a memory of its own length, up to `longest` steps, and return the layer.

    $b_f = \ln \tau$ and $b_i = -b_f$ with $\tau$ uniform in 1 … `longest` − 1 (equation
    `lstm-chrono`). The second biases of both gates are set to 0.

    Args:
        layer: ours or torch's, with biases.
        longest: steps that should be bridged, ≥ 2.
        generator: of the draw; torch's own when None.

    Example:
        >>> layer = chrono_(LSTM(3, 4), 100)
        >>> bool((layer.bias_ih_l0[4:8] == -layer.bias_ih_l0[:4]).all())
        True

    Source: Tallec and Ollivier 2018.
    """
    longest = checks.count("longest", longest, least=2)
    for first, second in _biases(layer):
        h = layer.hidden_size
        spans = torch.empty(h, dtype=torch.float64).uniform_(
            1, longest - 1, generator=generator
        )
        first[h : 2 * h] = spans.log().to(first)
        first[:h] = -first[h : 2 * h]
        second[: 2 * h] = 0
    return layer


def _biases(layer: LSTM | nn.LSTM) -> list[tuple[Tensor, Tensor]]:
    if not isinstance(layer, LSTM | nn.LSTM):
        raise TypeError(f"layer must be an LSTM, got {type(layer).__name__}")
    if not layer.bias:
        raise ValueError("layer must have biases, got bias=False")
    names = [name for name, _ in layer.named_parameters() if name.startswith("bias_ih")]
    return [(getattr(layer, n), getattr(layer, n.replace("_ih", "_hh"))) for n in names]


@torch.no_grad()
def cell_jacobian(
    layer: LSTM, x: Float[Tensor, "t d"], start: int = 0
) -> tuple[Float[Tensor, "k h h"], Float[Tensor, "k h h"]]:
    r"""Return $\partial c_t / \partial c_k$ for every t ≥ k, and the direct path's share of it.

    The true one also goes through h and the gates (equation `lstm-jacobian`); the direct cell path
    alone gives $\prod_j \mathrm{diag}(f_j)$ (equation `lstm-path`).

    Args:
        layer: one layer, one direction.
        x: one sequence, read from a zero state.
        start: k, the step whose cell is varied, 0 … t − 1; the first matrices are the identity.

    Example:
        >>> true, path = cell_jacobian(LSTM(3, 4), torch.randn(6, 3), start=2)
        >>> true.shape, bool((true[0] == path[0]).all())
        (torch.Size([4, 4, 4]), True)
    """
    if not isinstance(layer, LSTM) or isinstance(layer, PeepholeLSTM):
        raise TypeError(
            f"layer must be an LSTM without peepholes, got {type(layer).__name__}"
        )
    checks.tensor("x", x, shape=("t", layer.input_size), floating=True, empty=False)
    if checks.count("start", start, least=0) >= len(x):
        raise ValueError(f"start={start} must be below {len(x)}, the steps of x")
    ticks = layer.trace(x[None] if layer.batch_first else x[:, None])
    i, f, g, o, c, _ = (part.flatten(0, 1) for part in ticks)
    r_i, r_f, r_g, r_o = layer.weights_of("_l0")["weight_hh"].chunk(4)

    def rows(values: Tensor, matrix: Tensor) -> Tensor:
        return values[:, None] * matrix  # diag(values) @ matrix

    shown = 1 - c.tanh() ** 2
    cells = [torch.eye(layer.hidden_size).to(x)]
    hidden = rows(o[start] * shown[start], cells[0])
    for t in range(start + 1, len(x)):
        gates = rows(c[t - 1] * f[t] * (1 - f[t]), r_f) + rows(
            g[t] * i[t] * (1 - i[t]), r_i
        )
        detour = gates + rows(i[t] * (1 - g[t] ** 2), r_g)
        cells.append(rows(f[t], cells[-1]) + detour @ hidden)  # eq. lstm-jacobian
        opened = rows(c[t].tanh() * o[t] * (1 - o[t]), r_o)
        hidden = rows(o[t] * shown[t], cells[-1]) + opened @ hidden
    kept = torch.cat([torch.ones_like(f[:1]), f[start + 1 :]]).cumprod(0)
    return torch.stack(cells), torch.diag_embed(kept)  # eq. lstm-path
