"""Noise schedules: how much noise each step of a diffusion adds.

Axes: T steps.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

SCHEDULES = ("linear", "scaled_linear", "cosine")


def beta_schedule(name: str, steps: int) -> Float[Tensor, " T"]:
    r"""Return the variances $\beta_t$ of the noise that each step adds, in double precision.

    `linear` rises from 10⁻⁴ to 0.02 in 1000 steps; `scaled_linear`, of Stable Diffusion, is linear
    in $\sqrt\beta$, from 0.00085 to 0.012. With another number of steps both are multiplied by
    1000/T, so that as much noise is added in all. `cosine` sets
    $\bar\alpha_t \propto \cos^2\bigl(\tfrac{t/T + 0.008}{1.008}\,\tfrac\pi2\bigr)$ (equation
    `diffusion-cosine`), with no β above 0.999.

    Args:
        name: one of `SCHEDULES`.
        steps: T, ≥ 1; of the first two, enough that no β reaches 1.

    Example:
        >>> beta_schedule("linear", 1000)[[0, -1]]
        tensor([0.0001, 0.0200], dtype=torch.float64)

    Source: Ho et al. 2020; Rombach et al. 2021; Nichol and Dhariwal 2021.
    """
    checks.one_of("name", name, SCHEDULES)
    steps = checks.count("steps", steps)
    kind = torch.float64
    if name == "cosine":
        share = torch.arange(steps + 1, dtype=kind) / steps
        kept = ((share + 0.008) / 1.008 * math.pi / 2).cos().square()
        return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)  # eq. diffusion-cosine
    power = 1 if name == "linear" else 2
    low, high = (1e-4, 0.02) if name == "linear" else (0.00085**0.5, 0.012**0.5)
    betas = torch.linspace(low, high, steps, dtype=kind) ** power * (1000 / steps)
    if betas[-1] >= 1:
        raise ValueError(
            f"steps={steps} is too few for name={name!r}: its last β would be {betas[-1]:.3g}"
        )
    return betas


def zero_terminal_snr(betas: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    r"""Return the schedule changed so that nothing of the data is left after its last step.

    $\sqrt{\bar\alpha}$ is shifted so that it ends at 0, and scaled so that it begins as before
    (equation `diffusion-zero-snr`). The last β is 1.

    Args:
        betas: variances in (0, 1), two or more.

    Example:
        >>> zero_terminal_snr(beta_schedule("linear", 1000))[-1]
        tensor(1., dtype=torch.float64)

    Source: Lin et al. 2023.
    """
    betas = _checked_betas(betas)
    if len(betas) < 2:
        raise ValueError("betas must hold 2 steps or more, got 1")
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])  # eq. diffusion-zero-snr
    kept = root.square()
    return 1 - torch.cat([kept[:1], kept[1:] / kept[:-1]])


def _checked_betas(betas: Any) -> Tensor:
    given = torch.as_tensor(betas, dtype=torch.float64).cpu()
    checks.tensor("betas", given, shape=("T",), finite=True, empty=False)
    last_alone = bool((given[:-1] < 1).all()) and float(given[-1]) <= 1
    if not bool((given > 0).all()) or not last_alone:
        low, high = float(given.min()), float(given.max())
        raise ValueError(
            f"betas must lie in (0, 1), the last one in (0, 1], got {low:g} … {high:g}"
        )
    return given
