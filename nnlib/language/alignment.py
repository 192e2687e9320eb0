r"""Alignment: from a model that continues text to one that answers as people prefer.

Demonstrations (SFT), comparisons (a reward model, DPO and its relatives), and reinforcement (PPO,
GRPO), all kept near a reference model.

Chapter: chapters/language/alignment.md     Papers: Christiano et al. 2017; Ouyang et al. 2022;
Rafailov et al. 2023 (DPO); Shao et al. 2024 (GRPO)
Axes: b batch, t tokens, v vocabulary or answers, g answers to the same prompt.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.language_model import DecoderLanguageModel
from nnlib.kernels.linear_cross_entropy import linear_cross_entropy
from nnlib.language._chat import chat_tokens
from nnlib.language._policy_losses import (
    answer_advantages,
    grpo_advantages,
    grpo_loss,
    kl_estimate,
    ppo_loss,
    token_rewards,
    value_loss,
)
from nnlib.language._preference_losses import (
    ipo_loss,
    kto_loss,
    lead_of,
    logistic,
    orpo_loss,
    preference_probability,
    reward_loss,
)
from nnlib.language._tilted import (
    best_of_n_kl,
    best_of_n_policy,
    kl_divergence,
    optimal_policy,
)

__all__ = [
    "RewardModel",
    "answer_advantages",
    "answer_log_probs",
    "best_of_n_kl",
    "best_of_n_policy",
    "chat_tokens",
    "dpo_loss",
    "grpo_advantages",
    "grpo_loss",
    "ipo_loss",
    "kl_divergence",
    "kl_estimate",
    "kto_loss",
    "optimal_policy",
    "orpo_loss",
    "ppo_loss",
    "preference_probability",
    "reward_loss",
    "sft_loss",
    "sft_loss_of_logits",
    "token_log_probs",
    "token_rewards",
    "value_loss",
]


def token_log_probs(
    logits: Float[Tensor, "b t v"], ids: Int[Tensor, "b t"]
) -> Float[Tensor, "b _"]:
    r"""Return $\log p(x_{t+1} \mid x_{\le t})$ of each token but the first, one column fewer.

    Args:
        logits: of a model that has read `ids`; padding on the right does no harm.
        ids: two tokens or more a row.

    Example:
        >>> token_log_probs(torch.zeros(1, 3, 2), torch.tensor([[0, 1, 1]])).exp()
        tensor([[0.5000, 0.5000]])
    """
    _read(logits, ids)
    predicted = logits[:, :-1].log_softmax(-1)  # position t has read token t
    return predicted.gather(-1, ids[:, 1:, None])[..., 0]


def answer_log_probs(
    logits: Float[Tensor, "b t v"], ids: Int[Tensor, "b t"], answer: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    r"""Return $\log \pi(y \mid x)$ of whole answers, the sum over their tokens.

    Args:
        logits: of a model that has read prompts and answers.
        ids: prompts and answers.
        answer: True at the tokens of the answers, as for `sft_loss`.

    Example:
        >>> ids, answer = torch.tensor([[0, 1, 1]]), torch.tensor([[False, False, True]])
        >>> answer_log_probs(torch.zeros(1, 3, 2), ids, answer).exp()
        tensor([0.5000])
    """
    log_probs = token_log_probs(logits, ids)
    return torch.where(_learned(answer, ids), log_probs, 0.0).sum(1)


def sft_loss(
    model: DecoderLanguageModel, ids: Int[Tensor, "b t"], answer: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    r"""Return the mean of $-\log p(x_t \mid x_{<t})$ over tokens of answers: `alignment-sft`.

    Prompts and padding on the right are read and not learned. The logits are never held for the
    whole batch; `sft_loss_of_logits` is the readable twin.

    Args:
        model: a GPT, or an LLM.
        ids: prompts and answers.
        answer: True at the tokens to learn, the end of the answer among them; not the first
            of a row, which nothing precedes, and one of the batch at least.

    Example:
        >>> from nnlib.attention.gpt import GPT
        >>> model = GPT(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=4)
        >>> ids, answer = torch.tensor([[0, 1, 1]]), torch.tensor([[False, False, True]])
        >>> sft_loss(model, ids, answer).isfinite().item()
        True

    Source: Ouyang et al. 2022; the mask is usual since.
    """
    if not isinstance(model, DecoderLanguageModel):
        raise TypeError(f"model must be a GPT or an LLM, got {type(model).__name__}")
    checks.tokens("ids", ids, model.vocab_size)
    target = _targets(ids, answer)
    hidden = model.hidden(ids[:, :-1]).flatten(0, 1)
    return linear_cross_entropy(hidden, model.output_weight, target.flatten())


def sft_loss_of_logits(
    logits: Float[Tensor, "b t v"], ids: Int[Tensor, "b t"], answer: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Return `sft_loss` of logits that are there already: equation `alignment-sft`.

    Args:
        logits: of a model that has read `ids`.
        ids: prompts and answers.
        answer: as for `sft_loss`.

    Example:
        >>> ids, answer = torch.tensor([[0, 1, 1]]), torch.tensor([[False, False, True]])
        >>> sft_loss_of_logits(torch.zeros(1, 3, 2), ids, answer).item()  # log 2
        0.6931471824645996
    """
    _read(logits, ids)
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), _targets(ids, answer).flatten()
    )


def dpo_loss(
    chosen: Float[Tensor, "*b"],
    rejected: Float[Tensor, "*b"],
    ref_chosen: Float[Tensor, "*b"],
    ref_rejected: Float[Tensor, "*b"],
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    r"""Return `reward_loss` of the rewards that a policy implies: equation `alignment-dpo`.

    $-\log \sigma\bigl(\beta \log \frac{\pi(y_w)}{\pi_{ref}(y_w)} -
    \beta \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}\bigr)$, all given the same prompt.

    Args:
        chosen: log π(y_w | x), of the answers that were preferred.
        rejected: log π(y_l | x).
        ref_chosen: log π_ref(y_w | x); no gradient flows into the reference.
        ref_rejected: log π_ref(y_l | x).
        beta: β > 0, the weight of the KL divergence in the objective that is solved; a larger one
            keeps the policy nearer to the reference.
        label_smoothing: the share of labels that is taken to be wrong, in [0, ½).
        reduction: "mean", "sum" or "none" over the pairs.

    Example:
        >>> start = torch.tensor([-3.0]), torch.tensor([-5.0])
        >>> dpo_loss(*start, *start).item()  # log 2, where the policy is the reference
        0.6931471824645996

    Source: Rafailov et al. 2023, equation 7; label_smoothing as in Mitchell 2023.
    """
    lead = lead_of(chosen, rejected, ref_chosen, ref_rejected)  # eq. alignment-implied
    beta = checks.number("beta", beta, above=0)
    return logistic(beta * lead, label_smoothing, reduction)  # eq. alignment-dpo


class RewardModel(nn.Module):
    r"""A language model that gives one number, $r = \mathbf{w}^\top \mathbf{h}_T + c$.

    Equation `alignment-head`, where the next token's scores were. The same module, read at every
    position, is PPO's value function.

    Args:
        backbone: a decoder such as `GPT` or `LLM`, mostly a copy of the policy after SFT; it is
            trained, too.

    Example:
        >>> from nnlib.attention.gpt import GPT
        >>> model = RewardModel(GPT(11, embed_dim=8, num_heads=2, num_layers=1, max_length=4))
        >>> model(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])).shape
        torch.Size([2])

    Source: Ziegler et al. 2019; Stiennon et al. 2020.
    """

    def __init__(self, backbone: DecoderLanguageModel):
        super().__init__()
        if not isinstance(backbone, DecoderLanguageModel):
            kind = type(backbone).__name__
            raise TypeError(f"backbone must be a GPT or an LLM, got {kind}")
        self.backbone = backbone
        width = backbone.token_embedding.weight
        self.head = nn.Linear(width.shape[1], 1, device=width.device, dtype=width.dtype)
        nn.init.normal_(self.head.weight, std=(self.head.in_features + 1) ** -0.5)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the reward of each sequence, read at its last token.

        Args:
            ids: prompts and answers, padded on the right.
            lengths: tokens of each before the padding, its end marker included.
        """
        values = self.values(ids)
        checks.lengths("lengths", lengths, len(ids), ids.shape[1])
        return values.gather(1, lengths[:, None] - 1)[:, 0]  # eq. alignment-head

    def values(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Return the number at each position, of what has been read up to there.

        Args:
            ids: prompts and answers, padded on the right.
        """
        return self.head(self.backbone.hidden(ids))[..., 0]


def _read(logits: Tensor, ids: Tensor) -> None:
    """Refuse logits and tokens that do not belong together."""
    checks.tensor("logits", logits, shape=("b", "t", "v"), floating=True)
    checks.tokens("ids", ids, logits.shape[2], shape=tuple(logits.shape[:2]))
    if ids.shape[1] < 2:
        shape = tuple(ids.shape)
        raise ValueError(f"ids must hold two tokens or more a row, got {shape}")


def _targets(ids: Tensor, answer: Tensor) -> Tensor:
    """Return what each position but the last must guess, −100 outside answers."""
    learned = _learned(answer, ids)
    if ids.shape[1] < 2 or (checks.readable(learned) and not bool(learned.any())):
        raise ValueError("answer must have a token to learn, got none")
    return ids[:, 1:].masked_fill(~learned, -100)


def _learned(answer: Tensor, ids: Tensor) -> Tensor:
    """Return the mask of predicted tokens that belong to answers."""
    checks.key_mask("answer", answer, tuple(ids.shape))
    if checks.readable(answer) and bool(answer[:, 0].any()):
        raise ValueError(
            "answer must be False at the first token: nothing stands before it"
        )
    return answer[:, 1:]
