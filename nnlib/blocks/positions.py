"""Sinusoidal positions: a vector for each place in a sequence, made of waves of many lengths.

Chapter: chapters/attention/transformer.md     Source: Vaswani et al. 2017, section 3.5
Axes: t positions, e model width (even).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def sinusoidal(
    length: int,
    embed_dim: int,
    *,
    start: int = 0,
    base: float = 10000.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "t e"]:
    r"""Return $\sin p\theta_i$ and $\cos p\theta_i$ in turn, with $\theta_i = \text{base}^{-2i/e}$.

    Feature 2i is a sine and 2i + 1 the cosine of one wave, i from 0 (equations
    `transformer-sine`, `transformer-cosine`). The angles are made in double precision.

    Args:
        length: number of positions t, ≥ 1.
        embed_dim: model width e, even, ≥ 2.
        start: the first position p, ≥ 0.
        base: > 0; the longest wave is nearly 2π·base positions long.
        device: of the result.
        dtype: of the result.

    Example:
        >>> sinusoidal(2, 4)
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    length = checks.count("length", length)
    e = checks.count("embed_dim", embed_dim)
    if e % 2:
        raise ValueError(
            f"embed_dim={e} must be even: a sine and a cosine of each wave"
        )
    start = checks.count("start", start, least=0)
    base = checks.number("base", base, above=0)
    p = torch.arange(start, start + length, dtype=torch.float64)
    angle = p[:, None] * base ** (-torch.arange(0, e, 2, dtype=torch.float64) / e)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(device, dtype)
