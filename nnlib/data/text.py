"""Text that ships with Python: its own reference manual, and the names of Unicode's characters.

Both grow a little from one Python to the next, so nothing may depend on their exact content.
"""

import functools
import unicodedata

import torch
from torch import Tensor

from nnlib import checks


@functools.cache
def python_reference() -> str:
    """Return the Python language reference as `help()` shows it, about 460 000 characters.

    Source: `pydoc_data.topics` of the running Python, PSF licence.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


@functools.cache
def unicode_names() -> tuple[str, ...]:
    """Return the distinct names of Unicode's characters, in the order of their code points.

    Left out are the scripts whose names are a numbering ("CJK UNIFIED IDEOGRAPH-4E00").

    Source: `unicodedata` of the running Python, Unicode licence.
    """
    names = (unicodedata.name(chr(point), "") for point in range(0x110000))
    numbered = ("CJK ", "HANGUL SYLLABLE", "TANGUT", "NUSHU", "KHITAN", "EGYPTIAN", "ANATOLIAN")
    kept = [n for n in names if n and not n.startswith(numbered) and not n[-4:].isdigit()]
    return tuple(dict.fromkeys(kept))


class Vocabulary:
    """Distinct tokens and their numbers.

    Args:
        tokens: in the order of their numbers, each once.
        unknown: the token that stands for all others, one of `tokens`; None refuses others.

    Raises:
        ValueError: a token stands twice, or `unknown` is not among them.

    Example:
        >>> letters = Vocabulary("abc")
        >>> letters.encode("cab").tolist(), letters.decode([2, 0])
        ([2, 0, 1], ['c', 'a'])
    """

    def __init__(self, tokens, unknown: str | None = None):
        self.tokens = list(tokens)
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self.numbers) != len(self.tokens):
            raise ValueError("tokens must each stand once")
        if unknown is not None and unknown not in self.numbers:
            raise ValueError(f"unknown={unknown!r} must be one of the tokens")
        self.unknown = unknown

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text) -> Tensor:
        """Return the numbers of a sequence of tokens (a string is one of characters)."""
        other = None if self.unknown is None else self.numbers[self.unknown]
        numbers = [self.numbers.get(token, other) for token in text]
        if None in numbers:
            lost = sorted({token for token in text if token not in self.numbers})
            raise ValueError(f"text holds tokens outside the vocabulary: {lost[:5]}")
        return torch.tensor(numbers, dtype=torch.int64)

    def decode(self, numbers) -> list[str]:
        """Return the tokens of numbers."""
        return [self.tokens[int(number)] for number in numbers]


def split_blocks(tokens: Tensor, block: int, test_share: float = 0.1) -> tuple[Tensor, Tensor]:
    """Split a stream into training and held-out blocks that alternate through the whole of it.

    The tail of a manual is unlike its beginning, so that a cut in two would measure a change of
    subject. Every n-th block is held out instead.

    Args:
        tokens: one axis.
        block: tokens a block, ≥ 1; what is left at the end goes to training.
        test_share: share of blocks that is held out, between 0 and ½.

    Returns:
        Training and held-out tokens, blocks joined in order.
    """
    checks.tensor("tokens", tokens, shape=("n",))
    block = checks.count("block", block)
    every = round(1 / checks.number("test_share", test_share, above=0, most=0.5))
    number = torch.arange(len(tokens)) // block
    whole = number < len(tokens) // block
    held_out = (number % every == every - 1) & whole
    return tokens[~held_out], tokens[held_out]
