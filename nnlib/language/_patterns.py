r"""Patterns that cut text into pieces, written for the `regex` engines of other tokenizers.

Those know `\p{L}`, any letter, which Python's `re` does not. Here such a class becomes the list of
its characters, taken from `unicodedata`, and `\s` becomes Unicode's white space, of which `re` has
four control characters more. A newer engine may know characters that this Python's Unicode lacks.
"""

import functools
import itertools
import re
import sys
import unicodedata

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's rule: ends of English contractions, then runs of letters, of digits, of other signs, each
with the space before it, and then white space."""

_SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
_PART = re.compile(r"\\[pP]\{\^?\w*\}|\\.|\[\^?|\]|.", re.DOTALL)
_REFUSED = frozenset("wWbBAzZGhHRXQE")


def compiled(pattern: str) -> re.Pattern[str]:
    r"""Return a pattern for Python's `re`, whose classes are those of Unicode.

    Raises:
        ValueError: it asks for what `re` would read otherwise (`\w`, `^`, `$`, `&&`, groups that
            capture), or is no pattern.

    Example:
        >>> compiled(GPT2).findall("They've 3 cats")
        ['They', "'ve", ' 3', ' cats']
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern={pattern!r} must be a string")
    return _compiled(pattern)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    made, inside = [], False
    for part in _PART.findall(pattern):
        if part[:2] in ("\\p", "\\P"):
            part = _of_category(pattern, part, inside)
        elif part in ("\\s", "\\S"):
            if part == "\\S" and inside:
                raise _unfit(pattern, "\\S in brackets")
            without = "^" if part == "\\S" else ""
            part = _SPACE if inside else f"[{without}{_SPACE}]"
        elif part[0] == "\\" and part[1] in _REFUSED:
            raise _unfit(pattern, part)
        elif part[0] == "[":
            if inside:
                raise _unfit(pattern, "[ in brackets")
            inside = True
        elif part == "]":
            inside = False
        elif part in "^$" and not inside:
            raise _unfit(pattern, part)
        made.append(part)
    if "&&" in pattern:
        raise _unfit(pattern, "&&")
    try:
        found = re.compile("".join(made))
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is no pattern: {error.msg}") from None
    if found.groups:
        raise _unfit(pattern, "a group that captures")
    return found


def _unfit(pattern: str, what: str) -> ValueError:
    return ValueError(f"pattern={pattern!r} has {what}, which is not supported here")


def _of_category(pattern: str, part: str, inside: bool) -> str:
    r"""Return what stands for `\p{L}`, `\P{Lu}` or `\p{^N}`."""
    name = part[3:-1].removeprefix("^")
    without = (part[1] == "P") != part[3:].startswith("^")
    listed = _listed(name)
    if not listed or (without and inside):
        raise _unfit(pattern, part + " in brackets" * inside)
    return listed if inside else f"[{'^' * without}{listed}]"


@functools.cache
def _listed(name: str) -> str:
    """Return all characters of a general category, such as L or Lu, for use in brackets."""
    return "".join(
        f"\\U{first:08x}-\\U{last:08x}"
        for category, first, last in _runs(len(name))
        if category == name
    )


@functools.cache
def _runs(letters: int) -> list[tuple[str, int, int]]:
    """Return runs of code points with the same first letters of their category."""
    found, first = [], 0
    names = (
        unicodedata.category(chr(at))[:letters] for at in range(sys.maxunicode + 1)
    )
    for category, run in itertools.groupby(names):
        last = first + sum(1 for _ in run)
        found.append((category, first, last - 1))
        first = last
    return found
