"""Random numbers of all kinds go on where they were."""

import random

import numpy as np
import pytest
import torch

from nnlib.train.randomness import random_state, set_random_state


def test_random_numbers_of_all_kinds_go_on_where_they_were():
    def draws():
        return torch.rand(3).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1)

    draws()
    state = random_state()
    wanted = draws(), draws()
    set_random_state(state)
    assert (draws(), draws()) == wanted


@pytest.mark.gpu
def test_random_numbers_of_the_gpu_go_on_where_they_were():
    torch.rand(3, device="cuda")
    state = random_state()
    wanted = torch.rand(3, device="cuda").tolist()
    set_random_state(state)
    assert torch.rand(3, device="cuda").tolist() == wanted


def test_the_state_is_a_copy_that_later_draws_leave_alone():
    state = random_state()
    wanted = torch.rand(2).tolist(), np.random.rand(2).tolist()
    for _ in range(2):
        set_random_state(state)
        assert (torch.rand(2).tolist(), np.random.rand(2).tolist()) == wanted
