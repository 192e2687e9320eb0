r"""What machines of binary units share: their states listed, drawn, counted and compared.

Axes: b states side by side, n units, k outcomes of a distribution.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.data.binary import MAX_UNITS, all_states

__all__ = [
    "MAX_UNITS",
    "all_states",
    "binary",
    "drawn",
    "entropy",
    "frequencies",
    "kl_divergence",
    "state_numbers",
    "total_variation",
]


def binary(name: str, value: Tensor, units: int) -> Float[Tensor, "*b n"]:
    """Return `value` when it holds states of `units` units, each 0 or 1.

    Raises:
        TypeError: not a tensor of floating point.
        ValueError: another number of units, or values that are neither 0 nor 1.
    """
    checks.tensor(name, value, floating=True)
    if value.ndim == 0 or value.shape[-1] != units:
        raise ValueError(
            f"{name} must have {units} units on its last axis, got shape {tuple(value.shape)}"
        )
    if checks.readable(value) and not bool(((value == 0) | (value == 1)).all()):
        raise ValueError(f"{name} must hold only 0 and 1")
    return value


def drawn(
    probabilities: Float[Tensor, "*b"], generator: torch.Generator | None = None
) -> Float[Tensor, "*b"]:
    """Draw 0 or 1 for each entry, independently: 1 with the probability that stands there.

    Example:
        >>> drawn(torch.tensor([0.0, 1.0]))
        tensor([0., 1.])
    """
    dice = torch.rand(
        probabilities.shape,
        generator=generator,
        dtype=probabilities.dtype,
        device=probabilities.device,
    )
    return (dice < probabilities).to(probabilities.dtype)


def state_numbers(states: Float[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """Return which row of `all_states(n)` each state is.

    Example:
        >>> state_numbers(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist()
        [2, 3]
    """
    checks.tensor("states", states, shape=("b", "n"), floating=True)
    n = states.shape[1]
    binary("states", states, n)
    if n > 62:
        raise ValueError(f"states must have at most 62 units, got {n}")
    return (states.long() << torch.arange(n - 1, -1, -1, device=states.device)).sum(1)


def frequencies(states: Float[Tensor, "b n"]) -> Float[Tensor, " k"]:
    """Return the share of each of the 2ⁿ states, in the order of `all_states`.

    Example:
        >>> frequencies(torch.tensor([[0.0], [1.0], [1.0], [1.0]]))
        tensor([0.2500, 0.7500])
    """
    checks.tensor("states", states, shape=("b", "n"), floating=True, empty=False)
    if states.shape[1] > MAX_UNITS:
        raise ValueError(
            f"states of {states.shape[1]} units are 2^{states.shape[1]} in all, "
            f"at most 2^{MAX_UNITS} can be counted"
        )
    counts = state_numbers(states).bincount(minlength=2 ** states.shape[1])
    return counts.to(states.dtype) / len(states)


def entropy(p: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
    r"""Return $-\sum_k p_k \log p_k$ in nats; outcomes of probability 0 add nothing.

    Example:
        >>> round(entropy(torch.tensor([0.5, 0.5, 0.0])).item(), 4)
        0.6931
    """
    checks.tensor("p", p, floating=True, finite=True)
    return -torch.special.xlogy(p, p).sum(-1)


def kl_divergence(
    p: Float[Tensor, "*b k"], q: Float[Tensor, "*b k"]
) -> Float[Tensor, "*b"]:
    r"""Return $\sum_k p_k \log (p_k / q_k)$ in nats; infinite where q rules out what p has.

    Example:
        >>> half = torch.tensor([0.5, 0.5, 0.0])
        >>> round(kl_divergence(half, torch.full((3,), 1 / 3)).item(), 4)  # log 3 − log 2
        0.4055
    """
    checks.tensor("p", p, floating=True, finite=True)
    checks.tensor("q", q, shape=tuple(p.shape), floating=True, finite=True)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)


def total_variation(
    p: Float[Tensor, "*b k"], q: Float[Tensor, "*b k"]
) -> Float[Tensor, "*b"]:
    r"""Return $\tfrac12 \sum_k |p_k - q_k|$: the largest difference that any event can make.

    Example:
        >>> total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])).item()
        0.5
    """
    checks.tensor("p", p, floating=True, finite=True)
    checks.tensor("q", q, shape=tuple(p.shape), floating=True, finite=True)
    return 0.5 * (p - q).abs().sum(-1)
