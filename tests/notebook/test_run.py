"""How a run begins."""

import numpy as np
import pytest
import torch

from nnlib import notebook
from nnlib.notebook import check, verdict
from tests.support import refuses


def test_setup_seeds_everything_and_returns_the_device():
    assert notebook.setup(seed=5) == torch.device("cpu")
    first = torch.rand(2), np.random.rand(2)
    notebook.setup(seed=5)
    assert torch.equal(first[0], torch.rand(2)) and np.array_equal(first[1], np.random.rand(2))


def test_setup_forgets_the_run_before(capsys):
    check("one", 1, 1)
    notebook.setup()
    verdict()
    assert capsys.readouterr().out.endswith("✓ 0 checks and 0 bands held, 0 did not\n")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": "0"}, TypeError, "seed='0'"),
        ({"strict": "no"}, TypeError, "strict='no'"),
        ({"device": "cpus"}, ValueError, "device='cpus'"),
    ],
)
def test_bad_parameters_are_named(wrong, error, message):
    with refuses(error, message):
        notebook.setup(**wrong)
