"""Associative recall: what a sequence holds, by a loop over it, and the share of a blind guess."""

import itertools
import statistics
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from nnlib.data.recall import long_runs, most_repeated_share, recall
from tests.support import refuses


@pytest.mark.equation("transformer-recall-baseline")
@pytest.mark.parametrize(("pairs", "values"), [(1, 3), (3, 2), (4, 3), (5, 2)])
def test_the_rule_of_the_most_repeated_value_is_exact(pairs, values):
    draws = itertools.product(range(values), repeat=pairs)
    tops = [Counter(draw).most_common(1)[0][1] / pairs for draw in draws]
    assert most_repeated_share(pairs, values) == pytest.approx(sum(tops) / len(tops))


def test_recall_asks_for_every_key_shown_and_knows_the_answer():
    drawn = recall(50, pairs=4, keys=9, values=5, seed=3)
    for tokens, answers, at in zip(*(part.tolist() for part in drawn), strict=True):
        shown = dict(zip(tokens[:8:2], tokens[1:8:2], strict=True))
        assert len(shown) == 4
        assert max(shown) < 9 <= min(shown.values()) <= max(shown.values()) < 14
        assert sorted(tokens[8:]) == sorted(shown)
        assert [shown[key] - 9 for key in tokens[8:]] == answers
        assert [tokens[place] - 9 for place in at] == answers


def test_recall_is_seeded_and_uses_every_token():
    a, b, c = recall(200), recall(200), recall(200, seed=1)
    assert torch.equal(a.tokens, b.tokens)
    assert not torch.equal(a.tokens, c.tokens)
    assert sorted(set(a.tokens.flatten().tolist())) == list(range(32))
    counts = F.one_hot(recall(4000).answers, 16).sum(1).amax(1) / 6
    assert float(counts.mean()) == pytest.approx(most_repeated_share(6, 16), abs=0.005)
    orders = {tuple(row) for row in recall(100, pairs=2).at.tolist()}
    assert orders == {(1, 3), (3, 1)}


def test_every_model_of_the_long_comparison_has_four_rates_and_the_same_five_starts():
    runs = long_runs()
    tried = {(run.model, run.rate): [] for run in runs}
    for run in runs:
        tried[run.model, run.rate].append(run.start)
        # answers are to 200 sequences of six questions
        assert run.accuracy * 1200 == pytest.approx(round(run.accuracy * 1200), abs=1e-9)
        assert 0 <= run.accuracy <= 1
    assert all(starts == [0, 1, 2, 3, 4] for starts in tried.values())
    assert sorted(Counter(model for model, _ in tried).values()) == [4, 4, 4]
    steps = {run.model: run.steps for run in runs}
    assert steps["LSTM"] == 20 * steps["transformer"]
    assert steps["LSTM with attention"] == steps["transformer"]


def test_no_model_of_the_long_comparison_is_best_at_its_highest_or_lowest_rate():
    scores = {}
    for run in long_runs():
        scores.setdefault(run.model, {}).setdefault(run.rate, []).append(run.accuracy)
    for model, of in scores.items():
        medians = {rate: statistics.median(got) for rate, got in of.items()}
        inside = sorted(medians)[1:-1]
        assert max(medians[rate] for rate in inside) == max(medians.values()), (model, medians)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"count": 0}, ValueError, "count=0"), ({"pairs": 0}, ValueError, "pairs=0"),
    ({"pairs": 17}, ValueError, "pairs=17 must be at most keys=16"),
    ({"values": 0}, ValueError, "values=0"), ({"keys": 2.0}, TypeError, "keys=2.0"),
    ({"seed": -1}, ValueError, "seed=-1"),
])  # fmt: skip
def test_bad_tasks_are_refused(options, error, message):
    with refuses(error, message):
        recall(**{"count": 2, **options})
    with refuses(ValueError, "pairs=0"):
        most_repeated_share(0)
