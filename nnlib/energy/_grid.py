"""The exact density of an energy in few dimensions, from its values on a grid.

Part of `nnlib.energy.energy_based`.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.energy._langevin import Energy, energies

MOST_CELLS = 10_000_000


class GridDensity:
    r"""The density $e^{-E(\mathbf x)/T}/Z$ with its Z summed over the cells of a box.

    $Z \approx \sum_i e^{-E(\mathbf x_i)/T}\,v$ over the middles $\mathbf x_i$ of all cells, each of
    volume v (equation `energy-based-grid`). For a smooth energy that is large at the box's edge the
    sum is exact to many digits. Gradients flow through `log_partition` and `log_prob`, so that a
    likelihood can be trained by them. The number of cells grows as a power of the dimensions, which
    is why this is for two or three.

    Args:
        energy: gives one number an example.
        low: of the box, one number a dimension.
        high: of the box, each above its `low`.
        points: cells along each side, ≥ 2.
        temperature: T > 0.
        like: rows whose dtype and device the grid takes; float32 on the CPU if None.

    Attributes:
        x: middles of the cells, the last dimension running fastest.
        cell: volume of each.
        log_partition: log Z.
        log_density: at the middles.

    Example:
        >>> bowl = GridDensity(lambda x: 0.5 * x.square().sum(1), (-8, -8), (8, 8))
        >>> round(bowl.log_partition.item(), 4), round(math.log(2 * math.pi), 4)
        (1.8379, 1.8379)
    """

    def __init__(
        self,
        energy: Energy,
        low: Sequence[float],
        high: Sequence[float],
        points: int = 200,
        *,
        temperature: float = 1.0,
        like: Tensor | None = None,
    ):
        points = checks.count("points", points, least=2)
        self.temperature = checks.number("temperature", temperature, above=0)
        low, high = _ends("low", low), _ends("high", high)
        if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"high={high} must be above low={low}, entry by entry")
        if points ** len(low) > MOST_CELLS:
            raise ValueError(
                f"points={points} in {len(low)} dimensions are {points ** len(low):,} cells; "
                f"at most {MOST_CELLS:,} are summed"
            )
        self.energy = energy
        middle = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        axes = [a + (b - a) * middle for a, b in zip(low, high, strict=True)]
        self.x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
        self.x = self.x.to(torch.empty(0) if like is None else like)
        self.points = points
        self._sides = [(b - a) / points for a, b in zip(low, high, strict=True)]
        self.cell = math.prod(self._sides)
        logs = -energies(energy, self.x) / self.temperature
        self.log_partition = logs.logsumexp(0) + math.log(
            self.cell
        )  # eq. energy-based-grid
        self.log_density = logs - self.log_partition

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density anywhere, in nats (equation `energy-based-density`)."""
        return -energies(self.energy, x) / self.temperature - self.log_partition

    def picture(self) -> Float[Tensor, "*grid"]:
        """Return the density with one axis a dimension."""
        shape = (self.points,) * len(self._sides)
        return self.log_density.detach().exp().reshape(shape)

    def mean(self, values: Float[Tensor, "m *k"]) -> Float[Tensor, "*k"]:
        """Return the expectation of what has these values at the cells `x`.

        Args:
            values: one or more numbers a cell.
        """
        checks.tensor("values", values, floating=True)
        if values.ndim == 0 or len(values) != len(self.x):
            raise ValueError(
                f"values must have {len(self.x)} rows, one a cell, got {tuple(values.shape)}"
            )
        return self.cell * torch.tensordot(self.log_density.exp(), values, 1)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw examples: a cell by its probability, and a place in it at random.

        Args:
            count: how many, ≥ 1.
            generator: source of the randomness, on the CPU.
        """
        count = checks.count("count", count)
        chance = self.log_density.detach().exp().cpu()
        at = torch.multinomial(chance, count, replacement=True, generator=generator)
        shift = torch.rand(count, len(self._sides), generator=generator) - 0.5
        return self.x[at.to(self.x.device)] + (shift * torch.tensor(self._sides)).to(
            self.x
        )


def _ends(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if (
        isinstance(values, str | Tensor)
        or not isinstance(values, Sequence)
        or not values
    ):
        raise TypeError(
            f"{name}={values!r} must be one number a dimension, such as (-3, -3)"
        )
    return tuple(checks.number(name, value) for value in values)
