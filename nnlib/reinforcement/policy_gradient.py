r"""Policy gradients: REINFORCE, actor and critic, and PPO.

Chapter: chapters/reinforcement/policy_gradient.md
Papers: Williams 1992; Sutton, McAllester, Singh and Mansour 1999; Schulman et al. 2015 (GAE), 2017
(PPO). What a step of an environment is stands in `_environment`, two of them in `_cartpole` and
`_tabular`, and how experience is gathered in `_rollout`.
Axes: t steps, b environments or episodes side by side, d numbers of a state, a actions.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.policy_optimization import clipped_surrogate, gae
from nnlib.reinforcement._cartpole import CartPole, cartpole_step, fallen
from nnlib.reinforcement._environment import Environment, Transition
from nnlib.reinforcement._rollout import (
    Episodes,
    Rollout,
    play,
    rollout,
    sample_actions,
    taken,
)
from nnlib.reinforcement._tabular import (
    TabularEnv,
    policy_values,
    tables,
    value_iteration,
)

__all__ = [
    "ActorCritic",
    "CartPole",
    "Environment",
    "Episodes",
    "PPOTerms",
    "Rollout",
    "TabularEnv",
    "Transition",
    "cartpole_step",
    "clipped_surrogate",
    "entropies",
    "fallen",
    "gae",
    "play",
    "policy_values",
    "ppo_loss",
    "ppo_terms",
    "reinforce_loss",
    "rewards_to_go",
    "rollout",
    "sample_actions",
    "standardize",
    "tables",
    "value_iteration",
]


class ActorCritic(nn.Module):
    r"""Two networks that see the same state: one gives logits of actions, one the state's value.

    $\pi(a \mid s) = \operatorname{softmax}(f(s))_a$ and $V(s) = g(s)$ (equation
    `policy-gradient-actor-critic`), each a chain of affine maps with tanh between them. As in
    PPO's code, weights are orthogonal, scaled by $\sqrt 2$ in the hidden layers, by 0.01 in the
    actor's last one, so that all actions begin nearly equally probable, and by 1 in the critic's.

    Args:
        state_size: numbers of a state.
        num_actions: actions to choose from.
        hidden_size: width of the hidden layers.
        num_layers: hidden layers of each network, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> logits, values = ActorCritic(4, 2)(torch.zeros(3, 4))
        >>> logits.shape, values.shape
        (torch.Size([3, 2]), torch.Size([3]))

    Source: Barto, Sutton and Anderson 1983; this form Schulman et al. 2017.
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
        num_actions = checks.count("num_actions", num_actions)
        hidden = checks.count("hidden_size", hidden_size)
        widths = [self.state_size] + [hidden] * checks.count("num_layers", num_layers)

        def network(outputs: int) -> nn.Sequential:
            parts: list[nn.Module] = []
            for inputs, units in pairwise(widths):
                parts += [
                    nn.Linear(inputs, units, device=device, dtype=dtype),
                    nn.Tanh(),
                ]
            last = nn.Linear(hidden, outputs, device=device, dtype=dtype)
            return nn.Sequential(*parts, last)

        self.actor, self.critic = network(num_actions), network(1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for chain, last_gain in ((self.actor, 0.01), (self.critic, 1.0)):
            affine = [part for part in chain if isinstance(part, nn.Linear)]
            for part in affine:
                gain = last_gain if part is affine[-1] else math.sqrt(2)
                nn.init.orthogonal_(part.weight, gain)
                nn.init.zeros_(part.bias)

    def forward(
        self, states: Float[Tensor, "*b d"]
    ) -> tuple[Float[Tensor, "*b a"], Float[Tensor, "*b"]]:
        """Return the logits of the actions, and the values of the states."""
        checks.tensor("states", states, floating=True)
        if states.ndim == 0 or states.shape[-1] != self.state_size:
            raise ValueError(
                f"states must have state_size={self.state_size} columns, "
                f"got shape {tuple(states.shape)}"
            )
        return self.actor(states), self.critic(states)[..., 0]


def rewards_to_go(rewards: Float[Tensor, "t b"], gamma: float) -> Float[Tensor, "t b"]:
    r"""Return $G_t = r_t + \gamma G_{t+1}$ of every step (equation `policy-gradient-return`).

    Args:
        rewards: of whole episodes side by side, 0 after the end of each.
        gamma: the discount, in [0, 1].

    Example:
        >>> rewards_to_go(torch.tensor([[1.0], [0.0], [2.0]]), 0.5).flatten().tolist()
        [1.5, 1.0, 2.0]
    """
    checks.tensor("rewards", rewards, shape=("t", "b"), floating=True, finite=True)
    gamma = checks.number("gamma", gamma, least=0, most=1)
    total, totals = torch.zeros_like(rewards.sum(0)), []
    for reward in rewards.flip(0):
        total = reward + gamma * total  # eq. policy-gradient-return
        totals.append(total)
    return torch.stack(totals[::-1]) if totals else rewards


def reinforce_loss(
    model: Callable[[Tensor], Tensor],
    states: Tensor,
    actions: Int[Tensor, "t b"],
    weights: Float[Tensor, "t b"],
    mask: Bool[Tensor, "t b"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $-\frac1N \sum_i \sum_t w_{t,i} \log \pi(a_{t,i} \mid s_{t,i})$.

    Its gradient is, with a minus, the estimate of equation `policy-gradient-reinforce`; its value
    means nothing. Each episode counts by its sum over time, and the mean is over episodes.

    Args:
        model: gives logits of actions for states, such as `ActorCritic(…).actor`.
        states: of `t b` and the state's own shape.
        actions: that were taken.
        weights: how much each counts: the return, the reward to go, or that less a baseline.
            No gradient flows to them.
        mask: False after the end of an episode; all steps count if None.

    Example:
        >>> table = nn.Embedding.from_pretrained(torch.zeros(1, 2))
        >>> state = torch.zeros(1, 1, dtype=torch.long)
        >>> round(reinforce_loss(table, state, state, torch.ones(1, 1)).item(), 3)
        0.693

    Source: Williams 1992.
    """
    checks.tensor("weights", weights, shape=("t", "b"), floating=True, finite=True)
    shape = tuple(weights.shape)
    if weights.numel() == 0:
        raise ValueError(f"weights must hold a step or more, got shape {shape}")
    checks.tensor("states", states)
    if tuple(states.shape[:2]) != shape:
        raise ValueError(
            f"states must have {shape} as their first axes, got {tuple(states.shape)}"
        )
    log_probs = _log_probs(model(states), actions, shape)
    if mask is not None:
        log_probs = log_probs.masked_fill(~checks.key_mask("mask", mask, shape), 0.0)
    return (
        -(weights.detach() * log_probs).sum() / shape[1]
    )  # eq. policy-gradient-reinforce


def _log_probs(logits: Tensor, actions: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return log-probabilities of actions, once they fit the logits."""
    checks.tokens("actions", actions, logits.shape[-1], shape=shape, of="the logits")
    return taken(logits, actions.long())


def standardize(advantages: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    r"""Return advantages less their mean, over their standard deviation; of one alone, 0.

    Example:
        >>> standardize(torch.tensor([1.0, 3.0])).tolist()
        [-1.0, 1.0]
    """
    checks.tensor("advantages", advantages, floating=True, finite=True, empty=False)
    centred = advantages - advantages.mean()
    return centred / (centred.square().mean().sqrt() + 1e-8)


def entropies(logits: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
    r"""Return $-\sum_a \pi_a \log \pi_a$ in nats (equation `policy-gradient-entropy`).

    An action whose logit is −∞ is never taken, and adds nothing.

    Example:
        >>> round(entropies(torch.tensor([0.0, 0.0, -torch.inf])).item(), 4)  # log 2
        0.6931
    """
    checks.tensor("logits", logits, floating=True)
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)  # eq. policy-gradient-entropy


class PPOTerms(NamedTuple):
    """What PPO weighs against each other, and two numbers that tell how far the policy moved."""

    surrogate: Float[Tensor, ""]
    """The mean clipped objective: to be raised."""
    value_error: Float[Tensor, ""]
    """The critic's mean squared error: to be lowered."""
    entropy: Float[Tensor, ""]
    """Of the policy, in nats, on average over the states."""
    kl: Float[Tensor, ""]
    """An estimate of the divergence of the old policy from the new one; without gradient."""
    clipped: Float[Tensor, ""]
    """The share of actions whose ratio lies outside 1 ± ε; without gradient."""


def ppo_terms(
    model: Callable[[Tensor], tuple[Tensor, Tensor]],
    states: Tensor,
    actions: Int[Tensor, " b"],
    old_log_probs: Float[Tensor, " b"],
    advantages: Float[Tensor, " b"],
    returns: Float[Tensor, " b"],
    clip: float = 0.2,
) -> PPOTerms:
    r"""Return the parts of PPO's loss, each a mean over the steps of a batch.

    Args:
        model: gives logits of actions and values for states, such as `ActorCritic`.
        states: one a row.
        actions: that were taken.
        old_log_probs: of these actions when they were taken.
        advantages: from `gae`, usually standardised.
        returns: from `gae`: what the value should be.
        clip: ε in (0, 1).
    """
    checks.tensor(
        "advantages", advantages, shape=("b",), floating=True, finite=True, empty=False
    )
    shape = tuple(advantages.shape)
    checks.tensor("returns", returns, shape=shape, floating=True, finite=True)
    checks.tensor("states", states)
    if states.ndim == 0 or len(states) != shape[0]:
        raise ValueError(
            f"states must have {shape[0]} rows, got shape {tuple(states.shape)}"
        )
    logits, values = model(states)
    log_probs = _log_probs(logits, actions, shape)
    surrogate = clipped_surrogate(log_probs, old_log_probs, advantages, clip).mean()
    entropy = entropies(logits).mean()
    with torch.no_grad():
        log_ratio = log_probs - old_log_probs
        ratio = log_ratio.exp()
        kl = (ratio - 1 - log_ratio).mean()
        clipped = ((ratio - 1).abs() > clip).to(ratio.dtype).mean()
    error = (values - returns.detach()).square().mean()
    return PPOTerms(surrogate, error, entropy, kl, clipped)


def ppo_loss(
    model: Callable[[Tensor], tuple[Tensor, Tensor]],
    states: Tensor,
    actions: Int[Tensor, " b"],
    old_log_probs: Float[Tensor, " b"],
    advantages: Float[Tensor, " b"],
    returns: Float[Tensor, " b"],
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> Float[Tensor, ""]:
    r"""Return PPO's loss: $-L^{clip} + c_1 (V - \hat R)^2 - c_2 H$, as means over a batch.

    Equation `policy-gradient-ppo-loss`; the paper maximises its negative.

    Args:
        model: gives logits of actions and values for states, such as `ActorCritic`.
        states: one a row.
        actions: that were taken.
        old_log_probs: of these actions when they were taken.
        advantages: from `gae`, usually standardised.
        returns: from `gae`: what the value should be.
        clip: ε in (0, 1).
        value_weight: $c_1$ ≥ 0.
        entropy_weight: $c_2$ ≥ 0.

    Example:
        >>> model, states = ActorCritic(4, 2), torch.zeros(3, 4)
        >>> old = torch.full((3,), 0.5).log()
        >>> actions, zeros = torch.tensor([0, 1, 1]), torch.zeros(3)
        >>> round(ppo_loss(model, states, actions, old, zeros, zeros).item(), 4)
        -0.0069

    Source: Schulman, Wolski, Dhariwal, Radford and Klimov 2017.
    """
    value_weight = checks.number("value_weight", value_weight, least=0)
    entropy_weight = checks.number("entropy_weight", entropy_weight, least=0)
    terms = ppo_terms(model, states, actions, old_log_probs, advantages, returns, clip)
    return (  # eq. policy-gradient-ppo-loss
        -terms.surrogate
        + value_weight * terms.value_error
        - entropy_weight * terms.entropy
    )
