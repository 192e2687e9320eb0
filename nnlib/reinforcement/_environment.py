"""What an environment is to an agent: many of one kind side by side, and what a step brings."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Transition(NamedTuple):
    """What one step of all environments brought, a row each."""

    states: Tensor
    """Where the next action is taken: of a new episode already, where the last one has ended."""
    rewards: Tensor
    terminated: Tensor
    """The episode ended for good: nothing comes after."""
    truncated: Tensor
    """It was cut off by the limit on steps, and might have gone on."""
    final: Tensor
    """Where the action led, also where a new episode has begun since."""

    @property
    def dones(self) -> Tensor:
        """Whether an episode ended, for either reason."""
        return self.terminated | self.truncated


@runtime_checkable
class Environment(Protocol):
    """Environments side by side, each begun anew when its episode ends."""

    states: Tensor
    """Where the next actions are taken, a row each."""

    def reset(self) -> Tensor:
        """Begin all episodes anew, and return their states."""
        ...

    def step(self, actions: Tensor) -> Transition:
        """Take one action in each."""
        ...
