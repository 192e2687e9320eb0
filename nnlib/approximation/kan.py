r"""The Kolmogorov–Arnold network: learned curves on the edges, plain sums at the nodes.

Chapter: chapters/approximation/kan.md     Paper: Liu et al. 2024
Axes: b examples, i inputs, o outputs, c coefficients an edge (G + k).

Edges stand as (o, i), as the weights of `torch.nn.Linear` do. The authors' package, pykan, has them
the other way round.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.approximation._kan_fit import finer_grid, fit_spline, sample_grid
from nnlib.approximation._kan_pruning import edge_size, entropy, kept_nodes, smaller
from nnlib.approximation._kan_relatives import (
    ChebyshevKANLayer,
    FastKANLayer,
    chebyshev_basis,
    ends,
    gaussian_basis,
    last,
)
from nnlib.approximation._kan_splines import (
    bspline_basis,
    bspline_derivative,
    bspline_recursion,
    uniform_knots,
)
from nnlib.approximation._kan_symbolic import FUNCTIONS, Reading, symbolic_fit

__all__ = [
    "FUNCTIONS",
    "KAN",
    "ChebyshevKANLayer",
    "FastKANLayer",
    "KANLayer",
    "Reading",
    "bspline_basis",
    "bspline_derivative",
    "bspline_recursion",
    "chebyshev_basis",
    "edge_size",
    "entropy",
    "finer_grid",
    "fit_spline",
    "gaussian_basis",
    "sample_grid",
    "symbolic_fit",
    "uniform_knots",
]


class KANLayer(nn.Module):
    r"""Outputs that are sums of learned curves, one curve for each pair of input and output.

    $y_j = \sum_i \varphi_{ji}(x_i)$ (equation `kan-layer`), each curve being
    $\varphi(x) = w_b\,\mathrm{silu}(x) + w_s \sum_m c_m B_m(x)$ (`kan-edge`).

    An input beyond the grid is no error. Its spline fades to zero within k intervals and is zero
    from there on; what is left is $w_b\,\mathrm{silu}(x)$. `outside` tells how many inputs are.

    Args:
        in_features: inputs, ≥ 1.
        out_features: outputs, ≥ 1.
        grid: G, the intervals of the grid, ≥ 1.
        k: order of the splines, ≥ 1; 3 is cubic.
        grid_range: first and last point of the grid at the start.
        grid_eps: how evenly `update_grid` spaces the points, in 0 … 1 (`kan-grid`).
        noise: standard deviation of the coefficients at the start, ≥ 0.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        coef: the coefficients $c$, of shape (o, i, G + k).
        base_weight: $w_b$ of shape (o, i).
        spline_weight: $w_s$ of shape (o, i).
        knots: the grid of each input with k more points on both sides, (i, G + 2k + 1).
        mask: 1 for each edge that is there, 0 for one that was pruned, (o, i).

    Example:
        >>> layer = KANLayer(2, 5, grid=8)
        >>> layer(torch.rand(100, 2)).shape, layer.edges(torch.rand(100, 2)).shape
        (torch.Size([100, 5]), torch.Size([100, 5, 2]))

    Source: Liu et al. 2024.
    """

    knots: Tensor
    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid: int = 5,
        k: int = 3,
        *,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        grid_eps: float = 0.02,
        noise: float = 0.1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        grid = checks.count("grid", grid)
        self.k = checks.count("k", k)
        self.grid_range = ends("grid_range", grid_range)
        self.grid_eps = checks.number("grid_eps", grid_eps, least=0, most=1)
        self.noise = checks.number("noise", noise, least=0)
        made: Any = {"device": device, "dtype": dtype}
        edges = out_features, in_features
        self.coef = nn.Parameter(torch.empty(*edges, grid + k, **made))
        self.base_weight = nn.Parameter(torch.empty(edges, **made))
        self.spline_weight = nn.Parameter(torch.empty(edges, **made))
        self.register_buffer(
            "knots", torch.empty(in_features, grid + 2 * k + 1, **made)
        )
        self.register_buffer("mask", torch.ones(edges, **made))
        self.reset_parameters()

    @property
    def grid(self) -> int:
        """The number of intervals, G."""
        return self.coef.shape[2] - self.k

    @property
    def points(self) -> Float[Tensor, "i g"]:
        """The grid of each input without the points beyond its ends."""
        return self.knots[:, self.k : -self.k]

    def reset_parameters(self) -> None:
        """Draw nearly flat splines and Xavier's weights of the base; lay the grid evenly."""
        low, high = self.grid_range
        with torch.no_grad():
            even = torch.linspace(low, high, self.grid + 1).expand(self.in_features, -1)
            self.knots.copy_(uniform_knots(even, self.k))
            if checks.readable(self.knots) and not bool((self.knots.diff() > 0).all()):
                raise ValueError(
                    f"grid={self.grid} points in grid_range={self.grid_range} are too near to "
                    f"one another for {self.knots.dtype}"
                )
            self.mask.fill_(1.0)
        nn.init.normal_(self.coef, std=self.noise)
        nn.init.xavier_uniform_(self.base_weight)
        nn.init.ones_(self.spline_weight)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return the sums; one product of a matrix serves all edges."""
        rows = self._rows(x)
        basis = bspline_basis(rows, self.knots, self.k).flatten(1)
        weight = ((self.mask * self.spline_weight)[..., None] * self.coef).flatten(1)
        base = F.linear(F.silu(rows), self.mask * self.base_weight)
        return (base + F.linear(basis, weight)).reshape(
            *x.shape[:-1], self.out_features
        )  # eq. kan-layer

    def edges(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o i"]:
        """Return what each edge adds to each output; `forward` is their sum over the inputs."""
        rows = self._rows(x)
        base = self.base_weight * F.silu(rows)[:, None]
        spline = self.spline_weight * self._splines(rows)
        return self.mask * (base + spline)  # eq. kan-edge

    def outside(self, x: Float[Tensor, "b i"]) -> Float[Tensor, " i"]:
        """Return the share of examples that lie beyond the grid of each input."""
        rows, points = self._rows(x), self.points
        return ((rows < points[:, 0]) | (rows > points[:, -1])).to(rows.dtype).mean(0)

    @torch.no_grad()
    def update_grid(self, x: Float[Tensor, "b i"], grid: int | None = None) -> None:
        r"""Lay the grid where the examples are (`kan-grid`), and keep the curves as they are there.

        The new coefficients are those whose spline is nearest to the old one at the examples. An
        input that has one value only keeps its ends.

        Args:
            x: examples, more than G.
            grid: another number of intervals, for which `coef` becomes a new parameter, so that an
                optimizer has to be made anew; the old number if None.
        """
        rows = self._rows(x).clone()
        intervals = self.grid if grid is None else checks.count("grid", grid)
        points = finer_grid(self.points, intervals)
        same = rows.amax(0) == rows.amin(0)
        rows[:, same] = finer_grid(self.points, max(len(rows) - 1, 1)).mT[
            : len(rows), same
        ]
        if not bool(same.all()):
            points[~same] = sample_grid(rows[:, ~same], intervals, self.grid_eps)
        self._move(rows, uniform_knots(points, self.k))

    @torch.no_grad()
    def refine(self, grid: int) -> None:
        """Take more intervals between the same ends; no examples are needed.

        If `grid` is a multiple of the old number, the curves on the grid stay exactly the same.
        `coef` becomes a new parameter, so that an optimizer has to be made anew.

        Args:
            grid: the new number of intervals, ≥ the old one.
        """
        grid = checks.count("grid", grid, least=self.grid)
        points = finer_grid(self.points, grid)
        between = finer_grid(points, 4 * grid * self.k).mT
        between[-1] -= 1e-6 * (
            between[-1] - between[-2]
        )  # the last knot ends the last interval
        self._move(between, uniform_knots(points, self.k))

    def _move(self, x: Tensor, knots: Tensor) -> None:
        """Take other knots, with coefficients that keep the splines at x."""
        coef = fit_spline(x, self._splines(x), knots, self.k)
        if (
            coef.shape == self.coef.shape
        ):  # in place: an optimizer may hold the old ones
            self.knots.copy_(knots)
            self.coef.copy_(coef)
        else:
            self.knots = knots
            self.coef = nn.Parameter(coef, self.coef.requires_grad)

    def _splines(self, rows: Tensor) -> Tensor:
        return torch.einsum(
            "bic,oic->boi", bspline_basis(rows, self.knots, self.k), self.coef
        )

    def _rows(self, x: Tensor) -> Tensor:
        checks.tensor("x", x, floating=True)
        last("x", x, self.in_features)
        if x.dtype != self.knots.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"x must be {self.knots.dtype} as the weights are, got {x.dtype}"
            )
        rows = x.reshape(math.prod(x.shape[:-1]), self.in_features)
        return rows.to(self.knots.dtype)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take weights of any grid: a grid may have been extended since they were made."""
        coef, knots = (state_dict.get(prefix + name) for name in ("coef", "knots"))
        if coef is not None and knots is not None and coef.ndim == 3:
            wide = coef.shape[2]
            if wide != self.coef.shape[2] and knots.shape[1] == wide + self.k + 1:
                shape = self.out_features, self.in_features, wide
                self.coef = nn.Parameter(
                    self.coef.new_empty(shape), self.coef.requires_grad
                )
                self.knots = self.knots.new_empty(self.in_features, wide + self.k + 1)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Tell sizes, grid and order."""
        return f"{self.in_features}, {self.out_features}, grid={self.grid}, k={self.k}"


class KAN(nn.Module):
    r"""Layers of learned curves in a row, $\Phi_L \circ \dots \circ \Phi_1$ (`kan-deep`).

    Args:
        widths: nodes of each layer, inputs first, outputs last; two numbers or more.
        grid: G, the intervals of each grid, ≥ 1.
        k: order of the splines, ≥ 1.
        grid_range: first and last point of each grid at the start.
        grid_eps: how evenly `update_grid` spaces the points, in 0 … 1.
        noise: standard deviation of the coefficients at the start, ≥ 0.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> kan = KAN([2, 5, 1], grid=8, k=3)
        >>> kan(torch.rand(100, 2)).shape, sum(p.numel() for p in kan.parameters())
        (torch.Size([100, 1]), 195)

    Source: Liu et al. 2024.
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid: int = 5,
        k: int = 3,
        *,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        grid_eps: float = 0.02,
        noise: float = 0.1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if not isinstance(widths, Sequence) or isinstance(widths, str):
            raise TypeError(f"widths={widths!r} must be a list of integers")
        if len(widths) < 2:
            raise ValueError(f"widths={list(widths)!r} must hold two numbers or more")
        self.widths = [checks.count(f"widths[{at}]", n) for at, n in enumerate(widths)]
        self.layers = nn.ModuleList(
            KANLayer(
                inputs, outputs, grid, k,
                grid_range=grid_range, grid_eps=grid_eps, noise=noise, device=device, dtype=dtype,
            )
            for inputs, outputs in pairwise(self.widths)
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw every layer's start again."""
        for layer in self._layers():
            layer.reset_parameters()

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return the last layer's sums."""
        for layer in self.layers:
            x = layer(x)  # eq. kan-deep
        return x

    def edges(self, x: Float[Tensor, "b i"]) -> list[Float[Tensor, "b _ _"]]:
        """Return what each edge adds, layer by layer, as (b, o, i)."""
        found = []
        for layer in self._layers():
            found.append(layer.edges(x))
            x = found[-1].sum(-1)
        return found

    def nodes(self, x: Float[Tensor, "b i"]) -> list[Float[Tensor, "b _"]]:
        """Return the values of all nodes, inputs first, outputs last."""
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found

    @torch.no_grad()
    def update_grid(self, x: Float[Tensor, "b i"], grid: int | None = None) -> None:
        """Lay the grids of all layers where the examples and their activations are.

        Layer by layer: each sees what comes out of those before it, whose grids are new already.

        Args:
            x: examples, more than G.
            grid: another number of intervals; the old one if None.
        """
        for layer in self._layers():
            layer.update_grid(x, grid)
            x = layer(x)

    @torch.no_grad()
    def refine(self, grid: int) -> None:
        """Take more intervals in every layer, between the same ends.

        Args:
            grid: the new number of intervals, ≥ the old one.
        """
        for layer in self._layers():
            layer.refine(grid)

    def penalty(
        self, x: Float[Tensor, "b i"], size: float = 1.0, disorder: float = 1.0
    ) -> Float[Tensor, ""]:
        """Return what asks for few edges: their sizes and the entropy of these (`kan-loss`).

        Args:
            x: examples.
            size: weight of the sizes (`kan-size`), ≥ 0.
            disorder: weight of the entropy (`kan-entropy`), ≥ 0.
        """
        size = checks.number("size", size, least=0)
        disorder = checks.number("disorder", disorder, least=0)
        sizes = [edge_size(edges) for edges in self.edges(x)]
        return sum(
            (size * s.sum() + disorder * entropy(s) for s in sizes), x.new_zeros(())
        )

    @torch.no_grad()
    def prune(
        self, x: Float[Tensor, "b i"], node: float = 0.01, edge: float = 0.03
    ) -> "KAN":
        """Return a KAN without the hidden nodes and edges that matter little.

        Args:
            x: examples at which sizes are measured.
            node: a node stays if an edge into it and an edge out of it are larger, ≥ 0.
            edge: an edge stays if it is larger, ≥ 0.

        Raises:
            ValueError: a layer would be left without a node.
        """
        node = checks.number("node", node, least=0)
        edge = checks.number("edge", edge, least=0)
        sizes = [edge_size(edges) for edges in self.edges(x)]
        kept = kept_nodes(sizes, node)
        return smaller(self, kept, sizes, edge)

    def _layers(self) -> list[KANLayer]:
        return [layer for layer in self.layers if isinstance(layer, KANLayer)]
