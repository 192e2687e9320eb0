r"""A time as a vector of waves, as the networks of diffusion models are told it.

Chapters: chapters/vision/unet.md, chapters/generative/diffusion.md     Paper: Ho et al. 2020
Axes: b batch, e width (even).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


def timestep_embedding(
    t: Float[Tensor, " b"] | Int[Tensor, " b"],
    embed_dim: int,
    *,
    base: float = 10000.0,
) -> Float[Tensor, "b e"]:
    r"""Return $\cos(t \omega_i)$ and $\sin(t \omega_i)$, $\omega_i = \text{base}^{-2i/e}$.

    Equation `unet-timestep`: a number becomes a vector of waves, the cosines first.

    Args:
        t: times, whole or not.
        embed_dim: width e, even.
        base: the longest wave is nearly 2π·base long.

    Example:
        >>> timestep_embedding(torch.tensor([0, 3]), 8).shape
        torch.Size([2, 8])

    Source: Ho et al. 2020, after Vaswani et al. 2017.
    """
    checks.tensor("t", t, shape=("b",))
    e = checks.count("embed_dim", embed_dim, least=2)
    base = checks.number("base", base, above=0)
    if e % 2:
        raise ValueError(
            f"embed_dim={e} must be even: a cosine and a sine of each wave"
        )
    t = t if t.is_floating_point() else t.float()
    steps = torch.arange(e // 2, device=t.device, dtype=t.dtype)
    angle = t[:, None] * torch.exp(-math.log(base) * steps / (e // 2))
    return torch.cat([angle.cos(), angle.sin()], 1)
