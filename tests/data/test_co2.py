import hashlib

import pytest
import torch

from nnlib.data.co2 import co2


def test_measurements_are_weekly_and_rise_in_time():
    air = co2()
    assert len(air.weeks) == len(air.years) == len(air.ppm) == 2225
    gaps = air.weeks.diff()
    assert gaps.min() == 1
    assert (gaps == 1).double().mean() > 0.98, "a few weeks lack a measurement"
    assert air.source and air.licence == "public domain"


def test_years_follow_the_weeks():
    air = co2()
    assert air.years[0].item() == pytest.approx(1958 + (31 + 28 + 29 - 0.5) / 365.25)
    torch.testing.assert_close(
        air.years - air.years[0], air.weeks.double() * 7 / 365.25, rtol=0, atol=1.5 / 365
    )


def test_no_number_of_the_carbon_dioxide_has_changed():
    """The sum is that of the rows when they were equal, one by one, to statsmodels 0.15's."""
    air = co2()
    rows = [f"{w},{p:g}" for w, p in zip(air.weeks.tolist(), air.ppm.tolist(), strict=True)]
    told = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    assert told == "719f65368740d8015369296817aa31a168fe6ca9944a241b1f6b1f02a985ae1f"
