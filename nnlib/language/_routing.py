"""Which experts a token goes to, what keeps the choice balanced, and the choice of the experts.

Part of `nnlib.language.mixture_of_experts`, with its axes.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks


class Routing(NamedTuple):
    """Which experts each token goes to, and why.

    Args:
        logits: the router's score for each expert, before softmax or sigmoid.
        probabilities: what it makes of them, divided by their sum.
        experts: the k chosen, the best first.
        weights: what their outputs are multiplied by; 0 where an expert had no place left.
        kept: whether the expert had a place.
    """

    logits: Float[Tensor, "n m"]
    probabilities: Float[Tensor, "n m"]
    experts: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    kept: Bool[Tensor, "n k"]

    def load(self) -> Float[Tensor, " m"]:
        """Return the share of all choices that fell on each expert, dropped ones included."""
        ones = torch.ones_like(self.weights).flatten()
        chosen = ones.new_zeros(self.logits.shape[1])
        return chosen.scatter_add(0, self.experts.flatten(), ones) / max(1, len(ones))


def balance_loss(
    routing: Routing, key_mask: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    r"""Return Switch's loss, $m \sum_i f_i P_i$: equation `mixture-of-experts-balance`.

    $f_i$ is how many of the k choices of a token fall on expert i, on average, so that they add up
    to k; $P_i$ is the mean probability. It is k where all experts get the same. Only P has a slope.

    Args:
        routing: of one layer. Layers are balanced one by one: add their losses.
        key_mask: True at real tokens, False at padding, which counts for nothing.

    Example:
        >>> from nnlib.language.mixture_of_experts import MixtureOfExperts
        >>> moe = MixtureOfExperts(8, 16, num_experts=4, top_k=2)
        >>> balance_loss(moe.routed(torch.randn(100, 8))[1]).shape
        torch.Size([])

    Source: Fedus et al. 2021, for k = 1; for more as in `transformers`.
    """
    n, m = checked_routing(routing)
    real = torch.ones(n, device=routing.logits.device, dtype=routing.logits.dtype)
    if key_mask is not None:
        real = checks.key_mask("key_mask", key_mask, (n,)).to(real)
    total = real.sum().clamp(min=1)
    chosen = torch.zeros_like(routing.logits).scatter_add(
        1, routing.experts, torch.ones_like(routing.weights, dtype=real.dtype)
    )
    share = (real @ chosen) / total
    return m * share @ (real @ routing.probabilities / total)


def router_z_loss(
    routing: Routing, key_mask: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, ""]:
    r"""Return the mean of $\bigl(\log \sum_i e^{z_i}\bigr)^2$: equation `mixture-of-experts-z`.

    It keeps the router's logits small, where rounding does little harm.

    Args:
        routing: of one layer.
        key_mask: True at real tokens, False at padding.

    Example:
        >>> from nnlib.language.mixture_of_experts import MixtureOfExperts
        >>> moe = MixtureOfExperts(8, 16, num_experts=4)
        >>> router_z_loss(moe.routed(torch.zeros(100, 8))[1]).sqrt().exp().round().item()
        4.0

    Source: Zoph et al. 2022, who multiply it by 0.001.
    """
    n, _ = checked_routing(routing)
    squares = routing.logits.logsumexp(-1).square()
    if key_mask is None:
        return squares.mean()
    real = checks.key_mask("key_mask", key_mask, (n,)).to(squares)
    return real @ squares / real.sum().clamp(min=1)


def expert_choice(
    logits: Float[Tensor, "n m"], places: int
) -> tuple[Int[Tensor, "m c"], Float[Tensor, "m c"]]:
    """Let each expert choose its tokens: equation `mixture-of-experts-expert-choice`.

    All experts get the same number of tokens, so that there is nothing to balance; a token may be
    taken by many experts or by none. A token's fate depends on those after it, which a model that
    writes from left to right cannot know.

    Args:
        logits: a score for each token and expert.
        places: tokens for each expert c, 1 … n.

    Returns:
        The tokens of each expert, and what the expert's output is multiplied by.

    Example:
        >>> tokens, weights = expert_choice(torch.eye(4)[:, :2], places=1)
        >>> tokens.tolist()
        [[0], [1]]

    Source: Zhou et al. 2022.
    """
    checks.tensor("logits", logits, shape=("n", "m"), floating=True, empty=False)
    if checks.count("places", places) > len(logits):
        raise ValueError(
            f"places={places} is more than the {len(logits)} tokens there are"
        )
    weights, tokens = logits.softmax(-1).T.topk(places)
    return tokens, weights


def at_most_all(top_k: int, num_experts: int) -> int:
    if checks.count("top_k", top_k) > num_experts:
        raise ValueError(f"top_k={top_k} is more than num_experts={num_experts}")
    return top_k


def checked_routing(value: Any, num_experts: int | None = None) -> tuple[int, int]:
    """Return the tokens and the experts of a routing."""
    if not isinstance(value, Routing):
        raise TypeError(f"routing must be a Routing, got {type(value).__name__}")
    n, m = checks.tensor("routing.logits", value.logits, shape=("n", "m")).shape
    if num_experts is not None and m != num_experts:
        raise ValueError(f"routing must be of {num_experts} experts, got {m}")
    return n, m
