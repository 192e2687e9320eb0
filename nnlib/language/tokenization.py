r"""Text as numbers: byte pair encoding, and WordPiece and unigram beside it.

A tokenizer cuts text into pieces that occur often and gives each its number. All three here learn
their pieces from text; they differ in which piece they learn next, and in how they cut. Byte pair
encoding stands here, the others in `_wordpiece` and `_unigram`.

Chapter: chapters/language/tokenization.md     Papers: Sennrich et al. 2016; Radford et al. 2019;
Schuster and Nakajima 2012; Kudo 2018
"""

import functools
import heapq
import itertools
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.language import _patterns, _tokenizer_file
from nnlib.language._pairs import Pair, Pairs
from nnlib.language._text import (
    alternatives,
    as_bytes,
    as_string,
    count_pieces,
    pieces,
)
from nnlib.language._unigram import UnigramTokenizer
from nnlib.language._wordpiece import WordPieceTokenizer

__all__ = [
    "GPT2_PATTERN",
    "REMEMBERED",
    "SHORT",
    "BPETokenizer",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "embedding_parameters",
]

GPT2_PATTERN = _patterns.GPT2
SHORT = 48
"""Symbols of a piece up to which looking at every pair anew is the faster way."""
REMEMBERED = 2**16
"""Pieces whose tokens are kept, since most words come again and again."""


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
        cut = functools.partial(pieces, _patterns.compiled(pattern))
        words = count_pieces(text, cut, names)
        pairs = Pairs({word.encode(): n for word, n in words.items()})
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
        text = as_string(text)
        if not read:
            return self._encode_plain(text, dropout, generator)
        found: list[int] = []
        cut = alternatives(read).split(text)
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
        return pieces(self._pattern, as_string(text))

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
        for piece in pieces(self._pattern, text):
            if dropout:
                letters = [self._letters[byte] for byte in as_bytes(piece)]
                found += self._merged(letters, dropout, generator)
            else:
                found += self._known[piece]
        return found

    def _encode_piece(self, piece: str) -> list[int]:
        data = as_bytes(piece)
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
