"""Rotary positions: each pair of features turned by an angle that grows with the position.

Chapter: chapters/attention/transformer.md     Source: Su et al. 2021
Axes: b batch, h heads, t positions, d head width (even).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


def angles(
    positions: Int[Tensor, "*b t"], d: int, base: float = 10000.0
) -> Float[Tensor, "*b t half"]:
    r"""Return $p\,\theta_i$, $\theta_i = \text{base}^{-2i/d}$, $i < d/2$ from 0, in float32."""
    i = torch.arange(d // 2, device=positions.device, dtype=torch.float32)
    return positions[..., None].float() * base ** (-2 * i / d)


def rope_reference(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "..."],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
) -> Float[Tensor, "b h t d"]:
    """`rope` as its equation reads."""
    _check(x, positions, base, interleaved)
    turn = angles(positions, x.shape[-1], base)
    turn = turn[:, None] if positions.ndim == 2 else turn
    cos, sin = turn.cos(), turn.sin()
    if x.dtype == torch.float64:
        cos, sin = cos.double(), sin.double()
    wide = x if x.dtype == torch.float64 else x.float()
    if interleaved:  # pairs (0, 1), (2, 3), …
        a, b = wide[..., 0::2], wide[..., 1::2]
        y = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:  # pairs (0, d/2), (1, d/2 + 1), …
        a, b = wide.chunk(2, -1)
        y = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return y.to(x.dtype)


def rope(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "..."],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
) -> Float[Tensor, "b h t d"]:
    """Rotate queries or keys by their positions, so that scores see only differences of them.

    Args:
        x: queries or keys; d even.
        positions: integers of shape t, or b t.
        base: the slowest pair turns about once in 2π·base positions; > 0.
        interleaved: whether pairs are neighbours (0, 1), … (Su et al. 2021, GPT-J) or halves apart
            (0, d/2), … (GPT-NeoX, LLaMA).

    Raises:
        TypeError: `x` is no floating-point tensor, `positions` no integers.
        ValueError: d is odd, or shapes do not fit.

    Source: Su et al. 2021.
    """
    return rope_reference(x, positions, base=base, interleaved=interleaved)


def _check(x, positions, base, interleaved) -> None:
    b, _, t, d = checks.tensor("x", x, shape=("b", "h", "t", "d"), floating=True).shape
    if d % 2:
        raise ValueError(f"x must have an even head width d to turn pairs of features, got d={d}")
    checks.tensor("positions", positions, floating=False)
    if tuple(positions.shape) not in ((t,), (b, t), (1, t)):
        raise ValueError(
            f"positions must have shape ({t},) or ({b}, {t}), got {tuple(positions.shape)}"
        )
    checks.number("base", base, above=0)
    checks.one_of("interleaved", interleaved, (True, False))
