"""Text as word2vec reads it: counted words, what is dropped, noise, pairs and phrases.

Axes: n words of a text, v words of the vocabulary, p pairs.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.data.text import Vocabulary

FORMS = ("code", "paper")


@dataclass(frozen=True)
class Corpus:
    """A text in numbers.

    Attributes:
        vocabulary: words and their numbers, the most frequent word first.
        counts: how often each word occurs, v.
        ids: the words of the text in order, n.
        sentence: the number of the sentence that each of them stands in, n.
    """

    vocabulary: Vocabulary
    counts: Int[Tensor, " v"]
    ids: Int[Tensor, " n"]
    sentence: Int[Tensor, " n"]


def a_corpus(value: Any) -> Corpus:
    """Return `value` when it is a text in numbers."""
    if not isinstance(value, Corpus):
        raise TypeError(f"text must be a Corpus, got {type(value).__name__}")
    return value


def corpus(sentences: Iterable[Sequence[str]], min_count: int = 5) -> Corpus:
    """Count the words of sentences, and write the text in numbers.

    Rare words are left out of the text as well, so that their neighbours move together, as in
    word2vec's own code.

    Args:
        sentences: each a sequence of words.
        min_count: how often a word must occur to be kept, ≥ 1.

    Returns:
        The text; words of equal count stand in alphabetical order.

    Raises:
        ValueError: the sentences hold no words, or fewer than two are frequent enough.

    Example:
        >>> text = corpus([["the", "cat"], ["the", "dog"]], min_count=1)
        >>> text.vocabulary.tokens, text.ids.tolist(), text.sentence.tolist()
        (['the', 'cat', 'dog'], [0, 1, 0, 2], [0, 0, 1, 1])
    """
    checks.count("min_count", min_count)
    if not isinstance(sentences, Iterable):
        raise TypeError(f"sentences={sentences!r} must hold sequences of words")
    read = list(sentences)
    if any(isinstance(words, str) for words in read):
        raise TypeError("sentences must hold sequences of words, got a string")
    for words in read:
        if not isinstance(words, Sequence) or not all(
            isinstance(w, str) for w in words
        ):
            raise TypeError(f"sentences must hold sequences of words, got {words!r}")
    counted = Counter(word for words in read for word in words)
    if not counted:
        raise ValueError("sentences holds no words")
    kept = sorted(
        (-times, word) for word, times in counted.items() if times >= min_count
    )
    if len(kept) < 2:
        raise ValueError(
            f"min_count={min_count} leaves {len(kept)} of {len(counted)} words, it takes 2 or more"
        )
    vocabulary = Vocabulary(word for _, word in kept)
    known = vocabulary.numbers
    rows = [[known[word] for word in words if word in known] for words in read]
    lengths = torch.tensor([len(row) for row in rows])
    return Corpus(
        vocabulary=vocabulary,
        counts=torch.tensor([-times for times, _ in kept]),
        ids=torch.tensor([number for row in rows for number in row]),
        sentence=torch.arange(len(rows)).repeat_interleave(lengths),
    )


def keep_probability(
    counts: Int[Tensor, " v"], threshold: float = 1e-3, form: str = "code"
) -> Float[Tensor, " v"]:
    r"""Return the probability with which each word stays in the text when it is subsampled.

    With $f$ the word's share of the text and $t$ the threshold, the paper's form is
    $\sqrt{t/f}$ (equation `word2vec-subsample`), the code's $\sqrt{t/f} + t/f$
    (`word2vec-subsample-code`); both are cut at 1.

    Args:
        counts: of each word, ≥ 0, not all zero.
        threshold: t, > 0; about 10⁻⁵ for billions of words, 10⁻³ for a million.
        form: "code" or "paper".

    Example:
        >>> keep_probability(torch.tensor([900, 100]), 0.1, "paper").round(decimals=3).tolist()
        [0.333, 1.0]

    Source: Mikolov et al. 2013, Distributed representations; word2vec.c.
    """
    threshold = checks.number("threshold", threshold, above=0)
    checks.one_of("form", form, FORMS)
    ratio = threshold / shares(
        counts
    )  # infinite for a word that never occurs, which stays
    kept = ratio.sqrt() + (
        ratio if form == "code" else 0
    )  # eq. word2vec-subsample(-code)
    return kept.clamp(max=1)


def noise_distribution(
    counts: Int[Tensor, " v"], power: float = 0.75
) -> Float[Tensor, " v"]:
    r"""Return the distribution of negative samples, $q(w) \propto \mathrm{count}(w)^{0.75}$.

    Equation `word2vec-noise`. A power of 1 is the words' own distribution, 0 the uniform one.

    Args:
        counts: of each word, ≥ 0, not all zero.
        power: ≥ 0.

    Example:
        >>> noise_distribution(torch.tensor([16, 1]), 0.75)
        tensor([0.8889, 0.1111], dtype=torch.float64)

    Source: Mikolov et al. 2013, Distributed representations.
    """
    power = checks.number("power", power, least=0)
    part = shares(counts)
    raised = (part / part.max()) ** power  # the largest stays 1, whatever the power
    return raised / raised.sum()  # eq. word2vec-noise


def shares(counts: Int[Tensor, " v"]) -> Float[Tensor, " v"]:
    """Return each word's share of the text, in double precision."""
    checks.tensor("counts", counts, shape=("v",), floating=False, empty=False)
    if counts.min() < 0 or counts.max() == 0:
        raise ValueError("counts must be 0 or more, and not all of them 0")
    return counts.double() / counts.sum()


def window_pairs(
    ids: Int[Tensor, " n"],
    sentence: Int[Tensor, " n"],
    reach: Int[Tensor, " n"] | int,
) -> Int[Tensor, "2 p"]:
    """Return the pairs of a skip-gram model: each word above each one within its reach.

    Args:
        ids: words of a text in order.
        sentence: the sentence of each; no pair crosses from one into another.
        reach: how far each word looks to either side, ≥ 0; one number for all, or one each.

    Returns:
        Centres above contexts, sorted by the distance between them.

    Example:
        >>> window_pairs(torch.tensor([7, 8, 9]), torch.tensor([0, 0, 0]), 1)
        tensor([[7, 8, 8, 9],
                [8, 9, 7, 8]])
    """
    checks.tensor("ids", ids, shape=("n",), floating=False)
    checks.tensor("sentence", sentence, shape=(len(ids),), floating=False)
    if isinstance(reach, int):
        reach = torch.full_like(ids, checks.count("reach", reach, least=0))
    checks.tensor("reach", reach, shape=(len(ids),), floating=False)
    found = [ids.new_zeros(2, 0)]
    farthest = min(int(reach.max()), len(ids) - 1) if len(reach) else 0
    for distance in range(1, farthest + 1):
        first, second = slice(None, -distance), slice(distance, None)
        together = sentence[first] == sentence[second]
        for centre, context in ((first, second), (second, first)):
            seen = together & (reach[centre] >= distance)
            found.append(torch.stack([ids[centre][seen], ids[context][seen]]))
    return torch.cat(found, 1)


def phrase_scores(text: Corpus, discount: float = 5.0) -> dict[tuple[str, str], float]:
    r"""Return how much each pair of neighbours is one phrase, largest score first.

    Equation `word2vec-phrase`: the pair's count less a discount, over the product of both words'
    counts, times the length of the text. Pairs that score above a threshold become one token, and
    a second pass over the new text finds phrases of three words and four.

    Args:
        text: as `corpus` makes it.
        discount: what is taken off each count, ≥ 0, so that rare pairs do not lead.

    Example:
        >>> text = corpus([["new", "york"]] * 8 + [["new", "car"], ["old", "york"]], 1)
        >>> max(phrase_scores(text, 1.0).items(), key=lambda item: item[1])[0]
        ('new', 'york')

    Source: Mikolov et al. 2013, Distributed representations, section 4; the factor of the length is
    the code's.
    """
    a_corpus(text)
    discount = checks.number("discount", discount, least=0)
    size = len(text.counts)
    together = text.sentence[:-1] == text.sentence[1:]
    keys = (text.ids[:-1] * size + text.ids[1:])[together]
    keys, times = torch.unique(keys, return_counts=True)
    first, second = keys // size, keys % size
    product = text.counts[first].double() * text.counts[second]
    score = (times - discount) / product * len(text.ids)  # eq. word2vec-phrase
    order = score.argsort(descending=True, stable=True)
    words = text.vocabulary.tokens
    return {
        (words[one], words[other]): value
        for one, other, value in zip(
            first[order].tolist(),
            second[order].tolist(),
            score[order].tolist(),
            strict=True,
        )
        if math.isfinite(value)
    }
