"""Carbon dioxide in the air over Mauna Loa, week by week, 1958 to 2001."""

import csv
import datetime
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nnlib.data.split import DataSet


@dataclass(frozen=True, kw_only=True)
class CarbonDioxide(DataSet):
    """Weekly means of the carbon dioxide in the air; weeks without a measurement are left out.

    Attributes:
        weeks: weeks since 29 March 1958, rising, int64.
        years: the same moments as years of the calendar, such as 1958.24, float64.
        ppm: molecules of carbon dioxide in a million of dry air, float64.
        source, licence: as for `DataSet`.
    """

    weeks: Tensor
    years: Tensor
    ppm: Tensor


def co2() -> CarbonDioxide:
    """Return the weekly carbon dioxide over Mauna Loa, from the table beside this file.

    Example:
        >>> air = co2()
        >>> len(air.ppm), air.ppm[0].item(), air.ppm[-1].item()
        (2225, 316.1, 371.5)

    Source: Keeling and Whorf 2004, Carbon Dioxide Information Analysis Center; public domain. The
    table holds what statsmodels 0.15 ships.
    """
    with Path(__file__).with_name("co2.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    days = [datetime.date.fromisoformat(row["date"]) for row in rows]
    return CarbonDioxide(
        weeks=torch.tensor([(day - days[0]).days // 7 for day in days]),
        years=torch.tensor(
            [day.year + (day.timetuple().tm_yday - 0.5) / 365.25 for day in days],
            dtype=torch.float64,
        ),
        ppm=torch.tensor([float(row["ppm"]) for row in rows], dtype=torch.float64),
        source="Keeling and Whorf 2004, Scripps Institution of Oceanography, through the Carbon "
        "Dioxide Information Analysis Center",
        licence="public domain",
    )
