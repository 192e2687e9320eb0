r"""Many cart-poles side by side: gymnasium's `CartPole-v1`, as tensors.

Gymnasium's own environment is what results are told of; this one is for training, where a network
answers all carts at once. The physics is Barto, Sutton and Anderson's of 1983, in float64 as there.
Axes: b environments side by side; a state has 4 numbers.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.reinforcement._environment import Transition

GRAVITY, CART, POLE, HALF = (
    9.8,
    1.0,
    0.1,
    0.5,
)  # m/s², kg, kg, m: half the pole's length
FORCE, TICK = 10.0, 0.02  # newtons to either side; seconds a step
EDGE, TILT = 2.4, math.radians(12)  # metres and radians at which an episode ends
START = 0.05  # each of the four numbers begins within this of 0
LEFT, RIGHT = 0, 1


def cartpole_step(
    states: Float[Tensor, "*b 4"], actions: Int[Tensor, "*b"]
) -> Float[Tensor, "*b 4"]:
    """Return the states that follow, a fiftieth of a second later, by Euler's rule.

    Args:
        states: position in metres, its velocity, the pole's angle from upright in radians, positive
            to the right, and its velocity.
        actions: 0 pushes to the left, 1 to the right.

    Example:
        >>> cartpole_step(torch.zeros(4), torch.tensor(1)).tolist()[:2]
        [0.0, 0.19512195885181427]
    """
    checks.tensor("states", states, floating=True)
    checks.tensor("actions", actions, shape=tuple(states.shape[:-1]), floating=False)
    _, speed, angle, turning = states.unbind(-1)
    force = FORCE * (2 * actions - 1)
    sine, cosine, total = angle.sin(), angle.cos(), CART + POLE
    pushed = (force + POLE * HALF * turning.square() * sine) / total
    spin = (GRAVITY * sine - cosine * pushed) / (
        HALF * (4 / 3 - POLE * cosine.square() / total)
    )
    gain = pushed - POLE * HALF * spin * cosine / total
    return states + TICK * torch.stack([speed, gain, turning, spin], -1)


def fallen(states: Float[Tensor, "*b 4"]) -> Bool[Tensor, "*b"]:
    """Return whether an episode has failed: off the track, or tilted by more than 12 degrees."""
    checks.tensor("states", states, floating=True)
    return (states[..., 0].abs() > EDGE) | (states[..., 2].abs() > TILT)


class CartPole:
    """Cart-poles side by side, each begun anew when its episode ends.

    Args:
        num_envs: how many.
        max_steps: steps after which an episode is cut off; 500 is v1's.
        generator: source of the random beginnings; torch's own if None.

    Attributes:
        states: where the next actions are taken, float32 as gymnasium reports them.

    Example:
        >>> env = CartPole(3)
        >>> env.states.shape, env.step(torch.tensor([0, 1, 1])).rewards.tolist()
        (torch.Size([3, 4]), [1.0, 1.0, 1.0])

    Source: Barto, Sutton and Anderson 1983.
    """

    state_size, num_actions = 4, 2

    def __init__(
        self,
        num_envs: int,
        *,
        max_steps: int = 500,
        generator: torch.Generator | None = None,
    ):
        self.num_envs = checks.count("num_envs", num_envs)
        self.max_steps = checks.count("max_steps", max_steps)
        self.generator = generator
        self.reset()

    def reset(self) -> Float[Tensor, "b d"]:
        """Begin all episodes anew, and return their states."""
        self._exact = self._drawn()
        self._steps = torch.zeros(self.num_envs, dtype=torch.long)
        return self.states

    @property
    def states(self) -> Float[Tensor, "b d"]:
        """Where the next actions are taken."""
        return self._exact.float()

    def step(self, actions: Int[Tensor, " b"]) -> Transition:
        """Push each cart to the left (0) or to the right (1)."""
        checks.tokens("actions", actions, 2, shape=(self.num_envs,), of="two ways")
        after = cartpole_step(self._exact, actions)
        self._steps += 1
        terminated = fallen(after)
        truncated = (self._steps >= self.max_steps) & ~terminated
        done = terminated | truncated
        self._exact, final = after, after.float()
        states = final
        if bool(done.any()):
            self._exact = torch.where(done[:, None], self._drawn(), after)
            self._steps = self._steps.masked_fill(done, 0)
            states = self.states
        rewards = torch.ones(self.num_envs)
        return Transition(states, rewards, terminated, truncated, final)

    def _drawn(self) -> Tensor:
        shape = (self.num_envs, 4)
        drawn = torch.rand(shape, dtype=torch.float64, generator=self.generator)
        return (2 * drawn - 1) * START
