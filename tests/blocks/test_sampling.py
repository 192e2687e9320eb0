"""What a token is drawn from, against transformers and brute force."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlib.blocks.sampling import sampling_probabilities, write_on
from tests.support import Peer, refuses

sampling = Peer("transformers.generation.logits_process")
WARPERS = {
    "temperature": "TemperatureLogitsWarper",
    "top_k": "TopKLogitsWarper",
    "top_p": "TopPLogitsWarper",
    "min_p": "MinPLogitsWarper",
}


def by_transformers(logits, options):
    for name, value in options.items():
        logits = getattr(sampling, WARPERS[name])(value)(None, logits)
    return logits.softmax(-1)


@pytest.mark.equation("gpt-temperature", "gpt-top-k", "gpt-top-p", "gpt-min-p")
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5},
        {"top_k": 5},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 9, "top_p": 0.8, "min_p": 0.1},
    ],
    ids=str,
)
def test_probabilities_are_those_of_transformers(options):
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200, 30, generator=g, dtype=torch.float64)
    got = sampling_probabilities(logits, **options)
    torch.testing.assert_close(got, by_transformers(logits, options))


@pytest.mark.equation("gpt-top-p")
@given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.floats(0.01, 1))
@settings(max_examples=80, deadline=None)
def test_top_p_keeps_the_fewest_tokens_that_reach_p(weights, top_p):
    p = torch.tensor(weights, dtype=torch.float64)
    p = p / p.sum()
    got = sampling_probabilities(p.log(), top_p=top_p)
    kept = got > 0
    assert p[kept].sum() >= top_p - 1e-9
    fewer = [
        subset
        for size in range(int(kept.sum()))
        for subset in itertools.combinations(p.tolist(), size)
        if sum(subset) >= top_p + 1e-9
    ]
    assert not fewer
    assert p[kept].min() >= p[~kept].max() if (~kept).any() else True
    torch.testing.assert_close(got, torch.where(kept, p, 0) / p[kept].sum())


def test_the_smallest_set_in_the_sense_of_inclusion_is_not_the_nucleus():
    """Of {.4, .3} and {.4, .2, .1} no part reaches .7; only the first has the fewest tokens."""
    p = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    got = sampling_probabilities(p.log(), top_p=0.7)
    torch.testing.assert_close(got, torch.tensor([0, 4 / 7, 0, 3 / 7], dtype=torch.float64))


def test_ties_are_broken_and_extremes_are_finite():
    even = torch.zeros(4)
    assert sampling_probabilities(even, top_k=2).tolist() == [0.5, 0.5, 0, 0]
    assert sampling_probabilities(even, top_p=0.25).tolist() == [1, 0, 0, 0]
    assert sampling_probabilities(even, temperature=0).tolist() == [1, 0, 0, 0]
    large = torch.tensor([1e4, -1e4, 0.0])
    for temperature in (1e-30, 1.0, 1e30):
        p = sampling_probabilities(large, temperature)
        assert torch.isfinite(p).all() and math.isclose(p.sum(), 1, rel_tol=1e-6)
    assert sampling_probabilities(large, 1e-30).tolist() == [1, 0, 0]
    torch.testing.assert_close(sampling_probabilities(large, 1e30), torch.full((3,), 1 / 3))
    torch.testing.assert_close(sampling_probabilities(even, top_p=1, min_p=0, top_k=9), even + 0.25)


def test_bad_arguments_are_named():
    with refuses(TypeError, "logits must be floating point"):
        sampling_probabilities(torch.zeros(3, dtype=torch.int64))
    with refuses(ValueError, "top_p=0 "):
        sampling_probabilities(torch.zeros(3), top_p=0)
    with refuses(ValueError, "min_p=1.5"):
        sampling_probabilities(torch.zeros(3), min_p=1.5)
    with refuses(ValueError, "top_k=0"):
        sampling_probabilities(torch.zeros(3), top_k=0)
    with refuses(ValueError, "temperature=-1"):
        sampling_probabilities(torch.zeros(3), temperature=-1)


class Counts:
    """A recurrent model by hand: after the token t the next two are likely, and it counts steps."""

    vocab_size = 7

    def __init__(self):
        self.steps = 0

    def with_state(self, ids):
        logits = torch.stack([self._logits(t) for t in ids.unbind(1)], 1)
        return logits, ids.sum(1)

    def step(self, ids, state):
        self.steps += 1
        self.total = state + ids
        return self._logits(ids), self.total

    def _logits(self, ids):
        near = (torch.arange(self.vocab_size) - ids[:, None]) % self.vocab_size
        return 3.0 * (near == 1) + 2.0 * (near == 2)


def test_writing_on_reads_the_prompt_once_and_each_token_but_the_last():
    model, prompts = Counts(), torch.tensor([[0, 3], [5, 5]])
    written = write_on(model, prompts, 4, temperature=0)
    assert written.tolist() == [[0, 3, 4, 5, 6, 0], [5, 5, 6, 0, 1, 2]]
    assert model.steps == 3
    assert model.total.tolist() == [3 + 4 + 5 + 6, 10 + 6 + 0 + 1]  # what the state has seen


def test_writing_on_draws_by_the_rule():
    prompts = torch.zeros(2000, 1, dtype=torch.long)
    draws = [write_on(Counts(), prompts, 1, 1.0, 2, None, generator) for generator in seeded(4, 4)]
    assert torch.equal(*draws)
    assert set(draws[0][:, 1].tolist()) == {1, 2}  # top k
    share = (draws[0][:, 1] == 1).double().mean().item()
    p = 1 / (1 + math.exp(-1))
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 2000)  # five standard deviations


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]
