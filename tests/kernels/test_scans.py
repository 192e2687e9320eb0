"""Scans over any operator, against a loop; what does not commute shows every slip of the order."""

from itertools import accumulate, pairwise

import pytest

from nnlib.kernels.scans import (
    blelloch,
    chunked,
    counted,
    decoupled_look_back,
    hillis_steele,
    sequential,
    sklansky,
)
from tests.support import refuses

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def join(a, b):
    return a + b


def prefixes(n):
    return list(accumulate(LETTERS[:n], join))


@pytest.mark.parametrize("n", range(9))
@pytest.mark.parametrize("scan", [sequential, hillis_steele, sklansky])
def test_rounds_end_in_the_inclusive_scan(scan, n):
    assert scan(join, LETTERS[:n])[-1] == prefixes(n)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_up_and_down_a_tree_gives_the_exclusive_scan(n):
    assert blelloch(join, LETTERS[:n], "")[-1] == ["", *prefixes(n)][:-1]


@pytest.mark.parametrize("n", range(9))
@pytest.mark.parametrize("length", [1, 2, 3, 8, 20])
def test_chunks_of_any_length(n, length):
    assert chunked(join, LETTERS[:n], length) == prefixes(n)


@pytest.mark.parametrize(("scan", "rest"), [(hillis_steele, ()), (sklansky, ()), (blelloch, ("",))])
def test_no_round_reads_what_it_writes(scan, rest):
    """Depth counts chains: where a round read its own results, it would exceed the rounds."""
    _, _, depth = counted(scan, join, LETTERS[:16], *rest)
    rounds = len(scan(join, LETTERS[:16], *rest)) - 1 - (scan is blelloch)  # the root is set
    assert depth <= rounds


@pytest.mark.parametrize(
    "ready", [[0] * 6, [5, 4, 3, 2, 1, 0], [9, 0, 0, 0, 0, 0], [0, 0, 7, 0, 0, 1]], ids=str
)
def test_look_back_finds_every_prefix_whoever_is_late(ready):
    ticks = list(decoupled_look_back(join, LETTERS[:6], ready))
    assert ticks[-1][1] == prefixes(6)
    for (before, _), (after, _) in pairwise(ticks):
        order = ["", "sum", "prefix"]
        pairs = zip(before.flags, after.flags, strict=True)
        assert all(order.index(a) <= order.index(b) for a, b in pairs)


def test_look_back_of_nobody_ends_at_once():
    assert list(decoupled_look_back(join, [], [])) == []


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "x must have 1, 2, 4, 8, … entries, got 3: pad with the identity"):
        blelloch(join, "abc", "")
    with refuses(ValueError, "got 0"):
        blelloch(join, "", "")
    with refuses(ValueError, "length=0 must be an integer ≥ 1"):
        chunked(join, "abc", 0)
