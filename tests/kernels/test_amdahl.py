import pytest

from nnlib.kernels.amdahl import amdahl
from tests.support import refuses


@pytest.mark.equation("roofline-amdahl")
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_amdahl_is_the_ratio_of_two_stopwatches(share):
    before = 60.0
    after = before * (1 - share) + before * share / 4
    assert amdahl(share, 4) == pytest.approx(before / after)


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "share=1.5 must be a finite number ≥ 0 and ≤ 1"):
        amdahl(1.5, 2)
