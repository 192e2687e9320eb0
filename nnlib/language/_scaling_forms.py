r"""The shapes that a loss curve is given: one power, two powers and a floor, a power that breaks.

Part of `nnlib.language.scaling_laws`, with its axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks

Number = Float[Tensor, "*b"] | float | int
"""One number or a tensor of them."""


def positive(name: str, value: Number) -> Tensor:
    """Return a tensor of finite numbers > 0; a plain number becomes one in float64."""
    if not isinstance(value, Tensor):
        value = torch.tensor(checks.number(name, value, above=0), dtype=torch.float64)
    checks.tensor(name, value, floating=True, finite=True)
    if checks.readable(value) and not bool((value > 0).all()):
        raise ValueError(f"{name} must be > 0, got {float(value.min()):g}")
    return value


@dataclass(frozen=True)
class PowerLaw:
    r"""$y = E + A\,x^{p}$, a straight line on logarithmic axes where the floor E is 0.

    Args:
        coefficient: A > 0.
        exponent: p; below 0 for a loss, such as −0.076, above 0 for a size that grows.
        floor: E ≥ 0, what y never falls below.

    Example:
        >>> loss = PowerLaw(coefficient=8.0, exponent=-0.5, floor=1.0)
        >>> loss(torch.tensor([1.0, 4.0, 16.0]))
        tensor([9., 5., 3.])
    """

    coefficient: float
    exponent: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        checks.number("coefficient", self.coefficient, above=0)
        checks.number("exponent", self.exponent)
        checks.number("floor", self.floor, least=0)

    def __call__(self, x: Number) -> Float[Tensor, "*b"]:
        """Return y at each x > 0."""
        return self.floor + self.coefficient * positive("x", x) ** self.exponent

    @property
    def scale(self) -> float:
        r"""The $x_c$ of $y = (x_c / x)^{-p}$, as Kaplan et al. write it: where a line reaches 1."""
        if self.exponent == 0:
            raise ValueError("exponent=0 has no scale: y is the same for every x")
        return self.coefficient ** (-1 / self.exponent)


@dataclass(frozen=True)
class ParametricLaw:
    r"""$L(N, D) = E + A / N^{\alpha} + B / D^{\beta}$: equation `scaling-laws-parametric`.

    Args:
        floor: E ≥ 0, what no model and no amount of data removes, in nats a token.
        size: A > 0, for what a model of finite size loses.
        data: B > 0, for what finite data lose.
        alpha: α > 0, the exponent of N.
        beta: β > 0, the exponent of D.

    Example:
        >>> law = ParametricLaw(floor=1.0, size=100.0, data=100.0, alpha=0.5, beta=0.5)
        >>> law(parameters=1e4, tokens=1e4)
        tensor(3., dtype=torch.float64)

    Source: Hoffmann et al. 2022, equation 2; theirs are A for `size` and B for `data`.
    """

    floor: float
    size: float
    data: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        checks.number("floor", self.floor, least=0)
        for name in ("size", "data", "alpha", "beta"):
            checks.number(name, getattr(self, name), above=0)

    def __call__(self, parameters: Number, tokens: Number) -> Float[Tensor, "*b"]:
        """Return the loss of models with so many parameters after so many tokens."""
        n, d = positive("parameters", parameters), positive("tokens", tokens)
        return self.floor + self.size / n**self.alpha + self.data / d**self.beta

    @property
    def size_exponent(self) -> float:
        """The a of $N^* ∝ C^a$: β / (α + β), equation `scaling-laws-exponents`."""
        return self.beta / (self.alpha + self.beta)


HOFFMANN = ParametricLaw(1.69, 406.4, 410.7, 0.34, 0.28)
"""As printed in Hoffmann et al. 2022, where the exponents are rounded to two digits."""
HOFFMANN_UNROUNDED = ParametricLaw(1.6934, 406.4, 410.7, 0.3392, 0.2849)
"""As they stand in the source of that paper, according to Besiroglu et al. 2024."""
BESIROGLU = ParametricLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""The refit of Besiroglu et al. 2024 to 240 of Hoffmann's runs, read off a figure."""

PF_DAY = 1e15 * 86_400.0
"""FLOPs of a petaflop-day, the unit of Kaplan et al."""
KAPLAN = {
    "parameters": PowerLaw(8.8e13**0.076, -0.076),
    "tokens": PowerLaw(5.4e13**0.095, -0.095),
    "compute": PowerLaw((3.1e8 * PF_DAY) ** 0.050, -0.050),
}
"""Loss against N without embeddings, D in tokens, least compute in FLOPs: `scaling-laws-kaplan`.

Each holds where the other two are not what limits the model.
"""
KAPLAN_SIZE = PowerLaw(1.3e9 / PF_DAY**0.73, 0.73)
"""The size, without embeddings, that Kaplan et al. would train with so many FLOPs."""


def kaplan(parameters: Number, tokens: Number) -> Float[Tensor, "*b"]:
    r"""Return $\big[(N_c/N)^{\alpha_N/\alpha_D} + D_c/D\big]^{\alpha_D}$, as fitted jointly.

    Equation `scaling-laws-kaplan-both`: a model of N parameters without embeddings, stopped early
    on D tokens of text.

    Args:
        parameters: N > 0.
        tokens: D > 0.

    Example:
        >>> round(kaplan(1e9, 1e10).item(), 2)
        2.42

    Source: Kaplan et al. 2020, equation 1.5 and table 2.
    """
    n, d = positive("parameters", parameters), positive("tokens", tokens)
    return ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103


def effective_tokens(
    unique: Number, tokens: Number, worth: float = 15.387756
) -> Float[Tensor, "*b"]:
    r"""Return what D tokens are worth when only U of them differ: `scaling-laws-repeated`.

    $D' = U + U R^* (1 - e^{-R/R^*})$ with the repetitions $R = D/U - 1$. What is read once counts
    in full; with ever more passes D′ tends to $U (1 + R^*)$.

    Args:
        unique: U > 0, tokens that differ.
        tokens: D > 0, tokens read; U or fewer are all new.
        worth: R* > 0, how many passes it takes until a further one is worth 1/e of a new one.

    Example:
        >>> [round(effective_tokens(1.0, epochs).item(), 2) for epochs in (1.0, 4.0, 16.0, 400.0)]
        [1.0, 3.73, 10.58, 16.39]

    Source: Muennighoff et al. 2023, equation 5 and appendix A.
    """
    u, d = positive("unique", unique), positive("tokens", tokens)
    worth = checks.number("worth", worth, above=0)
    repeated = (d / u - 1).clamp(min=0)
    more = -worth * torch.expm1(-repeated / worth)
    return torch.minimum(u, d) + u * more


def broken_power_law(
    x: Number,
    law: PowerLaw,
    breaks: Sequence[tuple[float, float, float]],
) -> Float[Tensor, "*b"]:
    r"""Return $E + A x^{p} \prod_i \big(1 + (x/x_i)^{1/s_i}\big)^{c_i s_i}$: `scaling-laws-broken`.

    On logarithmic axes a chain of straight lines: at $x_i$ the slope changes by $c_i$.

    Args:
        x: > 0.
        law: the first piece.
        breaks: for each break where it is, x_i > 0, the change c_i of the exponent, and how gradual
            it is, s_i > 0.

    Example:
        >>> x = torch.tensor([1e-6, 1e-5, 1e5, 1e6], dtype=torch.float64)
        >>> y = broken_power_law(x, PowerLaw(1.0, -0.1), [(1.0, -0.4, 0.5)]).log10()
        >>> round((y[1] - y[0]).item(), 3), round((y[3] - y[2]).item(), 3)  # slopes
        (-0.1, -0.5)

    Source: Caballero et al. 2022, whose −c_0 is our p, −c_i our c_i and f_i our s_i.
    """
    at = positive("x", x)
    if not isinstance(law, PowerLaw):
        raise TypeError(f"law must be a PowerLaw, got {type(law).__name__}")
    factor = torch.ones_like(at)
    for number, (where, change, width) in enumerate(breaks):
        where = checks.number(f"breaks[{number}][0]", where, above=0)
        change = checks.number(f"breaks[{number}][1]", change)
        width = checks.number(f"breaks[{number}][2]", width, above=0)
        bent = torch.nn.functional.softplus((at / where).log() / width)
        factor = factor * (change * width * bent).exp()
    return law.floor + (law(at) - law.floor) * factor
