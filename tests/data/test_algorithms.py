"""The tasks, solved by reading them as a person would."""

import pytest
import torch

from nnlib.data.algorithms import copy_task, list_task
from tests.support import refuses


def dice():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("recall", [True, False])
def test_what_is_to_be_copied_is_what_was_shown(recall):
    task = copy_task(3, 5, 2, recall=recall, generator=dice())
    assert torch.equal(task.inputs[:, :5, :2], task.targets)
    assert task.inputs[:, :, 2].sum(0).tolist() == [0] * 5 + [3] + [0] * 5
    assert task.inputs[:, :, 3].sum(0).tolist() == [0] * 6 + [3 * recall] * 5
    assert not task.inputs[:, 5:, :2].any()
    assert task.asked.tolist() == [6, 7, 8, 9, 10]
    assert 0 < task.targets.mean() < 1


def test_the_answers_are_the_value_of_the_key_and_those_after_it():
    task = list_task(40, 6, 3, key_bits=3, value_bits=2, generator=dice())
    for sequence, wanted in zip(task.inputs.tolist(), task.targets.tolist(), strict=True):
        keys = [row[:3] for row in sequence[:6]]
        values = [[(bit + 1) / 2 for bit in row[3:5]] for row in sequence[:6]]
        assert len({tuple(key) for key in keys}) == 6
        at = keys.index(sequence[6][:3])
        assert values[at : at + 3] == wanted
        assert sequence[6][3:] == [0, 0, 1, 0]
        assert sequence[7] == sequence[8] == [0, 0, 0, 0, 0, 0, 1]
    assert task.asked.tolist() == [6, 7, 8]


def test_every_place_in_a_list_is_asked_for():
    task = list_task(200, 4, 3, generator=dice())
    at = (task.inputs[:, :4, :4] == task.inputs[:, 4:5, :4]).all(-1).float().argmax(1)
    assert at.unique().tolist() == [0, 1]


def test_equal_seeds_draw_equal_tasks():
    for make in (copy_task, list_task):
        first, second = (make(2, 4, generator=dice()) for _ in range(2))
        assert torch.equal(first.inputs, second.inputs)


def test_what_cannot_be_is_refused():
    with refuses(ValueError, "length=17 must be at most 2**key_bits=16"):
        list_task(1, 17)
    with refuses(ValueError, "length=2 must be an integer ≥ 3"):
        list_task(1, 2)
    with refuses(ValueError, "length=0 must be"):
        copy_task(1, 0)
    with refuses(TypeError, "recall=1 must be True or False"):
        copy_task(1, 2, recall=1)
