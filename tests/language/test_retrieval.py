"""BM25 against bm25s and loops, vectors against faiss, measures against scikit-learn."""

import importlib
import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.language.retrieval import (
    BM25,
    Answer,
    BiEncoder,
    DenseIndex,
    Found,
    IVFIndex,
    ProductQuantizer,
    Reading,
    VotingReader,
    bag_of_words,
    in_batch_loss,
    kmeans,
    late_interaction,
    lsa,
    ndcg_at_k,
    paragraph_chunks,
    rag_answer,
    recall_at_k,
    reciprocal_rank,
    reciprocal_rank_fusion,
    smooth_idf,
    splade_weights,
    success_at_k,
    tf_idf,
    window_chunks,
    words,
)
from tests.support import Example, Peer, refuses

bm25s = Peer("bm25s")
faiss = Peer("faiss")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"vocab_size": 11, "embed_dim": 4}, (torch.randint(1, 11, (2, 5)),))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def corpus(n=60, vocabulary=40, seed=0):
    """Texts of unequal lengths with common and rare words."""
    rng = random.Random(seed)
    return [
        " ".join(f"w{int(vocabulary * rng.random() ** 2)}" for _ in range(rng.randint(1, 40)))
        for _ in range(n)
    ]


TEXTS = corpus()
QUERIES = ["w0 w1", "w30", "w3 w3 w7 w20 w39", "w5 unknown", *corpus(8, seed=3)]


def split(text):
    return text.split()


# ------------------------------------------------------------------------------------------- BM25
def by_hand(query, texts, k1, b, variant, delta=0.0):
    """BM25 as its formula has it, one word at a time."""
    held = [text.split() for text in texts]
    mean = sum(map(len, held)) / len(held)
    n = len(held)
    scores = []
    for document in held:
        total = 0.0
        for word in query.split():
            f, containing = document.count(word), sum(word in each for each in held)
            if not f:
                continue
            odds = (n - containing + 0.5) / (containing + 0.5)
            idf = {
                "lucene": math.log(1 + odds),
                "robertson": max(0.0, math.log(odds)),
                "atire": math.log(n / containing),
            }[variant]
            norm = k1 * (1 - b + b * len(document) / mean)
            factor = k1 + 1 if variant == "atire" else 1
            total += idf * (factor * f / (f + norm) + delta)
        scores.append(total)
    return torch.tensor(scores)


VARIANTS = ["lucene", "robertson", "atire"]


@pytest.mark.equation(
    "retrieval-bm25", "retrieval-idf", "retrieval-idf-robertson", "retrieval-idf-atire"
)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0), (0.0, 1.0)])
def test_scores_are_those_of_bm25s(variant, k1, b):
    peer = bm25s.BM25(method=variant, k1=k1, b=b)
    peer.index([text.split() for text in TEXTS], show_progress=False)
    ours = BM25(TEXTS, k1, b, variant=variant, tokenize=split)
    for query in QUERIES:
        known = [word for word in query.split() if word in ours.vocabulary]
        wanted = torch.from_numpy(peer.get_scores(known))
        torch.testing.assert_close(ours.scores(query), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.equation(
    "retrieval-bm25", "retrieval-idf", "retrieval-idf-robertson", "retrieval-idf-atire"
)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_scores_are_the_sum_over_words(variant, delta):
    index = BM25(TEXTS, 1.5, 0.6, variant=variant, delta=delta, tokenize=split)
    for query in QUERIES:
        torch.testing.assert_close(
            index.scores(query), by_hand(query, TEXTS, 1.5, 0.6, variant, delta),
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip


@pytest.mark.equation("retrieval-bm25")
def test_a_word_saturates_and_a_long_passage_pays():
    """Half of the most at f = k₁ in a passage of average length; more never hurts."""
    texts = [" ".join(["hit"] * f + ["pad"] * (20 - f)) for f in (1, 2, 4, 8, 16)] + ["pad " * 20]
    index = BM25(texts, k1=2.0, b=0.75)
    scores = index.scores("hit")[:5]
    idf = index.idf[index.vocabulary["hit"]]
    torch.testing.assert_close(scores[1], idf / 2)  # f = k₁ = 2, all lengths equal
    assert (scores.diff() > 0).all() and (scores < idf).all()
    gained = scores.diff() / torch.tensor([1.0, 2, 4, 8])
    assert (gained.diff() < 0).all()
    mixed = BM25(["hit", "hit " + "pad " * 30], b=0.75)
    assert mixed.scores("hit")[0] > mixed.scores("hit")[1]
    plain = BM25(["hit", "hit " + "pad " * 30], b=0.0)
    torch.testing.assert_close(*plain.scores("hit"))


@pytest.mark.equation("retrieval-rsj")
def test_the_idf_is_the_log_odds_of_relevance_with_half_a_count_added():
    """With p = ½ and q = (n + ½) / (N + 1), the odds ratio is Robertson's idf."""
    index = BM25(TEXTS, variant="robertson", tokenize=split)
    n = len(TEXTS)
    for word, number in index.vocabulary.items():
        q = (len(index.postings(word)[0]) + 0.5) / (n + 1)
        p = 0.5
        odds = math.log(p * (1 - q) / (q * (1 - p)))
        assert index.idf[number].item() == pytest.approx(max(0.0, odds), abs=1e-5)


def test_a_word_in_most_passages_has_no_negative_weight():
    texts = ["a b", "a c", "a d", "e"]
    for variant in VARIANTS:
        assert (BM25(texts, variant=variant).idf >= 0).all()
    odds = math.log((4 - 3 + 0.5) / (3 + 0.5))
    assert odds < 0  # what the formula says before it is cut off
    assert BM25(texts, variant="robertson").scores("a").abs().sum() == 0


def test_search_ranks_by_score_and_finds_only_what_holds_a_word():
    index = BM25(TEXTS, tokenize=split)
    for query in QUERIES:
        scores = index.scores(query)
        holds = [any(word in text.split() for word in query.split()) for text in TEXTS]
        wanted = sorted((i for i, has in enumerate(holds) if has), key=lambda i: -scores[i].item())
        for k in (1, 5, 10_000):
            found = index.search(query, k)
            assert found.ids.tolist() == wanted[:k]
            assert torch.equal(found.scores, scores[found.ids])


def test_equal_scores_keep_the_order_of_the_passages():
    index = BM25(["same text"] * 9 + ["other"])
    assert index.search("text", 4).ids.tolist() == [0, 1, 2, 3]


def test_postings_and_explanations_add_up():
    index = BM25(TEXTS, tokenize=split)
    for word in index.vocabulary:
        ids, counts = index.postings(word)
        wanted = [(i, t.split().count(word)) for i, t in enumerate(TEXTS) if word in t.split()]
        assert list(zip(ids.tolist(), counts.tolist(), strict=True)) == wanted
    assert index.postings("unknown")[0].tolist() == []
    for query, number in itertools.product(QUERIES, (0, 7)):
        told = index.explain(query, number)
        assert sum(told.values()) == pytest.approx(index.scores(query)[number].item(), abs=1e-4)


def test_a_larger_delta_lifts_what_holds_the_word_alone():
    plain, lifted = (BM25(TEXTS, delta=d, tokenize=split) for d in (0.0, 1.0))
    gained = lifted.scores("w20") - plain.scores("w20")
    ids = set(plain.postings("w20")[0].tolist())
    idf = plain.idf[plain.vocabulary["w20"]].item()
    for number, more in enumerate(gained.tolist()):
        assert more == pytest.approx(idf if number in ids else 0.0, abs=1e-5)


def test_nothing_to_find_gives_nothing():
    index = BM25(["one two", "", "three"])
    for query in ("", "unknown words", "?!"):
        found = index.search(query, 3)
        assert found.ids.tolist() == [] and found.scores.tolist() == []
        assert index.scores(query).tolist() == [0, 0, 0]
    empty = BM25(["", "!"])
    assert len(empty) == 2 and empty.search("one", 1).ids.tolist() == []


# ------------------------------------------------------------------------------- tf-idf and vectors
@pytest.mark.equation("retrieval-tfidf")
def test_tf_idf_is_scikit_learns():
    from sklearn.feature_extraction.text import TfidfVectorizer

    peer = TfidfVectorizer(tokenizer=split, token_pattern=None, sublinear_tf=True)
    wanted = torch.from_numpy(peer.fit_transform(TEXTS).toarray()).float()
    vocabulary = {word: int(column) for word, column in peer.vocabulary_.items()}
    bags = bag_of_words(TEXTS, vocabulary, split)
    torch.testing.assert_close(tf_idf(bags), wanted)
    asked = bag_of_words(QUERIES, vocabulary, split)
    torch.testing.assert_close(
        tf_idf(asked, smooth_idf(bags)),
        torch.from_numpy(peer.transform(QUERIES).toarray()).float(),
    )


@pytest.mark.equation("retrieval-lsa")
@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_lsa_keeps_what_the_singular_values_keep(shape):
    x = torch.randn(shape, generator=dice(), dtype=torch.float64)
    kept = lsa(x, 7)
    torch.testing.assert_close(kept.T @ kept, torch.eye(7, dtype=x.dtype))
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close((x @ kept).norm(dim=0), values[:7])
    best = left[:, :7] * values[:7] @ right[:7]
    torch.testing.assert_close(x @ kept @ kept.T, best)


def test_lsa_is_scikit_learns_but_for_signs():
    from sklearn.decomposition import TruncatedSVD

    x = tf_idf(bag_of_words(TEXTS, BM25(TEXTS).vocabulary)).double()
    peer = torch.from_numpy(TruncatedSVD(5, algorithm="arpack").fit_transform(x.numpy()))
    torch.testing.assert_close((x @ lsa(x, 5)).abs(), peer.abs().to(x.dtype))


@pytest.mark.equation("retrieval-dense")
@pytest.mark.parametrize("metric", ["cosine", "inner", "euclidean"])
def test_exact_search_is_brute_force(metric):
    x, q = torch.randn(50, 6, generator=dice()), torch.randn(7, 6, generator=dice(1))
    found = DenseIndex(x, metric).search(q, 9)
    for row, query in enumerate(q):
        each = [
            {
                "cosine": F.cosine_similarity(query, vector, dim=0),
                "inner": query @ vector,
                "euclidean": -(query - vector).square().sum(),
            }[metric].item()
            for vector in x
        ]
        order = sorted(range(50), key=lambda i: -each[i])[:9]
        assert found.ids[row].tolist() == order
        torch.testing.assert_close(found.scores[row], torch.tensor([each[i] for i in order]))


@pytest.mark.parametrize("metric", ["inner", "euclidean"])
def test_exact_search_is_faiss(metric):
    x, q = torch.randn(300, 16, generator=dice()), torch.randn(20, 16, generator=dice(1))
    peer = faiss.IndexFlatIP(16) if metric == "inner" else faiss.IndexFlatL2(16)
    peer.add(x.numpy())
    wanted, ids = peer.search(q.numpy(), 10)
    found = DenseIndex(x, metric).search(q, 10)
    assert torch.equal(found.ids, torch.from_numpy(ids))
    sign = 1 if metric == "inner" else -1
    torch.testing.assert_close(found.scores, sign * torch.from_numpy(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.equation("retrieval-unit")
def test_on_vectors_of_length_one_all_three_orders_are_equal():
    x, q = (F.normalize(torch.randn(n, 8, generator=dice(n)), dim=1) for n in (40, 5))
    orders = [DenseIndex(x, m).search(q, 40) for m in ("cosine", "inner", "euclidean")]
    assert torch.equal(orders[0].ids, orders[1].ids)
    assert torch.equal(orders[0].ids, orders[2].ids)
    torch.testing.assert_close(orders[2].scores, 2 * orders[0].scores - 2, atol=1e-5, rtol=1e-5)


def test_more_than_there_are_is_all_and_no_query_is_no_answer():
    index = DenseIndex(torch.randn(4, 3, generator=dice()))
    assert index.search(torch.randn(2, 3), 9).ids.shape == (2, 4)
    assert index.search(torch.zeros(0, 3), 2).ids.shape == (0, 2)
    zero = index.search(torch.zeros(1, 3), 2)
    assert zero.scores.tolist() == [[0.0, 0.0]]


# ---------------------------------------------------------------------------------- the bi-encoder
@pytest.mark.equation("retrieval-encoder")
def test_a_text_is_the_weighted_sum_of_its_words():
    torch.manual_seed(0)
    model = BiEncoder(9, 4).double()
    with torch.no_grad():
        model.word_weight.uniform_(0.5, 2)
    ids = torch.tensor([[3, 5, 3, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    got = model(ids)
    for row, numbers in zip(got, ids.tolist(), strict=True):
        total = sum(
            (model.word_weight[n] * model.token_embedding.weight[n] for n in numbers if n),
            start=torch.zeros(4, dtype=torch.float64),
        )
        torch.testing.assert_close(row, total / total.norm().clamp(min=1e-12))
    assert got[2].abs().sum() == 0


@pytest.mark.equation("retrieval-infonce")
def test_the_loss_is_minus_the_log_share_of_the_right_passage():
    torch.manual_seed(0)
    model = BiEncoder(30, 6).double()
    q, p = torch.randint(1, 30, (5, 4)), torch.randint(1, 30, (5, 9))
    with torch.no_grad():
        scores = (model(q) @ model(p).T / 0.1).tolist()
    each = [-scores[i][i] + math.log(sum(math.exp(s) for s in scores[i])) for i in range(5)]
    got = in_batch_loss(model, q, p, temperature=0.1).item()
    assert got == pytest.approx(sum(each) / 5)


@pytest.mark.equation("retrieval-gradient")
def test_the_gradient_is_the_share_minus_what_it_should_be():
    scores = torch.randn(4, 4, generator=dice(), dtype=torch.float64, requires_grad=True)

    class Given(nn.Module):
        """Vectors whose products are the scores: passages are unit vectors along the axes."""

        def forward(self, x):
            return scores if x.shape[1] == 1 else torch.eye(4, dtype=torch.float64)

    queries, passages = torch.zeros(4, 1).long(), torch.zeros(4, 2).long()
    in_batch_loss(Given(), queries, passages, temperature=0.5).backward()
    share = (scores / 0.5).softmax(1).detach()
    torch.testing.assert_close(scores.grad, (share - torch.eye(4)) / (4 * 0.5))


def test_passages_that_are_no_wrong_answers_do_not_count():
    torch.manual_seed(0)
    model = BiEncoder(30, 6)
    q, p = torch.randint(1, 30, (3, 4)), torch.randint(1, 30, (3, 9))
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    with torch.no_grad():
        s = model(q) @ model(p).T / 0.05
        kept = [[s[0, 0], s[0, 2]], [s[1, 1], s[1, 2]], [s[2, 2], s[2, 0], s[2, 1]]]
        wanted = sum(torch.stack(row).logsumexp(0) - row[0] for row in kept) / 3
    torch.testing.assert_close(in_batch_loss(model, q, p, same=same).detach(), wanted)


def test_training_brings_a_question_to_its_passage():
    """Questions and passages share no word: only training can pair them."""
    torch.manual_seed(0)
    model = BiEncoder(41, 16)
    q = torch.arange(1, 21)[:, None]
    p = torch.arange(21, 41)[:, None].expand(-1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        in_batch_loss(model, q, p).backward()
        optimizer.step()
    with torch.no_grad():
        best = DenseIndex(model(p)).search(model(q), 1).ids[:, 0]
    assert torch.equal(best, torch.arange(20))


@pytest.mark.equation("retrieval-maxsim")
def test_late_interaction_is_two_loops():
    q, p = torch.randn(2, 3, 4, generator=dice()), torch.randn(5, 6, 4, generator=dice(1))
    asked, held = torch.rand(2, 3, generator=dice(2)) < 0.8, torch.rand(5, 6) < 0.8
    held[:, 0] = True
    got = late_interaction(q, p, asked, held)
    for a, b in itertools.product(range(2), range(5)):
        total = sum(
            max((q[a, i] @ p[b, j]).item() for j in range(6) if held[b, j])
            for i in range(3)
            if asked[a, i]
        )
        assert got[a, b].item() == pytest.approx(total, abs=1e-5)
    torch.testing.assert_close(
        late_interaction(q, p), torch.einsum("qtd,nsd->qnts", q, p).amax(3).sum(2)
    )


@pytest.mark.equation("retrieval-splade")
def test_expansion_weights_are_the_largest_over_positions():
    logits = torch.randn(2, 5, 7, generator=dice())
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    got = splade_weights(logits, mask)
    for row, word in itertools.product(range(2), range(7)):
        seen = [logits[row, i, word].item() for i in range(5) if mask[row, i]]
        assert got[row, word].item() == pytest.approx(
            max(math.log(1 + max(0.0, z)) for z in seen), abs=1e-6
        )


# ----------------------------------------------------------------------------- approximate search
def clustered(n=400, d=8, seed=0):
    centres = 4 * torch.randn(12, d, generator=dice(seed))
    return centres[torch.randint(12, (n,), generator=dice(seed + 1))] + torch.randn(
        n, d, generator=dice(seed + 2)
    )


@pytest.mark.equation("retrieval-kmeans")
def test_a_centroid_is_the_mean_of_what_is_nearest_to_it():
    x = clustered()
    centroids = kmeans(x, 12, iterations=60)
    nearest = torch.cdist(x, centroids).argmin(1)
    for number in range(12):
        torch.testing.assert_close(centroids[number], x[nearest == number].mean(0))
    few = torch.cdist(x, kmeans(x, 12, iterations=1)).amin(1).square().sum()
    assert torch.cdist(x, centroids).amin(1).square().sum() < few


def test_no_centroid_stays_without_vectors():
    """Fifty of seventy are one point, so that most first centroids are copies of another."""
    x = torch.cat([torch.zeros(50, 2), torch.arange(20.0)[:, None].expand(-1, 2) + 5])
    centroids = kmeans(x, 12, iterations=30)
    assert len(torch.cdist(x, centroids).argmin(1).unique()) == 12
    alike = kmeans(torch.ones(5, 2), 3)
    assert torch.equal(alike, torch.ones(3, 2))  # no more than one place to be


@pytest.mark.equation("retrieval-ivf")
@pytest.mark.parametrize("metric", ["cosine", "inner", "euclidean"])
@pytest.mark.parametrize("probes", [1, 3])
def test_a_search_is_exact_within_the_lists_it_visits(metric, probes):
    x, q = clustered(), clustered(15, seed=7)
    index = IVFIndex(x, 12, metric)
    got = index.search(q, 5, probes)
    near = DenseIndex(index.centroids, "euclidean" if metric == "euclidean" else "inner")
    visited = near.search(index.prepared(q), probes).ids
    exact = index.scores(q)
    for row in range(15):
        among = torch.cat([index.members(int(number)) for number in visited[row]])
        assert got.compared[row] == len(among)
        best = among[exact[row, among].argsort(descending=True)][:5]
        want = torch.full((5,), -1)
        want[: len(best)] = best
        assert torch.equal(got.ids[row], want)


@pytest.mark.parametrize("metric", ["cosine", "inner", "euclidean"])
def test_with_every_list_the_search_is_exact(metric):
    x, q = clustered(), clustered(15, seed=7)
    got = IVFIndex(x, 12, metric).search(q, 9, 99)
    wanted = DenseIndex(x, metric).search(q, 9)
    assert torch.equal(got.ids, wanted.ids)
    torch.testing.assert_close(got.scores, wanted.scores)
    assert (got.compared == len(x)).all()


@pytest.mark.equation("retrieval-ivf")
@pytest.mark.parametrize("metric", ["inner", "euclidean"])
def test_lists_are_faiss_lists(metric):
    x, q = clustered(600, 16), clustered(40, 16, seed=7)
    ours = IVFIndex(x, 20, metric)
    flat = faiss.IndexFlatIP if metric == "inner" else faiss.IndexFlatL2
    coarse = flat(16)
    coarse.add(ours.centroids.numpy())
    kind = faiss.METRIC_INNER_PRODUCT if metric == "inner" else faiss.METRIC_L2
    peer = faiss.IndexIVFFlat(coarse, 16, 20, kind)
    peer.is_trained = True
    peer.add(x.numpy())
    for probes in (1, 4, 20):
        peer.nprobe = probes
        _, ids = peer.search(q.numpy(), 7)
        got = ours.search(q, 7, probes).ids
        assert torch.equal(got, torch.from_numpy(ids))


def test_more_lists_visited_never_lose_what_was_found():
    x, q = clustered(), clustered(30, seed=9)
    exact = DenseIndex(x).search(q, 10).ids
    index = IVFIndex(x)
    assert len(index.centroids) == 20  # the root of 400
    recalls = []
    for probes in (1, 2, 5, 10, 20):
        got = index.search(q, 10, probes).ids
        recalls.append(
            sum(len(set(a) & set(b)) for a, b in zip(exact.tolist(), got.tolist(), strict=True))
            / 300
        )
    assert recalls == sorted(recalls) and recalls[-1] == 1.0 and recalls[0] < 1.0


def test_too_few_in_the_visited_lists_is_filled_with_minus_one():
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.1]])
    found = IVFIndex(x, 2).search(torch.tensor([[0.0, 1.0]]), k=3, num_probes=1)
    assert found.ids.tolist() == [[0, -1, -1]]
    assert found.scores[0, 1:].tolist() == [-math.inf, -math.inf]


@pytest.mark.equation("retrieval-pq", "retrieval-pq-distance")
def test_codes_are_the_nearest_centroids_and_distances_those_to_them():
    x, q = clustered(), clustered(9, seed=7)
    quantizer = ProductQuantizer(x, 4, 16)
    codes = quantizer.encode(x)
    assert codes.shape == (400, 4) and codes.dtype == torch.uint8
    for part in range(4):
        apart = torch.cdist(x[:, 2 * part : 2 * part + 2], quantizer.centroids[part])
        assert torch.equal(apart.argmin(1), codes[:, part].long())
    wanted = -torch.cdist(q, quantizer.decode(codes)).square()
    torch.testing.assert_close(quantizer.scores(q, codes), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.equation("retrieval-pq", "retrieval-pq-distance")
def test_codes_and_distances_are_faiss_own():
    x, q = clustered(600, 16), clustered(9, 16, seed=7)
    ours = ProductQuantizer(x, 4, 256)
    peer = faiss.IndexPQ(16, 4, 8)
    faiss.copy_array_to_vector(ours.centroids.flatten().numpy(), peer.pq.centroids)
    peer.is_trained = True
    peer.add(x.numpy())
    theirs = torch.from_numpy(peer.pq.compute_codes(x.numpy()))
    assert torch.equal(ours.encode(x), theirs)
    wanted, ids = peer.search(q.numpy(), 5)
    got = ours.scores(q, theirs).topk(5, dim=1)
    torch.testing.assert_close(-got.values, torch.from_numpy(wanted), rtol=1e-4, atol=1e-3)
    assert torch.equal(ours.scores(q, theirs).gather(1, torch.from_numpy(ids)), got.values)


def test_more_parts_keep_more():
    x = clustered(600, 16)
    lost = []
    for parts in (1, 2, 4, 8):
        quantizer = ProductQuantizer(x, parts, 64)
        lost.append((quantizer.decode(quantizer.encode(x)) - x).square().mean().item())
    assert lost == sorted(lost, reverse=True)


# ---------------------------------------------------------------------------------------- measures
RELEVANT = torch.rand(20, 15, generator=dice()) < 0.3
RELEVANT[:, 0] = True
ORDER = torch.rand(20, 15, generator=dice(1)).argsort(1)


@pytest.mark.equation("retrieval-recall", "retrieval-success", "retrieval-mrr")
@pytest.mark.parametrize("k", [1, 4, 15, 99])
def test_measures_are_counts(k):
    recall, success = recall_at_k(ORDER, RELEVANT, k), success_at_k(ORDER, RELEVANT, k)
    ranks = reciprocal_rank(ORDER, RELEVANT)
    for row in range(20):
        wanted = set(RELEVANT[row].nonzero()[:, 0].tolist())
        top = ORDER[row].tolist()
        assert recall[row] == len(wanted & set(top[:k])) / len(wanted)
        assert success[row] == float(bool(wanted & set(top[:k])))
        first = next(place for place, number in enumerate(top, 1) if number in wanted)
        assert ranks[row] == 1 / first


@pytest.mark.equation("retrieval-ndcg")
@pytest.mark.parametrize("k", [1, 5, 15])
def test_gains_are_discounted_as_in_scikit_learn(k):
    from sklearn.metrics import ndcg_score

    gains = torch.randint(4, (20, 15), generator=dice(3)).double()
    scores = torch.rand(20, 15, generator=dice(4))
    wanted = ndcg_score(gains.numpy(), scores.numpy(), k=k)
    got = ndcg_at_k(scores.argsort(1, descending=True), gains, k)
    assert got.mean().item() == pytest.approx(wanted)


@pytest.mark.equation("retrieval-mrr", "retrieval-success")
def test_with_one_relevant_passage_they_are_scikit_learns():
    from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

    scores = torch.rand(30, 12, generator=dice(5))
    right = torch.randint(12, (30,), generator=dice(6))
    relevant = F.one_hot(right, 12).bool()
    ranked = scores.argsort(1, descending=True)
    wanted = label_ranking_average_precision_score(relevant.numpy(), scores.numpy())
    assert reciprocal_rank(ranked, relevant).mean().item() == pytest.approx(wanted)
    for k in (1, 3, 8):
        wanted = top_k_accuracy_score(right, scores, k=k, labels=range(12))
        assert success_at_k(ranked, relevant, k).mean().item() == pytest.approx(wanted)
        assert recall_at_k(ranked, relevant, k).mean().item() == pytest.approx(wanted)


def test_places_that_are_filled_up_are_worth_nothing():
    relevant = torch.tensor([[True, False], [False, False]])
    ranked = torch.tensor([[-1, -1, 0], [-1, -1, 1]])
    assert reciprocal_rank(ranked, relevant).tolist() == [1 / 3, 0]
    assert success_at_k(ranked, relevant, 2).tolist() == [0, 0]
    assert recall_at_k(ranked, relevant, 3)[1].isnan()


@pytest.mark.equation("retrieval-fusion")
@given(st.lists(st.permutations(range(6)), min_size=1, max_size=4), st.floats(0, 100))
@settings(max_examples=50, deadline=None)
def test_fusion_adds_one_over_the_places(rankings, constant):
    got = reciprocal_rank_fusion([torch.tensor(r) for r in rankings], 6, constant)
    wanted = {n: sum(1 / (constant + 1 + r.index(n)) for r in rankings) for n in range(6)}
    for number, score in zip(got.ids.tolist(), got.scores.tolist(), strict=True):
        assert score == pytest.approx(wanted[number])
    assert sorted(got.scores.tolist(), reverse=True) == got.scores.tolist()


def test_fusion_of_unequal_lengths_counts_only_what_is_ranked():
    got = reciprocal_rank_fusion([torch.tensor([4]), torch.tensor([2, 4, -1])], 9, constant=1)
    assert got.ids.tolist() == [4, 2]
    torch.testing.assert_close(got.scores, torch.tensor([1 / 2 + 1 / 3, 1 / 2]).double())


# ------------------------------------------------------------------------------ chunks and answers
@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_windows_cover_a_text_and_overlap_by_as_much_as_asked(n, size, overlap):
    text = [str(number) for number in range(n)]
    if overlap >= size:
        with refuses(ValueError, f"overlap={overlap} must be below size={size}"):
            window_chunks(" ".join(text), size, overlap)
        return
    chunks = [chunk.split() for chunk in window_chunks(" ".join(text), size, overlap)]
    joined = chunks[0] if chunks else []
    for before, after in itertools.pairwise(chunks):
        assert len(before) == size
        assert before[size - overlap :] == after[:overlap]
        joined = joined + after[overlap:]
    assert joined == text
    assert not [chunk for chunk in chunks[1:] if len(chunk) <= overlap]  # each brings something


def test_paragraphs_are_joined_until_they_are_long_enough():
    text = "one two\n\nthree\n \nfour five six\n\nseven"
    assert paragraph_chunks(text) == ["one two", "three", "four five six", "seven"]
    assert paragraph_chunks(text, least=3) == ["one two\n\nthree", "four five six", "seven"]
    assert paragraph_chunks(" \n\n ") == []


PASSAGES = [
    "`len` counts the items of a container",
    "`abs` drops the sign of a number; `len` does not",
    "`round` takes a number to so many digits",
    "`len` and `abs` are builtins",
]
NAMES = ["len", "abs", "round"]


@pytest.mark.equation("retrieval-vote", "retrieval-rag")
@pytest.mark.parametrize("damped", [True, False])
def test_the_vote_is_a_sum_over_passages(damped):
    """p(y) = Σ_z p(z) p(y | z), with p(z) as the scores and p(y | z) as 1/√n or 1."""
    reader = VotingReader(NAMES, PASSAGES, damped=damped)
    scores = [3.0, 2.0, 0.5]
    votes = {
        name: sum(
            score * (1 / math.sqrt(sum(f"`{name}`" in p for p in PASSAGES)) if damped else 1)
            for passage, score in zip(PASSAGES[:3], scores, strict=True)
            if f"`{name}`" in passage
        )
        for name in NAMES
    }
    got = reader("?", PASSAGES[:3], scores)
    best = max(votes, key=votes.get)
    assert got.text == best
    assert got.confidence == pytest.approx(votes[best] / sum(votes.values()))


def test_an_answer_cites_the_passage_that_says_so():
    index, reader = BM25(PASSAGES), VotingReader(NAMES, PASSAGES)
    answer = rag_answer("Which drops the sign?", index.search, reader, PASSAGES, k=1)
    assert answer.text == "abs" and answer.cited == 1 and answer.sources[0] == 1
    assert "abs" in PASSAGES[answer.cited]


@pytest.mark.parametrize(("scores", "source"), [([1.0, 5.0], 1), ([5.0, 1.0], 0), ([2.0, 2.0], 0)])
def test_the_cited_passage_is_the_one_that_voted_most(scores, source):
    """Of two with equal votes, the one that was found first."""
    reader = VotingReader(NAMES, PASSAGES, damped=False)
    reading = reader("?", [PASSAGES[0], PASSAGES[3]], scores)
    assert (reading.text, reading.source) == ("len", source)


def test_no_answer_is_an_answer():
    index, reader = BM25(PASSAGES), VotingReader(NAMES, PASSAGES)
    assert rag_answer("", index.search, reader, PASSAGES) == Answer("", [], None, 0.0)
    assert rag_answer("zebra", index.search, reader, PASSAGES).sources == []
    unsure = rag_answer("the number", index.search, reader, PASSAGES, least=0.99)
    assert unsure.text == "" and unsure.sources and unsure.cited is None
    nothing = VotingReader(["pow"], PASSAGES)
    assert rag_answer("sign", index.search, nothing, PASSAGES).text == ""


def test_more_passages_than_there_are_and_any_search_will_do():
    vectors = torch.eye(4)
    dense = DenseIndex(vectors)

    def search(question, k):
        return dense.search(vectors[:1], k)

    def read(question, passages, scores):
        return Reading(passages[0], 0, 1.0)

    answer = rag_answer("?", search, read, PASSAGES, k=99)
    assert answer.sources[0] == 0 and len(answer.sources) == 4 and answer.cited == 0
    padded = Found(torch.tensor([2, -1]), torch.tensor([1.0, -math.inf]))
    assert rag_answer("?", lambda q, k: padded, read, PASSAGES).sources == [2]


# ----------------------------------------------------------------------------------- bad arguments
def test_bad_arguments_are_refused_by_name():
    index, dense = BM25(PASSAGES), DenseIndex(torch.eye(3))
    for error, message, call in (
        (ValueError, "documents must hold one text or more", lambda: BM25([])),
        (TypeError, "documents must be a sequence of strings", lambda: BM25("one text")),
        (TypeError, "documents[1] must be a string, got int", lambda: BM25(["a", 3])),
        (ValueError, "k1=-1 must be a finite number ≥ 0", lambda: BM25(["a"], k1=-1)),
        (ValueError, "b=1.5 must be a finite number", lambda: BM25(["a"], b=1.5)),
        (ValueError, "variant='okapi' must be one of", lambda: BM25(["a"], variant="okapi")),
        (TypeError, "tokenize must take a text", lambda: BM25(["a"], tokenize=None)),
        (TypeError, "query must be a string, got list", lambda: index.search(["a"], 1)),
        (ValueError, "k=0 must be an integer ≥ 1", lambda: index.search("a", 0)),
        (ValueError, "document=4 must be below 4", lambda: index.explain("a", 4)),
        (ValueError, "vectors must not be empty", lambda: DenseIndex(torch.zeros(0, 3))),
        (ValueError, "vectors must be finite", lambda: DenseIndex(torch.full((2, 2), math.nan))),
        (ValueError, "metric='dot' must be one of", lambda: DenseIndex(torch.eye(2), "dot")),
        (ValueError, "queries must have shape (n, 3)", lambda: dense.search(torch.eye(2), 1)),
        (TypeError, "queries must be torch.float32",
         lambda: dense.search(torch.eye(3).double(), 1)),
        (ValueError, "embed_dim=4 must be at most 3", lambda: lsa(torch.eye(3), 4)),
        (ValueError, "num_lists=4 must be at most 3", lambda: IVFIndex(torch.eye(3), 4)),
        (ValueError, "num_centroids=4 must be at most 3", lambda: kmeans(torch.eye(3), 4)),
        (ValueError, "number=3 must be below 3", lambda: IVFIndex(torch.eye(3), 3).members(3)),
        (ValueError, "num_parts=2 does not divide", lambda: ProductQuantizer(torch.eye(3), 2, 2)),
        (ValueError, "num_centroids=9 must be at most 3",
         lambda: ProductQuantizer(torch.eye(3), 3, 9)),
        (ValueError, "codes must be 0 … 1",
         lambda: ProductQuantizer(torch.eye(3), 3, 2).decode(torch.full((1, 3), 5))),
        (ValueError, "temperature=0 must be", lambda: in_batch_loss(
            BiEncoder(5, 2), torch.ones(2, 1).long(), torch.ones(2, 1).long(), 0)),
        (ValueError, "passages must have shape (2, s)", lambda: in_batch_loss(
            BiEncoder(5, 2), torch.ones(2, 1).long(), torch.ones(3, 1).long())),
        (ValueError, "ranked must be −1 … 1", lambda: recall_at_k(
            torch.tensor([[5]]), torch.ones(1, 2).bool(), 1)),
        (ValueError, "relevant must hold finite gains", lambda: ndcg_at_k(
            torch.tensor([[0]]), -torch.ones(1, 2), 1)),
        (TypeError, "rankings must be a list", lambda: reciprocal_rank_fusion([], 1)),
        (ValueError, "size=0 must be an integer", lambda: window_chunks("a", 0)),
        (TypeError, "names must be one string or more", lambda: VotingReader([], ["a"])),
        (TypeError, "question must be a string", lambda: rag_answer(
            None, index.search, VotingReader(NAMES, PASSAGES), PASSAGES)),
        (ValueError, "passages must be those that search numbers", lambda: rag_answer(
            "number", index.search, VotingReader(NAMES, PASSAGES), PASSAGES[:1])),
        (TypeError, "vocabulary must map", lambda: bag_of_words(["a"], {})),
        (ValueError, "bags must hold counts ≥ 0", lambda: tf_idf(-torch.eye(2))),
    ):  # fmt: skip
        with refuses(error, message):
            call()


def test_words_are_cut_at_what_is_no_letter():
    assert words("It's 3.5 `str.join_all`—Grüße") == [
        "it",
        "s",
        "3",
        "5",
        "str",
        "join_all",
        "grüße",
    ]
    assert words("__init__") == ["init"] and words("") == []


def test_what_is_imported_is_what_is_listed():
    module = importlib.import_module("nnlib.language.retrieval")
    assert all(hasattr(module, name) for name in module.__all__)
