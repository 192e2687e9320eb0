"""Word2vec against autograd, gensim, brute force, closed forms, and what was worked by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.data.library_text import library_sentences
from nnlib.representation import _word2vec_training as training
from nnlib.representation.word2vec import (
    FastText,
    GloVe,
    HierarchicalSoftmax,
    Word2Vec,
    analogies,
    band_slopes,
    best_scores,
    bucket,
    cooccurrences,
    corpus,
    counted_pairs,
    expected_loss,
    glove_loss,
    glove_weight,
    huffman,
    keep_probability,
    letter_groups,
    negative_sampling_loss,
    neighbours,
    noise_distribution,
    phrase_scores,
    pmi,
    singular_vectors,
    train,
    window_pairs,
)
from tests.support import Example, Peer, refuses

gensim = Peer("gensim.models")
keyed = Peer("gensim.models.keyedvectors")
hashes = Peer("gensim.models.fasttext")
TIGHT = {"rtol": 1e-9, "atol": 1e-10}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""

    def with_output(model):
        torch.nn.init.normal_(model.out_vectors)
        return model

    mask = torch.rand(3, 2) > 0.2
    return Example(
        {"vocab_size": 11, "embed_dim": 5},
        (torch.randint(11, (3, 2)), torch.randint(11, (3, 4))),
        {"mask": mask},
        prepare=with_output,
    )


def normal(*shape, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=draw, dtype=torch.float64)


def text_of(sentences, min_count=1):
    return corpus([sentence.split() for sentence in sentences], min_count)


def two_topics(seed=0, sentences=400):
    """Sentences of six words, each from one of two lists of eight."""
    draw = torch.Generator().manual_seed(seed)
    said = []
    for number in range(sentences):
        words = torch.randint(8, (6,), generator=draw).tolist()
        said.append([("a" if number % 2 else "b") + str(word) for word in words])
    return corpus(said, 1)


# ------------------------------------------------------------------------------------ the model
@pytest.mark.equation("word2vec-score")
def test_a_score_is_the_product_of_an_input_and_an_output_vector():
    model = Word2Vec(7, 3, dtype=torch.float64)
    torch.nn.init.normal_(model.out_vectors)
    said, asked = torch.tensor([[2], [6]]), torch.tensor([[0, 6], [3, 3]])
    got = model(said, asked)
    for row, column in itertools.product(range(2), range(2)):
        v, u = model.in_vectors[said[row, 0]], model.out_vectors[asked[row, column]]
        assert got[row, column].item() == pytest.approx((v * u).sum().item())


@pytest.mark.equation("word2vec-cbow")
def test_cbow_averages_the_words_that_are_there():
    model = Word2Vec(7, 3, dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    got = model.hidden(torch.tensor([[1, 4, 6], [2, 2, 2]]), mask)
    torch.testing.assert_close(got[0], (model.in_vectors[1] + model.in_vectors[4]) / 2)
    assert not got[1].any()  # of no word at all, zeros and no NaN
    whole = model.hidden(torch.tensor([[1, 4, 6]]))
    torch.testing.assert_close(whole[0], model.in_vectors[[1, 4, 6]].mean(0))


@pytest.mark.equation("word2vec-softmax")
def test_the_full_softmax_is_a_distribution_over_the_vocabulary():
    model = Word2Vec(7, 3, dtype=torch.float64)
    torch.nn.init.normal_(model.out_vectors)
    got = model.log_probabilities(torch.tensor([[2]]))[0]
    raw = torch.stack([(model.in_vectors[2] * u).sum().exp() for u in model.out_vectors])
    torch.testing.assert_close(got.exp(), raw / raw.sum(), **TIGHT)


@pytest.mark.equation("word2vec-skipgram")
def test_the_skip_gram_objective_is_the_mean_over_the_pairs_of_all_windows():
    """Written as two loops over positions, against the list of pairs."""
    model = Word2Vec(5, 3, dtype=torch.float64)
    torch.nn.init.normal_(model.out_vectors)
    ids, window = [0, 3, 1, 4, 2], 2
    total, pairs = 0.0, 0
    for t in range(len(ids)):
        for offset in range(-window, window + 1):
            if offset != 0 and 0 <= t + offset < len(ids):
                row = model.log_probabilities(torch.tensor([[ids[t]]]))[0]
                total, pairs = total - row[ids[t + offset]].item(), pairs + 1
    centre, context = window_pairs(torch.tensor(ids), torch.zeros(5, dtype=torch.int64), window)
    told = F.nll_loss(model.log_probabilities(centre[:, None]), context)
    assert told.item() == pytest.approx(total / pairs)


def test_input_vectors_begin_small_and_output_vectors_at_zero():
    model = Word2Vec(1000, 20)
    assert model.in_vectors.abs().max() <= 0.5 / 20
    assert model.in_vectors.std().item() == pytest.approx(1 / 20 / math.sqrt(12), rel=0.05)
    assert not model.out_vectors.any()
    assert not model.vectors.requires_grad
    assert model.vectors.data_ptr() == model.in_vectors.data_ptr()


# ------------------------------------------------------------------------------ negative sampling
@pytest.mark.equation("word2vec-negative")
def test_the_loss_is_that_of_telling_real_pairs_from_drawn_ones():
    positive, negative = normal(6), normal(6, 4, seed=1)
    scores = torch.cat([positive[:, None], negative], 1)
    wanted = torch.zeros_like(scores)
    wanted[:, 0] = 1
    each = F.binary_cross_entropy(torch.sigmoid(scores), wanted, reduction="sum")
    torch.testing.assert_close(negative_sampling_loss(positive, negative), each / 6, **TIGHT)


def test_the_loss_is_finite_at_any_score():
    far = torch.tensor([1e4, -1e4])
    got = negative_sampling_loss(far, torch.stack([far, far], 1))
    assert got.item() == pytest.approx((0 + 2e4 + 1e4 + 0) / 2)


@pytest.mark.equation("word2vec-nce")
def test_noise_contrastive_estimation_differs_by_the_noise_in_the_score():
    """With u·v taken for ln p, NCE's posterior of a pair is σ(s - ln K q)."""
    s, q, K = normal(9), torch.rand(9, dtype=torch.float64), 5
    posterior = s.exp() / (s.exp() + K * q)
    torch.testing.assert_close(posterior, torch.sigmoid(s - (K * q).log()), **TIGHT)
    uniform = torch.full((9,), 1 / K, dtype=torch.float64)  # then K q = 1, and both agree
    torch.testing.assert_close(torch.sigmoid(s - (K * uniform).log()), torch.sigmoid(s), **TIGHT)


@pytest.mark.equation("word2vec-noise")
def test_noise_is_the_words_counts_to_the_three_quarters():
    counts = torch.tensor([81, 16, 1, 0])
    raised = np.array([27.0, 8.0, 1.0, 0.0])
    np.testing.assert_allclose(noise_distribution(counts), raised / raised.sum())
    np.testing.assert_allclose(noise_distribution(counts, 0.0), [0.25] * 4)
    np.testing.assert_allclose(noise_distribution(counts, 1.0), counts / 98)


@pytest.mark.equation("word2vec-subsample")
def test_the_papers_subsampling_keeps_by_the_root_of_threshold_over_share():
    counts = torch.tensor([9000, 900, 90, 10])
    discard = [max(0.0, 1 - math.sqrt(1e-2 / (n / 10_000))) for n in counts.tolist()]
    np.testing.assert_allclose(keep_probability(counts, 1e-2, "paper"), 1 - np.array(discard))


@pytest.mark.equation("word2vec-subsample-code")
def test_the_codes_subsampling_is_gensims():
    text = two_topics()
    sentences = [[word] * n for word, n in zip("abcd", (900, 90, 9, 1), strict=True)]
    counted = corpus(sentences, 1)
    peer = gensim.Word2Vec(sample=1e-2, min_count=1)
    peer.build_vocab(sentences)
    theirs = [peer.wv.get_vecattr(w, "sample_int") / 2**32 for w in counted.vocabulary.tokens]
    np.testing.assert_allclose(keep_probability(counted.counts, 1e-2), theirs, atol=1e-8)
    ratio = 1e-2 / (text.counts / text.counts.sum())
    np.testing.assert_allclose(
        keep_probability(text.counts, 1e-2), (ratio.sqrt() + ratio).clamp(max=1)
    )


# --------------------------------------------------------------------------------- text in numbers
def test_words_are_numbered_by_how_often_they_occur():
    text = text_of(["b a b", "c a b d"], 2)
    assert text.vocabulary.tokens == ["b", "a"]
    assert text.counts.tolist() == [3, 2]
    assert text.ids.tolist() == [0, 1, 0, 1, 0]  # rare words leave no gap
    assert text.sentence.tolist() == [0, 0, 0, 1, 1]


def test_pairs_are_those_of_two_loops_and_stay_in_their_sentence():
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(9, (40,), generator=draw)
    sentence = torch.randint(5, (40,), generator=draw).sort()[0]
    reach = torch.randint(0, 4, (40,), generator=draw)
    wanted = sorted(
        (ids[i].item(), ids[j].item())
        for i, j in itertools.permutations(range(40), 2)
        if abs(i - j) <= reach[i] and sentence[i] == sentence[j]
    )
    assert sorted(map(tuple, window_pairs(ids, sentence, reach).T.tolist())) == wanted


def test_bands_over_stretches_hold_the_same_pairs_as_the_list():
    """Words at the seam of two stretches are paired as well, and none is paired twice."""
    draw = torch.Generator().manual_seed(4)
    ids = torch.arange(71)
    sentence = torch.randint(6, (71,), generator=draw).sort()[0]
    around, where = training.stretches(ids, sentence, 16, 3)
    band = training.bands(where, 3)
    b, c, x = band.nonzero().T
    got = sorted(zip(around[b, c + 3].tolist(), around[b, x].tolist(), strict=True))
    assert got == sorted(map(tuple, window_pairs(ids, sentence, 3).T.tolist()))


def test_a_drawn_reach_weighs_pairs_by_their_distance():
    """A reach of 1 … 4 holds a pair at distance δ in (4 - δ + 1)/4 of all draws."""
    where = torch.zeros(3000, 9, dtype=torch.int64)
    band = training.bands(where, 4, torch.Generator().manual_seed(0))
    assert band.shape == (3000, 1, 9)
    got = band.double().mean(0)[0]
    wanted = torch.tensor([1, 2, 3, 4, 0, 4, 3, 2, 1]).double() / 4
    assert (got - wanted).abs().max() < 4 * 0.5 / math.sqrt(3000)


@pytest.mark.equation("word2vec-phrase")
def test_phrases_are_scored_as_gensim_scores_them():
    phrases = Peer("gensim.models.phrases")
    said = ["new york is new", "new york", "old york is new york", "is new"]
    text = text_of(said)
    got = phrase_scores(text, discount=1.0)
    count = dict(zip(text.vocabulary.tokens, text.counts.tolist(), strict=True))
    pairs = [pair for s in said for pair in itertools.pairwise(s.split())]
    assert set(got) == set(pairs)
    for one, other in set(pairs):
        theirs = phrases.original_scorer(
            count[one], count[other], pairs.count((one, other)), len(text.ids), 1, None
        )
        assert got[one, other] == pytest.approx(theirs)
    assert list(got.values()) == sorted(got.values(), reverse=True)


# --------------------------------------------------------------------------------------- training
@pytest.mark.equation("word2vec-gradient")
@pytest.mark.parametrize("mode", ["skip-gram", "cbow"])
def test_closed_gradients_are_those_of_autograd(mode):
    """The slow twin: pair by pair, with the loss of the public function."""
    b, c, x, s, K = 2, 3, 5, 4, 7
    centres, contexts, noise = (normal(b, n, 6, seed=n).requires_grad_() for n in (c, x, s))
    band = torch.rand(b, c, x, generator=torch.Generator().manual_seed(5)) > 0.4
    band[0, 1] = False  # a word without any context
    total = torch.zeros((), dtype=torch.float64)
    for i, j in itertools.product(range(b), range(c)):
        if mode == "skip-gram":
            for k in band[i, j].nonzero()[:, 0]:
                pair = centres[i, j] @ contexts[i, k]
                drawn = K / s * F.softplus(noise[i] @ centres[i, j]).sum()
                total = total + F.softplus(-pair) + drawn
        elif band[i, j].any():
            h = contexts[i, band[i, j]].mean(0)
            total = total + F.softplus(-(h @ centres[i, j]))
            total = total + K / s * F.softplus(noise[i] @ h).sum()
    wanted = torch.autograd.grad(total, (centres, contexts, noise))
    with torch.no_grad():
        got = band_slopes(centres, contexts, noise, band, K, mode=mode, loss=True)
    torch.testing.assert_close(got[:3], wanted, **TIGHT)
    torch.testing.assert_close(got.loss, total.detach(), **TIGHT)


def test_a_gap_with_a_single_neighbour_is_predicted_from_all_of_it():
    """CBOW's mean of one word is that word: the loss is skip-gram's for the pair turned around."""
    centre, context, noise = normal(1, 1, 4), normal(1, 1, 4, seed=1), normal(1, 3, 4, seed=2)
    band = torch.ones(1, 1, 1, dtype=torch.bool)
    bag = band_slopes(centre, context, noise, band, 3, mode="cbow", loss=True)
    pair = band_slopes(context, centre, noise, band, 3, loss=True)
    torch.testing.assert_close(bag.loss, pair.loss, **TIGHT)
    torch.testing.assert_close(bag.contexts, pair.centres, **TIGHT)
    torch.testing.assert_close(bag.centres, pair.contexts, **TIGHT)


def test_shared_negatives_that_are_as_many_weigh_as_their_own_would():
    centres, contexts, noise = normal(1, 1, 4), normal(1, 1, 4, seed=1), normal(1, 5, 4, seed=2)
    band = torch.ones(1, 1, 1, dtype=torch.bool)
    got = band_slopes(centres, contexts, noise, band, 5, loss=True).loss
    positive, negative = (centres * contexts).sum((1, 2)), (noise @ centres.mT)[..., 0]
    torch.testing.assert_close(got, negative_sampling_loss(positive, negative), **TIGHT)


@pytest.mark.parametrize("mode", ["skip-gram", "cbow"])
def test_one_step_goes_down_the_slopes_from_the_tables(mode):
    text = two_topics(sentences=4)
    model = Word2Vec(len(text.counts), 4, dtype=torch.float64)
    torch.nn.init.normal_(model.out_vectors)
    before = model.in_vectors.detach().clone(), model.out_vectors.detach().clone()
    parts = training._Parts(model, text, mode)
    around, where = training.stretches(text.ids, text.sentence, 8, 2)
    band, drawn = training.bands(where, 2), torch.randint(len(text.counts), (len(around), 3))
    loss = parts.step(around, 2, drawn, band, 4, 0.1, loss=True)
    inner, outer = (table.clone().requires_grad_() for table in before)
    total = torch.zeros((), dtype=torch.float64)
    many = 0
    for i, j in itertools.product(*map(range, band.shape[:2])):
        others = around[i, band[i, j]]
        one = around[i, 2 + j]
        if mode == "skip-gram":
            h, targets = inner[one].expand(len(others), -1), outer[others]
        elif len(others):
            h, targets = inner[others].mean(0, keepdim=True), outer[one][None]
        else:
            continue
        total = total + F.softplus(-(h * targets).sum(1)).sum()
        total = total + 4 / 3 * F.softplus(h @ outer[drawn[i]].T).sum()
        many += len(h)
    slopes = torch.autograd.grad(total, (inner, outer))
    torch.testing.assert_close(model.in_vectors.detach(), before[0] - 0.1 * slopes[0], **TIGHT)
    torch.testing.assert_close(model.out_vectors.detach(), before[1] - 0.1 * slopes[1], **TIGHT)
    torch.testing.assert_close(loss, total.detach() / many, **TIGHT)


def test_a_step_of_fasttext_shares_the_slope_among_rows():
    text = text_of(["one two three two", "three one two one"])
    model = FastText(text.vocabulary.tokens, 4, num_buckets=20, dtype=torch.float64)
    torch.nn.init.normal_(model.out_vectors)
    before = model.in_vectors.detach().clone()
    parts = training._Parts(model, text, "skip-gram")
    around, where = training.stretches(text.ids, text.sentence, 8, 2)
    band, drawn = training.bands(where, 2), torch.tensor([[0, 2]])
    centre, context = window_pairs(text.ids, text.sentence, 2)
    hidden, outer = model(centre), model.out_vectors.detach().clone()
    total = F.softplus(-(hidden * outer[context]).sum(1)).sum()
    total = total + 3 / 2 * F.softplus(hidden @ outer[drawn[0]].T).sum()
    (wanted,) = torch.autograd.grad(total, model.in_vectors)
    loss = parts.step(around, 2, drawn, band, 3, 0.1, loss=True)
    torch.testing.assert_close(model.in_vectors.detach(), before - 0.1 * wanted, **TIGHT)
    torch.testing.assert_close(loss, total.detach() / len(centre), **TIGHT)


@pytest.mark.parametrize("mode", ["skip-gram", "cbow"])
def test_words_of_one_topic_come_together(mode):
    torch.manual_seed(0)
    text = two_topics()
    model = Word2Vec(16, 8)
    told = train(model, text, mode=mode, epochs=30, lr=0.02, subsample=None, batch_size=32)
    assert told[-1] < told[0] - 0.3
    assert told[0] == pytest.approx(6 * math.log(2), rel=1e-4)  # all scores are 0
    topic = torch.tensor([word[0] == "a" for word in text.vocabulary.tokens])
    near = neighbours(model.vectors, torch.arange(16), k=7).numbers
    assert (topic[near] == topic[:, None]).all()


def test_neighbours_agree_with_gensims_as_two_runs_of_gensim_agree():
    """On the docstrings of numpy; both draw other windows and negatives, so none are equal."""
    said = library_sentences(("numpy", "numpy.linalg"))
    text = corpus(said, 20)
    words = text.vocabulary.tokens
    torch.manual_seed(0)
    model = Word2Vec(len(words), 24)
    train(model, text, lr=0.05, epochs=4, batch_size=64)
    kept = [[word for word in row if word in text.vocabulary.numbers] for row in said]
    peers = [
        gensim.Word2Vec(kept, vector_size=24, sg=1, negative=5, window=5, sample=1e-3, alpha=0.05,
                        min_count=1, epochs=4, workers=1, seed=seed)
        for seed in (1, 2)
    ]  # fmt: skip
    mine, first, second = (
        neighbours(vectors, torch.arange(200), 10).numbers
        for vectors in (model.vectors, *(torch.tensor(peer.wv[words]) for peer in peers))
    )

    def shared(one, other):
        return (one[:, :, None] == other[:, None]).any(2).double().mean().item()

    assert len(words) > 300  # by chance, they would share a thirtieth at most
    assert shared(mine, first) > 0.85 * shared(first, second) > 0.3


def test_training_is_the_same_for_the_same_seed_and_reads_the_text_anew():
    text, made = two_topics(sentences=60), []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = Word2Vec(16, 4)
        train(model, text, epochs=2, seed=seed, subsample=1e-2)
        made.append(model.vectors)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_frequent_words_are_left_out_and_the_rate_falls_to_nearly_nothing(monkeypatch):
    text, seen = two_topics(sentences=2000), []
    step = training._Parts.step

    def watched(self, around, window, drawn, band, negatives, rate, *, loss):
        seen.append((rate, int((band.any(2)).sum()), drawn))
        return step(self, around, window, drawn, band, negatives, rate, loss=loss)

    monkeypatch.setattr(training._Parts, "step", watched)
    train(Word2Vec(16, 4), text, epochs=2, lr=0.01, subsample=0.01, batch_size=64, shared=9)
    rates = [rate for rate, *_ in seen]
    assert rates[0] == 0.01 and rates == sorted(rates, reverse=True)
    assert rates[len(rates) // 2] == pytest.approx(0.005, rel=0.05)
    assert 1e-6 <= rates[-1] < 1e-4
    kept = sum(words for _, words, _ in seen) / (2 * len(text.ids))
    share = float((keep_probability(text.counts, 0.01) * text.counts).sum() / text.counts.sum())
    assert kept == pytest.approx(share, abs=0.03)
    assert {tuple(drawn.shape[1:]) for *_, drawn in seen} == {(9,)}


def test_the_rate_stays_above_nothing_where_more_words_are_kept_than_expected(monkeypatch):
    rates = []
    monkeypatch.setattr(
        training._Parts, "step", lambda *rest, loss: rates.append(rest[-1]) or torch.zeros(())
    )
    text = two_topics(sentences=20)
    for seed in range(8):  # in about half of them the draw keeps more than it does on average
        train(Word2Vec(16, 4), text, epochs=1, lr=1.0, subsample=0.01, batch_size=1, seed=seed)
    assert min(rates) == 1e-4


def test_stretches_come_in_mixed_order_with_drawn_reaches_and_each_hundredth_loss(monkeypatch):
    firsts, pairs = [], []

    def watched(self, around, window, drawn, band, *rest, loss):
        firsts.extend(around[:, 3].tolist())
        pairs.append(band.sum().item())
        return torch.zeros(()) if loss else None

    monkeypatch.setattr(training._Parts, "step", watched)
    said = [f"w{n:04}" for n in range(1010)]  # each word once, numbered as they stand
    told = train(Word2Vec(1010, 2), corpus([said], 1), window=3, epochs=1, subsample=None,
                 batch_size=4)  # fmt: skip
    assert sorted(firsts) == list(range(0, 1010, 4))  # stretches of four: all of them, once
    steps = torch.tensor(firsts).diff()
    assert (steps < 0).double().mean() > 0.4  # in order, none would go back
    assert len(told) == math.ceil(len(firsts) / 100)
    # a reach drawn from 1 … 3 holds four pairs a word on average, not six
    assert sum(pairs) / 1010 == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize(("power", "wanted"), [(0.75, (27, 8, 1)), (0.0, (12, 12, 12))])
def test_negatives_come_from_the_noise_distribution(monkeypatch, power, wanted):
    text = text_of(["a " * 81, "b " * 16, "c"] * 3)
    seen = []
    monkeypatch.setattr(
        training._Parts, "step",
        lambda self, around, window, drawn, *rest, loss: seen.append(drawn) or torch.zeros(()),
    )  # fmt: skip
    train(Word2Vec(3, 4), text, epochs=60, subsample=None, batch_size=32, power=power)
    got = torch.cat(seen).flatten().bincount(minlength=3).double()
    assert (got / got.sum() - torch.tensor(wanted) / 36).abs().max() < 0.02


def test_vectors_that_run_away_are_an_error_that_says_what_to_change():
    with pytest.raises(FloatingPointError, match=r"lr=1e\+30"):
        train(Word2Vec(16, 4), two_topics(sentences=300), lr=1e30, subsample=None)


# ----------------------------------------------------------------------------------- counts and PMI
def test_cooccurrences_are_those_of_two_loops():
    text = text_of(["a b c a", "b a", "c"])
    ids, sentence = text.ids.tolist(), text.sentence.tolist()
    weights = {"flat": lambda d: 1.0, "linear": lambda d: (3 - d) / 2, "harmonic": lambda d: 1 / d}
    for name, weight in weights.items():
        wanted = torch.zeros(3, 3)
        for i, j in itertools.permutations(range(len(ids)), 2):
            if abs(i - j) <= 2 and sentence[i] == sentence[j]:
                wanted[ids[i], ids[j]] += weight(abs(i - j))
        torch.testing.assert_close(cooccurrences(text, 2, name), wanted)
        torch.testing.assert_close(cooccurrences(text, 2, name, vocab_size=2), wanted[:2, :2])
    pairs = window_pairs(text.ids, text.sentence, 2)
    torch.testing.assert_close(counted_pairs(pairs, 3), cooccurrences(text, 2, "flat"))
    few = text_of(["a b c"])  # a window beyond the text holds all of it
    assert cooccurrences(few, 9, "flat").tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


@pytest.mark.equation("word2vec-pmi")
def test_pmi_compares_with_what_chance_would_give():
    counts = torch.tensor([[6.0, 2.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    joint = counts / counts.sum()
    chance = joint.sum(1, keepdim=True) * joint.sum(0)
    plain = pmi(counts, positive=False)
    torch.testing.assert_close(plain, (joint / chance).log(), **TIGHT)
    assert torch.isneginf(plain[1, 1])
    torch.testing.assert_close(pmi(counts), plain.clamp(min=0), **TIGHT)
    torch.testing.assert_close(pmi(counts, shift=5.0, positive=False), plain - math.log(5), **TIGHT)
    absent = pmi(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), positive=False)
    assert absent.tolist() == [[0, -math.inf], [-math.inf, -math.inf]]  # no NaN
    smooth = joint.sum(0) ** 0.75
    q = smooth / smooth.sum()
    wanted = (joint / joint.sum(1, keepdim=True) / q).log().clamp(min=0)
    torch.testing.assert_close(pmi(counts, power=0.75), wanted, **TIGHT)


@pytest.mark.equation("word2vec-expected")
def test_the_expected_loss_is_what_sampling_gives_on_average():
    counts, scores = torch.tensor([[4.0, 1.0], [2.0, 3.0]]).double(), normal(2, 2)
    noise = torch.tensor([0.3, 0.7]).double()
    draw = torch.Generator().manual_seed(0)
    pairs = torch.multinomial(counts.flatten(), 60_000, True, generator=draw)
    drawn = torch.multinomial(noise, 5 * 60_000, True, generator=draw).view(-1, 5)
    negative = scores[pairs // 2].gather(1, drawn)
    sampled = negative_sampling_loss(scores.flatten()[pairs], negative)
    assert expected_loss(scores, counts, 5, noise).item() == pytest.approx(sampled.item(), abs=0.02)


@pytest.mark.equation("word2vec-optimum")
def test_free_scores_converge_to_the_shifted_pmi():
    """Levy and Goldberg's theorem, by gradient descent on the expected loss alone."""
    counts = torch.randint(1, 30, (6, 6), generator=torch.Generator().manual_seed(0)).double()
    wanted = best_scores(counts, 5)
    torch.testing.assert_close(wanted, pmi(counts, shift=5, positive=False), **TIGHT)
    scores = torch.zeros_like(counts, requires_grad=True)
    descent = torch.optim.LBFGS([scores], max_iter=500, tolerance_grad=1e-12,
                                tolerance_change=1e-16, line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        descent.zero_grad()
        loss = expected_loss(scores, counts, 5)
        loss.backward()
        return loss

    descent.step(closure)
    assert (scores.detach() - wanted).abs().max() < 1e-4
    other = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.1]).double()
    q = best_scores(counts, 2, other)
    torch.testing.assert_close(
        q, (counts / (2 * counts.sum(1, keepdim=True) * other)).log(), **TIGHT
    )
    leaf = q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(expected_loss(leaf, counts, 2, other), leaf)
    assert slope.abs().max() < 1e-12


@pytest.mark.equation("word2vec-svd")
def test_singular_vectors_are_those_of_the_exact_decomposition():
    matrix = (
        normal(40, 6) @ torch.diag(torch.tensor([32.0, 16, 8, 4, 2, 1]).double()) @ normal(6, 30)
    )
    left, values, _ = torch.linalg.svd(matrix)
    for power in (0.0, 0.5, 1.0):
        got = singular_vectors(matrix, 4, power)
        wanted = left[:, :4] * values[:4] ** power
        torch.testing.assert_close(got @ got.T, wanted @ wanted.T, rtol=1e-7, atol=1e-8)


@pytest.mark.equation("word2vec-glove-weight")
def test_gloves_weight_grows_up_to_a_count_and_is_one_above():
    got = glove_weight(torch.tensor([0.0, 16.0, 256.0, 300.0]), x_max=256, alpha=0.75)
    np.testing.assert_allclose(got, [0, (1 / 16) ** 0.75, 1, 1])


@pytest.mark.equation("word2vec-glove")
def test_gloves_loss_is_weighted_least_squares_on_logarithms():
    model = GloVe(3, 2, dtype=torch.float64)
    counts = torch.tensor([[5.0, 0.0, 200.0], [1.0, 2.0, 0.0], [0.0, 9.0, 1.0]]).double()
    total = 0.0
    for i, j in itertools.product(range(3), range(3)):
        if counts[i, j]:
            said = model.word[i] @ model.context[j] + model.word_bias[i] + model.context_bias[j]
            weight = min(1.0, (counts[i, j].item() / 100) ** 0.75)
            total += weight * (said.item() - math.log(counts[i, j])) ** 2
    assert glove_loss(model, counts).item() == pytest.approx(total / 6)
    torch.testing.assert_close(model.vectors, (model.word + model.context).detach())


# ---------------------------------------------------------------------------- hierarchical softmax
@pytest.mark.equation("word2vec-tree")
def test_the_words_probabilities_add_up_to_one_and_are_products_along_the_path():
    counts = torch.tensor([7, 1, 3, 3, 2, 9])
    tree = HierarchicalSoftmax(counts, 4, dtype=torch.float64)
    torch.nn.init.normal_(tree.node_vectors)
    hidden = normal(1, 4).expand(6, -1)
    p = tree(hidden, torch.arange(6)).exp()
    assert p.sum().item() == pytest.approx(1)
    paths = huffman(counts)
    for word in range(6):
        product = 1.0
        for node, sign in zip(paths.nodes[word], paths.signs[word], strict=True):
            if sign != 0:
                product *= torch.sigmoid(sign * tree.node_vectors[node] @ hidden[0]).item()
        assert p[word].item() == pytest.approx(product)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=12))
def test_huffmans_paths_are_a_prefix_code_within_a_bit_of_the_entropy(counts):
    paths = huffman(torch.tensor(counts))
    assert (0.5 ** paths.lengths.double()).sum().item() == pytest.approx(1)  # Kraft: a full tree
    ways = {
        tuple(zip(n, s, strict=True))
        for n, s in zip(paths.nodes.tolist(), paths.signs.tolist(), strict=True)
    }
    assert len(ways) == len(counts)
    p = torch.tensor(counts).double() / sum(counts)
    entropy = -torch.special.xlogy(p, p).sum() / math.log(2)
    assert entropy - 1e-9 <= (p * paths.lengths).sum() < entropy + 1


def test_huffmans_path_is_as_long_as_gensims_on_average():
    sentences = [[word] * n for word, n in zip("abcdef", (30, 20, 9, 7, 2, 1), strict=True)]
    peer = gensim.Word2Vec(hs=1, negative=0, min_count=1, vector_size=4)
    peer.build_vocab(sentences)
    text = corpus(sentences, 1)
    theirs = [len(peer.wv.get_vecattr(w, "code")) for w in text.vocabulary.tokens]
    assert (huffman(text.counts).lengths * text.counts).sum() == sum(
        n * count for n, count in zip(theirs, text.counts.tolist(), strict=True)
    )


def test_huffmans_paths_begin_at_the_root_and_turn_first_to_the_rarer_child():
    paths = huffman(torch.tensor([8, 4, 2, 2]))
    assert paths.nodes.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 2], [0, 1, 2]]
    assert paths.signs.tolist() == [[1, 0, 0], [-1, 1, 0], [-1, -1, 1], [-1, -1, -1]]


def test_fresh_tables_are_word2vecs_own_small_ones_for_words_and_nothing_for_contexts():
    torch.manual_seed(0)
    glove, parts = GloVe(50, 5), FastText(["abc", "xyz"], 5, num_buckets=50)
    for table in (*glove.parameters(), parts.in_vectors):
        assert 0.09 < table.abs().max() <= 0.1 and abs(table.mean()) < 0.03  # 0.5 / d
    for table in (parts.out_vectors, HierarchicalSoftmax(torch.tensor([3, 2, 1]), 4).node_vectors):
        assert not table.any()


# ----------------------------------------------------------------------------------------- subwords
def test_the_ends_of_a_word_are_no_groups_of_their_own():
    assert letter_groups("ab", 1, 2) == ["<a", "a", "ab", "b", "b>"]


def test_letter_groups_and_their_rows_are_fasttexts():
    for word in ("where", "a", "naïve", "Ünicode"):
        groups = letter_groups(word, 2, 5)
        theirs = hashes.ft_ngram_hashes(word, 2, 5, 997)
        assert [bucket(group, 997) for group in groups] == list(theirs)


@pytest.mark.equation("word2vec-subwords")
def test_a_vector_is_the_mean_of_the_words_own_and_its_groups():
    model = FastText(["abc", "abcdef", "x"], 3, num_buckets=50, shortest=3, longest=4)
    with torch.no_grad():
        for at, word in enumerate(model.words):
            rows = [at, *(3 + bucket(g, 50) for g in letter_groups(word, 3, 4))]
            torch.testing.assert_close(model(torch.tensor([at]))[0], model.in_vectors[rows].mean(0))
            torch.testing.assert_close(model.of(word), model.vectors[at])
        unseen = [3 + bucket(g, 50) for g in letter_groups("abce", 3, 4)]
        torch.testing.assert_close(model.of("abce"), model.in_vectors[unseen].mean(0))


def test_a_peers_fasttext_gives_the_same_vectors_for_words_seen_and_unseen():
    sentences = [["matrix", "vector", "matrices"], ["vector", "matrix", "norm"]] * 4
    peer = gensim.FastText(sentences, vector_size=6, min_count=1, bucket=300, epochs=2, workers=1)
    words = peer.wv.index_to_key
    model = FastText(words, 6, num_buckets=300)
    with torch.no_grad():
        both = np.concatenate([peer.wv.vectors_vocab, peer.wv.vectors_ngrams])
        model.in_vectors.copy_(torch.from_numpy(both))
    np.testing.assert_allclose(model.vectors, peer.wv.vectors, atol=1e-6)
    for word in ("matricks", "norms", "norm"):
        np.testing.assert_allclose(model.of(word), peer.wv[word], atol=1e-6)


# ------------------------------------------------------------------------ neighbours and analogies
@pytest.mark.equation("word2vec-cosine")
def test_neighbours_are_gensims():
    vectors = normal(30, 5).float()
    peer = keyed.KeyedVectors(5)
    peer.add_vectors([str(n) for n in range(30)], vectors.numpy())
    got = neighbours(vectors, torch.tensor([4, 9]), k=6)
    for row, word in enumerate(("4", "9")):
        theirs = peer.most_similar(word, topn=6)
        assert [str(n) for n in got.numbers[row].tolist()] == [name for name, _ in theirs]
        np.testing.assert_allclose(got.cosines[row], [c for _, c in theirs], atol=1e-6)
    asked = neighbours(vectors, 3 * vectors[4:5], k=30)
    assert asked.numbers[0, 0] == 4 and asked.cosines[0, 0].item() == pytest.approx(1)


def questions_and_vectors():
    draw = torch.Generator().manual_seed(1)
    questions = torch.stack([torch.randperm(30, generator=draw)[:4] for _ in range(40)])
    return normal(30, 6).float(), questions


@pytest.mark.equation("word2vec-analogy")
def test_analogies_are_answered_as_gensim_answers_them():
    vectors, questions = questions_and_vectors()
    peer = keyed.KeyedVectors(6)
    peer.add_vectors([str(n) for n in range(30)], vectors.numpy())
    got = analogies(vectors, questions)
    for row, (a, b, c, wanted) in enumerate(questions.tolist()):
        theirs = peer.most_similar([str(b), str(c)], [str(a)], topn=27)
        names = [name for name, _ in theirs]
        assert str(got.numbers[row].item()) == names[0]
        assert got.rank[row] == 1 + names.index(str(wanted))
        assert got.correct[row] == (names[0] == str(wanted))


@pytest.mark.equation("word2vec-analogy-mul")
def test_3cosmul_is_gensims():
    vectors, questions = questions_and_vectors()
    peer = keyed.KeyedVectors(6)
    peer.add_vectors([str(n) for n in range(30)], vectors.numpy())
    got = analogies(vectors, questions, method="3CosMul").numbers
    for row, (a, b, c, _) in enumerate(questions.tolist()):
        theirs = peer.most_similar_cosmul([str(b), str(c)], [str(a)], topn=1)
        assert str(got[row].item()) == theirs[0][0]


def test_without_exclusion_the_question_itself_may_be_answered():
    vectors, questions = questions_and_vectors()
    alone = analogies(vectors, questions, method="only c", exclude=False)
    assert torch.equal(alone.numbers, questions[:, 2])
    b = analogies(vectors, questions, method="only b", exclude=False)
    assert torch.equal(b.numbers, questions[:, 1])
    near = analogies(vectors, questions, method="only c").numbers
    assert torch.equal(
        near, torch.stack([next(n for n in neighbours(vectors, q[2:3], 29).numbers[0]
                                if n not in q[:3]) for q in questions])
    )  # fmt: skip
    unexcluded = analogies(vectors, questions, exclude=False)
    unit = F.normalize(vectors)
    a, b, c = (unit[questions[:, at]] for at in range(3))
    assert torch.equal(unexcluded.numbers, ((b - a + c) @ unit.T).argmax(1))


def test_a_vector_of_zeros_is_near_to_nothing_and_gives_no_nan():
    vectors = torch.cat([torch.zeros(1, 3), torch.eye(3)])
    assert neighbours(vectors, torch.tensor([0]), 2).cosines.tolist() == [[0, 0]]
    assert torch.isfinite(analogies(vectors, torch.tensor([[0, 1, 2, 3]])).rank.double()).all()


# ---------------------------------------------------------------------------------------- bad input
BAD = [
    (lambda: Word2Vec(1), "vocab_size=1 must be an integer ≥ 2"),
    (lambda: GloVe(1), "vocab_size=1"),
    (lambda: corpus([]), "sentences holds no words"),
    (lambda: corpus([[], []]), "sentences holds no words"),
    (lambda: corpus([["a", "a"]], 1), "min_count=1 leaves 1 of 1 words"),
    (lambda: corpus([["a"], ["b"]], 2), "min_count=2 leaves 0 of 2 words"),
    (lambda: negative_sampling_loss(torch.zeros(2), torch.zeros(2, 0)), "K ≥ 1"),
    (lambda: train(Word2Vec(16), two_topics(), negatives=0), "negatives=0 must be an integer ≥ 1"),
    (lambda: train(Word2Vec(16), two_topics(), shared=0), "shared=0"),
    (lambda: train(Word2Vec(16), two_topics(), window=0), "window=0"),
    (lambda: train(Word2Vec(16), two_topics(), lr=0.0), "lr=0.0"),
    (lambda: train(Word2Vec(16), two_topics(), mode="glove"), "mode='glove'"),
    (lambda: train(Word2Vec(7), two_topics()), "model has 7 words, the text has 16"),
    (
        lambda: train(FastText(["a", "b"], 2, num_buckets=9), text_of(["a b"]), mode="cbow"),
        "FastText",
    ),
    (lambda: keep_probability(torch.tensor([1]), 0.0), "threshold=0.0"),
    (lambda: keep_probability(torch.tensor([0, 0])), "counts"),
    (lambda: noise_distribution(torch.tensor([1, -1])), "counts"),
    (lambda: pmi(torch.zeros(2, 2)), "counts"),
    (lambda: expected_loss(torch.zeros(2, 2), torch.ones(2, 2), 0), "negatives=0"),
    (lambda: huffman(torch.tensor([3])), "counts must hold two numbers or more"),
    (lambda: letter_groups(""), "word=''"),
    (lambda: FastText(["a", "a"]), "words must hold two different words"),
    (lambda: FastText(["a", "b"], 2, num_buckets=9).of("c" * 0), "word=''"),
    (lambda: singular_vectors(torch.ones(3, 3), 4), "embed_dim=4 must be at most 3"),
    (lambda: neighbours(torch.eye(3), torch.tensor([0]), 3), "k=3 must be at most 2"),
    (lambda: analogies(torch.eye(3), torch.tensor([[0, 1, 2, 3]])), "questions must be 0 … 2"),
    (lambda: analogies(torch.eye(3), torch.zeros(1, 4).long(), method="add"), "method='add'"),
    (lambda: cooccurrences(two_topics(), vocab_size=17), "vocab_size=17 must be at most 16"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with refuses(ValueError, message):
        call()


def test_words_never_seen_are_named():
    text = text_of(["a b"])
    with refuses(ValueError, "['king', 'queen']"):
        text.vocabulary.encode(["a", "queen", "king"])
    with refuses(ValueError, "word='x' was never seen, and has no group of letters"):
        FastText(["ab", "cd"], 2, num_buckets=9, shortest=4).of("x")


def test_other_kinds_are_refused_by_name():
    with refuses(TypeError, "sentences must hold sequences of words"):
        corpus(["a b"])
    with refuses(TypeError, "model must be a Word2Vec or a FastText, got Linear"):
        train(torch.nn.Linear(2, 2), two_topics())


# ------------------------------------------------------------------------------------- the corners
def test_a_pair_that_never_occurs_has_the_score_minus_infinity_also_of_a_word_that_never_does():
    found = best_scores(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert torch.isfinite(found[0, 0]) and torch.isneginf(found.flatten()[1:]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gloves_loss_is_finite_where_pairs_are_missing_in_any_precision(dtype):
    model = GloVe(3, 2, dtype=dtype)
    loss = glove_loss(model, torch.eye(3, dtype=dtype))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_cosines_are_blind_to_size_and_zeros_are_no_nan(dtype):
    words = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=dtype)
    assert neighbours(words, torch.tensor([0]), 2).cosines.tolist() == [[0, 0]]
    tiny = 1e-6 if dtype == torch.float16 else 1e-25
    told = neighbours(tiny * words, torch.tensor([1]), 1)
    assert told.numbers.tolist() == [[2]]
    assert told.cosines.item() == pytest.approx(0.5**0.5, rel=0.05)


def test_a_reach_beyond_the_text_is_the_whole_text_and_takes_no_time():
    ids, same = torch.arange(3), torch.zeros(3, dtype=torch.int64)
    got = window_pairs(ids, same, 10**12)
    assert got.equal(window_pairs(ids, same, 2)) and got.shape == (2, 6)


def test_a_large_power_leaves_the_most_frequent_word_alone():
    np.testing.assert_allclose(noise_distribution(torch.tensor([3, 2, 1]), 1e6), [1, 0, 0])


def test_singular_vectors_of_half_precision_are_found_in_single():
    got = singular_vectors(torch.diag(torch.tensor([3.0, 2.0, 1.0])).half(), 2, 1.0)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float() @ got.float().T, torch.diag(torch.tensor([9.0, 4, 0])))


NOTHING = torch.ones(1, 1, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: glove_loss(GloVe(2, 2), torch.zeros(2, 2)), ValueError, "must not all be 0"),
        (lambda: glove_loss(GloVe(2, 2), -torch.ones(2, 2)), ValueError, "must be 0 or more"),
        (lambda: glove_weight(torch.tensor([-1.0])), ValueError, "counts must be 0 or more"),
        (
            lambda: expected_loss(torch.zeros(1, 2), torch.ones(1, 2), 5, torch.tensor([-1.0, 2])),
            ValueError, "noise must be 0 or more, got -1",
        ),
        (
            lambda: train(FastText(["b", "a"], 2, num_buckets=9), text_of(["a b"])),
            ValueError, "model must have the words of the text in their order",
        ),
        (
            lambda: band_slopes(torch.zeros(1, 1, 2), torch.zeros(1, 3, 2), torch.zeros(1, 2, 2),
                                NOTHING, 1, mode="glove"),
            ValueError, "mode='glove' must be one of",
        ),
        (
            lambda: band_slopes(torch.zeros(1, 1, 2), torch.zeros(1, 3, 2), torch.zeros(1, 0, 2),
                                NOTHING, 1),
            ValueError, "noise must hold one row or more",
        ),
        (
            lambda: band_slopes(torch.zeros(1, 1, 2), torch.zeros(1, 3, 2), torch.zeros(1, 2, 2),
                                NOTHING, 0),
            ValueError, "negatives=0",
        ),
        (
            lambda: analogies(torch.eye(3), torch.tensor([[0, 1, 2, 2]])),
            ValueError, "vectors holds 3 words, which leaves none",
        ),
        (lambda: corpus(None), TypeError, "sentences=None must hold sequences of words"),
        (lambda: corpus([["a", 2]], 1), TypeError, "sentences must hold sequences of words"),
        (lambda: cooccurrences("a b"), TypeError, "text must be a Corpus, got str"),
        (lambda: phrase_scores(None), TypeError, "text must be a Corpus, got NoneType"),
        (lambda: train(Word2Vec(2), None), TypeError, "text must be a Corpus"),
        (lambda: train(Word2Vec(2), text_of(["a b"]), seed=None), TypeError, "seed=None"),
        (lambda: singular_vectors(torch.eye(3), 2, seed=None), TypeError, "seed=None"),
        (lambda: FastText(None), TypeError, "words=None must be a list of words"),
        (lambda: bucket(3, 9), TypeError, "group=3 must be a string"),
    ],
)  # fmt: skip
def test_what_used_to_pass_or_to_break_without_a_name_is_refused(call, error, message):
    with refuses(error, message):
        call()


def test_two_equal_words_of_a_question_leave_one_of_three_to_answer_with():
    assert analogies(torch.eye(3), torch.tensor([[0, 0, 1, 2]])).correct.tolist() == [True]


def test_questions_are_answered_in_parts_without_a_seam(monkeypatch):
    from nnlib.representation import _word2vec_analogies as module

    vectors, questions = questions_and_vectors()
    for method in module.METHODS:
        whole = analogies(vectors, questions, method=method)
        with monkeypatch.context() as patched:
            patched.setattr(module, "AT_ONCE", 70)  # two questions of 30 words
            parts = analogies(vectors, questions, method=method)
        assert all(map(torch.equal, whole, parts))
    assert analogies(vectors, questions[:0]).rank.shape == (0,)
