"""The timer: how often it runs, which clock it reads, what it leaves behind."""

import itertools
import time

import pytest
import torch

from nnlib.timing import seconds
from tests.support import refuses


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    return now


def test_the_best_of_several_counts(clock):
    taken = itertools.chain([9.0, 3.0, 2.0, 5.0])

    def run():
        clock[0] += next(taken)

    assert seconds(run, 3) == 2.0


def test_the_first_run_is_for_warming_up_unless_told_otherwise(clock):
    runs = []
    seconds(lambda: runs.append(1), 2)
    assert len(runs) == 3
    seconds(lambda: runs.append(1), 2, warm=False)
    assert len(runs) == 5


def test_a_budget_is_spent(clock):
    runs = []

    def run():
        runs.append(1)
        clock[0] += 1.0

    assert seconds(run, 1, warm=False, budget=4.5) == 1.0 and len(runs) == 5


def test_what_is_too_short_for_the_clock_takes_a_tick(clock):
    assert seconds(lambda: None) == time.get_clock_info("process_time").resolution > 0


def test_one_core_is_timed_and_all_are_given_back(monkeypatch):
    now = [6]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.__setitem__(0, n))
    seen = []

    def run():
        seen.append(now[0])
        if len(seen) > 1:
            raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        seconds(run)
    assert seen == [1, 1] and now == [6]


def test_what_was_queued_on_a_gpu_is_waited_for(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    monkeypatch.setattr(time, "perf_counter", lambda: told.append("look") or float(len(told)))
    seconds(lambda: told.append("run"), 1, warm=False)
    assert told == ["wait", "look", "run", "wait", "look"]


def test_bad_arguments_are_named():
    with refuses(ValueError, "repeat=0 must be an integer ≥ 1"):
        seconds(int, 0)
    with refuses(TypeError, "warm=1 must be True or False"):
        seconds(int, warm=1)
    with refuses(ValueError, "budget=-1"):
        seconds(int, budget=-1)
