"""Passages from texts, and answers from passages: chunks, a reader that votes, `rag_answer`.

Part of `nnlib.language.retrieval`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nnlib import checks
from nnlib.language._retrieval_lexical import Found, words


def window_chunks(text: str, size: int, overlap: int = 0) -> list[str]:
    """Cut a text into windows of so many words, the last perhaps shorter.

    Args:
        text: any text; one without words gives none.
        size: words of a window, ≥ 1.
        overlap: words that a window shares with the one before, 0 … size − 1.

    Example:
        >>> window_chunks("a b c d e", size=3, overlap=1)
        ['a b c', 'c d e']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    size = checks.count("size", size)
    overlap = checks.count("overlap", overlap, least=0)
    if overlap >= size:
        raise ValueError(f"overlap={overlap} must be below size={size}")
    parts = text.split()
    step = size - overlap
    starts = range(0, max(1, len(parts) - overlap), step) if parts else ()
    return [" ".join(parts[at : at + size]) for at in starts]


def paragraph_chunks(text: str, least: int = 1) -> list[str]:
    r"""Cut a text at blank lines, and join what is shorter than `least` words to what follows.

    Args:
        text: any text; one without words gives none.
        least: words that a passage has, but for the last, which may have fewer; ≥ 1.

    Example:
        >>> paragraph_chunks("A title\n\nand its text.\n\nMore text here.", least=4)
        ['A title\n\nand its text.', 'More text here.']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    least = checks.count("least", least)
    passages, waiting, size = [], [], 0
    for paragraph in re.split(r"\n\s*\n", text):
        if not paragraph.strip():
            continue
        waiting.append(paragraph.strip("\n"))
        size += len(words(paragraph))
        if size >= least:
            passages.append("\n\n".join(waiting))
            waiting, size = [], 0
    return passages + (["\n\n".join(waiting)] if waiting else [])


class Reading(NamedTuple):
    """What a reader says.

    Attributes:
        text: the answer; "" if it has none.
        source: which of the passages it read says so, counted from 0; −1 if none does.
        confidence: 0 … 1, the answer's share of the votes.
    """

    text: str
    source: int
    confidence: float


Read = Callable[[str, Sequence[str], Sequence[float]], Reading]
"""Takes a question, passages and their scores."""


class VotingReader:
    r"""Answers with one of given names, by a vote of the passages: equation `retrieval-vote`.

    Every passage votes for all names that it holds, with its score, and a name's votes are
    divided by $\sqrt{n_a}$, where $n_a$ passages of the whole collection hold it: a name that
    stands everywhere is no answer.

    Args:
        names: what may be an answer, each a word or more.
        passages: the whole collection, which tells how common each name is.
        find: takes a passage and returns the names in it; None looks for them as whole words.
        damped: whether votes are divided.

    Example:
        >>> passages = ["`len` counts items", "`abs` drops the sign; see `len`", "`len` again"]
        >>> reader = VotingReader(["len", "abs"], passages)
        >>> reader("the sign", passages[1:2], [2.0])
        Reading(text='abs', source=0, confidence=0.63...)
    """

    def __init__(
        self,
        names: Sequence[str],
        passages: Sequence[str],
        find: Callable[[str], Collection[str]] | None = None,
        *,
        damped: bool = True,
    ):
        for argument, value in (("names", names), ("passages", passages)):
            given = isinstance(value, Sequence) and not isinstance(value, str | bytes)
            if (
                not given
                or not value
                or not all(isinstance(each, str) for each in value)
            ):
                raise TypeError(
                    f"{argument} must be one string or more, got {value!r:.60}"
                )
        self.damped = checks.flag("damped", damped)
        self._patterns = {
            name: re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in names
        }
        self.find = find or self._search
        self._known = {passage: self._names_in(passage) for passage in set(passages)}
        held = Counter(name for passage in passages for name in self._known[passage])
        self.held_by = {name: held[name] for name in names}

    def _names_in(self, passage: str) -> list[str]:
        """Return the names that may be answers in a passage, each once."""
        return [
            name for name in dict.fromkeys(self.find(passage)) if name in self._patterns
        ]

    def _search(self, passage: str) -> list[str]:
        return [
            name for name, pattern in self._patterns.items() if pattern.search(passage)
        ]

    def __call__(
        self, question: str, passages: Sequence[str], scores: Sequence[float]
    ) -> Reading:
        """Return the name with most votes, and the passage that gave it the most."""
        votes: dict[str, list[tuple[float, int]]] = {}
        for at, (passage, score) in enumerate(zip(passages, scores, strict=True)):
            held = self._known.get(passage)
            for name in self._names_in(passage) if held is None else held:
                votes.setdefault(name, []).append((float(score), -at))
        totals = {
            name: sum(score for score, _ in given) / self._divisor(name)
            for name, given in votes.items()
        }
        if not totals:
            return Reading("", -1, 0.0)
        best = max(totals, key=lambda name: totals[name])  # eq. retrieval-vote
        whole = sum(totals.values())
        share = totals[best] / whole if whole > 0 else 1 / len(totals)
        return Reading(best, -max(votes[best])[1], share)

    def _divisor(self, name: str) -> float:
        return math.sqrt(max(1, self.held_by[name])) if self.damped else 1.0


@dataclass(frozen=True)
class Answer:
    """An answer with what it stands on.

    Attributes:
        text: the answer, "" for "I do not know".
        sources: numbers of the passages that were read, the best first.
        cited: the one among them that says so, or None.
        confidence: as the reader has it.
    """

    text: str
    sources: list[int]
    cited: int | None
    confidence: float


def rag_answer(
    question: str,
    search: Callable[[str, int], Found],
    read: Read,
    passages: Sequence[str],
    k: int = 5,
    least: float = 0.0,
) -> Answer:
    """Look up passages for a question, and answer with them in view: equation `retrieval-rag`.

    Args:
        question: any text.
        search: takes a question and k, returns the best passages, such as `BM25.search`.
        read: takes question, passages and scores, and returns what it reads there and where; a
            language model behind a prompt, or `VotingReader`.
        passages: the collection that `search` numbers.
        k: how many are read, ≥ 1; fewer if fewer are found.
        least: confidence below which the answer is "".

    Example:
        >>> from nnlib.language.retrieval import BM25
        >>> passages = ["`len` counts the items", "`abs` drops the sign"]
        >>> reader = VotingReader(["len", "abs"], passages)
        >>> rag_answer("What drops a sign?", BM25(passages).search, reader, passages)
        Answer(text='abs', sources=[1], cited=1, confidence=1.0)

    Source: the retrieve-then-read form of Chen et al. 2017, and of Lewis et al. 2020 (RAG).
    """
    if not isinstance(question, str):
        raise TypeError(f"question must be a string, got {type(question).__name__}")
    for name, given in (("search", search), ("read", read)):
        if not callable(given):
            raise TypeError(f"{name} must be a function, got {type(given).__name__}")
    if isinstance(passages, str) or not isinstance(passages, Sequence) or not passages:
        raise TypeError(
            f"passages must be a sequence of one string or more, got {passages!r:.60}"
        )
    k = checks.count("k", k)
    least = checks.number("least", least, least=0, most=1)
    found = search(question, k)
    ids = torch.as_tensor(found.ids).flatten()
    kept = ids >= 0
    sources = ids[kept].tolist()
    if any(at >= len(passages) for at in sources):
        raise ValueError(
            f"passages must be those that search numbers: {len(passages)} are given, "
            f"and it found number {max(sources)}"
        )
    scores = torch.as_tensor(found.scores).flatten()[kept].tolist()
    if not sources:
        return Answer("", [], None, 0.0)
    reading = read(question, [passages[at] for at in sources], scores)
    if not reading.text or reading.confidence < least:
        return Answer("", sources, None, reading.confidence)
    cited = sources[reading.source] if reading.source >= 0 else None
    return Answer(reading.text, sources, cited, reading.confidence)
