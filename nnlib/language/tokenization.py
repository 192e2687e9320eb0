r"""Text as numbers: byte pair encoding, and WordPiece and unigram beside it.

A tokenizer cuts text into pieces that occur often and gives each its number. All three here learn
their pieces from text; they differ in which piece they learn next, and in how they cut.

Chapter: chapters/language/tokenization.md     Papers: Sennrich et al. 2016; Radford et al. 2019;
Schuster and Nakajima 2012; Kudo 2018
"""

import functools
import heapq
import itertools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.language import _patterns, _tokenizer_file

GPT2_PATTERN = _patterns.GPT2
SHORT = 48
"""Symbols of a piece up to which looking at every pair anew is the faster way."""
REMEMBERED = 2**16
"""Pieces whose tokens are kept, since most words come again and again."""

Pair = tuple[int, int]


class BPETokenizer:
    r"""Byte pair encoding: text as bytes, whose most frequent neighbours were merged, in order.

    Training merges $(a, b) = \arg\max_{(x, y)} N(xy)$ again and again (equation
    `tokenization-argmax`); encoding repeats the merges on a new text, the earliest learned first
    (`tokenization-rank`). Bytes are tokens too, so nothing is unknown.

    Args:
        merges: pairs of tokens, in the order in which they were learned.
        special_tokens: names of tokens that text cannot write, such as "<|endoftext|>"; they get
            the numbers after all others, or those that a mapping gives.
        pattern: cuts text into pieces, which no token crosses; for `regex`, with `\p{L}` and its
            kind.
        vocabulary: token → number; 0 … 255 are the bytes and merges follow in order if None.
        added_tokens: likewise, of tokens that are cut out of every text as they stand.
        normalization: "NFC", "NFD", "NFKC" or "NFKD" of the text, or None.
        prefix_space: whether a space is put before a text that begins with none.
        whole_pieces: whether a piece that is a token is taken whole, merges or not.

    Raises:
        ValueError: fewer than 256 bytes in the vocabulary, merges that contradict it or one
            another, or two tokens of one number.

    Example:
        >>> tokenizer = BPETokenizer.train("low lower lowest slow", vocab_size=258)
        >>> tokenizer.tokens("lowly")
        [b'low', b'l', b'y']
        >>> tokenizer.encode("lowly"), tokenizer.decode([257, 108, 121])
        ([257, 108, 121], 'lowly')

    Source: Sennrich, Haddow and Birch 2016; over bytes: Radford et al. 2019.
    """

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        *,
        pattern: str = GPT2_PATTERN,
        vocabulary: Mapping[bytes, int] | None = None,
        added_tokens: Mapping[str, int] | None = None,
        normalization: str | None = None,
        prefix_space: bool = False,
        whole_pieces: bool = False,
    ):
        self.pattern = pattern
        self._pattern = _patterns.compiled(pattern)
        self.normalization = checks.one_of(
            "normalization", normalization, (None, "NFC", "NFD", "NFKC", "NFKD")
        )
        self.prefix_space = checks.flag("prefix_space", prefix_space)
        self.whole_pieces = checks.flag("whole_pieces", whole_pieces)
        self.merges = [_a_merge(at, merge) for at, merge in enumerate(merges)]
        self.vocabulary = _vocabulary(self.merges, vocabulary)
        self._ranks = _ranks(self.merges, self.vocabulary)
        names = _names("special_tokens", special_tokens)
        if not isinstance(special_tokens, Mapping):
            first = 1 + max(self.vocabulary.values())
            special_tokens = dict(zip(names, itertools.count(first)))
        self.special_tokens = dict(special_tokens)
        self.added_tokens = dict(added_tokens or {})
        _names("added_tokens", self.added_tokens)
        self._bytes = {number: token for token, number in self.vocabulary.items()}
        for name, number in (self.special_tokens | self.added_tokens).items():
            self._bytes[number] = name.encode()
        count = sum(map(len, (self.vocabulary, self.special_tokens, self.added_tokens)))
        if len(self._bytes) < count:
            raise ValueError("vocabulary and special_tokens give two tokens one number")
        self._letters = [self.vocabulary[bytes([byte])] for byte in range(256)]
        self._known = _Known(self)

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        pattern: str = GPT2_PATTERN,
        min_count: int = 1,
    ) -> "BPETokenizer":
        """Learn merges from text, the most frequent pair first; of equals, the smaller numbers.

        Args:
            text: one text, or several.
            vocab_size: tokens in all, 256 bytes and special tokens among them. It stays smaller
                where the text holds too few pairs.
            special_tokens: as for the class; the text is cut where they stand in it.
            pattern: as for the class.
            min_count: a pair must occur so often to be merged, ≥ 1.
        """
        names = _names("special_tokens", special_tokens)
        least = 256 + len(names)
        vocab_size = checks.count("vocab_size", vocab_size, least=least)
        min_count = checks.count("min_count", min_count)
        cut = functools.partial(_pieces, _patterns.compiled(pattern))
        words = _count_pieces(text, cut, names)
        pairs = _Pairs({word.encode(): n for word, n in words.items()})
        tokens = [bytes([byte]) for byte in range(256)]
        number = {token: at for at, token in enumerate(tokens)}
        merges: list[tuple[bytes, bytes]] = []
        heap = [(-n, pair) for pair, n in pairs.counts.items()]
        heapq.heapify(heap)
        while heap and len(tokens) + len(names) < vocab_size:
            negative, pair = heapq.heappop(heap)  # eq. tokenization-argmax
            count = pairs.counts.get(pair, 0)
            if count < -negative:  # it has fallen since it was put here
                if count > 0:
                    heapq.heappush(heap, (-count, pair))
                continue
            if count < min_count:
                break
            left, right = (tokens[part] for part in pair)
            merges.append((left, right))
            new = number.setdefault(left + right, len(tokens))
            if new == len(tokens):
                tokens.append(left + right)
            for risen in pairs.merge(pair, new):
                heapq.heappush(heap, (-pairs.counts[risen], risen))
        return cls(merges, names, pattern=pattern)

    @classmethod
    def from_hugging_face(cls, model_or_path: Any) -> "BPETokenizer":
        """Return a byte-level BPE that was saved as a `tokenizer.json`.

        What a file adds before and after each text (its post-processor) is left to the caller.

        Args:
            model_or_path: the file, a folder that holds it, or a tokenizer of `tokenizers` or of
                `transformers`.

        Raises:
            ValueError: no such file, a damaged one, or one that asks for what is not supported.
        """
        found = _tokenizer_file.read(model_or_path)
        return cls(
            found.merges,
            found.special_tokens,
            pattern=found.pattern,
            vocabulary=found.vocabulary,
            added_tokens=found.added_tokens,
            normalization=found.normalization,
            prefix_space=found.prefix_space,
            whole_pieces=found.whole_pieces,
        )

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json`, which Hugging Face's tokenizers read.

        Args:
            path: the file, or a folder that exists.
        """
        file = Path(path)
        file = file / "tokenizer.json" if file.is_dir() else file
        contents = _tokenizer_file.Contents(
            self.vocabulary,
            self.merges,
            self.special_tokens,
            self.added_tokens,
            self.pattern,
            self.normalization,
            self.prefix_space,
            self.whole_pieces,
        )
        file.write_text(_tokenizer_file.written(contents), encoding="utf-8")

    def __len__(self) -> int:
        return len(self._bytes)

    def encode(
        self,
        text: str | bytes,
        special: str | Collection[str] = (),
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        """Return the numbers of a text's tokens.

        Args:
            text: a string, or any bytes, also such as are no text.
            special: the special tokens that are read as such, or "all" of them. The others are
                text like any other: whoever writes "<|endoftext|>" has written 13 letters.
            dropout: probability of overlooking a merge, 0 … 1 (BPE-dropout, for training only).
            generator: draws what is overlooked; torch's own if None.

        Raises:
            ValueError: a lone half of a surrogate pair, which no bytes stand for, or a name in
                `special` that is no special token.
        """
        dropout = checks.number("dropout", dropout, least=0, most=1)
        read = self._readable(special)
        text = _as_string(text)
        if not read:
            return self._encode_plain(text, dropout, generator)
        found: list[int] = []
        cut = _alternatives(read).split(text)
        for at, part in enumerate(cut):
            if at % 2:
                found.append(read[part])
            elif part:
                found += self._encode_plain(part, dropout, generator)
        return found

    def tokens(
        self, text: str | bytes, special: str | Collection[str] = ()
    ) -> list[bytes]:
        """Return the bytes of a text's tokens; arguments as for `encode`."""
        return [self._bytes[number] for number in self.encode(text, special)]

    def pieces(self, text: str | bytes) -> list[str]:
        """Return the pieces that a text is cut into before any merge, in order.

        Args:
            text: a string, or bytes.
        """
        return _pieces(self._pattern, _as_string(text))

    def decode_bytes(self, ids: Iterable[int] | Int[Tensor, " n"]) -> bytes:
        """Return the bytes that tokens stand for, joined.

        Args:
            ids: numbers of tokens.

        Raises:
            ValueError: a number that no token has.
        """
        found = []
        for at, number in enumerate(ids):
            token = self._bytes.get(int(number))
            if token is None:
                raise ValueError(
                    f"ids[{at}]={int(number)} is no token; the {len(self)} there are "
                    f"have numbers {min(self._bytes)} … {max(self._bytes)}"
                )
            found.append(token)
        return b"".join(found)

    def decode(self, ids: Iterable[int] | Int[Tensor, " n"]) -> str:
        """Return the text of tokens; bytes that are no text become U+FFFD.

        Args:
            ids: numbers of tokens.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def forget(self) -> None:
        """Drop the tokens of pieces that were met before, which are kept for speed alone."""
        self._known.clear()

    def _readable(self, special: str | Collection[str]) -> dict[str, int]:
        """Return the tokens that are cut out of a text as they stand."""
        if isinstance(special, str):
            if special != "all":
                raise ValueError(f"special={special!r} must be 'all' or several tokens")
            return self.special_tokens | self.added_tokens
        if lost := [name for name in special if name not in self.special_tokens]:
            raise ValueError(
                f"special={lost} must be among {list(self.special_tokens)}"
            )
        return {name: self.special_tokens[name] for name in special} | self.added_tokens

    def _encode_plain(
        self, text: str, dropout: float, generator: torch.Generator | None
    ) -> list[int]:
        """Return the tokens of text in which nothing is special."""
        if self.normalization:
            text = unicodedata.normalize(self.normalization, text)
        if self.prefix_space and text and text[0] != " ":
            text = " " + text
        found: list[int] = []
        for piece in _pieces(self._pattern, text):
            if dropout:
                letters = [self._letters[byte] for byte in _as_bytes(piece)]
                found += self._merged(letters, dropout, generator)
            else:
                found += self._known[piece]
        return found

    def _encode_piece(self, piece: str) -> list[int]:
        data = _as_bytes(piece)
        if self.whole_pieces and data in self.vocabulary:
            return [self.vocabulary[data]]
        letters = [self._letters[byte] for byte in data]
        return (self._merged if len(letters) <= SHORT else self._merged_long)(letters)

    def _merged(
        self,
        ids: list[int],
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        """Merge the pair that was learned first, wherever it stands, until none is left."""
        ranks = self._ranks
        while len(ids) > 1:
            possible = [
                (ranks[pair], at)
                for at, pair in enumerate(itertools.pairwise(ids))
                if pair in ranks
            ]
            if dropout:
                luck = torch.rand(len(possible), generator=generator).tolist()
                possible = [
                    each for each, x in zip(possible, luck, strict=True) if x >= dropout
                ]
            if not possible:
                break
            (_, new), at = min(possible)  # eq. tokenization-rank
            ids[at : at + 2] = [new]
        return ids

    def _merged_long(self, ids: list[int]) -> list[int]:
        """Do what `_merged` does, with the pairs in a heap: n log n steps in place of n²."""
        ranks, end = self._ranks, len(ids)
        after, before = list(range(1, end + 1)), list(range(-1, end - 1))
        heap: list[tuple[int, int, int, int, int]] = []

        def offer(at: int) -> None:
            if at >= 0 and after[at] < end:
                left, right = ids[at], ids[after[at]]
                if (found := ranks.get((left, right))) is not None:
                    heapq.heappush(heap, (found[0], at, left, right, found[1]))

        for at in range(end - 1):
            offer(at)
        while heap:
            _, at, left, right, new = heapq.heappop(heap)
            if ids[at] != left or after[at] == end or ids[after[at]] != right:
                continue  # one of the two was merged in the meantime
            gone = after[at]
            ids[at], ids[gone] = new, -1
            after[at] = after[gone]
            if after[at] < end:
                before[after[at]] = at
            offer(before[at])
            offer(at)
        return [number for number in ids if number >= 0]


class _Known(dict[str, list[int]]):
    """The tokens of pieces that were met before."""

    def __init__(self, tokenizer: BPETokenizer):
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, piece: str) -> list[int]:
        found = self._tokenizer._encode_piece(piece)
        if len(piece) <= SHORT:
            if len(self) >= REMEMBERED:
                self.clear()
            self[piece] = found
        return found


class _Pairs:
    """Distinct pieces, and how often each symbol and each pair stands in them, kept up to date.

    Args:
        pieces: symbols of a piece → how often it stands in the text.
    """

    def __init__(self, pieces: Mapping[Any, int]):
        self.pieces = [list(piece) for piece in pieces]
        self.weights = list(pieces.values())
        self.total = 0
        self.singles: dict[int, int] = defaultdict(int)
        self.counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, set[int]] = defaultdict(set)
        for at, (piece, n) in enumerate(zip(self.pieces, self.weights, strict=True)):
            for symbol in piece:
                self.singles[symbol] += n
                self.total += n
            for pair in itertools.pairwise(piece):
                self.counts[pair] += n
                self.places[pair].add(at)

    def gain(self, pair: Pair) -> float:
        r"""Return what a merge adds to the log-likelihood of all symbols, each drawn by itself.

        With $f(k) = k \log k$ the likelihood is $\sum_s f(N(s)) - f(N)$ for N symbols in all.
        """
        (x, y), n = pair, self.counts[pair]
        total = self.total
        if x == y:
            n = min(n, self.singles[x] // 2)  # overlapping pairs were counted twice
            parts = _k_log_k(self.singles[x] - 2 * n) - _k_log_k(self.singles[x])
        else:
            parts = (
                _k_log_k(self.singles[x] - n)
                + _k_log_k(self.singles[y] - n)
                - _k_log_k(self.singles[x])
                - _k_log_k(self.singles[y])
            )
        return _k_log_k(n) + parts + _k_log_k(total) - _k_log_k(total - n)

    def merge(self, pair: Pair, new: int) -> list[Pair]:
        """Write `new` for a pair in every piece, left to right; return the pairs that rose."""
        change: dict[Pair, int] = defaultdict(int)
        for at in self.places.pop(pair):
            piece, n = self.pieces[at], self.weights[at]
            merged = _replaced(piece, pair, new)
            times = len(piece) - len(
                merged
            )  # 0 where an earlier merge took one of them
            for symbol, by in ((pair[0], -times), (pair[1], -times), (new, times)):
                self.singles[symbol] += n * by
            self.total -= n * times
            for old in itertools.pairwise(piece):
                change[old] -= n
            for made in itertools.pairwise(merged):
                change[made] += n
                self.places[made].add(at)
            self.pieces[at] = merged
        for each, by in change.items():
            self.counts[each] += by
        self.places.pop(pair, None)
        return [each for each, by in change.items() if by > 0]


@functools.cache
def _k_log_k(k: int) -> float:
    return k * math.log(k) if k else 0.0


def _replaced(symbols: list[int], pair: Pair, new: int) -> list[int]:
    left, right = pair
    found, at, last = [], 0, len(symbols) - 1
    while at <= last:
        if symbols[at] == left and at < last and symbols[at + 1] == right:
            found.append(new)
            at += 2
        else:
            found.append(symbols[at])
            at += 1
    return found


class WordPieceTokenizer:
    r"""WordPiece: words cut from the left, each time by the longest piece that fits.

    Training merges the pair that raises the likelihood of the text most (equation
    `tokenization-wordpiece`); encoding needs the pieces alone and not the order in which
    they were learned (`tokenization-longest`). A piece within a word begins with "##".

    Args:
        vocabulary: the pieces, in the order of their numbers, or piece → number.
        unknown: what stands for a word that cannot be cut.
        prefix: what marks a piece that continues a word.
        max_characters: a longer word is unknown, ≥ 1.

    Example:
        >>> tokenizer = WordPieceTokenizer(["[UNK]", "un", "##afford", "##able", "able"])
        >>> tokenizer.tokens("unaffordable"), tokenizer.encode("able table")
        (['un', '##afford', '##able'], [4, 0])

    Source: Schuster and Nakajima 2012; cutting by the longest match: Wu et al. 2016.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | Mapping[str, int],
        unknown: str = "[UNK]",
        *,
        prefix: str = "##",
        max_characters: int = 100,
    ):
        self.vocabulary = _numbered(vocabulary)
        if unknown not in self.vocabulary:
            raise ValueError(f"unknown={unknown!r} must be a piece of the vocabulary")
        self.unknown = unknown
        self.prefix = prefix
        self.max_characters = checks.count("max_characters", max_characters)
        self._texts = {number: piece for piece, number in self.vocabulary.items()}

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        unknown: str = "[UNK]",
        *,
        min_count: int = 2,
    ) -> "WordPieceTokenizer":
        """Learn pieces: all letters, and then the pair that raises the likelihood most, repeatedly.

        Args:
            text: one text, or several.
            vocab_size: pieces in all, more than the text has letters.
            unknown: as for the class.
            min_count: a pair must occur so often to be merged, ≥ 1.
        """
        words = _count_pieces(text, _patterns.compiled(_WORDS).findall)
        cut = {
            (word[0], *("##" + letter for letter in word[1:])): n
            for word, n in words.items()
        }
        tokens = [unknown, *sorted({letter for word in cut for letter in word})]
        checks.count("vocab_size", vocab_size, least=len(tokens))
        number = {token: at for at, token in enumerate(tokens)}
        pairs = _Pairs({tuple(number[c] for c in word): n for word, n in cut.items()})
        while len(tokens) < vocab_size:
            often = [pair for pair, n in pairs.counts.items() if n >= min_count]
            if not often:
                break
            # eq. tokenization-wordpiece; of equals, the smaller numbers
            pair = max(often, key=lambda of: (pairs.gain(of), -of[0], -of[1]))
            left, right = pair
            joined = tokens[left] + tokens[right].removeprefix("##")
            new = number.setdefault(joined, len(tokens))
            if new == len(tokens):
                tokens.append(joined)
            pairs.merge(pair, new)
        return cls(tokens, unknown)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokens(self, text: str) -> list[str]:
        """Return the pieces of a text: words and signs, each cut by itself."""
        found = []
        for word in _patterns.compiled(_WORDS).findall(_as_string(text)):
            found += self._cut(word)
        return found

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's pieces."""
        return [self.vocabulary[piece] for piece in self.tokens(text)]

    def decode(self, ids: Iterable[int] | Int[Tensor, " n"]) -> str:
        """Return words with one space between them: what stood there is not kept.

        Args:
            ids: numbers of pieces.
        """
        joined = " ".join(_looked_up(self._texts, ids))
        return joined.replace(" " + self.prefix, "")

    def _cut(self, word: str) -> list[str]:
        found: list[str] = []
        if len(word) > self.max_characters:
            return [self.unknown]
        at = 0
        while at < len(word):
            mark = self.prefix if at else ""
            for end in range(len(word), at, -1):  # eq. tokenization-longest
                if (piece := mark + word[at:end]) in self.vocabulary:
                    found.append(piece)
                    at = end
                    break
            else:
                return [self.unknown]
        return found


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
        words = _count_pieces(text, _spaced)
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
                model = cls(_normalized(counts), unknown)
                expected = model._expected(words)  # eq. tokenization-em
                # a letter stays, however rarely it stands alone
                counts = {
                    piece: max(often, 1e-3 if piece in letters else 0.0)
                    for piece in counts
                    if (often := expected.get(piece, 0.0)) >= 0.5 or piece in letters
                }
            if len(counts) <= wanted:
                break
            model = cls(_normalized(counts), unknown)
            losses = model._losses(words)
            spare = sorted(
                (piece for piece in counts if piece not in letters),
                key=lambda piece: (-losses.get(piece, 0.0), piece),
            )
            size = max(wanted, int(keep * len(counts)))
            kept = {*letters, *spare[: size - len(letters)]}
            counts = {piece: n for piece, n in counts.items() if piece in kept}
        ordered = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(_normalized({piece: counts[piece] for piece in ordered}), unknown)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokens(self, text: str) -> list[str]:
        """Return the pieces of a text; letters that no piece has stay as they are, joined."""
        return [
            piece for word in _spaced(_as_string(text)) for piece in self._best(word)
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
        return "".join(_looked_up(texts, ids)).replace("▁", " ").removeprefix(" ")

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
        for word in _spaced(_as_string(text)):
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
        words = _spaced(_as_string(text))
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


_WORDS = r"[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]"
"""BERT's rule: runs of what is neither space nor punctuation, and each sign of the latter alone."""


def embedding_parameters(vocab_size: int, embed_dim: int, *, tied: bool) -> int:
    r"""Return how many numbers the two ends of a language model hold: $v d$ if tied, or $2 v d$.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width d, ≥ 1.
        tied: whether the output uses the vectors of the input (equation `tokenization-tied`).

    Example:
        >>> embedding_parameters(50257, 768, tied=True)
        38597376
    """
    one = checks.count("vocab_size", vocab_size) * checks.count("embed_dim", embed_dim)
    return one if checks.flag("tied", tied) else 2 * one


def _a_merge(at: int, merge: Any) -> tuple[bytes, bytes]:
    fits = isinstance(merge, tuple | list) and len(merge) == 2
    if not fits or not all(isinstance(part, bytes) for part in merge):
        raise TypeError(f"merges[{at}]={merge!r} must be two tokens, as bytes")
    if not all(merge):
        raise ValueError(f"merges[{at}]={merge!r} must hold no empty token")
    return merge[0], merge[1]


def _vocabulary(
    merges: Sequence[tuple[bytes, bytes]], given: Mapping[bytes, int] | None
) -> dict[bytes, int]:
    """Return token → number, and refuse what could not spell every text, or not be merged."""
    letters = [bytes([byte]) for byte in range(256)]
    found = (
        dict(given) if given is not None else {b: at for at, b in enumerate(letters)}
    )
    if lost := [letter for letter in letters if letter not in found]:
        raise ValueError(
            f"vocabulary lacks {len(lost)} of the 256 bytes, such as {lost[0]!r}, so that "
            "not every text can be written in it"
        )
    if len(set(found.values())) < len(found):
        raise ValueError("vocabulary gives two tokens one number")
    for at, (left, right) in enumerate(merges):
        for part in (left, right):
            if part not in found:
                why = "no earlier merge makes it" if given is None else "it is no token"
                raise ValueError(
                    f"merges[{at}]={(left, right)!r} contradicts: {part!r} is used, but {why}"
                )
        if given is None:
            found.setdefault(left + right, len(found))
        elif left + right not in found:
            raise ValueError(
                f"merges[{at}]={(left, right)!r} contradicts: {left + right!r} is no token"
            )
    return found


def _ranks(
    merges: Sequence[tuple[bytes, bytes]], vocabulary: Mapping[bytes, int]
) -> dict[Pair, tuple[int, int]]:
    """Return pair → its rank and what it becomes."""
    found: dict[Pair, tuple[int, int]] = {}
    for rank, (left, right) in enumerate(merges):
        pair = vocabulary[left], vocabulary[right]
        if pair in found:
            raise ValueError(
                f"merges[{rank}]={(left, right)!r} contradicts merges[{found[pair][0]}], "
                "which is the same"
            )
        found[pair] = rank, vocabulary[left + right]
    return found


def _names(argument: str, names: Iterable[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    if isinstance(names, str) or not all(isinstance(n, str) and n for n in listed):
        raise TypeError(f"{argument}={names!r} must be names, none of them empty")
    if len(set(listed)) < len(listed):
        raise ValueError(f"{argument}={listed} must each stand once")
    return listed


def _numbered(vocabulary: Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(vocabulary, Mapping):
        found = dict(vocabulary)
    else:
        found = {piece: at for at, piece in enumerate(vocabulary)}
        if len(found) < len(vocabulary):
            raise ValueError("vocabulary must hold each piece once")
    if len(set(found.values())) < len(found):
        raise ValueError("vocabulary gives two pieces one number")
    if "" in found:
        raise ValueError("vocabulary must hold no empty piece")
    return found


def _looked_up(
    texts: Mapping[int, str], ids: Iterable[int] | Int[Tensor, " n"]
) -> list[str]:
    found = []
    for at, number in enumerate(ids):
        if int(number) not in texts:
            raise ValueError(f"ids[{at}]={int(number)} is none of {len(texts)} pieces")
        found.append(texts[int(number)])
    return found


def _texts(text: str | Iterable[str]) -> Iterable[str]:
    if isinstance(text, str):
        return [text]
    if isinstance(text, bytes) or not isinstance(text, Iterable):
        raise TypeError(f"text must be a string or several, got {type(text).__name__}")
    return text


def _count_pieces(
    text: str | Iterable[str],
    cut: Callable[[str], list[str]],
    names: Sequence[str] = (),
) -> Counter[str]:
    """Return how often each piece stands in texts; the names of tokens are in none of them."""
    found = Counter[str]()
    for each in _texts(text):
        if not isinstance(each, str):
            raise TypeError(f"text holds {type(each).__name__}, it must hold strings")
        for part in _alternatives(names).split(each)[::2] if names else [each]:
            found.update(cut(_as_string(part)))
    return found


def _pieces(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return the pieces of a text, in order; what the pattern passes over is a piece too."""
    found = pattern.findall(text)
    if sum(map(len, found)) == len(text):
        return found
    found, end = [], 0
    for match in pattern.finditer(text):
        found += [text[end : match.start()], match[0]]
        end = match.end()
    return [piece for piece in [*found, text[end:]] if piece]


def _alternatives(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that cuts at names, the longest that fits, and keeps them."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")


def _spaced(text: str) -> list[str]:
    """Return the words of a text with "▁" for the space before each."""
    text = text.replace(" ", "▁")
    if not text:
        return []
    return re.findall("▁[^▁]*", text if text[0] == "▁" else "▁" + text)


def _normalized(counts: Mapping[str, float]) -> dict[str, float]:
    total = math.log(math.fsum(counts.values()))
    return {piece: min(math.log(n) - total, 0.0) for piece, n in counts.items()}


def _as_string(text: str | bytes) -> str:
    """Return text that can be turned into bytes; bytes that are none stand as U+DC80 … U+DCFF."""
    if isinstance(text, bytes):
        return text.decode("utf-8", errors="surrogateescape")
    if not isinstance(text, str):
        raise TypeError(f"text must be a string or bytes, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text[{error.start}]={text[error.start]!r} is half of a surrogate pair, "
                "which stands for no bytes"
            ) from None
    return text


def _as_bytes(piece: str) -> bytes:
    return piece.encode("utf-8", errors="surrogateescape")
