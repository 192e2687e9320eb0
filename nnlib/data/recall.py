"""Associative recall: pairs of a key and a value are shown, then some keys are asked for.

A text-like task with known truth. Whoever can look back finds the answer; whoever cannot must have
remembered every pair, since any of them may be asked for.
"""

import csv
from math import factorial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks


class Recall(NamedTuple):
    """Sequences of `recall`, what is to be answered, and where.

    Attributes:
        tokens: keys are 0 … keys − 1, values follow them; pairs first, then the keys asked for.
        answers: the value of each key asked for, 0 … values − 1, in the order of asking.
        at: where in the sequence the value of each key asked for was shown.
    """

    tokens: Int[Tensor, "n t"]
    answers: Int[Tensor, "n pairs"]
    at: Int[Tensor, "n pairs"]


def recall(
    count: int,
    *,
    pairs: int = 6,
    keys: int = 16,
    values: int = 16,
    seed: int = 0,
) -> Recall:
    """Draw sequences such as `c 3  a 1  f 3 | a c f`, to be answered by 1, 3, 3.

    The keys of a sequence are distinct, its values are not; every key is asked for once, in an
    order of its own. Sequences have 3·pairs tokens out of keys + values.

    Args:
        count: number of sequences, ≥ 1.
        pairs: pairs shown in each, 1 … `keys`.
        keys: distinct keys, ≥ 1.
        values: distinct values, ≥ 1.
        seed: of the draw, ≥ 0.

    Example:
        >>> drawn = recall(2, pairs=3)
        >>> tuple(drawn.tokens.shape), tuple(drawn.answers.shape)
        ((2, 9), (2, 3))

    Source: generated. Recall of several pairs as a measure of sequence models: Arora et al. 2023.
    """
    count, keys = checks.count("count", count), checks.count("keys", keys)
    values, pairs = checks.count("values", values), checks.count("pairs", pairs)
    if pairs > keys:
        raise ValueError(
            f"pairs={pairs} must be at most keys={keys}: the keys shown are distinct"
        )
    generator = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    key = torch.rand(count, keys, generator=generator).argsort(1)[:, :pairs]
    value = torch.randint(values, (count, pairs), generator=generator)
    order = torch.rand(count, pairs, generator=generator).argsort(1)
    shown = torch.stack([key, keys + value], -1).flatten(1)
    tokens = torch.cat([shown, key.gather(1, order)], 1)
    return Recall(tokens, value.gather(1, order), 2 * order + 1)


class Run(NamedTuple):
    """A training run that is too long to be repeated whenever the book is built.

    Attributes:
        model: what was trained.
        steps: of how many batches of 64.
        rate: its peak learning rate.
        start: seed of its first weights and of its sequences.
        accuracy: share of unseen questions that it answered.
    """

    model: str
    steps: int
    rate: float
    start: int
    accuracy: float


def long_runs() -> list[Run]:
    """Return what three networks learned of `recall`, each at four rates and from five starts.

    The chapter on the transformer says how they were trained, and trains them again with
    `make figures CHAPTER=attention/transformer PRESET=study`.

    Example:
        >>> sorted({run.model for run in long_runs()})
        ['LSTM', 'LSTM with attention', 'transformer']
    """
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as lines:
        return [
            Run(row["model"], int(row["steps"]), float(row["rate"]), int(row["start"]),
                float(row["accuracy"]))
            for row in csv.DictReader(lines)
        ]  # fmt: skip


def most_repeated_share(pairs: int = 6, values: int = 16) -> float:
    """Return the exact accuracy of always answering the value that was shown most often.

    It is the best that can be done without knowing which value belongs to which key, and stands
    far above 1/values, so an accuracy near it is no recall at all.

    Args:
        pairs: pairs shown, ≥ 1.
        values: distinct values, ≥ 1.

    Example:
        >>> print(f"{most_repeated_share(6, 16):.3f}")
        0.288
    """
    pairs, values = checks.count("pairs", pairs), checks.count("values", values)
    expected, below = 0.0, 0.0
    for top in range(1, pairs + 1):
        up_to = _chance_of_at_most(top, pairs, values)
        expected, below = expected + top * (up_to - below), up_to
    return expected / pairs


def _chance_of_at_most(top: int, pairs: int, values: int) -> float:
    """Return the chance that no value is shown more than `top` times.

    The draws with at most `top` of each value are counted by the coefficient of x^pairs in
    (Σ_{j ≤ top} x^j/j!)^values, times pairs!.
    """
    one = [1 / factorial(j) for j in range(top + 1)]
    series = [1.0]
    for _ in range(values):
        longer = [0.0] * min(len(series) + top, pairs + 1)
        for i, a in enumerate(series):
            for j, b in enumerate(one[: pairs + 1 - i]):
                longer[i + j] += a * b
        series = longer
    found = series[pairs] if len(series) > pairs else 0.0
    return found * factorial(pairs) / values**pairs
