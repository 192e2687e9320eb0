"""What a character costs a model, and what it costs a table of counts."""

import math

import pytest
import torch
from torch import nn

from nnlib.data.text import NGram, windows, with_context
from nnlib.train.characters import bits_per_character
from tests.support import refuses


class Bigram(nn.Module):
    """Scores of the next token from the last: the logarithms of a table of counts."""

    def __init__(self, counts, size):
        super().__init__()
        rows = [counts.probabilities(torch.tensor([token])).log() for token in range(size)]
        self.table = nn.Parameter(torch.stack(rows))

    def forward(self, ids):
        assert not self.training
        return self.table[ids]


@pytest.fixture
def stream():
    return torch.randint(0, 5, (600,), generator=torch.Generator().manual_seed(0))


def test_a_model_and_the_table_it_holds_cost_the_same(stream):
    counts = NGram(2, 5).fit(stream[:400])
    held = stream[400:]
    model = Bigram(counts, 5).train()
    got = bits_per_character(model, windows(held, 32, 16))
    assert got == pytest.approx(with_context(counts.bits(held), 32).mean().item(), rel=1e-12)
    assert model.training


def test_only_the_second_half_of_a_row_is_judged():
    class FirstHalfIsWrong(nn.Module):
        def forward(self, ids):
            scores = torch.zeros(*ids.shape, 4)
            scores[:, :2] = torch.tensor([-1e9, 0, 0, 0])
            return scores

    zeros = torch.zeros(2, 6, dtype=torch.int64)
    assert bits_per_character(FirstHalfIsWrong(), zeros) == pytest.approx(math.log2(4))


@pytest.mark.parametrize("length", [1, 7])
def test_rows_that_have_no_middle_are_refused(length):
    with refuses(ValueError, f"half is context, got {length}"):
        bits_per_character(nn.Identity(), torch.zeros(2, length, dtype=torch.int64))
