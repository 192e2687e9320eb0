"""Scans as networks: what is drawn as read was read, and what is lit was done."""

from operator import add

import pytest
from matplotlib.colors import to_rgba

from nnlib.kernels.scans import blelloch, hillis_steele, sequential
from nnlib.plot.chapters.parallel_scan import dots, network, programs, tree
from nnlib.plot.style import subplots
from tests.support import refuses

NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]
TREE = network(blelloch, add, NUMBERS, 0)


def test_doubling_reads_a_partner_at_twice_the_distance_in_each_round():
    rounds = network(hillis_steele, add, NUMBERS)
    for reach, row in zip((1, 2, 4), rounds[1:], strict=True):
        assert [cell.joined for cell in row] == [i >= reach for i in range(8)]
        assert all(row[i].reads == (i - reach, i) for i in range(reach, 8))
    assert " ".join(cell.text for cell in rounds[-1]) == "3 4 8 9 14 23 25 31"


def test_a_tree_passes_on_what_it_does_not_join():
    swap = TREE[-1][0]
    assert (swap.reads, swap.joined) == ((1,), False)
    assert sum(cell.joined for row in TREE for cell in row) == 14
    assert " ".join(cell.text for cell in TREE[-1]) == "0 3 4 8 9 14 23 25"


@pytest.mark.parametrize("at", [0, 3, 7])
def test_rounds_to_come_are_empty_boxes(at):
    figure = tree(TREE, at, [""] * 8)
    written = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(written) == 8 * (at + 1)
    done = sum(cell.joined for row in TREE[: at + 1] for cell in row)
    assert figure.axes[0].get_title(loc="left").endswith(f"{done} operators so far")


def test_dots_are_operators_and_entries():
    _, ax = subplots()
    dots(ax, network(sequential, add, NUMBERS))
    assert sum(line.get_marker() == "o" for line in ax.lines) == 8 + 7


def test_programs_are_drawn_as_what_they_have_published():
    figure = programs(["prefix", "sum", ""], {1: 0}, [4, None, None], [4, 5, 6])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words[:6] == ["4", "prefix", "5", "own sum", "…", "working"]
    edges = [patch.get_edgecolor() for patch in figure.axes[0].patches[:3]]
    assert edges == [to_rgba(color) for color in ("learned", "input", "muted")]


def test_names_that_do_not_fit_are_refused():
    with refuses(ValueError, "names must be 8, one a row, got 1"):
        tree(TREE, 0, ["one"])
