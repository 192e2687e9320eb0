"""What holds, what does not, and what is printed of it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlib import notebook
from nnlib.notebook import BrokenPromise, band, check, verdict
from nnlib.notebook.run import current
from tests.support import refuses


def test_check_prints_its_tolerance_and_holds(capsys):
    check("two tensors are equal", torch.ones(3), np.ones(3) + 1e-7, atol=1e-6)
    check("five is five", 5, 5)
    check("it holds", True)
    assert capsys.readouterr().out == (
        "✓ two tensors are equal (atol 1e-06)\n✓ five is five\n✓ it holds\n"
    )


@pytest.mark.parametrize(
    ("got", "wanted", "reason"),
    [
        (1.0, 1.1, "largest difference 0.1"),
        (torch.ones(2), torch.ones(3), "shapes (2,) and (3,)"),
        (math.nan, math.nan, "largest difference nan"),
        (False, True, "largest difference 1"),
        (["a"], ["b"], "they differ"),
    ],
)
def test_check_breaks_where_things_differ(got, wanted, reason):
    with pytest.raises(BrokenPromise, match="✗ same: ") as broken:
        check("same", got, wanted)
    assert reason in str(broken.value)


@given(error=st.floats(1e-12, 1e-3), atol=st.floats(1e-12, 1e-3))
def test_check_holds_exactly_within_its_tolerance(error, atol):
    notebook.setup(strict=False)
    check("x", error, 0.0, atol=atol)
    assert bool(current().broken) == (error > atol)


def test_band_prints_its_ends_and_baseline_but_not_the_value(capsys):
    band("accuracy", torch.tensor(0.9812), at_least=0.97, baseline=0.9648)
    band("ratio", 3.0, at_least=2, at_most=4)
    assert capsys.readouterr().out == (
        "✓ accuracy at least 0.97 (baseline 0.96)\n✓ ratio at least 2 and at most 4\n"
    )


@pytest.mark.parametrize("value", [0.9, math.nan, -math.inf])
def test_band_breaks_outside(value):
    with pytest.raises(BrokenPromise, match=r"accuracy at least 0\.97"):
        band("accuracy", value, at_least=0.97)


def test_band_without_an_end_is_refused():
    with refuses(ValueError, "band 'x' needs at_least=…, at_most=… or both"):
        band("x", 1.0)


def test_lenient_run_goes_on_and_names_what_did_not_hold(capsys):
    notebook.setup(strict=False)
    band("accuracy", 0.5, at_least=0.97)
    check("equal", 1, 2)
    check("fine", 1, 1)
    verdict()
    out = capsys.readouterr().out
    assert "✗ did not hold: accuracy at least 0.97: got 0.5" in out
    assert "✗ did not hold: equal: largest difference 1" in out
    assert out.endswith("✗ 1 checks and 0 bands held, 2 did not\n")
