import hashlib

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from nnlib.data.series import mackey_glass, sunspots
from tests.support import refuses


def test_sunspots_are_the_yearly_numbers_of_1700_to_2008():
    data = sunspots()
    assert data.years.tolist() == list(range(1700, 2009))
    assert data.numbers.shape == data.years.shape
    assert data.source and data.licence == "public domain"
    assert data.numbers[data.years == 1957].item() == pytest.approx(190.2)  # the highest


def test_no_number_of_the_sunspots_has_changed():
    """The sum is that of the rows when they were equal, one by one, to statsmodels 0.15's."""
    data = sunspots()
    rows = [f"{y},{n:g}" for y, n in zip(data.years.tolist(), data.numbers.tolist(), strict=True)]
    told = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    assert told == "0d7b9eb0fcef71a4d9575d21429b90647dd6cd2cb74f3e88e2fe9ca6270e5d22"


def test_mackey_glass_solves_its_equation():
    """Against scipy over one delay, where the delayed value is known and it is an ordinary one."""
    tau, old = 17, 1.2  # the constant history
    ours = mackey_glass(tau, tau, washout=0, substeps=50).numpy()
    assert ours[0] == old
    solved = solve_ivp(
        lambda _, y: 0.2 * old / (1 + old**10) - 0.1 * y, (0, tau - 1), [1.2],
        t_eval=np.arange(tau), rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(ours, solved.y[0], rtol=1e-6)


def test_mackey_glass_hardly_depends_on_the_step_of_integration():
    coarse, fine = (mackey_glass(100, washout=0, substeps=n) for n in (10, 40))
    torch.testing.assert_close(coarse, fine, rtol=0, atol=2e-3)


def test_mackey_glass_is_chaotic_but_bounded():
    x = mackey_glass(2000)
    assert 0.2 < x.min() < x.max() < 1.5
    assert 0.2 < x.std() < 0.3


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "length=0 must be an integer ≥ 1"):
        mackey_glass(0)
    with refuses(ValueError, "tau=0 must be an integer ≥ 1"):
        mackey_glass(5, 0)
