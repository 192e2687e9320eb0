"""WordPiece: what a word is cut into is decided by the pieces alone, the longest first.

Part of `nnlib.language.tokenization`.
"""

from collections.abc import Iterable, Mapping, Sequence

from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.language import _patterns
from nnlib.language._pairs import Pairs
from nnlib.language._text import as_string, count_pieces, looked_up

_WORDS = r"[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]"
"""BERT's rule: runs of what is neither space nor punctuation, and each sign of the latter alone."""


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
        words = count_pieces(text, _patterns.compiled(_WORDS).findall)
        cut = {
            (word[0], *("##" + letter for letter in word[1:])): n
            for word, n in words.items()
        }
        tokens = [unknown, *sorted({letter for word in cut for letter in word})]
        checks.count("vocab_size", vocab_size, least=len(tokens))
        number = {token: at for at, token in enumerate(tokens)}
        pairs = Pairs({tuple(number[c] for c in word): n for word, n in cut.items()})
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
        for word in _patterns.compiled(_WORDS).findall(as_string(text)):
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
        joined = " ".join(looked_up(self._texts, ids))
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
