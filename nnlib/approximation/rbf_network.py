r"""The radial basis function network: a sum of bumps, each answering near its own centre.

Chapter: chapters/approximation/rbf_network.md     Paper: Broomhead and Lowe 1988
Axes: n examples, b batch, d features of a point, k centres, o outputs.

Powell's and Hardy's letters differ from author to author; here a width is σ, in the unit of x, and
the shape parameter ε of numerical analysis is $1/(\sqrt2\,\sigma)$ for a Gaussian.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.approximation._rbf_centers import WIDTHS, distinct, kmeans, widths
from nnlib.approximation._rbf_functions import (
    NORMALIZED,
    RADIAL,
    radial,
    squared_distances,
    squared_distances_by_products,
)
from nnlib.approximation._rbf_interpolation import Interpolant, interpolate
from nnlib.approximation._rbf_relatives import (
    Posterior,
    gaussian_kernel,
    gaussian_process,
    kernel_ridge,
    random_features,
)
from nnlib.approximation._rbf_selection import Selection, orthogonal_least_squares
from nnlib.approximation._rbf_solve import least_squares

__all__ = [
    "Interpolant",
    "Posterior",
    "RBFNetwork",
    "Selection",
    "gaussian_kernel",
    "gaussian_process",
    "interpolate",
    "kernel_ridge",
    "kmeans",
    "least_squares",
    "orthogonal_least_squares",
    "radial",
    "random_features",
    "squared_distances",
    "squared_distances_by_products",
    "widths",
]


class RBFNetwork(nn.Module):
    r"""One hidden layer of bumps, each with its own centre and width, and a linear output.

    $$ f(\mathbf{x}) = \sum_j \mathbf{w}_j\, \varphi(\lVert\mathbf{x} -
    \boldsymbol{\mu}_j\rVert / \sigma_j) + \mathbf{b} $$

    `fit` learns in two steps, neither of which is a descent: centres and widths from the points
    alone, then the weights by least squares (equations `rbf-network-forward`,
    `rbf-network-ridge`). All of it is also open to gradients, as in any module.

    Args:
        num_centers: K ≥ 1, the number of bumps; at most the number of different points at `fit`.
        sigma: the width of all bumps, > 0, in the unit of x; or a rule of `widths` by which `fit`
            finds it: `nearest`, which is also that of None, `spread`, or `local`.
        ridge: λ ≥ 0, the penalty on the weights beside a *sum* of squared errors; the bias is free.
        in_features: d of a point. `fit` takes that of its data, whatever stands here.
        out_features: o of a value. `fit` takes that of its data.
        kernel: the radial function, one of those of `radial`.
        normalized: whether the bumps of a point are divided by their sum.
        bias: whether a constant is learned besides.
        device: of all numbers.
        dtype: of all numbers. `fit` computes in float64 whatever it is.

    Attributes:
        centers: $\boldsymbol{\mu}_j$, one a row; a parameter.
        log_sigma: $\ln \sigma_j$, so that no step can make a width negative; a parameter.
        weight: of the output, o k; a parameter.
        bias: of the output; a parameter, or None.

    Example:
        >>> x = torch.linspace(0, 6, 100)[:, None]
        >>> network = RBFNetwork(8, sigma=1.5).fit(x, x.sin())
        >>> bool((network(x) - x.sin()).abs().max() < 0.01)
        True

    Source: Broomhead and Lowe 1988; centres by k-means: Moody and Darken 1989.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        num_centers: int,
        sigma: float | str | None = None,
        ridge: float = 0.0,
        *,
        in_features: int = 1,
        out_features: int = 1,
        kernel: str = "gaussian",
        normalized: bool = False,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_centers = checks.count("num_centers", num_centers)
        if sigma is None or isinstance(sigma, str):
            self.rule: str | None = checks.one_of("sigma", sigma or "nearest", WIDTHS)
            self.given = 1.0
        else:
            self.rule, self.given = None, checks.number("sigma", sigma, above=0)
        self.ridge = checks.number("ridge", ridge, least=0)
        self.kernel = checks.one_of("kernel", kernel, RADIAL)
        self.normalized = checks.flag("normalized", normalized)
        if normalized:
            checks.one_of("kernel, when normalized,", kernel, NORMALIZED)
        d = checks.count("in_features", in_features)
        o = checks.count("out_features", out_features)
        options: Any = {"device": device, "dtype": dtype}
        self.centers = nn.Parameter(torch.empty(num_centers, d, **options))
        self.log_sigma = nn.Parameter(torch.empty(num_centers, **options))
        self.weight = nn.Parameter(torch.empty(o, num_centers, **options))
        free = (
            nn.Parameter(torch.empty(o, **options))
            if checks.flag("bias", bias)
            else None
        )
        self.register_parameter("bias", free)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw centres within ±1 and weights within $\pm1/\sqrt K$; the bias is 0."""
        bound = self.num_centers**-0.5
        with torch.no_grad():
            self.centers.uniform_(-1, 1)
            self.log_sigma.fill_(self.given).log_()
            self.weight.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.zero_()

    @property
    def in_features(self) -> int:
        """Numbers of a point."""
        return self.centers.shape[1]

    @property
    def out_features(self) -> int:
        """Numbers of a value."""
        return self.weight.shape[0]

    @property
    def sigma(self) -> Float[Tensor, " k"]:
        r"""The widths $\sigma_j$, one a centre."""
        return self.log_sigma.exp()

    def features(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        r"""Return the hidden layer, $\varphi_j(\mathbf{x})$ for each bump: a row of Φ a point."""
        checks.tensor("x", x, floating=True)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have shape (*, {self.in_features}), got {tuple(x.shape)}"
            )
        squared = squared_distances(x, self.centers) * (-2 * self.log_sigma).exp()
        return radial(self.kernel, squared, normalized=self.normalized)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b o"]:
        """Return the values at points."""
        return nn.functional.linear(self.features(x), self.weight, self.bias)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "..."]:
        """Return the values at points, with no gradient, and with no last axis if it would be 1."""
        y = self(x)
        return y.squeeze(-1) if self.out_features == 1 else y

    @torch.no_grad()
    def fit(
        self,
        x: Float[Tensor, "n d"],
        y: Float[Tensor, "n"] | Float[Tensor, "n o"],
        *,
        centers: Float[Tensor, "k d"] | None = None,
        generator: torch.Generator | None = None,
    ) -> "RBFNetwork":
        """Place the centres, take the widths from their distances, and solve for the weights.

        Args:
            x: points.
            y: their values; a single axis is one number for each point.
            centers: the centres; None: `kmeans`, or the points themselves if there are as many.
            generator: draws the starts of k-means.

        Returns:
            The network.

        Raises:
            ValueError: there are fewer different points than centres, or equal centres.
        """
        checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
        if isinstance(y, Tensor) and y.ndim == 1:
            y = y[:, None]
        checks.tensor(
            "y", y, shape=(len(x), "o"), floating=True, finite=True, empty=False
        )
        points, values = (self._wide(part) for part in (x, y))
        if centers is None and len(points) == self.num_centers:
            distinct("x, with as many points as num_centers,", points)
            places = points
        elif centers is None:
            places = kmeans(points, self.num_centers, generator=generator)
        else:
            wanted = (self.num_centers, x.shape[1])
            checks.tensor("centers", centers, shape=wanted, floating=True, finite=True)
            distinct("centers", centers)
            places = self._wide(centers)
        self._put("centers", places)
        self._put("log_sigma", self._width(points, places).log())
        return self._solve(points, values)

    @torch.no_grad()
    def solve(
        self, x: Float[Tensor, "n d"], y: Float[Tensor, "n"] | Float[Tensor, "n o"]
    ) -> "RBFNetwork":
        """Solve for the weights and the bias alone; centres and widths stay as they are.

        Args:
            x: points.
            y: their values, as `fit` takes them.
        """
        checks.tensor("x", x, shape=("n", self.in_features), floating=True, finite=True)
        if isinstance(y, Tensor) and y.ndim == 1:
            y = y[:, None]
        checks.tensor(
            "y", y, shape=(len(x), "o"), floating=True, finite=True, empty=False
        )
        return self._solve(self._wide(x), self._wide(y))

    def _solve(self, points: Tensor, values: Tensor) -> "RBFNetwork":
        widely = squared_distances(points, self._wide(self.centers))
        widely = widely * (-2 * self._wide(self.log_sigma)).exp()
        phi = radial(self.kernel, widely, normalized=self.normalized)
        middle = (
            phi.mean(0) if self.bias is not None else phi.new_zeros(self.num_centers)
        )
        height = (
            values.mean(0)
            if self.bias is not None
            else values.new_zeros(values.shape[1])
        )
        # Less their means, the columns leave the bias free of the penalty (eq. rbf-network-ridge).
        rounding = torch.finfo(self.centers.dtype).eps * max(phi.shape)
        weight = least_squares(
            phi - middle, values - height, ridge=self.ridge, cutoff=min(rounding, 0.5)
        )
        self._put("weight", weight.mT)
        if self.bias is not None:
            self._put("bias", height - middle @ weight)
        return self

    def _width(self, points: Tensor, places: Tensor) -> Tensor:
        """Return the width of each bump."""
        if self.rule is None:
            return points.new_full((self.num_centers,), self.given)
        if self.num_centers > 1:
            return widths(places, self.rule)
        alone = (points - places).square().sum(1).mean().sqrt()[None]
        if not alone > 0:
            raise ValueError(
                f"sigma={self.rule!r} finds no width: all points in x are equal"
            )
        return alone

    def _wide(self, value: Tensor) -> Tensor:
        """Return numbers as a fit computes with them, where the weights will be."""
        device = self.centers.device
        single = device.type == "mps"  # which has no float64
        return value.detach().to(device, torch.float32 if single else torch.float64)

    def _put(self, name: str, value: Tensor) -> None:
        """Set a parameter, and make it anew where the data have another width."""
        old = getattr(self, name)
        if old.shape == value.shape:
            old.copy_(value)
        else:
            setattr(self, name, nn.Parameter(value.to(old, copy=True).contiguous()))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take the widths of points and values from what is loaded."""
        for name, axis in (("centers", 1), ("weight", 0), ("bias", 0)):
            old, new = getattr(self, name), state_dict.get(prefix + name)
            if old is not None and isinstance(new, Tensor) and new.ndim == old.ndim:
                shape = list(old.shape)
                shape[axis] = new.shape[axis]
                if list(old.shape) != shape:
                    setattr(self, name, nn.Parameter(old.new_empty(shape)))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Tell the sizes, the radial function and how the width was chosen."""
        width = repr(self.rule) if self.rule else f"{self.given:g}"
        share = ", normalized" if self.normalized else ""
        return (
            f"{self.in_features}, {self.num_centers}, {self.out_features}, sigma={width}, "
            f"ridge={self.ridge:g}, kernel={self.kernel!r}{share}"
        )
