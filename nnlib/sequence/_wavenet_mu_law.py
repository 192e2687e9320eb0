"""The μ-law: samples of a sound as a few levels, finer near silence.

Part of `nnlib.sequence.wavenet`, with its axes.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


def mu_law_compress(x: Float[Tensor, "*any"], mu: int = 255) -> Float[Tensor, "*any"]:
    r"""Return $f(x) = \operatorname{sign}(x)\,\ln(1 + \mu|x|)/\ln(1 + \mu)$, in −1 … 1.

    Equation `wavenet-mu-law`: quiet samples are spread out, loud ones pressed together.

    Args:
        x: samples in −1 … 1.
        mu: how much, ≥ 1; 255 in telephony.

    Example:
        >>> mu_law_compress(torch.tensor([-1.0, 0.0, 0.01, 1.0]))
        tensor([-1.0000,  0.0000,  0.2285,  1.0000])

    Source: the standard G.711 of telephony, which approximates it by straight pieces.
    """
    _samples("x", x)
    mu = checks.count("mu", mu)
    return x.sign() * (mu * x.abs()).log1p() / math.log1p(mu)  # eq. wavenet-mu-law


def mu_law_expand(y: Float[Tensor, "*any"], mu: int = 255) -> Float[Tensor, "*any"]:
    r"""Return $f^{-1}(y) = \operatorname{sign}(y)\,((1 + \mu)^{|y|} - 1)/\mu$, in −1 … 1.

    Equation `wavenet-mu-law-inverse`; it undoes `mu_law_compress`.

    Args:
        y: what `mu_law_compress` gave, in −1 … 1.
        mu: as there.
    """
    _samples("y", y)
    mu = checks.count("mu", mu)
    return (
        y.sign() * (y.abs() * math.log1p(mu)).expm1() / mu
    )  # eq. wavenet-mu-law-inverse


def mu_law_encode(x: Float[Tensor, "*any"], mu: int = 255) -> Int[Tensor, "*any"]:
    r"""Return the level of each sample, an integer in 0 … μ: the nearest on the compressed scale.

    $q = \lfloor (f(x) + 1)\,\mu/2 + 1/2 \rfloor$ (equation `wavenet-encode`), as torchaudio has it.

    Args:
        x: samples in −1 … 1.
        mu: how much quiet samples are favoured, ≥ 1; there are μ + 1 levels.

    Raises:
        ValueError: a sample outside of −1 … 1; scale the sound first.

    Example:
        >>> mu_law_encode(torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0]))
        tensor([  0,  52, 128, 203, 255])
    """
    return ((mu_law_compress(x, mu) + 1) / 2 * mu + 0.5).to(
        torch.int64
    )  # eq. wavenet-encode


def mu_law_decode(levels: Int[Tensor, "*any"], mu: int = 255) -> Float[Tensor, "*any"]:
    r"""Return the sample in −1 … 1 that a level stands for: $f^{-1}(2q/\mu - 1)$.

    Equation `wavenet-decode`.

    Args:
        levels: integers in 0 … μ.
        mu: as for `mu_law_encode`.

    Example:
        >>> [round(x, 4) for x in mu_law_decode(torch.tensor([0, 128, 255])).tolist()]
        [-1.0, 0.0001, 1.0]
    """
    mu = checks.count("mu", mu)
    checks.tokens(
        "levels", levels, mu + 1, shape=tuple(levels.shape), empty=True, of="mu + 1"
    )
    return mu_law_expand(2 * levels.to(torch.get_default_dtype()) / mu - 1, mu)


def _samples(name: str, x: Tensor) -> None:
    checks.tensor(name, x, floating=True)
    if checks.readable(x) and x.numel() and not bool((x.abs() <= 1).all()):
        low, high = map(float, x.aminmax())
        raise ValueError(f"{name} must lie in -1 … 1, got {low:g} … {high:g}")
