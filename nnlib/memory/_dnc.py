r"""Differentiable neural computer: a memory that knows what is free and what was written when.

Axes: b batch, t time, d input features, o output features, r read heads, n slots, w numbers of a
slot, k hidden units of the controller.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.memory._addressing import content_weights, read, write
from nnlib.memory._controller import CONTROLLERS
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


class DNCState(NamedTuple):
    """What the computer carries from step to step."""

    memory: Float[Tensor, "b n w"]
    """Its rows."""
    usage: Float[Tensor, "b n"]
    """How far each slot is in use."""
    links: Float[Tensor, "b n n"]
    """To which degree slot i was written right after slot j."""
    precedence: Float[Tensor, "b n"]
    """To which degree each slot was the last one written."""
    write_weights: Float[Tensor, "b n"]
    """Where it wrote."""
    read_weights: Float[Tensor, "b r n"]
    """Where it read."""
    reads: Float[Tensor, "b r w"]
    """What it read."""
    hidden: tuple[Float[Tensor, "b k"], ...]
    """Of the controller."""


class DNC(MemoryMachine[DNCState]):
    r"""$\mathbf y_t = \mathbf W[\mathbf h_t; \mathbf r_t] + \mathbf b$; the memory keeps records.

    One write head writes where the key is (content) or where the memory is free (allocation),
    equation `neural-turing-machine-dnc-write`. Each read head goes by content, or one write
    on or back along the links from where it was (`neural-turing-machine-dnc-read`). The memory
    begins with zeros, and no head anywhere.

    Weights begin with a lean, which is ours and not the paper's: write to free slots (both gates'
    biases 2), free nothing (−2), go back seldom (−2), compare sharply (1 + softplus(5) = 6), and
    ask with the weights that write, so that a read key resembles what was written for a like
    input. `interface.reset_parameters()` draws them without it.

    Args:
        input_size: d ≥ 1.
        output_size: o ≥ 1.
        hidden_size: k ≥ 1, units of the controller.
        num_slots: n ≥ 1, rows of a fresh memory. No parameter depends on it.
        slot_size: w ≥ 1, numbers of a row.
        num_read_heads: r ≥ 1.
        controller: "lstm", as in the paper, or "feedforward".
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> computer = DNC(6, 4, num_slots=12)
        >>> outputs, state = computer(torch.zeros(2, 9, 6))
        >>> outputs.shape, state.links.shape
        (torch.Size([2, 9, 4]), torch.Size([2, 12, 12]))

    Source: Graves et al. 2016. Here gradients also flow through the usage to where it was written.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 32,
        num_slots: int = 16,
        slot_size: int = 8,
        num_read_heads: int = 1,
        controller: str = "lstm",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        output_size = checks.count("output_size", output_size)
        hidden_size = checks.count("hidden_size", hidden_size)
        self.num_slots = checks.count("num_slots", num_slots)
        self.slot_size = w = checks.count("slot_size", slot_size)
        self.num_read_heads = r = checks.count("num_read_heads", num_read_heads)
        checks.one_of("controller", controller, CONTROLLERS)
        self.controller: Any = CONTROLLERS[controller](
            self.input_size, r * w, hidden_size, device=device, dtype=dtype
        )
        # read keys and write key; strengths; erased; added; free gates, allocation gate and
        # write gate; read modes: back, content, on
        self.sizes = [(r + 1) * w, r + 1, w, w, r + 2, 3 * r]
        self.interface = nn.Linear(
            hidden_size, sum(self.sizes), device=device, dtype=dtype
        )
        self.output = nn.Linear(
            hidden_size + r * w, output_size, device=device, dtype=dtype
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew, and lean the heads: write what comes, keep it, find its like."""
        for part in (self.controller, self.interface, self.output):
            part.reset_parameters()
        r, w = self.num_read_heads, self.slot_size
        self.interface.weight.mul_(1.5)
        keys, _, _, add, _, _ = self.interface.weight.split(self.sizes)
        keys[: r * w] = add.repeat(
            r, 1
        )  # what is asked for looks like what was written
        self.interface.bias.zero_()
        _, strengths, _, _, gates, modes = self.interface.bias.split(self.sizes)
        strengths.fill_(5.0)
        gates.fill_(2.0)  # allocate, and write
        gates[:r] = -2.0  # free nothing
        modes.view(r, 3)[:, 0] = -2.0  # go back seldom

    def initial_state(self, batch_size: int, num_slots: int | None = None) -> DNCState:
        """Return an empty memory.

        Args:
            batch_size: b ≥ 1.
            num_slots: n ≥ 1; that of the constructor if None.
        """
        b = checks.count("batch_size", batch_size)
        n = check_slots(num_slots, self.num_slots)
        zeros, r, w = (
            self.interface.weight.new_zeros,
            self.num_read_heads,
            self.slot_size,
        )
        return DNCState(
            memory=zeros(b, n, w),
            usage=zeros(b, n),
            links=zeros(b, n, n),
            precedence=zeros(b, n),
            write_weights=zeros(b, n),
            read_weights=zeros(b, r, n),
            reads=zeros(b, r, w),
            hidden=self.controller.initial(b),
        )

    def _states(self, x: Tensor, state: DNCState | None) -> Iterator[DNCState]:
        checked_input(x, self.input_size)
        state = self.initial_state(len(x)) if state is None else self._checked(state, x)
        for projected in self.controller.project(x).unbind(1):
            state = self._step(projected, state)
            yield state

    def _step(self, projected: Tensor, state: DNCState) -> DNCState:
        hidden = self.controller.step(projected, state.reads.flatten(1), state.hidden)
        parts = self.interface(hidden[0]).split(self.sizes, -1)
        keys = parts[0].unflatten(-1, (-1, self.slot_size))
        strengths = 1 + F.softplus(parts[1])  # eq. neural-turing-machine-oneplus
        erase, add = parts[2].sigmoid(), parts[3]
        gates = parts[4].sigmoid()
        modes = parts[5].unflatten(-1, (-1, 3)).softmax(-1)
        r = self.num_read_heads

        usage = update_usage(
            state.usage, state.write_weights, state.read_weights, gates[:, :r]
        )
        similar = content_weights(keys[:, r:], strengths[:, r:], state.memory)[:, 0]
        chosen = torch.lerp(similar, allocation(usage), gates[:, r : r + 1])
        writing = gates[:, r + 1 :] * chosen  # eq. neural-turing-machine-dnc-write
        memory = write(state.memory, writing[:, None], erase[:, None], add[:, None])

        links = update_links(state.links, writing, state.precedence)
        precedence = update_precedence(state.precedence, writing)
        back, on = link_reads(links, state.read_weights)
        similar = content_weights(keys[:, :r], strengths[:, :r], memory)
        three = torch.stack((back, similar, on), -1)
        reading = (three @ modes[..., None])[
            ..., 0
        ]  # eq. neural-turing-machine-dnc-read
        return DNCState(
            memory, usage, links, precedence, writing, reading, read(memory, reading),
            hidden,
        )  # fmt: skip

    def _checked(self, state: Any, x: Tensor) -> DNCState:
        if not isinstance(state, DNCState):
            raise TypeError(f"state must be a DNCState, got {type(state).__name__}")
        b, r, w = len(x), self.num_read_heads, self.slot_size
        n = check_memory(state.memory, b, w)
        shapes = [(b, n), (b, n, n), (b, n), (b, n), (b, r, n), (b, r, w)]
        for name, shape in zip(DNCState._fields[1:7], shapes, strict=True):
            checks.tensor(f"state.{name}", getattr(state, name), shape=shape)
        wanted = self.controller.initial(1)
        if len(state.hidden) != len(wanted):
            raise ValueError(
                f"state.hidden must hold {len(wanted)} tensors, got {len(state.hidden)}"
            )
        for part, like in zip(state.hidden, wanted, strict=True):
            checks.tensor("state.hidden", part, shape=(b, like.shape[1]))
        return state
