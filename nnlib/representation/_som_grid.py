"""The grid on which the units of a self-organizing map stand: places, distances, neighbours.

Everything here is geometry of the grid alone, in float64; the data do not enter.
The last few grids are kept, so no caller may change what it gets.
Axes: u units, row by row.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TOPOLOGIES = ("rectangular", "hexagonal")
HEIGHT = math.sqrt(3) / 2  # from one row of hexagons to the next


def positions(rows: int, columns: int, topology: str) -> Float[Tensor, "u 2"]:
    """Return where each unit stands: down and across, in distances between two units of a row.

    In a hexagonal grid odd rows are moved by half a unit, so that each unit has six neighbours at
    the distance 1.
    """
    like: Any = {"dtype": torch.float64, "device": "cpu"}  # whatever the default is
    down = torch.arange(rows, **like).repeat_interleave(columns)
    across = torch.arange(columns, **like).repeat(rows)
    if topology == "hexagonal":
        across = across + 0.5 * (down % 2)
        down = down * HEIGHT
    return torch.stack([down, across], 1)


@lru_cache(maxsize=4)
def distances(
    rows: int, columns: int, topology: str, torus: bool
) -> Float[Tensor, "u u"]:
    """Return how far apart the units stand on the grid; on a torus, the shorter way round."""
    at = positions(rows, columns, topology)
    away = (at[:, None] - at[None]).abs()
    if torus:
        height = rows * (HEIGHT if topology == "hexagonal" else 1.0)
        around = at.new_tensor([height, float(columns)])
        away = torch.minimum(away, around - away)
    # four squares are a whole number on both grids: equal distances are so to the last digit
    return (away.square().sum(-1) * 4).round_().div_(4).sqrt_()


@lru_cache(maxsize=4)
def adjacent(
    rows: int, columns: int, topology: str, torus: bool
) -> Bool[Tensor, "u u"]:
    """Return which units are neighbours: eight on a rectangular grid, six on a hexagonal one.

    No unit is its own neighbour.
    """
    away = distances(rows, columns, topology, torus)
    # A diagonal is 1.41; the next units stand at 2, among hexagons at 1.73.
    reach = 1.5 if topology == "rectangular" else 1.1
    return (away < reach) & (away > 0)
