r"""The self-organizing map: units on a grid that learn to lie over the data, neighbours together.

Chapter: chapters/representation/self_organizing_map.md     Paper: Kohonen 1982
Axes: n examples, b batch, d features, u = rows × columns units, row by row.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.representation import _som_grid as grid_of
from nnlib.representation import _som_learning as learning
from nnlib.representation import _som_measures as measures
from nnlib.representation._som_nearest import nearest
from nnlib.representation._som_neighborhood import (
    DECAYS,
    KINDS,
    decay,
    neighborhood,
    per_step,
)
from nnlib.representation._som_relatives import neural_gas

__all__ = ["SelfOrganizingMap", "decay", "neighborhood", "neural_gas"]

METHODS = ("batch", "online")
INITS = ("plane", "sample", "keep")
WINNERS = ("nearest", "heskes")


class SelfOrganizingMap(nn.Module):
    r"""Units on a grid; the one that is nearest to an example learns, and its neighbours with it.

    $$ \mathbf{w}_j \leftarrow \mathbf{w}_j + \eta\, h_{cj}\, (\mathbf{x} - \mathbf{w}_j),
    \qquad c = \arg\min_j \lVert\mathbf{x} - \mathbf{w}_j\rVert $$

    (equations `self-organizing-map-update` and `self-organizing-map-bmu`), with the neighbourhood
    $h_{cj}$ of `neighborhood`. Units are numbered row by row.

    Args:
        rows: of the grid, ≥ 1.
        columns: of the grid, ≥ 1. With a single row the map is a chain, on a torus a ring.
        in_features: d of an example. `fit` takes that of its data, whatever stands here.
        topology: `rectangular`, where a unit has eight neighbours, or `hexagonal`, with six.
        torus: whether opposite edges of the grid are joined. A hexagonal torus needs an even number
            of rows.
        neighborhood: `gaussian` or `bubble`, as in the function `neighborhood`.
        device: of the units.
        dtype: of the units.

    Attributes:
        weight: $\mathbf{w}_j$, of shape (rows, columns, d); a parameter, open to gradients, too.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.rand(500, 2)
        >>> som = SelfOrganizingMap(6, 6).fit(x)
        >>> som.bmu(x[:2]).shape, bool(som.quantization_error(x) < 0.08)
        (torch.Size([2]), True)

    Source: Kohonen 1982, who writes $m_i$ for our $\mathbf{w}_j$ and $\alpha$ for our $\eta$; the
    batch form and the plane to begin with are those of Kohonen 2013.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        in_features: int = 1,
        *,
        topology: str = "rectangular",
        torus: bool = False,
        neighborhood: str = "gaussian",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.rows = checks.count("rows", rows)
        self.columns = checks.count("columns", columns)
        d = checks.count("in_features", in_features)
        self.topology = checks.one_of("topology", topology, grid_of.TOPOLOGIES)
        self.torus = checks.flag("torus", torus)
        self.neighborhood = checks.one_of("neighborhood", neighborhood, KINDS)
        if torus and topology == "hexagonal" and rows % 2:
            raise ValueError(f"rows={rows} must be even on a hexagonal torus")
        self.weight = nn.Parameter(
            torch.empty(rows, columns, d, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every unit between −1 and 1."""
        nn.init.uniform_(self.weight, -1, 1)

    @property
    def in_features(self) -> int:
        """Numbers of an example."""
        return self.weight.shape[-1]

    @property
    def units(self) -> Float[Tensor, "u d"]:
        """The units, one a row; a view of `weight` without its gradient."""
        return self.weight.detach().flatten(0, 1)

    @property
    def _wide(self) -> Float[Tensor, "u d"]:
        """The units in the precision that is computed in: single, where they are kept in half."""
        return self.units.to(_precise(self.weight))

    @property
    def grid(self) -> Float[Tensor, "u 2"]:
        """Where each unit stands on the grid: down and across."""
        return grid_of.positions(self.rows, self.columns, self.topology).to(self.weight)

    @property
    def grid_distances(self) -> Float[Tensor, "u u"]:
        """How far apart the units stand on the grid."""
        return self._of_grid(grid_of.distances).to(self.weight, copy=True)

    @property
    def _grid_distances(self) -> Float[Tensor, "u u"]:
        return self._of_grid(grid_of.distances).to(self._wide, copy=True)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b rows columns"]:
        """Return how far each unit is from an example: the map of distances."""
        rows = self._taken(x)
        weight = self.weight.flatten(0, 1).to(rows.dtype)
        away = torch.cdist(rows, weight, compute_mode="donot_use_mm_for_euclid_dist")
        away = away.to(self.weight.dtype)
        return away.reshape(*x.shape[:-1], self.rows, self.columns)

    @torch.no_grad()
    def bmu(self, x: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Return the best matching unit of each example, by its number (`self-organizing-map-bmu`).

        Row and column are the quotient and the remainder of a division by `columns`. Of units that
        are equally near the first one wins.
        """
        return nearest(self._taken(x), self._wide)[:, 0].reshape(x.shape[:-1])

    @torch.no_grad()
    def locate(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 2"]:
        """Return where on the grid the best matching unit of each example stands."""
        return self.grid[self.bmu(x)]

    @torch.no_grad()
    def quantization_error(self, x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Return the mean distance to the best unit (`self-organizing-map-quantization`)."""
        rows = self._taken(x, empty=False)
        return (rows - self._wide[self.bmu(rows)]).norm(dim=1).mean()

    @torch.no_grad()
    def topographic_error(self, x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Return the share of examples whose two best units are no neighbours on the grid.

        This is equation `self-organizing-map-topographic`. It looks at neighbours only: a sheet
        that is folded as a whole may have none of these errors; see `order_correlation`.

        Raises:
            ValueError: the map has a single unit.
        """
        self._at_least(2, "a second-best unit")
        best = nearest(self._taken(x, empty=False), self._wide, 2)
        together = self._of_grid(grid_of.adjacent).to(best.device)
        return (~together[best[:, 0], best[:, 1]]).to(self.weight.dtype).mean()

    @torch.no_grad()
    def order_correlation(self) -> Float[Tensor, ""]:
        """Return the rank correlation of distances on the grid with those between the units.

        This is equation `self-organizing-map-order`, over all pairs of units. Near 1 the map is
        unfolded as a whole; NaN where all distances are equal.

        Raises:
            ValueError: the map has fewer than three units.
        """
        self._at_least(3, "distances to compare")
        return measures.order_correlation(self._wide, self._grid_distances)

    @torch.no_grad()
    def topographic_product(self) -> Float[Tensor, ""]:
        """Return Bauer and Pawelzik's topographic product, 0 for a grid that fits the data.

        Below 0 the grid has too few dimensions, above 0 too many; NaN where two units are equal.

        Raises:
            ValueError: the map has fewer than three units.
        """
        self._at_least(3, "distances to compare")
        return measures.topographic_product(self._wide, self._grid_distances)

    @torch.no_grad()
    def u_matrix(self) -> Float[Tensor, "rows columns"]:
        """Return how far each unit is from its neighbours on the grid, on average.

        Valleys are regions of similar units, ridges the borders between them
        (equation `self-organizing-map-u-matrix`). A single unit has no neighbours, and 0.
        """
        near = self._of_grid(grid_of.adjacent).to(self.weight.device)
        units, (one, other) = self._wide, near.nonzero(as_tuple=True)
        away = (units[one] - units[other]).norm(dim=1)
        total = units.new_zeros(len(units)).index_add_(0, one, away)
        mean = total / near.sum(1).clamp_min(1)
        return mean.to(self.weight.dtype).view(self.rows, self.columns)

    @torch.no_grad()
    def hits(self, x: Float[Tensor, "n d"]) -> Int[Tensor, "rows columns"]:
        """Return how many examples each unit wins; a unit with none is called dead."""
        won = torch.bincount(
            self.bmu(self._taken(x)), minlength=self.rows * self.columns
        )
        return won.view(self.rows, self.columns)

    @torch.no_grad()
    def energy(
        self, x: Float[Tensor, "n d"], sigma: float, winner: str = "heskes"
    ) -> Float[Tensor, ""]:
        """Return how far a winner's whole neighbourhood is from an example, on average.

        With Heskes' winner this is a function that every batch step at the same `sigma` lowers
        (equation `self-organizing-map-energy`); with the nearest unit as the winner it may rise.

        Args:
            x: examples.
            sigma: the radius, > 0.
            winner: `heskes` or `nearest`, as in `fit`.
        """
        rule = checks.one_of("winner", winner, WINNERS)
        radius = checks.number("sigma", sigma, above=0)
        log_h = learning.spread(self._grid_distances, radius, self.neighborhood, rule)
        return learning.energy(self._wide, self._taken(x, empty=False), log_h, rule)

    @torch.no_grad()
    def initialize(
        self,
        x: Float[Tensor, "n d"],
        init: str = "plane",
        *,
        generator: torch.Generator | None = None,
    ) -> "SelfOrganizingMap":
        """Place the units where `fit` begins.

        Args:
            x: examples.
            init: `plane` or `sample`, as in `fit`.
            generator: draws the examples of `sample`.

        Returns:
            The map.
        """
        self._examples(x, width=None)
        checks.one_of("init", init, INITS[:2])
        old, many = self.weight, self.rows * self.columns
        if old.shape[-1] != x.shape[1]:
            fresh = old.new_empty(*old.shape[:2], x.shape[1])
            self.weight = nn.Parameter(fresh, old.requires_grad)
        if init == "plane":
            wide = x.detach().to("cpu", torch.float64)
            place = grid_of.positions(self.rows, self.columns, self.topology)
            return self._put(
                learning.plane(wide, place, int(self.columns >= self.rows))
            )
        drawn = [
            torch.randperm(len(x), generator=generator)
            for _ in range(-(-many // len(x)))
        ]
        return self._put(x.detach()[torch.cat(drawn)[:many].to(x.device)])

    @torch.no_grad()
    def batch_step(
        self,
        x: Float[Tensor, "n d"],
        sigma: float,
        lr: float = 1.0,
        *,
        winner: str = "nearest",
    ) -> "SelfOrganizingMap":
        """Take one step of the batch rule (`self-organizing-map-batch`): one pass over the data.

        Args:
            x: examples.
            sigma: the radius, > 0.
            lr: how much of the way a unit goes, in (0, 1].
            winner: as in `fit`.

        Returns:
            The map.
        """
        rows = self._examples(x)
        rule = checks.one_of("winner", winner, WINNERS)
        radius = checks.number("sigma", sigma, above=0)
        rate = checks.number("lr", lr, above=0, most=1)
        log_h = learning.spread(self._distances(rows), radius, self.neighborhood, rule)
        return self._put(
            learning.batch_step(self.units.to(rows), rows, log_h, rule, rate)
        )

    @torch.no_grad()
    def fit(
        self,
        x: Float[Tensor, "n d"],
        *,
        method: str = "batch",
        steps: int | None = None,
        sigma: float | tuple[float, float] | Tensor | None = None,
        lr: float | tuple[float, float] | Tensor | None = None,
        decay: str = "exponential",
        init: str = "plane",
        winner: str = "nearest",
        order: Int[Tensor, " t"] | None = None,
        generator: torch.Generator | None = None,
    ) -> "SelfOrganizingMap":
        """Lay the map over examples.

        Args:
            x: examples, whose features should have comparable scales.
            method: `batch`, a pass over all examples a step; or `online`, one example a step, which
                is computed on the CPU.
            steps: ≥ 1; None: 30 in batches, 500 for each unit online, Kohonen's rule of thumb.
            sigma: the radius at the first and at the last step, > 0, in units of the grid; a number
                for a constant one, or a tensor of one value a step. None: from half of the grid's
                longer side to 0.5; from a quarter, where the map begins as a plane.
            lr: the learning rate η in (0, 1], likewise; of the online rule alone. None: from 0.5
                to 0.02.
            decay: how both fall: `exponential`, `linear` or `inverse`.
            init: `plane`, a grid in the plane of the first two principal components; `sample`,
                examples drawn at random; `keep`, the units as they are.
            winner: `nearest`; or, in batches, `heskes`: the unit whose whole neighbourhood is
                nearest, which makes the rule a descent.
            order: numbers of the examples to be shown online, one for each step; None: all of them
                in an order drawn anew for each pass.
            generator: draws the order, and the examples of `sample`.

        Returns:
            The map.

        Raises:
            ValueError: an argument is out of its range, or does not belong to the method.
        """
        self._examples(x, width=None)
        checks.one_of("method", method, METHODS)
        checks.one_of("decay", decay, DECAYS)
        rule = checks.one_of("winner", winner, WINNERS)
        online = method == "online"
        for name, value in (("lr", lr), ("order", order)):
            if not online and value is not None:
                raise ValueError(
                    f"{name} is of method='online', got it with method={method!r}"
                )
        if online and rule != "nearest":
            raise ValueError(
                f"winner={winner!r} takes method='batch', got method={method!r}"
            )
        many = 500 * self.rows * self.columns if online else 30
        many = many if steps is None else checks.count("steps", steps)
        checks.one_of("init", init, INITS)
        side = max(self.rows, self.columns) / (4 if init == "plane" else 2)
        usual = (max(side, 0.5), 0.5)
        radii = per_step("sigma", usual if sigma is None else sigma, many, decay)
        rates = per_step("lr", (0.5, 0.02) if lr is None else lr, many, decay, most=1)
        if order is not None:
            checks.tokens("order", order, len(x), shape=(many,), of="examples")
        if init != "keep":
            self.initialize(x, init, generator=generator)
        rows = self._examples(x)
        units, distance = self.units.to(rows), self._distances(rows)
        if online:
            shown = _order(len(x), many, generator) if order is None else order
            units = learning.walk(
                units, rows, shown, radii, rates, distance, self.neighborhood
            )
        else:
            for radius in radii.tolist():
                log_h = learning.spread(distance, radius, self.neighborhood, rule)
                units = learning.batch_step(units, rows, log_h, rule)
        return self._put(units)

    def _put(self, units: Tensor) -> "SelfOrganizingMap":
        self.weight.copy_(units.view(self.weight.shape))
        return self

    def _taken(self, x: Tensor, *, empty: bool = True) -> Float[Tensor, "n d"]:
        """Return examples as rows, in the precision that is computed in."""
        checks.tensor("x", x, floating=True, empty=empty)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            wanted = f"(*, {self.in_features})"
            raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
        return x.reshape(-1, self.in_features).to(_precise(self.weight))

    def _examples(self, x: Tensor, width: int | None = -1) -> Float[Tensor, "n d"]:
        """Return examples to learn from, in the precision that a fit computes in."""
        wanted = self.in_features if width == -1 else "d"
        checks.tensor(
            "x", x, shape=("n", wanted), floating=True, finite=True, empty=False
        )
        taken = x.detach().to(self.weight.device, _precise(self.weight))
        return checks.tensor("x", taken, finite=True)  # in that precision, too

    def _distances(self, like: Tensor) -> Float[Tensor, "u u"]:
        return self._of_grid(grid_of.distances).to(like)

    def _of_grid(self, what: Any) -> Tensor:
        return what(self.rows, self.columns, self.topology, self.torus)

    def _at_least(self, units: int, what: str) -> None:
        if self.rows * self.columns < units:
            raise ValueError(
                f"rows={self.rows} and columns={self.columns} leave no {what}: "
                f"it takes {units} units or more"
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take the width of the examples from what is loaded."""
        old, new = self.weight, state_dict.get(prefix + "weight")
        if isinstance(new, Tensor) and new.ndim == 3 and new.shape[2] != old.shape[2]:
            fresh = old.new_empty(*old.shape[:2], new.shape[2])
            self.weight = nn.Parameter(fresh, old.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Tell the sizes and the form of the grid."""
        torus = ", torus" if self.torus else ""
        return (
            f"{self.rows}, {self.columns}, {self.in_features}, topology={self.topology!r}{torus}, "
            f"neighborhood={self.neighborhood!r}"
        )


def _precise(weight: Tensor) -> torch.dtype:
    """Return in which precision is computed: single, where the units are kept in half."""
    return torch.promote_types(weight.dtype, torch.float32)


def _order(
    examples: int, steps: int, generator: torch.Generator | None
) -> Int[Tensor, " t"]:
    """Return which example is shown at each step: all of them, in a new order for each pass."""
    passes = -(-steps // examples)
    drawn = [torch.randperm(examples, generator=generator) for _ in range(passes)]
    return torch.cat(drawn)[:steps]
