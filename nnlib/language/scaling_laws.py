r"""Scaling laws: how loss falls with parameters and data, and what to buy with a budget of compute.

Chapter: chapters/language/scaling_laws.md     Papers: Kaplan et al. 2020; Hoffmann et al. 2022
(Chinchilla) and its refit, Besiroglu et al. 2024; Yang et al. 2022 (μP)
Axes: n runs, b any shape.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.language._scaling_costs import (
    Served,
    serving_optimum,
    tokens_to_reach,
    training_flops,
)
from nnlib.language._scaling_fits import (
    IsoflopMinimum,
    fit_parametric,
    fit_power_law,
    frontier,
    huber_objective,
    isoflop_minimum,
    resample_parametric,
)
from nnlib.language._scaling_forms import (
    BESIROGLU,
    HOFFMANN,
    HOFFMANN_UNROUNDED,
    KAPLAN,
    KAPLAN_SIZE,
    PF_DAY,
    Number,
    ParametricLaw,
    PowerLaw,
    broken_power_law,
    effective_tokens,
    kaplan,
    positive,
)

__all__ = [
    "BESIROGLU",
    "HOFFMANN",
    "HOFFMANN_UNROUNDED",
    "KAPLAN",
    "KAPLAN_SIZE",
    "PF_DAY",
    "Allocation",
    "IsoflopMinimum",
    "MuP",
    "ParametricLaw",
    "PowerLaw",
    "Served",
    "broken_power_law",
    "compute_optimal",
    "effective_tokens",
    "fit_parametric",
    "fit_power_law",
    "frontier",
    "huber_objective",
    "isoflop_minimum",
    "kaplan",
    "mup",
    "pass_at_k",
    "resample_parametric",
    "serving_optimum",
    "tokens_to_reach",
    "training_flops",
]


class Allocation(NamedTuple):
    """What a budget of compute buys."""

    parameters: Float[Tensor, "*b"]
    tokens: Float[Tensor, "*b"]
    loss: Float[Tensor, "*b"]


def compute_optimal(compute: Number, law: ParametricLaw = BESIROGLU) -> Allocation:
    r"""Return the N and D of least loss with $6ND = C$: equation `scaling-laws-optimal`.

    $N^* = G\,(C/6)^{a}$ and $D^* = (C/6)^{1-a} / G$, where $a = \beta / (\alpha + \beta)$ and
    $G = (\alpha A / \beta B)^{1 / (\alpha + \beta)}$.

    Args:
        compute: C > 0, FLOPs of training.
        law: what loss follows.

    Returns:
        Parameters, tokens and loss for each budget.

    Example:
        >>> best = compute_optimal(5.76e23)  # the budget of Gopher, and of Chinchilla
        >>> f"{best.parameters:.2e} parameters, {best.tokens / best.parameters:.1f} tokens for each"
        '7.22e+10 parameters, 18.4 tokens for each'

    Source: Hoffmann et al. 2022, equation 4; constants: Besiroglu et al. 2024.
    """
    budget = positive("compute", compute)
    if not isinstance(law, ParametricLaw):
        raise TypeError(f"law must be a ParametricLaw, got {type(law).__name__}")
    both = law.alpha + law.beta
    balance = (law.alpha * law.size / (law.beta * law.data)) ** (1 / both)
    n = balance * (budget / 6) ** law.size_exponent
    d = (budget / 6) ** (1 - law.size_exponent) / balance
    return Allocation(n, d, law(n, d))


class MuP(NamedTuple):
    """The factors of a width, relative to the width that was tuned."""

    hidden_rate: float
    """Of the learning rate of matrices whose both sides grow, under Adam."""
    output: float
    """Of the output, whose weights begin as wide as at the tuned width."""


def mup(width: int, base_width: int) -> MuP:
    r"""Return what the maximal update parametrisation changes at a width: `scaling-laws-mup`.

    Both are $w_0 / w$. Everything else stays: the spread of hidden weights falls with
    $1/\sqrt{w}$ as always, and embeddings, biases and norms keep their rate.

    Args:
        width: w ≥ 1.
        base_width: w_0 ≥ 1, the width whose learning rate is known.

    Example:
        >>> mup(512, 32)
        MuP(hidden_rate=0.0625, output=0.0625)

    Source: Yang et al. 2022, table 8, for Adam.
    """
    width = checks.count("width", width)
    ratio = checks.count("base_width", base_width) / width
    return MuP(ratio, ratio)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    r"""Return the chance that k answers hold a right one: equation `scaling-laws-coverage`.

    $1 - \binom{n - c}{k} / \binom{n}{k}$, without bias, from n answers of which c were right.

    Args:
        samples: n ≥ 1.
        correct: c in 0 … n.
        k: 1 … n.

    Example:
        >>> pass_at_k(samples=10, correct=1, k=5)
        0.5

    Source: Chen et al. 2021.
    """
    n = checks.count("samples", samples)
    c = checks.count("correct", correct, least=0)
    checks.number("correct", c, most=n)
    checks.number("k", checks.count("k", k), most=n)
    missed = 1.0
    for at in range(k):  # the chance that each of k draws without replacement is wrong
        missed *= max(n - c - at, 0) / (n - at)
    return 1 - missed
