r"""An arm of two links in a plane: where its hand is, and the two poses that reach a point.

Axes: b batch; a pose is two angles, a point two coordinates.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


class TwoLinkArm:
    r"""An arm whose shoulder stands at the origin; angles in radians, against the clock.

    $\theta_1$ is the direction of the upper arm, $\theta_2$ how far the elbow bends from it.

    Args:
        upper: length $\ell_1$ > 0 of the upper arm.
        fore: length $\ell_2$ > 0 of the forearm.

    Example:
        >>> arm = TwoLinkArm(1.0, 1.0)
        >>> arm.hand(torch.tensor([[0.0, torch.pi / 2]])).round(decimals=3)
        tensor([[1., 1.]])
    """

    def __init__(self, upper: float = 1.0, fore: float = 0.8):
        self.upper = checks.number("upper", upper, above=0)
        self.fore = checks.number("fore", fore, above=0)

    def elbow(self, angles: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """Return where the elbow is."""
        first = _pairs("angles", angles)[..., 0]
        return self.upper * torch.stack([first.cos(), first.sin()], -1)

    def hand(self, angles: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """Return where the hand is (`mixture-density-arm`): a function, easily computed."""
        both = _pairs("angles", angles).sum(-1)
        return self.elbow(angles) + self.fore * torch.stack(
            [both.cos(), both.sin()], -1
        )

    def poses(self, points: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2 2"]:
        r"""Return the two poses that reach each point (`mixture-density-arm-inverse`).

        First the one with $\theta_2 \ge 0$; NaN where a point is out of reach.
        """
        square = _pairs("points", points).square().sum(-1)
        twice = 2 * self.upper * self.fore
        cosine = (square - self.upper**2 - self.fore**2) / twice
        # a stretched arm reaches its own hand, whatever the rounding of the square
        slack = (
            8 * torch.finfo(points.dtype).eps * (self.upper + self.fore) ** 2 / twice
        )
        reached = cosine.abs() <= 1 + slack
        cosine = torch.where(reached, cosine.clamp(-1, 1), math.nan)
        bend = torch.stack([cosine.acos(), -cosine.acos()], -1)
        toward = torch.atan2(points[..., 1], points[..., 0])[..., None]
        turned = torch.atan2(
            self.fore * bend.sin(), self.upper + self.fore * bend.cos()
        )
        return torch.stack([toward - turned, bend], -1)

    def babble(
        self, count: int, *, most: float = 2.6, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
        r"""Return hands and the random poses that brought them there.

        Args:
            count: ≥ 1.
            most: the elbow bends up to so many radians both ways, in (0, π]; the shoulder turns
                over half a circle, 0 … π.
            generator: source of the randomness.
        """
        count = checks.count("count", count)
        most = checks.number("most", most, above=0, most=math.pi)
        drawn = torch.rand(count, 2, generator=generator)
        low, high = torch.tensor([0.0, -most]), torch.tensor([math.pi, most])
        angles = low + (high - low) * drawn
        return self.hand(angles), angles


def _pairs(name: str, value: Tensor) -> Tensor:
    """Return numbers whose last axis has two of them."""
    checks.tensor(name, value, floating=True)
    if value.ndim == 0 or value.shape[-1] != 2:
        raise ValueError(
            f"{name} must have 2 numbers as its last axis, got {tuple(value.shape)}"
        )
    return value
