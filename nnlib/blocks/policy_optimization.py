r"""What policy gradients share, whatever acts: how good an action was, and how far to follow it.

`gae` turns rewards and estimated values into advantages, and `clipped_surrogate` is the objective
of PPO, one number for each action. An agent's steps or a language model's tokens are alike here.

Chapters: chapters/reinforcement/policy_gradient.md, chapters/language/alignment.md
Axes: t steps, b environments or sequences side by side.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nnlib import checks


def gae(
    rewards: Float[Tensor, "t b"],
    values: Float[Tensor, "t b"],
    last_value: Float[Tensor, " b"],
    dones: Bool[Tensor, "t b"] | Float[Tensor, "t b"],
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "t b"], Float[Tensor, "t b"]]:
    r"""Return generalised advantage estimates, and the returns that a value should fit.

    $\delta_t = r_t + \gamma (1 - d_t) V_{t+1} - V_t$ and
    $\hat A_t = \delta_t + \gamma \lambda (1 - d_t) \hat A_{t+1}$, computed from the last step
    backwards; the returns are $\hat A_t + V_t$.

    Args:
        rewards: what each action brought.
        values: the estimated value of the state in which it was taken.
        last_value: the value of the state after the last step; ignored where that step is done.
        dones: True, or 1, where an episode ended with that step: nothing after it counts for it.
            Where it was only cut off, by a limit on time, add γ times the value of the state in
            which it was cut to that step's reward.
        gamma: the discount γ, in [0, 1].
        lam: λ in [0, 1]: 0 trusts the values after one step, 1 uses the rewards alone.

    Example:
        >>> rewards, values = torch.ones(3, 1), torch.zeros(3, 1)
        >>> dones = torch.tensor([[False], [True], [False]])
        >>> advantages, returns = gae(rewards, values, torch.tensor([10.0]), dones, 0.5, 1.0)
        >>> advantages.flatten().tolist()
        [1.5, 1.0, 6.0]

    Source: Schulman, Moritz, Levine, Jordan and Abbeel 2015.
    """
    checks.tensor("rewards", rewards, shape=("t", "b"), floating=True, finite=True)
    steps, batch = rewards.shape
    checks.tensor("values", values, shape=(steps, batch), floating=True, finite=True)
    checks.tensor("last_value", last_value, shape=(batch,), floating=True, finite=True)
    go_on = 1 - _ends(dones, (steps, batch)).to(rewards.dtype)
    gamma = checks.number("gamma", gamma, least=0, most=1)
    lam = checks.number("lam", lam, least=0, most=1)
    following = torch.cat([values[1:], last_value[None]])
    errors = rewards + gamma * go_on * following - values
    advantage, advantages = torch.zeros_like(last_value), []
    for error, goes_on in zip(errors.flip(0), go_on.flip(0), strict=True):
        advantage = error + gamma * lam * goes_on * advantage
        advantages.append(advantage)
    estimated = torch.stack(advantages[::-1]) if advantages else errors
    return estimated, estimated + values


def _ends(dones: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return `dones` when it says yes or no of every step."""
    checks.tensor("dones", dones, shape=shape)
    if dones.dtype != torch.bool:
        checks.tensor("dones", dones, floating=True)
        if checks.readable(dones) and not bool(((dones == 0) | (dones == 1)).all()):
            raise ValueError("dones must be True or False, or 1 or 0, at each step")
    return dones


def clipped_surrogate(
    log_probs: Float[Tensor, "*b"],
    old_log_probs: Float[Tensor, "*b"],
    advantages: Float[Tensor, "*b"],
    clip: float = 0.2,
) -> Float[Tensor, "*b"]:
    r"""Return PPO's objective for each action, $\min(\rho A, \mathrm{clip}(\rho, 1 ± ε) A)$.

    $\rho$ is the probability of the action now over that when it was taken. The smaller of the two
    terms is $\min(\rho, 1 + ε) A$ for a good action and $\max(\rho, 1 - ε) A$ for a bad one, and in
    that form nothing overflows that the minimum would not have taken. It is to be maximised; the
    caller masks and averages.

    Args:
        log_probs: logarithms of the probability of what was done, now; gradients flow through it.
        old_log_probs: the same when it was done; no gradient.
        advantages: how much better than usual it was; no gradient. NaN is refused.
        clip: ε, in (0, 1): how far from 1 the ratio is followed.

    Example:
        >>> now, then = torch.tensor([0.6, 0.6]).log(), torch.tensor([0.4, 0.4]).log()
        >>> clipped_surrogate(now, then, torch.tensor([1.0, -1.0]))
        tensor([ 1.2000, -1.5000])

    Source: Schulman, Wolski, Dhariwal, Radford and Klimov 2017.
    """
    checks.tensor("log_probs", log_probs, floating=True)
    shape = tuple(log_probs.shape)
    checks.tensor("old_log_probs", old_log_probs, shape=shape, floating=True)
    checks.tensor("advantages", advantages, shape=shape, floating=True, finite=True)
    clip = checks.number("clip", clip, above=0, below=1)
    advantages = advantages.detach()
    log_ratio = log_probs - old_log_probs.detach()
    followed = torch.where(
        advantages >= 0,
        log_ratio.clamp(max=math.log1p(clip)),
        log_ratio.clamp(min=math.log1p(-clip)),
    )
    return followed.exp() * advantages
