"""Random numbers by their place: against published ones, and their statistics."""

import pytest
import torch

from nnlib.kernels._dropout import kept, new_seed, philox, rescale

ZERO, ONES = torch.tensor(0), torch.tensor(0xFFFFFFFF)


@pytest.mark.parametrize(
    ("word", "rounds", "wanted"),
    [
        (ZERO, 7, 0x5F6FB709),
        (ZERO, 10, 0x6627E8D5),
    ],
)
def test_numbers_are_those_that_its_authors_publish(word, rounds, wanted):
    """Random123's file of known answers, philox4x32: the first of four words."""
    assert philox(word, word, word, word, rounds) == wanted


def test_a_share_is_kept_and_places_do_not_hang_together():
    stays = kept(torch.tensor(3), 2, 3, 64, 64, 0.3).float()
    assert abs(stays.mean() - 0.7) < 0.01
    for axis in range(4):
        a, b = (
            stays.narrow(axis, 0, stays.shape[axis] - 1),
            stays.narrow(axis, 1, stays.shape[axis] - 1),
        )
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.03
    assert kept(torch.tensor(3), 1, 1, 9, 9, 0.0).all()
    assert not kept(torch.tensor(3), 1, 1, 9, 9, 1.0).any()


@pytest.mark.parametrize("other", [4, 3 + 2**32])
def test_each_word_of_the_seed_counts(other):
    one, two = (kept(torch.tensor(seed), 1, 1, 64, 64, 0.5) for seed in (3, other))
    assert abs((one == two).float().mean() - 0.5) < 0.05


def test_what_is_dropped_hangs_on_the_place_and_not_on_how_much_is_asked():
    whole = kept(torch.tensor(3), 2, 2, 8, 8, 0.5)
    assert torch.equal(kept(torch.tensor(3), 1, 2, 8, 8, 0.5)[0], whole[0])
    assert torch.equal(kept(torch.tensor(3), 2, 2, 3, 8, 0.5), whole[:, :, 5:])


def test_a_seed_is_drawn_from_torchs_generator_and_means_stay():
    torch.manual_seed(5)
    one, two = new_seed(torch.device("cpu")), new_seed(torch.device("cpu"))
    torch.manual_seed(5)
    assert new_seed(torch.device("cpu")) == one != two
    assert rescale(0.75) == 4
    assert rescale(1) == 0
