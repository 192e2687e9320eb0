r"""The cell of an LTC network: neurons with a leak, synapses that are conductances, a fused solver.

Axes: b batch, t time, d inputs, n neurons; weights run from the source (rows) to the target.
Letters: capacity C, conductance of the leak g, potential of the leak E_g, strengths W, potentials
of the synapses E, slopes and thresholds of their sigmoids; all of W, C and g pass a softplus.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._liquid_walk import Tick
from nnlib.dynamics._liquid_wiring import Wiring

RANGES = {
    "gleak": (0.001, 1.0), "vleak": (-0.2, 0.2), "cm": (0.4, 0.6), "w": (0.001, 1.0),
    "sigma": (3.0, 8.0), "mu": (0.3, 0.8),
}  # fmt: skip
"""Where parameters begin, as in ncps; those of the inputs have the same ranges."""


class Synapses(NamedTuple):
    """What each target hears from all sources: made once, used at every step. All source target."""

    slope: Tensor
    offset: Tensor  # minus slope times threshold
    strength: Tensor  # W
    current: Tensor  # W times E

    def __call__(self, source: Float[Tensor, "rows s"]) -> tuple[Tensor, Tensor]:
        """Return the conductance at each target, and the same times the potentials: rows n."""
        opened = torch.addcmul(self.offset, self.slope, source[:, :, None]).sigmoid()
        return (opened * self.strength).sum(1), (opened * self.current).sum(1)


class LTCCell(nn.Module):
    r"""Conductance-based neurons and a few steps of the fused solver (`liquid-fused-network`).

    Parameters have the names and the shapes of `ncps.torch.LTCCell`. `LTC` documents the rest.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: neurons n, ≥ 1; or a `Wiring`.
        unfolds: steps of the solver between two inputs, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> cell = LTCCell(3, 5)
        >>> cell.derivative(torch.zeros(2, 3), torch.zeros(2, 5)).shape
        torch.Size([2, 5])

    Source: Hasani et al. 2021; Lechner et al. 2020.
    """

    gleak: nn.Parameter
    vleak: nn.Parameter
    cm: nn.Parameter
    sigma: nn.Parameter
    mu: nn.Parameter
    w: nn.Parameter
    erev: nn.Parameter
    sensory_sigma: nn.Parameter
    sensory_mu: nn.Parameter
    sensory_w: nn.Parameter
    sensory_erev: nn.Parameter
    input_w: nn.Parameter
    input_b: nn.Parameter
    output_w: nn.Parameter
    output_b: nn.Parameter
    sparsity_mask: Tensor
    sensory_sparsity_mask: Tensor

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
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input_size = d = checks.count("input_size", input_size)
        self.wiring = hidden_size if isinstance(hidden_size, Wiring) else None
        if self.wiring is not None and self.wiring.input_size != d:
            raise ValueError(
                f"input_size={d} must be {self.wiring.input_size}, as the wiring in hidden_size has"
            )
        self.hidden_size = n = (
            self.wiring.hidden_size
            if self.wiring is not None
            else checks.count("hidden_size", hidden_size)
        )
        self.output_size = n if self.wiring is None else self.wiring.outputs
        self.unfolds = checks.count("unfolds", unfolds)
        shapes: dict[str, tuple[int, ...]] = {"gleak": (n,), "vleak": (n,), "cm": (n,)}
        for name in ("sigma", "mu", "w", "erev"):
            shapes |= {name: (n, n), f"sensory_{name}": (d, n)}
        shapes |= {"input_w": (d,), "input_b": (d,)}
        shapes |= {"output_w": (self.output_size,), "output_b": (self.output_size,)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, **factory)))
        for name, shape in (
            ("sparsity_mask", (n, n)),
            ("sensory_sparsity_mask", (d, n)),
        ):
            self.register_buffer(name, torch.ones(shape, **factory))
        if self.wiring is not None:
            self.sparsity_mask.copy_(self.wiring.inner.abs())
            self.sensory_sparsity_mask.copy_(self.wiring.sensory.abs())
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw leaks, synapses and thresholds from ncps' ranges.

        Potentials of synapses are the signs of the wiring; without one, two of three are 1, else
        -1. The maps of inputs and outputs begin as the identity.
        """
        for name, parameter in self.named_parameters():
            kind = name.removeprefix("sensory_")
            if kind in RANGES:
                nn.init.uniform_(parameter, *RANGES[kind])
            elif kind == "erev":
                drawn = torch.rand_like(parameter)
                parameter.copy_(torch.where(drawn < 1 / 3, -1.0, 1.0))
            else:
                nn.init.constant_(parameter, float(name.endswith("_w")))
        if self.wiring is not None:
            self.erev.copy_(self.wiring.inner)
            self.sensory_erev.copy_(self.wiring.sensory)

    def leaks(self) -> tuple[Tensor, Tensor]:
        """Return the capacity C and the conductance g of the leak of each neuron, both > 0."""
        return F.softplus(self.cm), F.softplus(self.gleak)

    def strengths(self) -> tuple[Tensor, Tensor]:
        """Return the strengths W of the sensory and of the inner synapses; no synapse: 0."""
        sensory = F.softplus(self.sensory_w) * self.sensory_sparsity_mask
        return sensory, F.softplus(self.w) * self.sparsity_mask

    def synapses(self) -> tuple[Synapses, Synapses]:
        """Return the sensory and the inner synapses as a step needs them."""
        sensory, inner = self.strengths()
        parts = (
            (self.sensory_sigma, self.sensory_mu, sensory, self.sensory_erev),
            (self.sigma, self.mu, inner, self.erev),
        )
        first, second = (
            Synapses(slope, -slope * threshold, strength, strength * potential)
            for slope, threshold, strength, potential in parts
        )
        return first, second

    def mapped(self, x: Tensor) -> Tensor:
        """Return the inputs after their own scale and shift."""
        return x * self.input_w + self.input_b

    def read(self, state: Tensor) -> Tensor:
        """Return the outputs: motor neurons, scaled and shifted."""
        return state[..., : self.output_size] * self.output_w + self.output_b

    def drive(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t n two"]:
        """Return what all inputs contribute: conductances, and these times potentials."""
        sensory, _ = self.synapses()
        conductance, current = sensory(self.mapped(x).flatten(0, 1))
        return torch.stack((conductance, current), -1).unflatten(0, x.shape[:2])

    def solver(self) -> Tick:
        """Return the function that moves the state from one input to the next."""
        _, inner = self.synapses()
        capacity, leak = self.leaks()

        def tick(drive: Tensor, state: Tensor, gap: Tensor) -> Tensor:
            step = gap / self.unfolds
            fixed = capacity + step * (leak + drive[..., 0])
            pull = step * (leak * self.vleak + drive[..., 1])
            for _ in range(self.unfolds):
                conductance, current = inner(state)
                above = torch.addcmul(
                    torch.addcmul(pull, capacity, state), step, current
                )
                state = above / torch.addcmul(fixed, step, conductance)
            return state  # eq. liquid-fused-network

        return tick

    def readable_solver(self) -> Tick:
        """Return the twin of `solver` that follows the equations, synapse by synapse."""
        _, W = self.strengths()
        C, g = self.leaks()

        def tick(drive: Tensor, v: Tensor, gap: Tensor) -> Tensor:
            dt = gap / self.unfolds
            for _ in range(self.unfolds):
                opened = torch.sigmoid(self.sigma * (v[:, :, None] - self.mu))
                G = W * opened  # b, source, target
                total = g + G.sum(1) + drive[..., 0]
                pull = g * self.vleak + (G * self.erev).sum(1) + drive[..., 1]
                v = (C / dt * v + pull) / (C / dt + total)
            return v

        return tick

    def total(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the total conductance of each neuron, and what it pulls with: b n each."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True)
        shape = (len(x), self.hidden_size)
        checks.tensor("state", state, shape=shape, floating=True)
        _, inner = self.synapses()
        drive = self.drive(x[:, None])[:, 0]
        conductance, current = inner(state)
        _, leak = self.leaks()
        return (
            leak + conductance + drive[..., 0],
            leak * self.vleak + current + drive[..., 1],
        )

    def derivative(
        self, x: Float[Tensor, "b d"], state: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Return how fast each state changes while the input holds (`liquid-membrane`)."""
        conductance, pull = self.total(x, state)
        capacity, _ = self.leaks()
        return (pull - conductance * state) / capacity

    def time_constants(
        self, x: Float[Tensor, "b d"], state: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Return each neuron's time constant at this input and state (`liquid-tau-network`)."""
        capacity, _ = self.leaks()
        return capacity / self.total(x, state)[0]

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.input_size}, {self.wiring or self.hidden_size}, unfolds={self.unfolds}"
