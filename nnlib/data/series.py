"""Series of numbers in time: measured (sunspots) and generated with known law (Mackey–Glass)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.data.split import DataSet


@dataclass(frozen=True, kw_only=True)
class Sunspots(DataSet):
    """Yearly mean numbers of sunspots.

    Attributes:
        years: 1700 … 2008.
        numbers: one a year, ≥ 0, float64.
        source, licence: as for `DataSet`.
    """

    years: Tensor
    numbers: Tensor


def sunspots() -> Sunspots:
    """Return the yearly sunspot numbers of 1700 to 2008, from the table beside this file.

    Example:
        >>> spots = sunspots()
        >>> spots.years[-1].item(), spots.numbers[-1].item()
        (2008, 2.9)

    Source: SIDC, Royal Observatory of Belgium; public domain. The table holds what statsmodels
    0.15 ships.
    """
    with (
        Path(__file__)
        .with_name("sunspots.csv")
        .open(encoding="utf-8", newline="") as file
    ):
        rows = list(csv.DictReader(file))
    return Sunspots(
        years=torch.tensor([int(row["year"]) for row in rows]),
        numbers=torch.tensor(
            [float(row["number"]) for row in rows], dtype=torch.float64
        ),
        source="SIDC, Royal Observatory of Belgium, through the National Geophysical Data Center",
        licence="public domain",
    )


def mackey_glass(
    length: int, tau: int = 17, *, washout: int = 1000, substeps: int = 10
) -> Float[Tensor, " t"]:
    r"""Return a solution of $\dot x = 0.2\,x_\tau/(1 + x_\tau^{10}) - 0.1\,x$, one value a unit.

    $x_\tau$ is x a time τ ago; a mild chaos from τ = 17 on. Integrated by fourth-order Runge–Kutta
    with the delayed value interpolated linearly between stored substeps, from the constant 1.2.

    Args:
        length: values to return, ≥ 1.
        tau: the delay, ≥ 1.
        washout: values dropped at the start, ≥ 0.
        substeps: steps of integration in a unit of time, ≥ 1.

    Source: Mackey and Glass 1977.
    """
    length, tau = checks.count("length", length), checks.count("tau", tau)
    washout = checks.count("washout", washout, least=0)
    n = checks.count("substeps", substeps)
    step, delay = 1 / n, tau * n
    x = [1.2] * (delay + 1)
    for _ in range((length + washout) * n):
        now, old, soon = x[-1], x[-1 - delay], x[-delay]
        middle = (old + soon) / 2
        a = _slope(now, old)
        b = _slope(now + step / 2 * a, middle)
        c = _slope(now + step / 2 * b, middle)
        d = _slope(now + step * c, soon)
        x.append(now + step / 6 * (a + 2 * b + 2 * c + d))
    kept = x[delay + washout * n :: n][:length]
    return torch.tensor(kept, dtype=torch.float64)


def _slope(now: float, old: float) -> float:
    return 0.2 * old / (1 + old**10) - 0.1 * now
