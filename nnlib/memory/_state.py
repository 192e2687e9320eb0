"""What both machines share: they go through time alike, and check what they are given alike.

Axes: b batch, t time, d input features, o output features, n slots, w numbers of a slot.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks

State = TypeVar("State", bound=tuple[Any, ...])


class MemoryMachine(nn.Module, Generic[State]):
    """A controller beside a memory; a machine says what a step does to the state of both.

    A state is a NamedTuple of tensors, with what was read as `reads`, and with what the controller
    holds, `hidden`, at its end.
    """

    output: nn.Linear

    def forward(
        self, x: Float[Tensor, "b t d"], state: State | None = None
    ) -> tuple[Float[Tensor, "b t o"], State]:
        """Return the outputs of all steps, and the state after the last.

        Args:
            x: the inputs, one step or more.
            state: to go on from; a fresh one if None.
        """
        shown: list[tuple[Tensor, Tensor]] = []
        for after in self._states(x, state):
            shown.append((after.hidden[0], after.reads.flatten(1)))
        hidden, reads = (torch.stack(part, 1) for part in zip(*shown, strict=True))
        return self.output(torch.cat((hidden, reads), -1)), after

    def trace(self, x: Float[Tensor, "b t d"], state: State | None = None) -> State:
        """Return the states after all steps, each with an axis of time after the batch."""
        states = list(self._states(x, state))
        *parts, hidden = zip(*states, strict=True)
        stacked = [torch.stack(part, 1) for part in parts]
        last = tuple(torch.stack(part, 1) for part in zip(*hidden, strict=True))
        return type(states[0])(*stacked, last)

    def _states(self, x: Tensor, state: State | None) -> Iterator[Any]:
        """Yield the state after each step."""
        raise NotImplementedError


def checked_input(x: Any, input_size: int) -> Tensor:
    """Return `x` when it is a batch of sequences of `input_size` features, one step or more."""
    return checks.tensor(
        "x", x, shape=("b", "t", input_size), floating=True, empty=False
    )


def check_slots(num_slots: Any, otherwise: int) -> int:
    """Return `num_slots`, or what the machine was built with."""
    return otherwise if num_slots is None else checks.count("num_slots", num_slots)


def check_memory(memory: Any, batch_size: int, slot_size: int) -> int:
    """Return the number of slots of a memory that fits."""
    shape = (batch_size, "n", slot_size)
    checks.tensor("state.memory", memory, shape=shape, floating=True, empty=False)
    return memory.shape[1]
