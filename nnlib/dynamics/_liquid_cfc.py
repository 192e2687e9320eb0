r"""CfC, closed-form continuous time: liquid neurons with a solution that is written down.

Axes: b batch, t time, d inputs, n neurons, u units of the backbone.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._liquid_walk import Tick, one_gap, silenced, taken, walk


class LeCunTanh(nn.Module):
    """1.7159 tanh(0.666 x), which keeps a variance of about one; the 2/3 is rounded as in ncps."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return 1.7159 * torch.tanh(0.666 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "lecun_tanh": LeCunTanh, "tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU,
}  # fmt: skip
MODES = ("default", "no_gate", "pure")


class CfCCell(nn.Module):
    """A backbone and its heads, with the names of `ncps.torch.CfCCell`; `CfC` documents the rest.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: neurons n, ≥ 1.
        mode: as `CfC` takes it.
        backbone_units: likewise.
        backbone_layers: likewise.
        activation: likewise.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> [name for name, _ in CfCCell(3, 5, backbone_layers=0).named_children()]
        ['ff1', 'ff2', 'time_a', 'time_b']

    Source: Hasani et al. 2022.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        mode: str = "default",
        backbone_units: int = 128,
        backbone_layers: int = 1,
        activation: str = "lecun_tanh",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input_size = checks.count("input_size", input_size)
        self.hidden_size = n = checks.count("hidden_size", hidden_size)
        self.mode = checks.one_of("mode", mode, MODES)
        units = checks.count("backbone_units", backbone_units)
        layers = checks.count("backbone_layers", backbone_layers, least=0)
        act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
        width = input_size + n
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(width, units, **factory), act()]
            width = units
        self.backbone = nn.Sequential(*parts) if parts else None
        self.ff1 = nn.Linear(width, n, **factory)
        if mode == "pure":
            self.w_tau = nn.Parameter(torch.empty(1, n, **factory))
            self.A = nn.Parameter(torch.empty(1, n, **factory))
        else:
            self.ff2 = nn.Linear(width, n, **factory)
            self.time_a = nn.Linear(width, n, **factory)
            self.time_b = nn.Linear(width, n, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices (w_tau and A among them) by Glorot's rule, biases as torch does."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)

    def heads(self) -> list[nn.Linear]:
        """Return the maps that read the backbone."""
        return (
            [self.ff1]
            if self.mode == "pure"
            else [self.ff1, self.ff2, self.time_a, self.time_b]
        )

    def solution(self, read: Tensor, gap: Tensor) -> Tensor:
        """Return the state a gap later, from what the heads say, side by side."""
        if self.mode == "pure":
            rate = self.w_tau.abs() + read.abs()
            return (
                self.A - self.A * torch.exp(-gap * rate) * read
            )  # eq. liquid-cfc-pure
        p, q, f, shift = read.chunk(4, -1)
        gate = torch.sigmoid(f * gap + shift)  # eq. liquid-cfc-gate
        p, q = p.tanh(), q.tanh()
        if self.mode == "no_gate":
            return p + gate * q  # eq. liquid-cfc-no-gate
        return p + gate * (q - p)  # eq. liquid-cfc

    def split(self) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Return the first map's weights for inputs and states, its bias, and what follows."""
        heads = self.heads()
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        if self.backbone is None:
            return (
                *weight.split([self.input_size, self.hidden_size], 1),
                bias,
                lambda z: z,
            )
        first, *rest = self.backbone
        assert isinstance(first, nn.Linear)

        def after(z: Tensor) -> Tensor:
            for layer in rest:
                z = layer(z)
            return F.linear(z, weight, bias)

        parts = first.weight.split([self.input_size, self.hidden_size], 1)
        return *parts, first.bias, after


class CfC(nn.Module):
    r"""$v(t) = \sigma(-f t) \odot p + (1 - \sigma(-f t)) \odot q$: no solver, time is an argument.

    The heads $f$, $p$, $q$ share a backbone that reads the input and the last state (equations
    `liquid-cfc`, `liquid-cfc-gate`). Loads the `state_dict` of `ncps.torch.CfC` and fits into it.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: neurons n, ≥ 1.
        mode: "default", as above; "no_gate", $p + \sigma(f t) \odot q$ (`liquid-cfc-no-gate`);
            "pure", the approximate solution itself (`liquid-cfc-pure`).
        backbone_units: width of the backbone, ≥ 1.
        backbone_layers: its layers; 0: the heads read input and state directly.
        activation: of the backbone: "lecun_tanh", "tanh", "relu", "silu" or "gelu".
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> states, last = CfC(3, 5)(torch.zeros(2, 7, 3), timespans=torch.rand(2, 7))
        >>> states.shape, last.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))

    Source: Hasani et al. 2022. They write g and h for our p and q. The gate has a
    learned shift, as in their code.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        mode: str = "default",
        backbone_units: int = 128,
        backbone_layers: int = 1,
        activation: str = "lecun_tanh",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.rnn_cell = CfCCell(
            input_size, hidden_size, mode, backbone_units, backbone_layers, activation,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.input_size, self.hidden_size = input_size, hidden_size

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.rnn_cell.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        state: Float[Tensor, "b n"] | None = None,
        timespans: Float[Tensor, "b t"] | float = 1.0,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b n"]]:
        """Return the states after every input, and the last one.

        Args:
            x: inputs.
            state: the first state; None: zeros.
            timespans: time before each input, ≥ 0.
            lengths: real steps of each sequence; outputs after them are 0.
        """
        cell = self.rnn_cell
        start, spans = taken(
            x, state, timespans, lengths, self.input_size, self.hidden_size
        )
        from_x, from_state, bias, after = cell.split()

        def tick(drive: Tensor, h: Tensor, gap: Tensor) -> Tensor:
            return cell.solution(after(torch.addmm(drive, h, from_state.T)), gap)

        states, last = walk(tick, F.linear(x, from_x, bias), start, spans, lengths)
        return silenced(states, lengths), last

    def loop(
        self,
        x: Float[Tensor, "b t d"],
        state: Float[Tensor, "b n"] | None = None,
        timespans: Float[Tensor, "b t"] | float = 1.0,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b n"]]:
        """Do what `forward` does, every map at every step: the readable twin."""
        start, spans = taken(
            x, state, timespans, lengths, self.input_size, self.hidden_size
        )
        states, last = walk(self._tick(), x, start, spans, lengths)
        return silenced(states, lengths), last

    def step(
        self,
        x: Float[Tensor, "b d"],
        state: Float[Tensor, "b n"] | None = None,
        timespan: Float[Tensor, " b"] | float = 1.0,
    ) -> Float[Tensor, "b n"]:
        """Return the state after one more input, which came `timespan` after the last."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        span = one_gap(timespan, x)
        return self.loop(x[:, None], state, span)[1]

    def _tick(self) -> Tick:
        cell = self.rnn_cell

        def tick(x: Tensor, h: Tensor, gap: Tensor) -> Tensor:
            z = torch.cat((x, h), 1)
            z = z if cell.backbone is None else cell.backbone(z)
            return cell.solution(torch.cat([head(z) for head in cell.heads()], 1), gap)

        return tick
