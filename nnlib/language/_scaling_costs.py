r"""What training and serving cost in FLOPs, and which model is cheapest over both.

Part of `nnlib.language.scaling_laws`, with its axes.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.language._scaling_forms import BESIROGLU, Number, ParametricLaw, positive


def training_flops(
    vocab_size: int, embed_dim: int, num_layers: int, length: int, tokens: int = 1
) -> int:
    r"""Return the FLOPs of the matrix products that train a GPT: equation `scaling-laws-flops`.

    $3 \big(L (24 e^2 + 4 e T) + 2 v e\big)$ a token: once forwards, twice backwards. All T × T
    scores count, as a kernel computes them that does not skip what the mask hides.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 1.
        length: positions T of a row, ≥ 1.
        tokens: tokens read, ≥ 1.

    Example:
        >>> round(training_flops(50257, 768, 12, 1024) / 6 / 124_439_808, 3)  # GPT-2, against 6N
        1.144
    """
    v, e = checks.count("vocab_size", vocab_size), checks.count("embed_dim", embed_dim)
    depth, t = checks.count("num_layers", num_layers), checks.count("length", length)
    return (
        3
        * (depth * (24 * e * e + 4 * e * t) + 2 * v * e)
        * checks.count("tokens", tokens)
    )


def tokens_to_reach(
    loss: float, parameters: Number, law: ParametricLaw = BESIROGLU
) -> Float[Tensor, "*b"]:
    r"""Return how many tokens bring models of N parameters to a loss; infinity if none do.

    $D = \big(B / (L - E - A/N^{\alpha})\big)^{1/\beta}$.

    Args:
        loss: L > 0, in nats.
        parameters: N > 0.
        law: what loss follows.

    Example:
        >>> law = ParametricLaw(1.0, 100.0, 100.0, 0.5, 0.5)
        >>> tokens_to_reach(3.0, torch.tensor([1e4, 4e4, 1e3]), law).round()
        tensor([10000.,  4444.,    inf])
    """
    loss = checks.number("loss", loss, above=0)
    n, law = positive("parameters", parameters), _checked(law)
    left = loss - law.floor - law.size / n**law.alpha
    reached = (law.data / left.clamp(min=torch.finfo(n.dtype).tiny)) ** (1 / law.beta)
    return torch.where(left > 0, reached, torch.inf)


class Served(NamedTuple):
    """The model that is cheapest over training and use."""

    parameters: float
    tokens: float
    flops: float
    """$6ND + 2NS$, of training and of all that is served."""


def serving_optimum(
    loss: float, served: float, law: ParametricLaw = BESIROGLU
) -> Served:
    r"""Return the N and D that reach a loss at the least $6ND + 2NS$: `scaling-laws-served`.

    Args:
        loss: L in nats, above the law's floor.
        served: S ≥ 0, the tokens that will be read and written in the model's life.
        law: what loss follows.

    Example:
        >>> alone, much = serving_optimum(2.2, 0.0), serving_optimum(2.2, 1e13)
        >>> much.parameters < alone.parameters, much.tokens > alone.tokens
        (True, True)

    Source: Sardana et al. 2024.
    """
    law = _checked(law)
    loss = checks.number("loss", loss, above=law.floor)
    served = checks.number("served", served, least=0)
    # The least size that could ever reach the loss, and from there the derivative's only zero.
    low = math.log(law.size / (loss - law.floor)) / law.alpha
    high = low + 60.0
    low += 1e-9
    for _ in range(200):
        middle = (low + high) / 2
        d = _tokens(loss, middle, law)
        falls = (
            law.alpha * law.size * math.exp(-law.alpha * middle) * d ** (law.beta + 1)
        )
        if falls > law.beta * law.data * (d + served / 3):
            low = middle
        else:
            high = middle
    n, d = math.exp(high), _tokens(loss, high, law)
    return Served(n, d, 6 * n * d + 2 * n * served)


def _tokens(loss: float, log_n: float, law: ParametricLaw) -> float:
    left = loss - law.floor - law.size * math.exp(-law.alpha * log_n)
    return (law.data / left) ** (1 / law.beta)


def _checked(law: ParametricLaw) -> ParametricLaw:
    if not isinstance(law, ParametricLaw):
        raise TypeError(f"law must be a ParametricLaw, got {type(law).__name__}")
    return law
