"""Unigram: of all cuts of a text the most probable one, and how to learn what is probable.

Part of `nnlib.language.tokenization`.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.language._text import as_string, count_pieces, looked_up


class UnigramTokenizer:
    r"""Unigram: the cut whose pieces are together the most probable.

    A cut s of a text has probability $\prod_i p(s_i)$, and the best one is found by dynamic
    programming (equation `tokenization-viterbi`). Training begins with too many pieces and drops
    those whose loss costs the likelihood least. A space is written "▁" and begins a word.

    Args:
        vocabulary: piece → natural logarithm of its probability, in the order of their numbers.
        unknown: what stands for letters that no piece has; it gets the number 0 if it is no piece.

    Example:
        >>> tokenizer = UnigramTokenizer({"<unk>": 0.0, "▁": -3, "a": -2, "b": -2, "▁ab": -4})
        >>> tokenizer.tokens("ab a"), tokenizer.decode(tokenizer.encode("ab a"))
        (['▁ab', '▁', 'a'], 'ab a')

    Source: Kudo 2018. The pieces' log-probabilities are given, as in SentencePiece.
    """

    def __init__(self, vocabulary: Mapping[str, float], unknown: str = "<unk>"):
        if unknown not in vocabulary:
            vocabulary = {unknown: 0.0} | dict(vocabulary)
        if len(vocabulary) < 2 or "" in vocabulary:
            raise ValueError("vocabulary must hold a piece or more, none of them empty")
        self.vocabulary = {
            piece: checks.number(f"vocabulary[{piece!r}]", value, most=0)
            for piece, value in vocabulary.items()
        }
        self.unknown = unknown
        self.numbers = {piece: at for at, piece in enumerate(self.vocabulary)}
        self._scores = {p: v for p, v in self.vocabulary.items() if p != unknown}
        self._longest = max(map(len, self._scores))
        self._unseen = min(self.vocabulary.values()) - 10  # as SentencePiece has it
        self._texts = list(self.vocabulary)

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        unknown: str = "<unk>",
        *,
        max_length: int = 8,
        rounds: int = 2,
        keep: float = 0.75,
        start: int = 4,
    ) -> "UnigramTokenizer":
        """Learn pieces and their probabilities by expectation–maximisation, and prune.

        Args:
            text: one text, or several.
            vocab_size: pieces in all, more than the text has letters.
            unknown: as for the class.
            max_length: letters of the longest piece, ≥ 1.
            rounds: of expectation–maximisation before each pruning, ≥ 1.
            keep: the share of pieces that a pruning keeps, between 0 and 1.
            start: the training begins with so many times `vocab_size` pieces, ≥ 1.
        """
        checks.count("max_length", max_length)
        checks.count("rounds", rounds)
        checks.count("start", start)
        keep = checks.number("keep", keep, above=0, below=1)
        words = count_pieces(text, _spaced)
        letters = Counter[str]()
        for word, n in words.items():
            for letter in word:
                letters[letter] += n
        vocab_size = checks.count("vocab_size", vocab_size, least=len(letters) + 1)
        found = Counter[str]()
        for word, n in words.items():
            for at in range(len(word)):
                for end in range(at + 2, min(len(word), at + max_length) + 1):
                    found[word[at:end]] += n
        seeds = {piece: n * len(piece) for piece, n in found.items() if n > 1}
        room = max(start * vocab_size - len(letters), 0)
        best = sorted(seeds, key=lambda piece: (-seeds[piece], piece))[:room]
        counts: dict[str, float] = dict(letters)
        counts |= {piece: float(found[piece]) for piece in best}
        wanted = vocab_size - 1
        while True:
            for _ in range(rounds):
                model = cls(normalized(counts), unknown)
                expected = model._expected(words)  # eq. tokenization-em
                # a letter stays, however rarely it stands alone
                counts = {
                    piece: max(often, 1e-3 if piece in letters else 0.0)
                    for piece in counts
                    if (often := expected.get(piece, 0.0)) >= 0.5 or piece in letters
                }
            if len(counts) <= wanted:
                break
            model = cls(normalized(counts), unknown)
            losses = model._losses(words)
            spare = sorted(
                (piece for piece in counts if piece not in letters),
                key=lambda piece: (-losses.get(piece, 0.0), piece),
            )
            size = max(wanted, int(keep * len(counts)))
            kept = {*letters, *spare[: size - len(letters)]}
            counts = {piece: n for piece, n in counts.items() if piece in kept}
        ordered = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(normalized({piece: counts[piece] for piece in ordered}), unknown)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokens(self, text: str) -> list[str]:
        """Return the pieces of a text; letters that no piece has stay as they are, joined."""
        return [
            piece for word in _spaced(as_string(text)) for piece in self._best(word)
        ]

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's pieces."""
        other = self.numbers[self.unknown]
        return [
            self.numbers[piece] if piece in self._scores else other
            for piece in self.tokens(text)
        ]

    def decode(self, ids: Iterable[int] | Int[Tensor, " n"]) -> str:
        """Return the text of pieces; one space at its beginning is not kept.

        Args:
            ids: numbers of pieces.
        """
        texts = dict(enumerate(self._texts))
        return "".join(looked_up(texts, ids)).replace("▁", " ").removeprefix(" ")

    def sample(
        self,
        text: str,
        alpha: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        r"""Draw a cut with probability $\propto p(s)^\alpha$ (equation `tokenization-sampling`).

        Args:
            text: in letters that pieces have.
            alpha: 0 draws from all cuts alike; the larger, the more often the best one; ≥ 0.
            generator: of torch; its own if None.

        Raises:
            ValueError: a letter that no piece has.
        """
        alpha = checks.number("alpha", alpha, least=0)
        found: list[str] = []
        for word in _spaced(as_string(text)):
            before = self._forward(word, alpha)
            if before[-1] == -math.inf:
                raise ValueError(f"text holds {word!r}, which no pieces make up")
            cut, end = [], len(word)
            while end:
                ways = self._ending(word, end, before, alpha)
                shares = torch.tensor([math.exp(way - before[end]) for way, _ in ways])
                chosen = int(torch.multinomial(shares, 1, generator=generator))
                at = ways[chosen][1]
                cut.append(word[at:end])
                end = at
            found += reversed(cut)
        return found

    def log_probability(self, text: str) -> float:
        r"""Return $\log p(x)$, the sum over all cuts (equation `tokenization-unigram`).

        Args:
            text: in letters that pieces have; minus infinity otherwise.
        """
        words = _spaced(as_string(text))
        return math.fsum(self._forward(word, 1.0)[-1] for word in words)

    def _best(self, word: str) -> list[str]:
        """Return the most probable cut: eq. tokenization-viterbi."""
        best, came = [0.0] + [-math.inf] * len(word), [-1] * (len(word) + 1)
        unseen = [False] * (len(word) + 1)
        for at in range(len(word)):
            for end in range(at + 1, min(len(word), at + self._longest) + 1):
                score = self._scores.get(word[at:end])
                if score is not None and score + best[at] > best[end]:
                    best[end], came[end], unseen[end] = score + best[at], at, False
            if word[at] not in self._scores and self._unseen + best[at] > best[at + 1]:
                best[at + 1] = self._unseen + best[at]
                came[at + 1], unseen[at + 1] = at, True
        cut, end = [], len(word)
        while end:
            at = came[end]
            while unseen[end] and at and unseen[at]:  # several unseen letters are one
                at = came[at]
            cut.append(word[at:end])
            end = at
        return cut[::-1]

    def _ending(
        self, word: str, end: int, before: list[float], alpha: float
    ) -> list[tuple[float, int]]:
        """Return log-weights of the pieces that end at a place, and where they begin."""
        return [
            (before[at] + alpha * score, at)
            for at in range(max(0, end - self._longest), end)
            if (score := self._scores.get(word[at:end])) is not None
        ]

    def _forward(self, word: str, alpha: float) -> list[float]:
        """Return, for each place, the logarithm of the sum over all cuts up to it."""
        before = [0.0]
        for end in range(1, len(word) + 1):
            ways = [way for way, _ in self._ending(word, end, before, alpha)]
            most = max(ways, default=-math.inf)
            if most > -math.inf:
                most += math.log(sum(math.exp(way - most) for way in ways))
            before.append(most)
        return before

    def _expected(self, words: Mapping[str, int]) -> dict[str, float]:
        """Return how often each piece is expected in the cuts of words, all cuts weighed."""
        expected: dict[str, float] = defaultdict(float)
        scores, longest, exp = self._scores, self._longest, math.exp
        for word, n in words.items():
            before = self._forward(word, 1.0)
            after = [-math.inf] * len(word) + [0.0]
            for at in range(len(word) - 1, -1, -1):
                ways = []
                for end in range(at + 1, min(len(word), at + longest) + 1):
                    piece = word[at:end]
                    if (score := scores.get(piece)) is not None:
                        way = score + after[end]
                        ways.append(way)
                        expected[piece] += n * exp(before[at] + way - before[-1])
                most = max(ways)
                after[at] = most + math.log(sum(exp(way - most) for way in ways))
        return expected

    def _losses(self, words: Mapping[str, int]) -> dict[str, float]:
        """Return what the likelihood of the best cuts loses without each piece."""
        used: dict[str, int] = defaultdict(int)
        for word, n in words.items():
            for piece in self._best(word):
                used[piece] += n
        losses = {}
        for piece, n in used.items():
            if len(piece) > 1:
                score = self._scores.pop(piece)
                instead = sum(self._scores[part] for part in self._best(piece))
                self._scores[piece] = score
                losses[piece] = n * (score - instead)
        return losses


def _spaced(text: str) -> list[str]:
    """Return the words of a text with "▁" for the space before each."""
    text = text.replace(" ", "▁")
    if not text:
        return []
    return re.findall("▁[^▁]*", text if text[0] == "▁" else "▁" + text)


def normalized(counts: Mapping[str, float]) -> dict[str, float]:
    total = math.log(math.fsum(counts.values()))
    return {piece: min(math.log(n) - total, 0.0) for piece, n in counts.items()}
