"""Text that ships with Python, its split, and count models against dictionaries and sums."""

import collections
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlib.data.text import (
    NGram,
    Vocabulary,
    python_reference,
    split_blocks,
    unicode_names,
    windows,
    with_context,
)
from tests.support import refuses


def test_the_reference_is_long_english_text_with_no_network():
    text = python_reference()
    assert len(text) > 400_000
    assert "assert" in text and "expression" in text


def test_names_are_distinct_and_of_few_letters():
    names = unicode_names()
    assert len(names) == len(set(names)) > 25_000
    assert len(set("".join(names))) <= 40
    assert names[0] == "SPACE" and "GREEK SMALL LETTER ALPHA" in names
    assert not [name for name in names if name.startswith("CJK UNIFIED IDEOGRAPH-")]


def test_a_vocabulary_numbers_and_returns():
    letters = Vocabulary("abc")
    assert len(letters) == 3
    assert letters.decode(letters.encode("bca")) == ["b", "c", "a"]
    words = Vocabulary(["?", "yes"], unknown="?")
    assert words.encode(["yes", "no"]).tolist() == [1, 0]


def test_a_vocabulary_refuses_by_name():
    with refuses(ValueError, "tokens must each stand once"):
        Vocabulary("aa")
    with refuses(ValueError, "unknown='z' must be one of the tokens"):
        Vocabulary("ab", unknown="z")
    with refuses(ValueError, "tokens outside the vocabulary: ['z']"):
        Vocabulary("ab").encode("az")


@given(st.integers(1, 300), st.integers(1, 20), st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=40, deadline=None)
def test_blocks_part_a_stream_in_two(n, block, share):
    train, test = split_blocks(torch.arange(n), block, share)
    assert sorted(train.tolist() + test.tolist()) == list(range(n))
    assert train.tolist() == sorted(train.tolist())
    assert len(test) % block == 0
    assert len(test) <= share * n + block


def test_held_out_blocks_are_spread_over_the_whole_stream():
    _, test = split_blocks(torch.arange(1000), 10, 0.1)
    assert test[:10].tolist() == list(range(90, 100))
    assert test[-1] == 999


def test_windows_are_slices():
    tokens = torch.arange(10)
    assert windows(tokens, 3).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert windows(tokens, 4, 3).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    with refuses(ValueError, "length=11 is more than the 10 tokens there are"):
        windows(tokens, 11)
    with refuses(ValueError, "stride=0"):
        windows(tokens, 2, 0)


def kneser_ney(order, vocab, discount, text, context, token):
    """The recursion with dictionaries of tuples, as it is written."""
    context = tuple(context)[len(context) - order + 1 :] if order > 1 else ()
    grams = [tuple(text[i : i + order]) for i in range(len(text) - order + 1)]
    counts = collections.Counter(grams)
    return _interpolated(counts, vocab, discount, context, token)


def _interpolated(counts, vocab, discount, context, token):
    following = {gram: n for gram, n in counts.items() if gram[:-1] == context}
    shorter = collections.Counter(gram[1:] for gram in counts)  # distinct: each key counts once
    lower = 1 / vocab
    if context:
        lower = _interpolated(shorter, vocab, discount, context[1:], token)
    total = sum(following.values())
    if not total:
        return lower
    own = max(following.get((*context, token), 0) - discount, 0)
    return (own + discount * len(following) * lower) / total


@pytest.mark.equation("gpt-ngram")
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("discount", [0.0, 0.6, 1.0])
def test_count_models_are_the_recursion_with_dictionaries(order, discount):
    text = torch.randint(4, (60,), generator=torch.Generator().manual_seed(order))
    model = NGram(order, 4, discount).fit(text)
    for at in (5, 20, 41):
        context = text[at : at + 3]
        wanted = [
            kneser_ney(order, 4, discount, text.tolist(), context.tolist(), x) for x in range(4)
        ]
        got = model.probabilities(context)
        torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64))


@given(st.integers(1, 4), st.floats(0, 1), st.lists(st.integers(0, 4), min_size=4, max_size=40))
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one_after_any_context(order, discount, tokens):
    model = NGram(order, 5, discount).fit(torch.tensor(tokens))
    for context in ([], [0], [4, 4, 4, 4], tokens[:3]):
        p = model.probabilities(torch.tensor(context, dtype=torch.int64))
        assert (p >= 0).all()
        assert math.isclose(p.sum(), 1, abs_tol=1e-9)


@pytest.mark.equation("gpt-bits")
def test_the_bits_of_a_stream_are_those_of_its_tokens():
    """Taken together they are the logarithm of the probability of the whole stream."""
    g = torch.Generator().manual_seed(0)
    model = NGram(3, 5, 0.7).fit(torch.randint(5, (200,), generator=g))
    text = torch.randint(5, (30,), generator=g)
    one_by_one = [model.probabilities(text[:at])[text[at]].item() for at in range(30)]
    bits = model.bits(text)
    torch.testing.assert_close(bits, -torch.tensor(one_by_one, dtype=torch.float64).log2())
    assert math.isclose(2 ** -bits.sum().item(), math.prod(one_by_one), rel_tol=1e-9)


def test_longer_contexts_help_on_text_that_repeats():
    text = torch.arange(7).repeat(30)
    text[::13] = 0
    losses = [NGram(n, 7).fit(text[:150]).bits(text[150:]).mean().item() for n in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)


def test_count_models_refuse_by_name():
    with refuses(ValueError, "order=0"):
        NGram(0, 5)
    with refuses(ValueError, "order=30 is too long for vocab_size=100"):
        NGram(30, 100)
    with refuses(ValueError, "discount=1.5"):
        NGram(2, 5, 1.5)
    with refuses(ValueError, "tokens must be 3 or more, got 2"):
        NGram(3, 5).fit(torch.tensor([0, 1]))
    with refuses(ValueError, "tokens must hold classes 0 … 4"):
        NGram(2, 5).fit(torch.tensor([0, 7]))
    with refuses(RuntimeError, "call fit(tokens) first"):
        NGram(2, 5).bits(torch.tensor([0, 1]))
    with refuses(ValueError, "context must hold classes 0 … 4"):
        NGram(2, 5).fit(torch.tensor([0, 1])).probabilities(torch.tensor([9]))


def test_windows_with_context_judge_every_later_token_once():
    values = torch.arange(20.0)
    halves = with_context(values, 6)
    assert halves.flatten().tolist() == list(range(3, 18))
    with refuses(ValueError, "length=5 must be even"):
        with_context(values, 5)


def test_a_tuned_table_has_the_discount_that_serves_best_and_counts_all():
    generator = torch.Generator().manual_seed(0)
    often = torch.randint(0, 3, (4000,), generator=generator)
    rare = torch.randint(0, 40, (4000,), generator=generator)
    tokens = torch.where(torch.rand(4000, generator=generator) < 0.9, often, rare)
    tuned = NGram.tuned(2, 40, tokens, discounts=(0.0, 0.5, 0.99), block=100)
    part, rest = split_blocks(tokens, 100)

    def cost(discount):
        return NGram(2, 40, discount).fit(part).bits(rest).mean().item()

    assert tuned.discount == min((0.0, 0.5, 0.99), key=cost) != 0.0
    full = NGram(2, 40, tuned.discount).fit(tokens)
    assert torch.equal(tuned.bits(rest), full.bits(rest))
