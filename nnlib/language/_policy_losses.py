r"""A language model as a policy: rewards of its tokens, PPO's and GRPO's losses.

A token-level tensor has a column for each token that is predicted, `ids[:, 1:]`; `answer` is True
where that token was written by the policy, False at the prompt and at padding.

Axes: b answers, t predicted tokens, g answers to the same prompt.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nnlib import checks
from nnlib.blocks.policy_optimization import clipped_surrogate, gae

AVERAGES = ("token", "answer", "length")


def token_rewards(
    scores: Float[Tensor, " b"],
    log_probs: Float[Tensor, "b t"],
    ref_log_probs: Float[Tensor, "b t"],
    answer: Bool[Tensor, "b t"],
    beta: float,
) -> Float[Tensor, "b t"]:
    r"""Return the reward of each token: $-\beta \log\frac{\pi}{\pi_{ref}}$, and the score at last.

    Equation `alignment-token-reward`. A row adds up to its score minus β times its log-ratio, so
    that on average it is the score minus β KL.

    Args:
        scores: of whole answers, such as a reward model's; NaN is refused.
        log_probs: of the tokens when they were written; no gradient flows through a reward.
        ref_log_probs: of the same tokens under the reference.
        answer: the policy's tokens, one a row at least.
        beta: β ≥ 0.

    Example:
        >>> zero, answer = torch.zeros(1, 3), torch.tensor([[False, True, True]])
        >>> token_rewards(torch.tensor([2.0]), zero, zero - 1, answer, beta=0.5)
        tensor([[ 0.0000, -0.5000,  1.5000]])

    Source: Stiennon et al. 2020; Ouyang et al. 2022.
    """
    shape = _answer(answer)
    checks.tensor("scores", scores, shape=shape[:1], floating=True, finite=True)
    ratio = _log_ratio(log_probs, ref_log_probs, shape)
    beta = checks.number("beta", beta, least=0)
    place = torch.arange(shape[1], device=answer.device)
    last = torch.where(answer, place, -1).amax(1, keepdim=True)
    penalty = -beta * ratio.detach() * answer
    return penalty + scores[:, None] * (place == last)


def answer_advantages(
    rewards: Float[Tensor, "b t"],
    values: Float[Tensor, "b t"],
    answer: Bool[Tensor, "b t"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    r"""Return `gae` of answers, and the returns that the values should fit; 0 elsewhere.

    Args:
        rewards: of each token, as `token_rewards` gives them.
        values: estimated before each token was written, so of the tokens that stand before it.
        answer: the policy's tokens, in one piece.
        gamma: γ in [0, 1]; 1 is usual for language.
        lam: λ in [0, 1].

    Example:
        >>> answer = torch.tensor([[True, True]])
        >>> rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.5]])
        >>> answer_advantages(rewards, values, answer, lam=1.0)[0].tolist()
        [[0.75, 0.5]]

    Source: Schulman et al. 2015; for language Stiennon et al. 2020.
    """
    shape = _answer(answer)
    checks.tensor("rewards", rewards, shape=shape, floating=True, finite=True)
    checks.tensor("values", values, shape=shape, floating=True, finite=True)
    after = torch.cat([answer[:, 1:], torch.zeros_like(answer[:, :1])], 1)
    if checks.readable(answer):
        begins = answer[:, :1].sum(1) + (~answer[:, :-1] & after[:, :-1]).sum(1)
        if bool((begins > 1).any()):
            raise ValueError("answer must stand in one piece in each row, got a gap")
    advantages, returns = gae(
        (rewards * answer).T, values.detach().T, values.new_zeros(len(values)),
        (answer & ~after).T, gamma, lam,
    )  # fmt: skip
    return advantages.T * answer, returns.T * answer


def ppo_loss(
    log_probs: Float[Tensor, "b t"],
    old_log_probs: Float[Tensor, "b t"],
    advantages: Float[Tensor, "b t"] | Float[Tensor, " b"],
    answer: Bool[Tensor, "b t"],
    clip: float = 0.2,
    average: str = "token",
) -> Float[Tensor, ""]:
    r"""Return $-\min(\rho A, \mathrm{clip}(\rho, 1 \pm \epsilon) A)$ over tokens: `alignment-ppo`.

    $\rho = \pi(y_t)/\pi_{old}(y_t)$ compares with the policy that wrote the answers.

    Args:
        log_probs: of the tokens under the policy that learns.
        old_log_probs: of the tokens when they were written.
        advantages: one a token, or one an answer that all its tokens share.
        answer: the policy's tokens, one a row at least.
        clip: ε in (0, 1).
        average: "token", over all tokens alike; "answer", first within each answer, as GRPO has it;
            or "length", sums divided by the longest possible answer t, as Dr. GRPO has it.

    Example:
        >>> zero, answer = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
        >>> ppo_loss(zero + 1, zero, torch.tensor([1.0, 0.0]), answer).item()  # -1.2 / 2
        -0.6000000238418579

    Source: Schulman et al. 2017, equation 7.
    """
    shape = _answer(answer)
    _log_ratio(log_probs, old_log_probs, shape, other="old_log_probs")
    checks.tensor("advantages", advantages, floating=True, finite=True)
    if advantages.ndim == 1:
        checks.tensor("advantages", advantages, shape=shape[:1])
        advantages = advantages[:, None].expand(shape)
    checks.tensor("advantages", advantages, shape=shape)
    followed = clipped_surrogate(log_probs, old_log_probs, advantages, clip)
    return -averaged(followed, answer, average)


def value_loss(
    values: Float[Tensor, "b t"],
    old_values: Float[Tensor, "b t"],
    returns: Float[Tensor, "b t"],
    answer: Bool[Tensor, "b t"],
    clip: float | None = 0.2,
) -> Float[Tensor, ""]:
    r"""Return half the squared error of values, the worse of clipped and not: `alignment-value`.

    Args:
        values: estimated now.
        old_values: estimated when the answers were written.
        returns: what they should have been.
        answer: the policy's tokens.
        clip: how far a value may move from the old one before it stops counting, > 0; None: any.

    Example:
        >>> old, answer = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
        >>> value_loss(old + 1, old, old + 1, answer)  # 0.8² / 2: it moved too far
        tensor(0.3200)

    Source: OpenAI's baselines; Huang et al. 2024 list it among the details of RLHF.
    """
    shape = _answer(answer)
    given = {"values": values, "old_values": old_values, "returns": returns}
    for name, value in given.items():
        checks.tensor(name, value, shape=shape, floating=True, finite=True)
    error = (values - returns).square()
    if clip is not None:
        most = checks.number("clip", clip, above=0)
        near = old_values + (values - old_values).clamp(-most, most)
        error = torch.maximum(error, (near - returns).square())
    return averaged(error, answer, "token") / 2


def grpo_advantages(
    rewards: Float[Tensor, "b g"], scale: bool = True, eps: float = 1e-4
) -> Float[Tensor, "b g"]:
    r"""Return each answer's reward minus its group's mean, over the spread: `alignment-grpo`.

    A group whose answers are all equally good has advantages of 0: it teaches nothing.

    Args:
        rewards: g ≥ 2 answers to each of b prompts; NaN is refused.
        scale: whether to divide by the standard deviation; False is Dr. GRPO, which so weighs
            easy and hard prompts alike.
        eps: added to the standard deviation, > 0.

    Example:
        >>> grpo_advantages(torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]])).round(decimals=3)
        tensor([[-1.,  0.,  1.],
                [ 0.,  0.,  0.]])

    Source: Shao et al. 2024 (DeepSeekMath); without the scale Liu et al. 2025 (Dr. GRPO).
    """
    checks.tensor("rewards", rewards, shape=("b", "g"), floating=True, finite=True)
    checks.flag("scale", scale)
    eps = checks.number("eps", eps, above=0)
    if rewards.shape[1] < 2:
        told = f"got {tuple(rewards.shape)}: one has nothing to be compared with"
        raise ValueError(f"rewards must hold two or more answers a group, {told}")
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + eps) if scale else centred


def grpo_loss(
    log_probs: Float[Tensor, "b t"],
    old_log_probs: Float[Tensor, "b t"],
    ref_log_probs: Float[Tensor, "b t"],
    advantages: Float[Tensor, " b"],
    answer: Bool[Tensor, "b t"],
    beta: float = 0.04,
    clip: float = 0.2,
    average: str = "answer",
) -> Float[Tensor, ""]:
    r"""Return PPO's loss without a value network, plus β times the KL: `alignment-grpo-loss`.

    Args:
        log_probs: of the tokens under the policy that learns.
        old_log_probs: of the tokens when they were written.
        ref_log_probs: of the tokens under the reference.
        advantages: one an answer, as `grpo_advantages` gives them, flattened.
        answer: the policy's tokens, one a row at least.
        beta: β ≥ 0, of the KL to the reference, estimated by `kl_estimate`'s "k3".
        clip: ε in (0, 1).
        average: as for `ppo_loss`; "length" is Dr. GRPO.

    Example:
        >>> zero, answer = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
        >>> grpo_loss(zero, zero, zero, torch.tensor([1.0, -1.0]), answer).item()
        0.0

    Source: Shao et al. 2024, equation 3.
    """
    beta = checks.number("beta", beta, least=0)
    lost = ppo_loss(log_probs, old_log_probs, advantages, answer, clip, average)
    away = kl_estimate(log_probs, ref_log_probs, "k3")
    return lost + beta * averaged(away, answer, average)


def kl_estimate(
    log_probs: Float[Tensor, "*b"], ref_log_probs: Float[Tensor, "*b"], kind: str = "k3"
) -> Float[Tensor, "*b"]:
    r"""Return an estimate of $KL(\pi \| \pi_{ref})$ from samples of π: equation `alignment-kl`.

    With $u = \log \pi(y) - \log \pi_{ref}(y)$: "k1" is u, "k2" is u²/2, "k3" is
    $e^{-u} - 1 + u$, which is never negative and, like u, has the right mean.

    Args:
        log_probs: log π(y), of what π has drawn.
        ref_log_probs: log π_ref(y).
        kind: "k1", "k2" or "k3".

    Example:
        >>> kl_estimate(torch.tensor([-1.0]), torch.tensor([-2.0]), "k1").item()
        1.0

    Source: Schulman 2020, Approximating KL divergence.
    """
    checks.tensor("log_probs", log_probs, floating=True)
    shape = tuple(log_probs.shape)
    checks.tensor("ref_log_probs", ref_log_probs, shape=shape, floating=True)
    checks.one_of("kind", kind, ("k1", "k2", "k3"))
    u = log_probs - ref_log_probs.detach()
    return {"k1": u, "k2": u.square() / 2, "k3": torch.expm1(-u) + u}[kind]


# ------------------------------------------------------------------------------------------- parts
def averaged(values: Tensor, answer: Tensor, average: str) -> Tensor:
    """Return the mean of the answers' tokens in one of the three ways of `ppo_loss`."""
    checks.one_of("average", average, AVERAGES)
    inside = torch.where(answer, values, 0.0)
    if average == "token":
        return inside.sum() / answer.sum()
    each = inside.sum(1)
    lengths = answer.sum(1) if average == "answer" else answer.shape[1]
    return (each / lengths).mean()


def _answer(answer: Tensor) -> tuple[int, int]:
    """Return the shape of a mask that has a token in each row."""
    checks.key_mask("answer", answer, ("b", "t"))
    if answer.numel() == 0 or (
        checks.readable(answer) and not bool(answer.any(1).all())
    ):
        raise ValueError("answer must have a token in each row, got a row with none")
    return answer.shape[0], answer.shape[1]


def _log_ratio(
    log_probs: Tensor,
    others: Tensor,
    shape: tuple[int, int],
    other: str = "ref_log_probs",
) -> Tensor:
    checks.tensor("log_probs", log_probs, shape=shape, floating=True)
    checks.tensor(other, others, shape=shape, floating=True)
    return log_probs - others
