r"""Neural Turing machine and differentiable neural computer: networks with a memory beside them.

A controller emits, at each step, the parameters of heads that write to the rows of a memory and
read them. Where a head looks is a share of every row, so that gradients flow to all of them.
How the Turing machine addresses stands in `_addressing`, what the differentiable neural computer
keeps books of in `_dnc_memory`, its model in `_dnc`, and the controllers in `_controller`.

Chapter: chapters/memory/neural_turing_machine.md
Papers: Graves, Wayne and Danihelka 2014; Graves, Wayne, Reynolds et al. 2016 (DNC)
Axes: b batch, t time, d input features, o output features, h heads, r those of them that read, n
slots of the memory, w numbers of a slot, k hidden units of the controller.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.memory._addressing import (
    Addressing,
    address,
    addressed,
    cosine,
    read,
    ring,
    write,
)
from nnlib.memory._controller import CONTROLLERS, Hidden
from nnlib.memory._dnc import DNC, DNCState
from nnlib.memory._dnc_memory import (
    allocation,
    link_reads,
    update_links,
    update_precedence,
    update_usage,
)
from nnlib.memory._state import (
    MemoryMachine,
    check_memory,
    check_slots,
    checked_input,
)

__all__ = [
    "DNC",
    "Addressing",
    "DNCState",
    "NTMState",
    "NeuralTuringMachine",
    "address",
    "allocation",
    "cosine",
    "link_reads",
    "read",
    "update_links",
    "update_precedence",
    "update_usage",
    "write",
]

START = 1e-6
"""What every number of a fresh memory is."""


class NTMState(NamedTuple):
    """What a machine carries from step to step."""

    memory: Float[Tensor, "b n w"]
    """Its rows."""
    weights: Float[Tensor, "b h n"]
    """Where the heads look: first those that read, then those that write."""
    reads: Float[Tensor, "b r w"]
    """What was read."""
    hidden: tuple[Float[Tensor, "b k"], ...]
    """Of the controller: its output, and an LSTM's cell."""


class NeuralTuringMachine(MemoryMachine[NTMState]):
    r"""A controller with a memory: $\mathbf y_t = \mathbf W[\mathbf h_t; \mathbf r_t] + \mathbf b$.

    At each step the controller sees the input and what was read before (equation
    `neural-turing-machine-controller`). One linear map of its output gives the parameters of all
    heads (`neural-turing-machine-interface`), which are addressed together as `address` does it.
    The read heads read what was in the memory before the step, and the write heads change it.

    The memory begins with 10⁻⁶ everywhere, and every head at slot 0. The biases of the heads begin
    with a lean towards following the content little and going one slot ahead: gate −2, the logit of
    the shift by +1 is 1, the sharpness 1 + softplus(1) = 2.3, and all others 0.
    `interface.reset_parameters()` draws them without it. No parameter depends on the number of
    slots, so a machine that was trained with 12 can be run with 64.

    Args:
        input_size: d ≥ 1.
        output_size: o ≥ 1.
        hidden_size: k ≥ 1, units of the controller.
        num_slots: n ≥ 1, rows of a fresh memory.
        slot_size: w ≥ 1, numbers of a row.
        num_read_heads: r ≥ 1.
        num_write_heads: ≥ 1.
        num_shifts: odd; 3 lets a head move by −1, 0 or 1 slots a step.
        controller: "feedforward" or "lstm".
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> machine = NeuralTuringMachine(6, 4, num_slots=12)
        >>> outputs, state = machine(torch.zeros(2, 9, 6))
        >>> outputs.shape, state.memory.shape
        (torch.Size([2, 9, 4]), torch.Size([2, 12, 6]))

    Source: Graves, Wayne and Danihelka 2014, who call the numbers of a row M and the memory, too.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 16,
        num_slots: int = 32,
        slot_size: int = 6,
        num_read_heads: int = 1,
        num_write_heads: int = 1,
        num_shifts: int = 3,
        controller: str = "feedforward",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        output_size = checks.count("output_size", output_size)
        hidden_size = checks.count("hidden_size", hidden_size)
        self.num_slots = checks.count("num_slots", num_slots)
        self.slot_size = checks.count("slot_size", slot_size)
        self.num_read_heads = checks.count("num_read_heads", num_read_heads)
        self.num_write_heads = checks.count("num_write_heads", num_write_heads)
        self.num_shifts = checks.count("num_shifts", num_shifts)
        if num_shifts % 2 == 0:
            raise ValueError(f"num_shifts={num_shifts} must be odd: as many back as on")
        checks.one_of("controller", controller, CONTROLLERS)
        read_size = num_read_heads * slot_size
        self.controller: Any = CONTROLLERS[controller](
            self.input_size, read_size, hidden_size, device=device, dtype=dtype
        )
        heads, written = num_read_heads + num_write_heads, num_write_heads * slot_size
        # keys, strengths and sharpnesses, gates, shifts; erased and added
        self.sizes = [heads * slot_size, 2 * heads, heads, heads * num_shifts]
        self.sizes += [written, written]
        self.interface = nn.Linear(
            hidden_size, sum(self.sizes), device=device, dtype=dtype
        )
        self.output = nn.Linear(
            hidden_size + read_size, output_size, device=device, dtype=dtype
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew, and lean the heads towards staying and going ahead."""
        for part in (self.controller, self.interface, self.output):
            part.reset_parameters()
        self.interface.weight.mul_(0.5)
        self.interface.bias.zero_()
        _, sharp, gate, shift, _, _ = self.interface.bias.split(self.sizes)
        sharp[len(sharp) // 2 :] = 1.0
        gate.fill_(-2.0)
        if self.num_shifts > 1:
            shift.view(-1, self.num_shifts)[:, self.num_shifts // 2 + 1] = 1.0

    def initial_state(self, batch_size: int, num_slots: int | None = None) -> NTMState:
        """Return a fresh memory, with every head at slot 0.

        Args:
            batch_size: b ≥ 1.
            num_slots: n ≥ 1; that of the constructor if None.
        """
        b = checks.count("batch_size", batch_size)
        n = check_slots(num_slots, self.num_slots)
        like = self.interface.weight
        weights = like.new_zeros(b, self.num_read_heads + self.num_write_heads, n)
        weights[..., 0] = 1.0
        return NTMState(
            like.new_full((b, n, self.slot_size), START),
            weights,
            like.new_zeros(b, self.num_read_heads, self.slot_size),
            self.controller.initial(b),
        )

    def _states(self, x: Tensor, state: NTMState | None) -> Iterator[NTMState]:
        checked_input(x, self.input_size)
        state = self.initial_state(len(x)) if state is None else self._checked(state, x)
        places = ring(state.memory.shape[1], self.num_shifts, x.device)
        for projected in self.controller.project(x).unbind(1):
            state = self._step(projected, state, places)
            yield state

    def _step(self, projected: Tensor, state: NTMState, places: Tensor) -> NTMState:
        hidden: Hidden = self.controller.step(  # eq. neural-turing-machine-controller
            projected, state.reads.flatten(1), state.hidden
        )
        parts = self.interface(hidden[0]).split(self.sizes, -1)
        keys, positive, gates, shifts, erase, add = parts
        wide = (-1, self.slot_size)
        positive = (1 + F.softplus(positive)).unflatten(-1, (2, -1))
        weights = addressed(
            state.memory,
            state.weights,
            keys.unflatten(-1, wide),
            positive[:, 0],
            gates.sigmoid(),
            shifts.unflatten(-1, (-1, self.num_shifts)).softmax(-1),
            positive[:, 1],
            places,
        ).weights
        reading, writing = weights.split([self.num_read_heads, self.num_write_heads], 1)
        erase, add = (
            part.unflatten(-1, wide) for part in (erase.sigmoid(), add.tanh())
        )
        memory = write(state.memory, writing, erase, add)
        return NTMState(memory, weights, read(state.memory, reading), hidden)

    def _checked(self, state: Any, x: Tensor) -> NTMState:
        if not isinstance(state, NTMState):
            raise TypeError(f"state must be an NTMState, got {type(state).__name__}")
        n = check_memory(state.memory, len(x), self.slot_size)
        heads = self.num_read_heads + self.num_write_heads
        checks.tensor("state.weights", state.weights, shape=(len(x), heads, n))
        shape = (len(x), self.num_read_heads, self.slot_size)
        checks.tensor("state.reads", state.reads, shape=shape)
        wanted = self.controller.initial(1)
        if len(state.hidden) != len(wanted):
            raise ValueError(
                f"state.hidden must hold {len(wanted)} tensors, got {len(state.hidden)}"
            )
        for part, like in zip(state.hidden, wanted, strict=True):
            checks.tensor("state.hidden", part, shape=(len(x), like.shape[1]))
        return state
