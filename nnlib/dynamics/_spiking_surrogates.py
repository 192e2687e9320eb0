r"""Slopes that stand in for the derivative of a step, each under its own name.

A spike is a step of the membrane, $S = \Theta(x)$ with $x = V - \vartheta$. Its derivative is zero
everywhere but at $x = 0$, so nothing can be learned through it. A surrogate keeps the step on the
way forward, and takes the slope of a soft step on the way back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

Slope = Callable[[Tensor, float], Tensor]

DERIVATIVES: dict[str, Slope] = {
    # eq. spiking-fast-sigmoid, spiking-arctan, spiking-sigmoid-surrogate, spiking-triangle
    "fast_sigmoid": lambda x, k: 1 / (1 + k * x.abs()).square(),
    "arctan": lambda x, k: k / 2 / (1 + (math.pi * k / 2 * x).square()),
    "sigmoid": lambda x, k: k * torch.sigmoid(k * x) * torch.sigmoid(-k * x),
    "triangle": lambda x, k: (1 - k * x.abs()).clamp(min=0),
    "rectangle": lambda x, k: k * (x.abs() < 1 / (2 * k)).to(x.dtype),
    "gaussian": lambda x, k: (
        k / math.sqrt(2 * math.pi) * torch.exp(-(k * x).square() / 2)
    ),
    "exponential": lambda x, k: torch.exp(-k * x.abs()),
    "straight_through": lambda x, k: torch.ones_like(x),
}

SOFT_STEPS: dict[str, Slope] = {
    "fast_sigmoid": lambda x, k: x / (1 + k * x.abs()),
    "arctan": lambda x, k: torch.atan(math.pi * k / 2 * x) / math.pi + 0.5,
    "sigmoid": lambda x, k: torch.sigmoid(k * x),
    "triangle": lambda x, k: _triangle(x.clamp(-1 / k, 1 / k), k),
    "rectangle": lambda x, k: (k * x + 0.5).clamp(0, 1),
    "gaussian": lambda x, k: torch.special.ndtr(k * x),
    "exponential": lambda x, k: x.sign() * -torch.expm1(-k * x.abs()) / k,
    "straight_through": lambda x, k: x,
}

SLOPES = {
    "fast_sigmoid": 25.0,
    "arctan": 2.0,
    "sigmoid": 25.0,
    "triangle": 1.0,
    "rectangle": 1.0,
    "gaussian": 2.0,
    "exponential": 5.0,
    "straight_through": 1.0,
}
"""What `slope` is where nobody sets it, for a threshold of about 1."""

AREAS: dict[str, Callable[[float], float]] = {
    "fast_sigmoid": lambda k: 2 / k,
    "arctan": lambda k: 1.0,
    "sigmoid": lambda k: 1.0,
    "triangle": lambda k: 1 / k,
    "rectangle": lambda k: 1.0,
    "gaussian": lambda k: 1.0,
    "exponential": lambda k: 2 / k,
    "straight_through": lambda k: math.inf,
}


def _triangle(x: Tensor, k: float) -> Tensor:
    return x - k * x * x.abs() / 2


@dataclass(frozen=True)
class Surrogate:
    """A step on the way forward, a slope on the way back; made by `surrogate`.

    Args:
        name: of the slope, a key of `SLOPES`.
        slope: how fast it falls off, > 0.
        scale: a factor on all of it, > 0.
    """

    name: str
    slope: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no surrogate."""
        checks.one_of("name", self.name, SLOPES)
        checks.number("slope", self.slope, above=0)
        checks.number("scale", self.scale, above=0)

    def __call__(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return 1 where x ≥ 0, else 0; its gradient is `derivative`."""
        checks.tensor("x", x, floating=True)
        return _Step.apply(x, self.name, self.slope, self.scale)

    def derivative(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the slope that stands in for the derivative of the step at x."""
        checks.tensor("x", x, floating=True)
        return derivative(x, self.name, self.slope, self.scale)

    def soft_step(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the function whose derivative it is, up to a constant."""
        checks.tensor("x", x, floating=True)
        return self.scale * SOFT_STEPS[self.name](x, self.slope)

    @property
    def area(self) -> float:
        """The integral of the slope; a step's own is 1."""
        return self.scale * AREAS[self.name](self.slope)


def surrogate(
    name: str = "fast_sigmoid", slope: float | None = None, scale: float = 1.0
) -> Surrogate:
    r"""Return a surrogate gradient by its name.

    With $x = V - \vartheta$ and $k$ the slope, the gradient of a spike is taken to be

    * `fast_sigmoid`: $1/(1 + k|x|)^2$, of Zenke and Ganguli 2018 (`spiking-fast-sigmoid`);
    * `arctan`: $\tfrac k2 / (1 + (\tfrac{\pi k}2 x)^2)$, of Fang et al. 2021 (`spiking-arctan`);
    * `sigmoid`: $k\,\sigma(kx)\,\sigma(-kx)$, the derivative of a logistic sigmoid
      (`spiking-sigmoid-surrogate`);
    * `triangle`: $\max(0, 1 - k|x|)$, of Esser et al. 2016, and with `scale=0.3` of Bellec et al.
      2018 (`spiking-triangle`);
    * `rectangle`: $k$ where $|x| < 1/(2k)$, else 0, of Wu et al. 2018;
    * `gaussian`: the normal density with standard deviation $1/k$;
    * `exponential`: $e^{-k|x|}$, as in SLAYER (Shrestha and Orchard 2018);
    * `straight_through`: 1 everywhere (Bengio et al. 2013).

    Args:
        name: one of these.
        slope: $k$ > 0, in units of 1/threshold. None: what is usual for that name.
        scale: a factor, > 0.

    Example:
        >>> spike = surrogate("arctan")
        >>> x = torch.tensor([-0.5, 0.0, 0.5], requires_grad=True)
        >>> spike(x).sum().backward()
        >>> spike(x).tolist(), x.grad
        ([0.0, 1.0, 1.0], tensor([0.2884, 1.0000, 0.2884]))
    """
    checks.one_of("name", name, SLOPES)
    return Surrogate(name, SLOPES[name] if slope is None else slope, scale)


def taken(given: Any) -> Surrogate:
    """Return what an argument `surrogate` stands for: a name, or a surrogate itself."""
    if isinstance(given, Surrogate):
        return given
    if not isinstance(given, str):
        kind = type(given).__name__
        raise TypeError(f"surrogate must be a name or a Surrogate, got {kind}")
    checks.one_of("surrogate", given, SLOPES)
    return surrogate(given)


def derivative(x: Tensor, name: str, slope: float, scale: float) -> Tensor:
    value = DERIVATIVES[name](x, slope)
    return value if scale == 1 else scale * value


class _Step(torch.autograd.Function):
    """A step whose gradient is a surrogate's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, slope: float, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.how = name, slope, scale
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return grad * derivative(x, *ctx.how), None, None, None  # eq. spiking-surrogate
