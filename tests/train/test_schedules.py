"""Learning-rate schedules begin, bend and end where they say."""

import pytest

from nnlib.train.schedules import (
    constant,
    inverse_square_root,
    step_decay,
    warmup_cosine,
)
from tests.support import refuses


def test_schedules_begin_and_end_where_they_say():
    cosine = warmup_cosine(100, warmup=10, final=0.2)
    assert [cosine(s) for s in range(10)] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert cosine(10) == 1.0 and cosine(100) == cosine(1000) == pytest.approx(0.2)
    assert cosine(55) == pytest.approx(0.6)
    assert constant()(7) == 1.0


@pytest.mark.equation("transformer-schedule")
def test_the_first_transformers_rate_is_its_peak_times_the_inverse_square_root_schedule():
    width, warmup = 512, 4000
    factor, peak = inverse_square_root(warmup), (width * warmup) ** -0.5
    for step in (1, 2, 3999, 4000, 4001, 16_000, 100_000):  # counted from 1, as printed
        printed = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert peak * factor(step - 1) == pytest.approx(printed, rel=1e-12)
    assert max(range(20_000), key=factor) == warmup - 1 and factor(warmup - 1) == 1.0


@pytest.mark.parametrize(
    ("steps", "share", "warmup"),
    [(100, 0.1, 10), (100, 0.29, 29), (70, 0.1, 7), (30, 0.1, 3), (45, 0.1, 4), (5, 0.1, 0)],
)
def test_a_share_of_the_steps_warms_up_for_as_many_whole_steps(steps, share, warmup):
    by_share, by_count = warmup_cosine(steps, share), warmup_cosine(steps, warmup)
    assert [by_share(s) for s in range(steps)] == [by_count(s) for s in range(steps)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: warmup_cosine(0), ValueError, "steps=0"),
        (lambda: warmup_cosine(5, warmup=6), ValueError, "warmup=6"),
        (lambda: warmup_cosine(5, warmup=1.0), ValueError, "warmup=1.0"),
        (lambda: warmup_cosine(5, warmup=-0.5), ValueError, "warmup=-0.5"),
        (lambda: warmup_cosine(5, warmup=True), TypeError, "warmup=True"),
        (lambda: warmup_cosine(5, final=1.5), ValueError, "final=1.5"),
        (lambda: inverse_square_root(0), ValueError, "warmup=0"),
        (lambda: step_decay(0), ValueError, "every=0"),
        (lambda: step_decay(5, 0.0), ValueError, "factor=0.0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
