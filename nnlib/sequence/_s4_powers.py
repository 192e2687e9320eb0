"""Sums of powers of eigenvalues, which the kernel of a diagonal system is.

Part of `nnlib.sequence.s4`, with its axes.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nnlib import checks
from nnlib.sequence._s4_system import entries


def vandermonde(
    weights: Complex[Tensor, "d n"], rate: Complex[Tensor, "d n"], length: int
) -> Float[Tensor, "d t"]:
    r"""Return $2\Re\sum_i w_i e^{k r_i}$ for k = 0 … length − 1 (equation `s4-vandermonde`).

    With $k = a m + b$ the power factors into $e^{a m r} e^{b r}$, so about $2\sqrt t$ exponentials
    a state are enough, and a matrix product does the rest.

    Args:
        weights: w, such as $C \bar B$.
        rate: r, the logarithm of $\bar A$, with real parts ≤ 0.
        length: entries, ≥ 0.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.complex64)
        >>> vandermonde(one, -math.log(2) * one, 3)
        tensor([[2.0000, 1.0000, 0.5000]])
    """
    entries("weights", weights, ("d", "n"))
    entries("rate", rate, tuple(weights.shape))
    length = checks.count("length", length, least=0)
    chunk = max(1, math.isqrt(length))
    within = torch.arange(chunk, device=rate.device)
    begins = torch.arange(-(-length // chunk), device=rate.device) * chunk
    fine = torch.exp(wrapped(rate[..., None]) * within)
    coarse = weights[..., None] * torch.exp(wrapped(rate[..., None] * begins))
    left = torch.cat([coarse.real, -coarse.imag], 1)
    right = torch.cat([fine.real, fine.imag], 1)
    return 2 * (left.mT @ right).flatten(1)[:, :length]


def wide(values: Tensor) -> Tensor:
    """Return half precision as single: it has no complex numbers, and powers need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def wrapped(exponent: Tensor) -> Tensor:
    """Return an exponent with its phase in 0 … 2π, where single precision is fine."""
    return torch.complex(exponent.real, exponent.imag.remainder(2 * math.pi))


def expm1(z: Tensor) -> Tensor:
    """Return e^z − 1 without cancellation: torch has it for real numbers only."""
    real = torch.expm1(z.real) * z.imag.cos() - 2 * (z.imag / 2).sin().square()
    return torch.complex(real, z.real.exp() * z.imag.sin())
