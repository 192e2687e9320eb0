r"""Deep Q-networks: values of actions, learned from a memory against a copy that stands still.

Chapter: chapters/reinforcement/dqn.md
Papers: Watkins 1989; Mnih et al. 2013, 2015; van Hasselt, Guez and Silver 2015. Here are the
networks; targets and losses are in `_td`, the loop in `_dqn_training`, the memory in `_replay` and
`_prioritized`, noisy and distributional parts in `_rainbow`, values in a table in `_q_table`, and
the boards that the chapter plays on in `_pit_grid`.
Axes: b states, d numbers of a state, h hidden features, a actions, c y x a picture.
"""

from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.reinforcement._dqn_training import epsilon_greedy, falling, train_dqn
from nnlib.reinforcement._pit_grid import (
    Boards,
    PitGrid,
    Played,
    distances,
    draw_boards,
    move,
    view,
    walk,
)
from nnlib.reinforcement._prioritized import PrioritizedReplayBuffer, SumTree
from nnlib.reinforcement._q_table import q_learning, q_update, sarsa, sarsa_update
from nnlib.reinforcement._rainbow import NoisyLinear, categorical_target
from nnlib.reinforcement._replay import Memories, ReplayBuffer, SeveralSteps
from nnlib.reinforcement._td import conservative_loss, td_errors, td_loss, td_target

__all__ = [
    "DQN",
    "AtariDQN",
    "Boards",
    "DuelingDQN",
    "Memories",
    "NoisyLinear",
    "PitGrid",
    "Played",
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "SeveralSteps",
    "SumTree",
    "categorical_target",
    "conservative_loss",
    "distances",
    "draw_boards",
    "epsilon_greedy",
    "falling",
    "move",
    "q_learning",
    "q_update",
    "sarsa",
    "sarsa_update",
    "td_errors",
    "td_loss",
    "td_target",
    "train_dqn",
    "view",
    "walk",
]


class DQN(nn.Module):
    r"""A deep Q-network: one pass gives the values of all actions, $Q(s, \cdot)$.

    Affine maps with ReLU between them (equation `dqn-network`); the action is no input but an
    output, so that the best of them costs one pass.

    Args:
        state_size: numbers of a state.
        num_actions: actions to choose from.
        hidden_size: width of the hidden layers.
        num_layers: hidden layers, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> DQN(4, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])

    Source: Mnih et al. 2013, 2015; there after three convolutions, see `AtariDQN`.
    """

    def __init__(
        self,
        state_size: int,
        num_actions: int,
        hidden_size: int = 64,
        num_layers: int = 2,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.state_size = checks.count("state_size", state_size)
        self.num_actions = checks.count("num_actions", num_actions)
        self.hidden_size = checks.count("hidden_size", hidden_size)
        num_layers = checks.count("num_layers", num_layers)
        widths = [self.state_size] + [self.hidden_size] * num_layers
        self.layers = nn.ModuleList(
            nn.Linear(inputs, units, device=device, dtype=dtype)
            for inputs, units in pairwise(widths)
        )
        self.values = nn.Linear(
            self.hidden_size, self.num_actions, device=device, dtype=dtype
        )

    def features(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b h"]:
        """Return the last hidden layer."""
        checks.tensor("states", states, floating=True)
        if states.ndim == 0 or states.shape[-1] != self.state_size:
            raise ValueError(
                f"states must have state_size={self.state_size} columns, "
                f"got shape {tuple(states.shape)}"
            )
        for affine in self.layers:
            states = torch.relu(affine(states))
        return states

    def forward(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b a"]:
        """Return the value of each action."""
        return self.values(self.features(states))  # eq. dqn-network


class DuelingDQN(DQN):
    r"""Values in two streams, one of the state and one of each action's advantage.

    $Q(s, a) = V(s) + A(s, a) - \frac1{|A|} \sum_{a'} A(s, a')$ (equation `dqn-dueling`); without
    the mean, a constant could move from one stream to the other. Arguments as of `DQN`.

    Example:
        >>> DuelingDQN(4, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])

    Source: Wang et al. 2015.
    """

    def __init__(
        self,
        state_size: int,
        num_actions: int,
        hidden_size: int = 64,
        num_layers: int = 2,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            state_size, num_actions, hidden_size, num_layers, device=device, dtype=dtype
        )
        self.state_value = nn.Linear(self.hidden_size, 1, device=device, dtype=dtype)

    def forward(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b a"]:
        """Return the value of each action."""
        features = self.features(states)
        advantages = self.values(features)
        centred = advantages - advantages.mean(-1, keepdim=True)
        return self.state_value(features) + centred  # eq. dqn-dueling


class AtariDQN(nn.Module):
    """The network that played Atari: four grey pictures of 84 × 84 in, a value of each action out.

    Convolutions of 32 filters of 8 × 8 (stride 4), 64 of 4 × 4 (2) and 64 of 3 × 3 (1), an affine
    map to 512, ReLU after each, and one to the actions: 1 693 362 weights for all 18.

    Args:
        num_actions: of the game, 4 to 18.
        in_channels: pictures that are seen at once.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> AtariDQN(18)(torch.zeros(2, 4, 84, 84)).shape
        torch.Size([2, 18])

    Source: Mnih et al. 2015.
    """

    def __init__(
        self,
        num_actions: int,
        in_channels: int = 4,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        num_actions = checks.count("num_actions", num_actions)
        self.in_channels = checks.count("in_channels", in_channels)
        convolution = partial(nn.Conv2d, device=device, dtype=dtype)
        dense = partial(nn.Linear, device=device, dtype=dtype)
        self.layers = nn.Sequential(
            convolution(self.in_channels, 32, 8, stride=4), nn.ReLU(),
            convolution(32, 64, 4, stride=2), nn.ReLU(),
            convolution(64, 64, 3), nn.ReLU(),
            nn.Flatten(), dense(64 * 7 * 7, 512), nn.ReLU(),
        )  # fmt: skip
        self.values = dense(512, num_actions)

    def forward(self, states: Float[Tensor, "b c y x"]) -> Float[Tensor, "b a"]:
        """Return the value of each action."""
        checks.images("states", states, self.in_channels, least=84)
        if states.shape[2:] != (84, 84):
            raise ValueError(
                f"states must be 84 by 84, got shape {tuple(states.shape)}"
            )
        return self.values(self.layers(states))
