"""Rules against transformers' processors, searches against brute force, drafts against χ²."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch.nn import functional as F

from nnlib.attention.gpt import GPT
from nnlib.language.decoding import (
    acceptance,
    beam_search,
    expected_tokens,
    frequency_penalty,
    length_norm,
    min_p,
    no_repeat,
    only,
    repetition_penalty,
    sample,
    speculative_decode,
    speculative_speedup,
    temperature,
    top_k,
    top_p,
    typical,
    verify,
)
from nnlib.language.llm import LLM
from tests.support import Example, Peer, refuses, unhooked

processors = Peer("transformers.generation.logits_process")
transformers = Peer("transformers")
FAR = 1e-4
"""A χ² test with right code fails once in ten thousand seeds; these are fixed."""


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({}, (torch.randn(2, 5), torch.randint(5, (2, 3)), 1.3))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def scores(rows=200, vocab_size=30, seed=0):
    return 3 * torch.randn(rows, vocab_size, generator=dice(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------ rules, one by one
ALONE = {
    "temperature 0.5": (temperature, 0.5, "TemperatureLogitsWarper"),
    "temperature 1.7": (temperature, 1.7, "TemperatureLogitsWarper"),
    "top k": (top_k, 5, "TopKLogitsWarper"),
    "top k beyond the vocabulary": (top_k, 99, "TopKLogitsWarper"),
    "top p": (top_p, 0.6, "TopPLogitsWarper"),
    "top p, nearly all": (top_p, 0.99, "TopPLogitsWarper"),
    "min p": (min_p, 0.2, "MinPLogitsWarper"),
    "typical 0.2": (typical, 0.2, "TypicalLogitsWarper"),
    "typical 0.9": (typical, 0.9, "TypicalLogitsWarper"),
}


@pytest.mark.equation(
    "decoding-temperature", "decoding-top-k", "decoding-top-p", "decoding-min-p", "decoding-typical"
)
@pytest.mark.parametrize("name", ALONE)
def test_a_rule_is_transformers_own(name):
    rule, value, theirs = ALONE[name]
    logits = scores()
    torch.testing.assert_close(
        rule(logits, value), getattr(processors, theirs)(value)(None, logits.clone())
    )


@pytest.mark.equation("decoding-repetition")
@pytest.mark.parametrize("penalty", [1.3, 1.0, 0.8])
def test_the_penalty_for_repetition_is_transformers_own(penalty):
    logits, ids = scores(), torch.randint(30, (200, 12), generator=dice())
    wanted = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(repetition_penalty(logits, ids, penalty), wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_runs_that_must_not_come_again_are_transformers_own(size):
    logits, ids = scores(vocab_size=4), torch.randint(4, (200, 12), generator=dice())
    if size == 1:  # theirs looks for an empty run here; every token that was seen is barred
        wanted = logits.masked_fill(F.one_hot(ids, 4).any(1), -math.inf)
    else:
        wanted = processors.NoRepeatNGramLogitsProcessor(size)(ids, logits.clone())
    torch.testing.assert_close(no_repeat(logits, ids, size), wanted)


def test_composed_rules_are_transformers_own():
    logits, ids = scores(), torch.randint(30, (200, 6), generator=dice())
    got = repetition_penalty(logits, ids, 1.2)
    for rule, value in ((temperature, 0.8), (top_k, 20), (top_p, 0.9), (min_p, 0.05)):
        got = rule(got, value)
    chain = transformers.LogitsProcessorList([
        processors.RepetitionPenaltyLogitsProcessor(1.2),
        processors.TemperatureLogitsWarper(0.8),
        processors.TopKLogitsWarper(20),
        processors.TopPLogitsWarper(0.9),
        processors.MinPLogitsWarper(0.05),
    ])  # fmt: skip
    torch.testing.assert_close(got, chain(ids, logits.clone()))


@pytest.mark.equation("decoding-temperature", "decoding-greedy")
def test_temperature_is_a_power_of_the_probabilities_and_ends_at_the_largest():
    logits = scores()
    p = logits.softmax(-1)
    for tau in (0.3, 1.0, 2.5):
        power = p ** (1 / tau)
        torch.testing.assert_close(
            temperature(logits, tau).softmax(-1), power / power.sum(-1, keepdim=True)
        )
    cold = temperature(logits, 0.0).softmax(-1)
    torch.testing.assert_close(cold, F.one_hot(p.argmax(-1), 30).double())
    torch.testing.assert_close(temperature(logits, 1e-6).softmax(-1), cold)
    extreme = torch.tensor([[1e30, 0.0, -1e30]])
    torch.testing.assert_close(
        temperature(extreme, 1e-30).softmax(-1), torch.tensor([[1.0, 0.0, 0.0]])
    )


@pytest.mark.equation("decoding-variational")
@given(st.integers(0, 10**6), st.floats(0.2, 3))
@settings(max_examples=40, deadline=None)
def test_a_temperature_is_the_best_compromise_of_score_and_entropy(seed, tau):
    """No other distribution has more of both, and the most there is is τ log Σ exp(z/τ)."""

    def worth(r):
        return (r * logits).sum(-1) - tau * torch.xlogy(r, r).sum(-1)

    logits = scores(1, 6, seed)
    best = temperature(logits, tau).softmax(-1)
    torch.testing.assert_close(worth(best), tau * (logits / tau).logsumexp(-1))
    others = scores(300, 6, seed + 1).softmax(-1)
    for near in (1.0, 0.1, 0.01):
        mixed = (1 - near) * best + near * others
        assert (worth(mixed) <= worth(best) + 1e-12).all()


@pytest.mark.equation("decoding-typical")
@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_typical_keeps_what_is_about_as_surprising_as_expected(weights, mass):
    """By brute force: the shortest beginning of the list, sorted by distance, that has the mass."""
    p = [weight / sum(weights) for weight in weights]
    entropy = -sum(q * math.log(q) for q in p)
    order = sorted(range(len(p)), key=lambda at: (abs(-math.log(p[at]) - entropy), at))
    shares = [sum(p[at] for at in order[: n + 1]) for n in range(len(p))]
    distances = [abs(-math.log(p[at]) - entropy) for at in order]
    if min(abs(share - mass) for share in shares) < 1e-9 or _ties(distances):
        return
    many = next((n for n, share in enumerate(shares) if share >= mass), len(p) - 1) + 1
    kept = typical(torch.tensor(p, dtype=torch.float64).log(), mass).isfinite()
    assert set(kept.nonzero().flatten().tolist()) == set(order[:many])


def _ties(values):
    values = sorted(values)
    return any(b - a < 1e-9 for a, b in itertools.pairwise(values))


def test_typical_can_leave_out_the_most_probable_token():
    p = torch.tensor([0.4] + 60 * [0.01])
    kept = typical(p.log(), 0.3).isfinite()
    assert not kept[0] and kept[1:].sum() in (30, 31)  # 0.3, rounded


@pytest.mark.equation("decoding-repetition")
@given(st.floats(1.01, 3), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_both_signs_make_what_was_seen_less_probable(penalty, seed):
    logits = scores(4, 6, seed)
    ids = torch.zeros(4, 1, dtype=torch.int64)
    before = logits.softmax(-1)[:, 0]
    assert (repetition_penalty(logits, ids, penalty).softmax(-1)[:, 0] < before).all()
    divided = torch.cat([logits[:, :1] / penalty, logits[:, 1:]], 1).softmax(-1)[:, 0]
    assert torch.equal(divided > before, logits[:, 0] < 0)  # division alone encourages these


@pytest.mark.equation("decoding-frequency")
@given(st.lists(st.integers(0, 3), max_size=9), st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_frequency_and_presence_are_taken_off_by_counting(seen, frequency, presence):
    logits = scores(1, 4)
    ids = torch.tensor([seen], dtype=torch.int64)
    wanted = [
        z - frequency * seen.count(token) - presence * (token in seen)
        for token, z in enumerate(logits[0].tolist())
    ]
    got = frequency_penalty(logits, ids, frequency, presence)
    torch.testing.assert_close(got, torch.tensor([wanted], dtype=torch.float64))


@pytest.mark.equation("decoding-constrained")
def test_what_a_grammar_allows_keeps_its_proportions():
    logits, allowed = scores(), torch.rand(200, 30, generator=dice()) < 0.3
    allowed[:, 0] = True
    p = torch.where(allowed, logits.softmax(-1), 0)
    torch.testing.assert_close(only(logits, allowed).softmax(-1), p / p.sum(-1, keepdim=True))


@pytest.mark.parametrize("name", ALONE)
def test_a_rule_goes_on_from_what_another_left(name):
    """−∞ stays −∞, nothing becomes NaN, and at least one token is left."""
    rule, value, _ = ALONE[name]
    left = top_k(scores(), 3)
    got = rule(left, value)
    assert not got.isnan().any() and (got == -math.inf)[left == -math.inf].all()
    assert got.isfinite().any(-1).all()
    single = top_k(scores(), 1)
    torch.testing.assert_close(rule(single, value).softmax(-1), single.softmax(-1))


# ------------------------------------------------------------------------------------- whole texts
class Chain:
    """A language model by hand: the next token depends on the last one and on the place."""

    def __init__(self, logits):
        self.logits = logits  # place, last token, next token

    def __call__(self, ids):
        return self.logits[torch.arange(ids.shape[1]), ids]

    def log_p(self, tokens):
        table = self.logits.log_softmax(-1)
        return sum(float(table[at, a, b]) for at, (a, b) in enumerate(itertools.pairwise(tokens)))


def chain(vocab_size=3, seed=0, spread=1.0, places=24):
    noise = torch.randn(places, vocab_size, vocab_size, generator=dice(seed), dtype=torch.float64)
    return Chain(spread * noise)


def fits(counts, p):
    """Return how probable a χ² as large as that of the counts is, or larger."""
    expected = counts.sum() * p
    assert expected.min() > 5, "too few draws for χ²"
    return chi2.sf(float(((counts - expected) ** 2 / expected).sum()), len(p) - 1)


def numbered(ids, vocab_size):
    """Return a number for each continuation of a prompt of one token."""
    places = vocab_size ** torch.arange(ids.shape[1] - 1)
    return (ids[:, 1:] * places).sum(1)


def all_texts(vocab_size, length):
    """Return every continuation of token 0, in the order of `numbered`."""
    texts = itertools.product(range(vocab_size), repeat=length)
    return [(0, *reversed(text)) for text in texts]


@pytest.mark.equation("decoding-sequence")
def test_texts_come_with_the_product_of_their_tokens_probabilities():
    model, texts = chain(spread=0.7), all_texts(3, 3)
    p = torch.tensor([model.log_p(text) for text in texts], dtype=torch.float64).exp()
    assert math.isclose(p.sum(), 1)
    drawn = sample(model, torch.zeros(40_000, 1, dtype=torch.int64), 3, generator=dice())
    assert fits(torch.bincount(numbered(drawn, 3), minlength=27), p) > FAR


def test_a_sample_with_a_rule_is_what_generate_draws():
    torch.manual_seed(0)
    for model in (LLM(11, 16, 2, 2, 40), GPT(11, 16, 2, 2, 40)):
        ids = torch.randint(11, (3, 5))
        whole = model.generate(ids, 12, 0.8, top_p=0.7, generator=dice(4))

        def rule(logits, ids):
            return top_p(temperature(logits, 0.8), 0.7)

        for use_cache in (True, False):
            got = sample(model, ids, 12, rule, generator=dice(4), use_cache=use_cache)
            assert torch.equal(got, whole)


def test_a_rule_sees_the_text_so_far_and_a_stop_ends_it():
    flat = Chain(torch.zeros(12, 4, 4))

    def unseen(logits, ids):
        return no_repeat(logits, ids, 1)

    got = sample(flat, torch.zeros(50, 1, dtype=torch.int64), 3, unseen, generator=dice())
    assert all(sorted(row) == [0, 1, 2, 3] for row in got.tolist())
    ends = sample(flat, torch.zeros(50, 1, dtype=torch.int64), 9, generator=dice(), stop=2)
    for row in ends.tolist():
        assert 2 not in row or set(row[row.index(2) :]) == {2}


# -------------------------------------------------------------------------------------- beam search
def best_by_brute_force(model, vocab_size, length, stop, norm):
    """Return the score of every text that ends with `stop`, or with its last place."""
    found = {}
    for text in all_texts(vocab_size, length):
        written = text[1:]
        if stop in written:
            written = written[: written.index(stop) + 1]
        found[written] = model.log_p((0, *written)) / norm(len(written))
    return sorted(((score, text) for text, score in found.items()), reverse=True)


@pytest.mark.equation("decoding-beam", "decoding-length", "decoding-gnmt")
@pytest.mark.parametrize("form", ["power", "gnmt"])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("stop", [None, 1])
def test_a_wide_beam_finds_the_best_of_all_texts(form, alpha, stop):
    def norm(t):
        return ((5 + t) / 6) ** alpha if form == "gnmt" else t**alpha

    for seed in range(6):
        model = chain(seed=seed)
        wanted = best_by_brute_force(model, 3, 4, stop, norm)[:5]
        got = beam_search(
            model, torch.tensor([[0]]), 4, 81, length_penalty=alpha, form=form, stop=stop
        )
        texts = [tuple(text) for text in got.ids[0, :5, 1:].tolist()]
        ended = [t if stop not in t else t[: t.index(stop) + 1] for t in texts]
        torch.testing.assert_close(got.scores[0, :5], torch.tensor([s for s, _ in wanted]).double())
        assert ended == [text for _, text in wanted]


def test_a_beam_of_one_is_greedy_and_a_wider_one_finds_what_it_misses():
    better = 0
    for seed in range(20):
        model, prompt = chain(4, seed), torch.tensor([[0]])
        greedy = sample(model, prompt, 5, lambda logits, ids: temperature(logits, 0))
        one = beam_search(model, prompt, 5, 1)
        assert torch.equal(one.ids[:, 0], greedy)
        wide = beam_search(model, prompt, 5, 4).scores[0, 0]
        assert wide >= one.scores[0, 0] - 1e-12  # not always so; for these chains it is
        better += bool(wide > one.scores[0, 0] + 1e-9)
    assert better >= 3


def of_transformers():
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=23, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=40, initializer_range=0.7,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(settings).eval()


@pytest.mark.equation("decoding-beam", "decoding-length")
@pytest.mark.parametrize("alpha", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("stop", [None, 7])
@pytest.mark.parametrize("beams", [1, 3, 5])
def test_beam_search_is_transformers_own(alpha, stop, beams):
    theirs = of_transformers()
    ids = torch.randint(23, (4, 6), generator=dice())
    wanted = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, num_beams=max(beams, 2),
        num_return_sequences=max(beams, 2), length_penalty=alpha, early_stopping="never",
        do_sample=False, eos_token_id=stop, pad_token_id=stop or 0, bos_token_id=None,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    ours = LLM.from_hugging_face(theirs)
    for use_cache in (True, False):
        got = beam_search(
            ours, ids, 9, max(beams, 2), length_penalty=alpha, stop=stop, use_cache=use_cache
        )
        assert torch.equal(got.ids.flatten(0, 1), wanted.sequences)
        torch.testing.assert_close(got.scores.flatten(), wanted.sequences_scores)


def test_the_search_goes_on_while_a_longer_text_may_still_be_better():
    """Ending scores log 0.5; log 0.2 is worse over two tokens, and better over four."""
    first = torch.tensor([0.2, 0.5, 0.1, 0.1, 0.1], dtype=torch.float64)
    certain = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    tables = torch.stack([first, certain, certain, certain]).log()
    model = Chain(tables[:, None].expand(-1, 5, -1))
    got = beam_search(model, torch.tensor([[0]]), 4, 1, stop=1)
    assert got.ids.tolist() == [[[0, 0, 0, 0, 0]]]
    assert math.log(0.2) / 2 < math.log(0.5) < math.log(0.2) / 4
    assert math.isclose(got.scores[0, 0], math.log(0.2) / 4)


def test_fewer_texts_than_beams_leave_scores_of_minus_infinity():
    got = beam_search(chain(2), torch.tensor([[0]]), 1, 4)
    assert got.scores[0].isfinite().tolist() == [True, True, False, False]
    assert got.ids.tolist()[0][:2] in ([[0, 0], [0, 1]], [[0, 1], [0, 0]])


@pytest.mark.equation("decoding-gnmt", "decoding-length")
def test_the_norm_of_a_length_in_numbers():
    assert round(length_norm(20, 0.6, "gnmt"), 2) == 2.35
    assert round(length_norm(20, 0.6), 2) == 6.03
    assert length_norm(1, 3.0, "gnmt") == length_norm(1, 3.0) == 1


# ---------------------------------------------------------------------------- speculative decoding
DRAFTS = {
    "near": lambda p: 0.7 * p + 0.3 / p.shape[-1],
    "far": lambda p: p.flip(-1),
    "even": lambda p: torch.full_like(p, 1 / p.shape[-1]),
    "itself": lambda p: p,
    "sure": lambda p: F.one_hot(p.argmax(-1), p.shape[-1]).to(p),
}


@pytest.mark.equation("decoding-accept", "decoding-residual", "decoding-exact")
@pytest.mark.parametrize("name", DRAFTS)
def test_verified_tokens_are_the_targets_own_by_chi_squared(name):
    """Two positions drafted; what stands at the first must be p's, and accepted as often."""
    draws, p = 200_000, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    after = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]).double()
    q, q_after = DRAFTS[name](p), DRAFTS[name](after)
    g = dice(3)
    first = torch.multinomial(q.expand(draws, -1), 1, generator=g)
    second = torch.multinomial(q_after[first[:, 0]], 1, generator=g)
    drafted = torch.cat([first, second], 1)
    target = torch.stack([p.expand(draws, -1), after[first[:, 0]], p.expand(draws, -1)], 1)
    offers = torch.stack([q.expand(draws, -1), q_after[first[:, 0]]], 1)
    count, token = verify(target, offers, drafted, g)
    written = torch.where(count == 0, token, first[:, 0])
    assert fits(torch.bincount(written, minlength=3), p) > FAR
    for last in range(3):  # of texts whose second token is written too
        chosen = (count > 0) & (written == last)
        next_ = torch.where(count == 1, token, second[:, 0])[chosen]
        if len(next_) > 200:
            assert fits(torch.bincount(next_, minlength=3), after[last]) > FAR
    third = token[count == 2]
    assert len(third) < 200 or fits(torch.bincount(third, minlength=3), p) > FAR


@pytest.mark.equation("decoding-exact")
@given(st.integers(0, 10**6), st.integers(2, 7))
@settings(max_examples=60, deadline=None)
def test_accepted_and_replaced_add_up_to_the_target(seed, vocab_size):
    """The identity by which it is exact: min(p, q) + (1 − α) (p − q)₊ / Σ (p − q)₊ = p."""
    p, q = scores(2, vocab_size, seed).softmax(-1)
    more = (p - q).clamp(min=0)
    written = torch.minimum(p, q) + (1 - acceptance(p, q)) * more / more.sum()
    torch.testing.assert_close(written, p)


@pytest.mark.equation("decoding-acceptance")
@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_is_accepted_as_often_as_both_overlap(name):
    draws, p = 100_000, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    q = DRAFTS[name](p)
    drafted = torch.multinomial(q.expand(draws, -1), 1, generator=dice())
    count, _ = verify(p.expand(draws, 2, -1), q.expand(draws, 1, -1), drafted, dice(1))
    alpha = float(acceptance(p, q))
    assert math.isclose(alpha, 1 - 0.5 * float((p - q).abs().sum()), abs_tol=1e-12)
    error = math.sqrt(alpha * (1 - alpha) / draws)
    assert abs(count.double().mean() - alpha) <= 4 * error + 1e-12


@pytest.mark.equation("decoding-tokens")
@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_tokens_of_a_verification_are_as_many_as_the_formula_says(gamma):
    """Where p and q are the same at each place, acceptances are independent."""
    draws, p = 60_000, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    q = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    alpha = float(acceptance(p, q))
    drafted = torch.multinomial(q.expand(draws, -1), gamma, replacement=True, generator=dice())
    target, offers = p.expand(draws, gamma + 1, -1), q.expand(draws, gamma, -1)
    tokens = verify(target, offers, drafted, dice(1))[0].double() + 1
    assert abs(tokens.mean() - expected_tokens(alpha, gamma)) < 5 * tokens.std() / draws**0.5
    closed = (1 - alpha ** (gamma + 1)) / (1 - alpha)
    assert math.isclose(expected_tokens(alpha, gamma), closed)
    assert expected_tokens(1.0, gamma) == gamma + 1 and expected_tokens(0.0, gamma) == 1


@pytest.mark.equation("decoding-speedup")
def test_the_speed_up_counts_the_time_of_a_simulated_clock():
    generator, clock, tokens = dice(), 0.0, 0
    alpha, gamma, cost = 0.7, 3, 0.1
    for row in torch.rand(20_000, gamma, generator=generator) < alpha:
        clock += gamma * cost + 1
        tokens += int(row.long().cumprod(0).sum()) + 1
    assert abs(tokens / clock - speculative_speedup(alpha, gamma, cost)) < 0.02
    assert round(speculative_speedup(0.6, 4, 0.2), 2) == 1.28
    assert round(speculative_speedup(0.9, 4, 0.05), 2) == 3.41


@pytest.mark.equation("decoding-exact")
@pytest.mark.parametrize("gamma", [1, 3])
@pytest.mark.parametrize("draft", ["even", "far", "itself"])
def test_whole_texts_are_the_targets_own_by_chi_squared(draft, gamma):
    target, texts = chain(2, 1, spread=0.6), all_texts(2, 3)
    guesses = Chain(DRAFTS[draft](target.logits.softmax(-1)).log())
    ids = torch.zeros(500, 1, dtype=torch.int64)
    with unhooked():  # thousands of calls
        done = speculative_decode(target, guesses, ids, gamma, 3, generator=dice(2))
    p = torch.tensor([target.log_p(text) for text in texts], dtype=torch.float64).exp()
    assert fits(torch.bincount(numbered(done.ids, 2), minlength=8), p) > FAR
    assert (done.accepted <= done.judged).all()
    if draft == "itself":
        assert torch.equal(done.accepted, done.judged)


def two_models():
    torch.manual_seed(0)
    target = LLM(13, 16, 2, 2, 60, init_std=0.5)
    return target, [GPT(13, 8, 2, 1, 60, init_std=0.3), LLM(13, 8, 2, 1, 60, init_std=0.5), target]


def test_greedy_speculation_writes_the_targets_own_text_with_a_cache_and_without():
    def greedy(logits, ids):
        return temperature(repetition_penalty(logits, ids, 1.1), 0)

    target, drafts = two_models()
    ids = torch.randint(13, (2, 6), generator=dice())
    wanted = sample(target, ids, 20, greedy)
    for draft in drafts:
        for gamma, use_cache in ((1, True), (4, True), (4, False)):
            with unhooked():
                done = speculative_decode(
                    target, draft, ids, gamma, 20, greedy, use_cache=use_cache
                )
            assert torch.equal(done.ids, wanted)
    assert (done.verifications == 4).all()  # the target as its own draft: five tokens a pass


def test_drawn_speculation_is_the_same_with_a_cache_and_without():
    target, drafts = two_models()
    ids = torch.randint(13, (2, 6), generator=dice())
    for draft in drafts:
        kept, anew = (
            speculative_decode(target, draft, ids, 3, 16, generator=dice(5), use_cache=use_cache)
            for use_cache in (True, False)
        )
        assert torch.equal(kept.ids, anew.ids)
        torch.testing.assert_close(kept.overlap, anew.overlap)


def test_speculation_stops_where_sampling_stops():
    def greedy(logits, ids):
        return temperature(logits, 0)

    target, drafts = two_models()
    ids = torch.randint(13, (3, 6), generator=dice())
    stop = int(sample(target, ids, 10, greedy)[0, 9])
    whole = sample(target, ids, 20, greedy, stop=stop)
    done = speculative_decode(target, drafts[0], ids, 4, 20, greedy, stop=stop).ids
    assert torch.equal(done[:, : whole.shape[1]], whole)
    assert (done[:, whole.shape[1] :] == stop).all()


def test_a_draft_may_give_the_last_position_alone():
    target = chain(3)
    done = speculative_decode(
        target, lambda ids: target(ids)[:, -1:], torch.tensor([[0, 1]]), 3, 20,
        generator=dice(),
    )  # fmt: skip
    assert torch.equal(done.accepted, done.judged) and done.ids.shape == (1, 22)
    assert abs(float(done.overlap) - 1) < 1e-9


# --------------------------------------------------------------------------------------- bad input
NAN = torch.tensor([[math.nan, 0.0]])
TWO, ONE = torch.zeros(1, 2), torch.zeros(1, 1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: temperature(TWO, -0.1), ValueError, "tau=-0.1"),
        (lambda: top_k(TWO, 0), ValueError, "k=0"),
        (lambda: top_p(TWO, 0.0), ValueError, "p=0.0"),
        (lambda: top_p(TWO, 1.1), ValueError, "p=1.1"),
        (lambda: min_p(TWO, 1.5), ValueError, "m=1.5"),
        (lambda: typical(TWO, 0.0), ValueError, "mass=0.0"),
        (lambda: repetition_penalty(TWO, ONE, 0.0), ValueError, "penalty=0.0"),
        (lambda: repetition_penalty(TWO, ONE + 2, 1.1), ValueError, "ids must be 0 … 1"),
        (lambda: frequency_penalty(TWO, ONE, math.nan), ValueError, "frequency=nan"),
        (lambda: frequency_penalty(TWO, ONE, 0.0, "1"), TypeError, "presence='1'"),
        (lambda: no_repeat(TWO, ONE, 0), ValueError, "size=0"),
        (lambda: only(TWO, TWO), TypeError, "allowed"),
        (lambda: only(TWO, TWO.bool()), ValueError, "allowed must leave a possible token"),
        (lambda: temperature(NAN, 1.0), ValueError, "logits must be finite"),
        (lambda: top_p(-TWO - math.inf, 0.5), ValueError, "logits must be finite"),
        (lambda: top_k(TWO + math.inf, 1), ValueError, "logits must be finite"),
        (lambda: typical(TWO.long(), 0.5), TypeError, "logits must be floating point"),
        (lambda: sample(chain(), ONE[:, :0], 3), ValueError, "ids must not be empty"),
        (lambda: sample(chain(), ONE, 0), ValueError, "max_new_tokens=0"),
        (lambda: sample(chain(), ONE.int(), 1), TypeError, "ids must be torch.int64"),
        (lambda: sample(lambda ids: NAN[None], ONE, 2), ValueError, "model gave logits must"),
        (lambda: sample(lambda ids: NAN, ONE, 2), ValueError, "model must return logits"),
        (lambda: sample(None, ONE, 2), TypeError, "model must take tokens"),
        (lambda: sample(GPT(5, 8, 2, 1, 4), ONE, 9), ValueError, "max_new_tokens=9"),
        (lambda: sample(GPT(5, 8, 2, 1, 4), ONE + 9, 1), ValueError, "ids must be 0 … 4"),
        (lambda: sample(GPT(5, 8, 2, 1, 4), ONE, 1, stop=5), ValueError, "stop=5"),
        (lambda: beam_search(chain(), ONE, 3, 0), ValueError, "num_beams=0"),
        (lambda: beam_search(chain(), ONE, 3, form="mean"), ValueError, "form='mean'"),
        (lambda: beam_search(chain(), ONE, 3, length_penalty=math.inf), ValueError, "length_pen"),
        (lambda: speculative_decode(chain(), chain(), ONE, 0), ValueError, "gamma=0"),
        (lambda: speculative_decode(chain(), 3, ONE), TypeError, "draft must take tokens"),
        (lambda: speculative_decode(chain(4), chain(3), ONE), ValueError, "draft must have"),
        (
            lambda: speculative_decode(GPT(5, 8, 2, 1, 99), GPT(6, 8, 2, 1, 99), ONE),
            ValueError,
            "draft.vocab_size=6",
        ),
        (lambda: acceptance(TWO + 1, TWO + 0.5), ValueError, "p must hold probabilities"),
        (lambda: acceptance(TWO + 0.5, TWO[:, :1] + 1), ValueError, "q must have shape (1, 2)"),
        (lambda: expected_tokens(1.5, 2), ValueError, "alpha=1.5"),
        (lambda: speculative_speedup(0.5, 2, -1.0), ValueError, "cost=-1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_named(call, error, told):
    with refuses(error, told):
        call()
