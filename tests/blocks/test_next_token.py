"""What a position must guess, and writing, with a model of one line; GPT and LLM test the rest."""

import pytest
import torch
from torch.nn import functional as F

from nnlib.blocks.next_token import Writing, next_tokens
from tests.support import refuses


def counts_up(ids, key_mask, caches):
    """A model that is sure that 1 more comes, of five tokens."""
    if caches is not None:
        caches.append(ids.shape[1])
    return 50 * F.one_hot((ids[:, -1] + 1) % 5, 5).float()


def test_the_target_is_the_text_one_step_on():
    ids = torch.tensor([[3, 1, 2], [0, 4, 4]])
    assert torch.equal(next_tokens(ids), ids[:, 1:])
    real = torch.tensor([[False, True, True], [True, True, False]])
    assert next_tokens(ids, real).tolist() == [[-100, 2], [4, -100]]
    with refuses(ValueError, "ids must hold two tokens or more a sequence, got (2, 1)"):
        next_tokens(ids[:, :1])


@pytest.mark.parametrize("cached", [False, True])
def test_with_a_cache_the_model_is_given_each_token_once(cached):
    asked = Writing(torch.tensor([[0, 1], [1, 2]]), 4, vocab_size=5, max_length=6)
    given = [] if cached else None
    got = asked.continued(counts_up, given)
    assert got.tolist() == [[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 1]]
    if cached:
        assert given == [2, 1, 1, 1]


def test_the_mask_grows_with_the_text():
    masks = []

    def watched(ids, key_mask, caches):
        masks.append(key_mask.tolist())
        return counts_up(ids, key_mask, caches)

    real = torch.tensor([[False, True]])
    Writing(torch.tensor([[0, 1]]), 2, key_mask=real, vocab_size=5, max_length=9).continued(watched)
    assert masks == [[[False, True]], [[False, True, True]]]


def test_a_row_that_is_complete_is_filled_up_and_the_last_ends_the_work():
    asked = Writing(torch.tensor([[1], [3]]), 20, stop=0, vocab_size=5, max_length=30)
    assert asked.continued(counts_up).tolist() == [[1, 2, 3, 4, 0], [3, 4, 0, 0, 0]]


def test_what_does_not_fit_is_refused_by_name():
    ids = torch.tensor([[1, 2]])
    for options, message in (
        ({"max_length": 1}, "ids must end within max_length=1, got 2"),
        ({"max_length": 4}, "max_new_tokens=3 after a prompt of 2 needs 5 positions, max_length=4"),
        ({"stop": 5}, "stop=5 must be below vocab_size=5"),
        ({"top_k": 0}, "top_k=0"),
        ({"temperature": -1.0}, "temperature=-1"),
    ):
        with refuses(ValueError, message):
            Writing(ids, 3, **{"vocab_size": 5, "max_length": 9, **options})
