r"""Liquid networks: neurons whose time constant depends on what they see.

Chapter: chapters/dynamics/liquid.md     Papers: Hasani et al. 2021 (LTC), 2022 (CfC); Lechner et
al. 2020 (wiring).
Forms: LTC (a differential equation and its fused solver), CfC (in closed form).
Axes: b batch, t time, d inputs, n neurons, m motor neurons, which are read out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._liquid_cfc import CfC, CfCCell
from nnlib.dynamics._liquid_ltc import LTCCell
from nnlib.dynamics._liquid_neuron import (
    euler_step,
    exact_step,
    fused_step,
    steady_state,
    time_constant,
)
from nnlib.dynamics._liquid_walk import one_gap, silenced, taken, walk
from nnlib.dynamics._liquid_wiring import Wiring, wiring

__all__ = [
    "LTC",
    "CfC",
    "CfCCell",
    "LTCCell",
    "Trace",
    "Wiring",
    "euler_step",
    "exact_step",
    "fused_step",
    "steady_state",
    "time_constant",
    "wiring",
]


class Trace(NamedTuple):
    """What `LTC.trace` has seen: states and time constants at every step, each b t n."""

    states: Tensor
    time_constants: Tensor


class LTC(nn.Module):
    r"""A layer of liquid time-constant neurons, $\dot v = -[1/\tau + f]\,v + f A$ (`liquid-ode`).

    Each synapse from $j$ to $i$ is a conductance $W_{ji}\,\sigma(\gamma_{ji}(v_j - \mu_{ji}))$ that
    pulls neuron $i$ towards a potential $E_{ji}$ (`liquid-membrane`), so a neuron that is driven
    more strongly also forgets faster. Between two inputs the fused solver takes `unfolds` steps.
    Loads the `state_dict` of `ncps.torch.LTC` and fits into it.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: neurons n, all joined to all and all read out; or a `Wiring`, of which the
            motor neurons are.
        unfolds: steps of the solver between two inputs, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> from nnlib.dynamics.liquid import wiring
        >>> ltc = LTC(3, wiring(3, hidden_size=8, outputs=1))
        >>> outputs, last = ltc(torch.zeros(2, 7, 3), timespans=torch.rand(2, 7))
        >>> outputs.shape, last.shape
        (torch.Size([2, 7, 1]), torch.Size([2, 8]))

    Source: Hasani et al. 2021, who write x for our v; the parameters are those of Lechner et al.
    2020 and of ncps, with $\gamma$ for their $\sigma$.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Wiring,
        unfolds: int = 6,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.rnn_cell = LTCCell(
            input_size, hidden_size, unfolds, device=device, dtype=dtype
        )
        self.input_size, self.hidden_size = input_size, self.rnn_cell.hidden_size

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.rnn_cell.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        state: Float[Tensor, "b n"] | None = None,
        timespans: Float[Tensor, "b t"] | float = 1.0,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b t m"], Float[Tensor, "b n"]]:
        """Return the outputs after every input, and the last state.

        Args:
            x: inputs; each holds for the whole time before it.
            state: the first state; None: zeros.
            timespans: time before each input, ≥ 0.
            lengths: real steps of each sequence; outputs after them are 0.
        """
        states, last = self._states(x, state, timespans, lengths)
        return silenced(self.rnn_cell.read(states), lengths), last

    def loop(
        self,
        x: Float[Tensor, "b t d"],
        state: Float[Tensor, "b n"] | None = None,
        timespans: Float[Tensor, "b t"] | float = 1.0,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b t m"], Float[Tensor, "b n"]]:
        """Do what `forward` does, synapse by synapse: the readable twin, for gaps > 0."""
        start, spans = taken(
            x, state, timespans, lengths, self.input_size, self.hidden_size
        )
        drive = self.rnn_cell.drive(x)
        states, last = walk(
            self.rnn_cell.readable_solver(), drive, start, spans, lengths
        )
        return silenced(self.rnn_cell.read(states), lengths), last

    def trace(
        self,
        x: Float[Tensor, "b t d"],
        state: Float[Tensor, "b n"] | None = None,
        timespans: Float[Tensor, "b t"] | float = 1.0,
    ) -> Trace:
        """Return the states after every input, and the time constants there."""
        states, _ = self._states(x, state, timespans, None)
        constants = self.rnn_cell.time_constants(x.flatten(0, 1), states.flatten(0, 1))
        return Trace(states, constants.unflatten(0, x.shape[:2]))

    def step(
        self,
        x: Float[Tensor, "b d"],
        state: Float[Tensor, "b n"] | None = None,
        timespan: Float[Tensor, " b"] | float = 1.0,
    ) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b n"]]:
        """Return the output and the state after one more input, `timespan` after the last."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        span = one_gap(timespan, x)
        outputs, last = self.forward(x[:, None], state, span)
        return outputs[:, 0], last

    def _states(
        self,
        x: Tensor,
        state: Tensor | None,
        timespans: Tensor | float,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        start, spans = taken(
            x, state, timespans, lengths, self.input_size, self.hidden_size
        )
        return walk(
            self.rnn_cell.solver(), self.rnn_cell.drive(x), start, spans, lengths
        )
