"""Retrieval by the words that a query and a passage share: an inverted index, tf-idf and BM25.

Part of `nnlib.language.retrieval`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

Tokenize = Callable[[str], Sequence[str]]
VARIANTS = ("lucene", "robertson", "atire")
"""The forms of `BM25`: they differ in the idf and in a constant factor."""

_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")


class Found(NamedTuple):
    """What a search returns, the best first.

    Attributes:
        ids: numbers of passages; −1 fills a row of a batch that has fewer.
        scores: of each, falling; −∞ where `ids` is −1.
        compared: how much was looked at for each query, entries of lists or vectors; None if that
            was not counted.
    """

    ids: Int[Tensor, "... k"]
    scores: Float[Tensor, "... k"]
    compared: Int[Tensor, "..."] | None = None


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: letters and digits, joined by underscores.

    Example:
        >>> words("Call `os.path_join(A)`, or __init__?")
        ['call', 'os', 'path_join', 'a', 'or', 'init']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return _WORD.findall(text.lower())


def cut(name: str, texts: Sequence[str], tokenize: Tokenize) -> list[list[str]]:
    """Return the words of each of one text or more."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise TypeError(f"{name} must be a sequence of strings, got {texts!r:.60}")
    if not texts:
        raise ValueError(f"{name} must hold one text or more, got none")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{at}] must be a string, got {type(text).__name__}")
    if not callable(tokenize):
        raise TypeError(
            f"tokenize must take a text and return its words, got {tokenize!r}"
        )
    return [list(tokenize(text)) for text in texts]


def best_first(scores: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """Return the numbers of the k largest, the earlier of two equal ones first."""
    k = min(k, len(scores))
    if not k:
        return torch.zeros(0, dtype=torch.int64)
    least = scores.topk(k).values[-1]
    among = (scores >= least).nonzero()[:, 0]
    order = scores[among].argsort(descending=True, stable=True)
    return among[order[:k]]


class BM25:
    r"""An inverted index whose passages are ranked by BM25: equation `retrieval-bm25`.

    $s(q, d) = \sum_{t \in q} \mathrm{idf}(t)\,
    \bigl(\frac{f}{f + k_1 (1 - b + b\,|d|/\overline{|d|})} + \delta\,[f > 0]\bigr)$ with f, how
    often t stands in d. What each word adds to each passage that holds it is computed once, when
    the index is built; a query then adds up the lists of its words.

    Args:
        documents: one passage or more; a passage with no word is never found.
        k1: how slowly further occurrences of a word stop counting, ≥ 0; at 0 only presence counts.
        b: how far a passage's length is held against it, 0 … 1.
        variant: "lucene" (idf `retrieval-idf`), "robertson" (idf `retrieval-idf-robertson`, not
            below 0) or "atire" (idf `retrieval-idf-atire`, and a factor k₁ + 1).
        delta: what a word adds at least where it occurs, ≥ 0: BM25+ has 1.
        tokenize: makes words of a text, here and in a query.

    Attributes:
        vocabulary: word → its number.
        lengths: words of each passage.
        idf: of each word.

    Example:
        >>> index = BM25(["a list of words", "a dict maps keys to values", "words of a text"])
        >>> index.search("words in a list", k=2).ids.tolist()
        [0, 2]

    Source: Robertson et al. 1994 (Okapi at TREC-3); the forms as in Kamphuis et al. 2020; delta:
    Lv and Zhai 2011.
    """

    def __init__(
        self,
        documents: Sequence[str],
        k1: float = 1.2,
        b: float = 0.75,
        *,
        variant: str = "lucene",
        delta: float = 0.0,
        tokenize: Tokenize = words,
    ):
        self.k1 = checks.number("k1", k1, least=0)
        self.b = checks.number("b", b, least=0, most=1)
        self.delta = checks.number("delta", delta, least=0)
        self.variant = checks.one_of("variant", variant, VARIANTS)
        self.tokenize = tokenize
        counts = [Counter(found) for found in cut("documents", documents, tokenize)]
        self.vocabulary: dict[str, int] = {}
        for counted in counts:
            for word in counted:
                self.vocabulary.setdefault(word, len(self.vocabulary))
        self.lengths = torch.tensor(
            [sum(c.values()) for c in counts], dtype=torch.float32
        )
        self._invert(counts)
        self.idf = _idf(self._sizes, len(counts), variant)
        self._weights = self._weigh()

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.lengths)

    def _invert(self, counts: Sequence[Mapping[str, int]]) -> None:
        """Sort what stands where by word: passage numbers and counts, one list after the other."""
        word = torch.tensor(
            [self.vocabulary[w] for c in counts for w in c], dtype=torch.int64
        )
        place = torch.tensor(
            [d for d, c in enumerate(counts) for _ in c], dtype=torch.int64
        )
        times = torch.tensor(
            [n for c in counts for n in c.values()], dtype=torch.float32
        )
        order = word.argsort(stable=True)
        self._documents, self._counts = place[order], times[order]
        self._sizes = torch.bincount(word, minlength=len(self.vocabulary))
        self._ends = [0, *self._sizes.cumsum(0).tolist()]

    def _weigh(self) -> Float[Tensor, " _"]:
        """Return what each word adds to each passage that holds it."""
        mean = self.lengths.mean().clamp(min=1e-9)
        norm = self.k1 * (1 - self.b + self.b * self.lengths / mean)
        times = self._counts
        share = times / (times + norm[self._documents])  # eq. retrieval-bm25
        if self.variant == "atire":
            share = share * (self.k1 + 1)
        return self.idf.repeat_interleave(self._sizes) * (share + self.delta)

    def postings(self, word: str) -> tuple[Int[Tensor, " _"], Int[Tensor, " _"]]:
        """Return the passages that hold a word, and how often; none for an unknown word.

        Example:
            >>> BM25(["to be or not to be", "to do"]).postings("to")
            (tensor([0, 1]), tensor([2, 1]))
        """
        start, end = self._range(word)
        return self._documents[start:end], self._counts[start:end].long()

    def _range(self, word: str) -> tuple[int, int]:
        number = self.vocabulary.get(word)
        return (
            (0, 0) if number is None else (self._ends[number], self._ends[number + 1])
        )

    def _asked(self, query: str) -> Counter[str]:
        """Return the words of a query, and how often each stands in it."""
        if not isinstance(query, str):
            raise TypeError(f"query must be a string, got {type(query).__name__}")
        return Counter(self.tokenize(query))

    def scores(self, query: str) -> Float[Tensor, " n"]:
        """Return the score of every passage; a word that stands twice in the query counts twice."""
        total = torch.zeros(len(self))
        for word, times in self._asked(query).items():
            start, end = self._range(word)
            total.index_add_(
                0, self._documents[start:end], self._weights[start:end], alpha=times
            )
        return total

    def explain(self, query: str, document: int) -> dict[str, float]:
        """Return what each word of a query adds to the score of one passage, the most first.

        Example:
            >>> index = BM25(["a list", "a dict"])
            >>> list(index.explain("is it a list?", 0))
            ['list', 'a']
        """
        document = checks.count("document", document, least=0)
        if document >= len(self):
            raise ValueError(
                f"document={document} must be below {len(self)}, the passages"
            )
        adds = {}
        for word, times in self._asked(query).items():
            start, end = self._range(word)
            at = (self._documents[start:end] == document).nonzero()
            if len(at):
                adds[word] = times * self._weights[start + int(at[0])].item()
        return dict(sorted(adds.items(), key=lambda pair: -pair[1]))

    def search(self, query: str, k: int) -> Found:
        """Return the k best passages; fewer if fewer hold a word of the query.

        Args:
            query: any text; one without a known word finds nothing.
            k: how many, ≥ 1.
        """
        k = checks.count("k", k)
        scores = self.scores(query)
        holds, read = torch.zeros(len(self), dtype=torch.bool), 0
        for word in self._asked(query):
            start, end = self._range(word)
            holds[self._documents[start:end]] = True
            read += end - start
        among = holds.nonzero()[:, 0]
        ids = among[best_first(scores[among], k)]
        return Found(ids, scores[ids], torch.tensor(read))


def _idf(sizes: Int[Tensor, " v"], n: int, variant: str) -> Float[Tensor, " v"]:
    held = sizes.double()
    odds = (n - held + 0.5) / (held + 0.5)
    if variant == "lucene":
        idf = (1 + odds).log()  # eq. retrieval-idf
    elif variant == "robertson":
        idf = odds.clamp(min=1).log()  # eq. retrieval-idf-robertson, not below 0
    else:
        idf = (n / held).log()  # eq. retrieval-idf-atire
    return idf.float()


def bag_of_words(
    texts: Sequence[str], vocabulary: Mapping[str, int], tokenize: Tokenize = words
) -> Float[Tensor, "n v"]:
    """Return how often each word of a vocabulary stands in each text; other words are left out.

    Args:
        texts: one or more.
        vocabulary: word → its column, 0 … v − 1, such as `BM25.vocabulary`.
        tokenize: makes words of a text.

    Example:
        >>> bag_of_words(["no, no!", "yes"], {"no": 0, "yes": 1})
        tensor([[2., 0.],
                [0., 1.]])
    """
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise TypeError("vocabulary must map one word or more to its column")
    found_in = cut("texts", texts, tokenize)
    bags = torch.zeros(len(found_in), len(vocabulary))
    for row, found in zip(bags, found_in, strict=True):
        columns = [vocabulary[word] for word in found if word in vocabulary]
        row += torch.bincount(
            torch.tensor(columns, dtype=torch.int64), minlength=len(vocabulary)
        )
    return bags


def tf_idf(
    bags: Float[Tensor, "n v"], idf: Float[Tensor, " v"] | None = None
) -> Float[Tensor, "n v"]:
    r"""Return unit vectors of the weights $(1 + \log f)\,\mathrm{idf}$: equation `retrieval-tfidf`.

    Args:
        bags: how often each word stands in each text.
        idf: of each word; None counts it in `bags`, as $1 + \log\frac{1 + n}{1 + n_t}$, with which
            no word has weight 0.

    Returns:
        A row for each text; its products with others are cosines. A text without words is 0.

    Example:
        >>> tf_idf(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        tensor([[1., 0.],
                [0., 1.]])

    Source: Spärck Jones 1972; Salton and Buckley 1988.
    """
    checks.tensor("bags", bags, shape=("n", "v"), floating=True)
    if checks.readable(bags) and bool((bags < 0).any()):
        raise ValueError("bags must hold counts ≥ 0, got negative ones")
    if idf is None:
        idf = smooth_idf(bags)
    checks.tensor("idf", idf, shape=(bags.shape[1],), floating=True)
    weights = torch.where(bags > 0, 1 + bags.clamp(min=1e-9).log(), 0) * idf
    return torch.nn.functional.normalize(weights, dim=1)


def smooth_idf(bags: Float[Tensor, "n v"]) -> Float[Tensor, " v"]:
    r"""Return $1 + \log\frac{1 + n}{1 + n_t}$ of each word, for `tf_idf` of other texts.

    Example:
        >>> smooth_idf(torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        tensor([1.0000, 2.0986])
    """
    checks.tensor("bags", bags, shape=("n", "v"), floating=True)
    return 1 + math.log(1 + len(bags)) - (1 + (bags > 0).sum(0)).to(bags.dtype).log()
