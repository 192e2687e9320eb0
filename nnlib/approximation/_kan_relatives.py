r"""Layers with other curves on their edges: Gaussians and Chebyshev polynomials.

Axes: i inputs, o outputs, c functions an edge.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks


def gaussian_basis(
    x: Float[Tensor, "*b i"], centers: Float[Tensor, " c"]
) -> Float[Tensor, "*b i c"]:
    r"""Return a Gaussian of each input round each centre (equation `kan-gaussian`).

    Args:
        x: any numbers.
        centers: evenly spaced, two or more; their distance is the width.
    """
    checks.tensor("x", x, floating=True)
    checks.tensor("centers", centers, shape=("c",), floating=True)
    if len(centers) < 2:
        raise ValueError(f"centers has {len(centers)} points, it needs 2 or more")
    if checks.readable(centers) and not bool((centers.diff() > 0).all()):
        raise ValueError("centers must rise from each to the next")
    width = (centers[-1] - centers[0]) / (len(centers) - 1)
    return (-((x[..., None] - centers) / width).square()).exp()  # eq. kan-gaussian


def chebyshev_basis(x: Float[Tensor, "*b i"], degree: int) -> Float[Tensor, "*b i c"]:
    r"""Return the Chebyshev polynomials $T_0 \dots T_n$ of each input (equation `kan-chebyshev`).

    Args:
        x: numbers in -1 … 1, where they stay in -1 … 1 themselves; they grow fast outside.
        degree: n, ≥ 1.
    """
    checks.tensor("x", x, floating=True)
    degree = checks.count("degree", degree)
    values = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        values.append(2 * x * values[-1] - values[-2])  # eq. kan-chebyshev
    return torch.stack(values, -1)


class FastKANLayer(nn.Module):
    r"""A KAN's layer with Gaussians on a fixed grid, after a layer norm (`kan-gaussian`).

    The norm keeps inputs on the grid, so that no grid needs updating.

    Args:
        in_features: inputs, ≥ 1.
        out_features: outputs, ≥ 1.
        num_centers: Gaussians an input, ≥ 2.
        grid_range: where the first and the last one stand.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> FastKANLayer(3, 2)(torch.randn(5, 3)).shape
        torch.Size([5, 2])

    Source: Li 2024, FastKAN.
    """

    centers: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_centers: int = 8,
        *,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.num_centers = checks.count("num_centers", num_centers, least=2)
        self.grid_range = ends("grid_range", grid_range)
        self.norm = nn.LayerNorm(in_features, device=device, dtype=dtype)
        shape = out_features, in_features * num_centers
        self.coef = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.base = nn.Linear(in_features, out_features, device=device, dtype=dtype)
        places = torch.empty(num_centers, device=device, dtype=dtype)
        self.register_buffer("centers", places)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw small coefficients and torch's own start for the linear part."""
        low, high = self.grid_range
        with torch.no_grad():
            self.centers.copy_(torch.linspace(low, high, self.num_centers))
        nn.init.trunc_normal_(self.coef, std=0.1)
        self.norm.reset_parameters()
        self.base.reset_parameters()

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return the sum of all curves at each output."""
        checks.tensor("x", x, floating=True)
        last("x", x, self.in_features)
        bumps = gaussian_basis(self.norm(x), self.centers).flatten(-2)
        return F.linear(bumps, self.coef) + self.base(F.silu(x))


class ChebyshevKANLayer(nn.Module):
    r"""A KAN's layer whose curves are polynomials of the squashed input (`kan-chebyshev`).

    Args:
        in_features: inputs, ≥ 1.
        out_features: outputs, ≥ 1.
        degree: of the polynomials, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> ChebyshevKANLayer(3, 2)(torch.randn(5, 3)).shape
        torch.Size([5, 2])

    Source: Sidharth et al. 2024, Chebyshev KAN.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        degree: int = 4,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.degree = checks.count("degree", degree)
        shape = out_features, in_features * (degree + 1)
        self.coef = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw coefficients whose sum over an output's inputs has a variance of about one."""
        nn.init.normal_(
            self.coef, std=1 / math.sqrt(self.in_features * (self.degree + 1))
        )

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return the sum of all curves at each output."""
        checks.tensor("x", x, floating=True)
        last("x", x, self.in_features)
        return F.linear(chebyshev_basis(x.tanh(), self.degree).flatten(-2), self.coef)


def last(name: str, x: Tensor, size: int) -> None:
    """Hold the last axis of a tensor to a size."""
    if x.ndim < 1 or x.shape[-1] != size:
        raise ValueError(
            f"{name} must have rows of {size} inputs, got {tuple(x.shape)}"
        )


def ends(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return the two ends of a range, the first below the second."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name}={value!r} must be two numbers")
    low, high = (checks.number(f"{name}[{at}]", end) for at, end in enumerate(value))
    if low >= high:
        raise ValueError(f"{name}={value!r} must rise from its first end to its second")
    return low, high
