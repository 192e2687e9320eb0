"""What every tokenizer does with text that it is given, and with numbers of tokens.

Part of `nnlib.language.tokenization`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxtyping import Int
from torch import Tensor


def as_string(text: str | bytes) -> str:
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


def as_bytes(piece: str) -> bytes:
    """Return the bytes of what `as_string` returned, or of a part of it."""
    return piece.encode("utf-8", errors="surrogateescape")


def _texts(text: str | Iterable[str]) -> Iterable[str]:
    if isinstance(text, str):
        return [text]
    if isinstance(text, bytes) or not isinstance(text, Iterable):
        raise TypeError(f"text must be a string or several, got {type(text).__name__}")
    return text


def count_pieces(
    text: str | Iterable[str],
    cut: Callable[[str], list[str]],
    names: Sequence[str] = (),
) -> Counter[str]:
    """Return how often each piece stands in texts; the names of tokens are in none of them."""
    found = Counter[str]()
    for each in _texts(text):
        if not isinstance(each, str):
            raise TypeError(f"text holds {type(each).__name__}, it must hold strings")
        for part in alternatives(names).split(each)[::2] if names else [each]:
            found.update(cut(as_string(part)))
    return found


def pieces(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return the pieces of a text, in order; what the pattern passes over is a piece too."""
    found = pattern.findall(text)
    if sum(map(len, found)) == len(text):
        return found
    found, end = [], 0
    for match in pattern.finditer(text):
        found += [text[end : match.start()], match[0]]
        end = match.end()
    return [piece for piece in [*found, text[end:]] if piece]


def alternatives(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that cuts at names, the longest that fits, and keeps them."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")


def looked_up(
    texts: Mapping[int, str], ids: Iterable[int] | Int[Tensor, " n"]
) -> list[str]:
    """Return the text of each token; refuse a number that none has."""
    found = []
    for at, number in enumerate(ids):
        if int(number) not in texts:
            raise ValueError(f"ids[{at}]={int(number)} is none of {len(texts)} pieces")
        found.append(texts[int(number)])
    return found
