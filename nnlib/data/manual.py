"""Python's manual as passages, and questions that other people's words ask about it.

The manual is that of the running Python, which grows a little from one release to the next, so
nothing may depend on exact numbers.
"""

import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from nnlib import checks

_UNDERLINE = re.compile(r"^([*=\-~^\"'])\1{2,}$")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Passage:
    """A piece of the manual.

    Attributes:
        topic: what `help()` knows it by, such as "with".
        section: the title above it, which is not part of the text.
        text: a paragraph or more.
    """

    topic: str
    section: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question whose answer is a name.

    Attributes:
        text: the question; the name does not stand in it.
        answer: the name of a builtin, an exception or a special method.
    """

    text: str
    answer: str


@cache
def manual_passages(least: int = 80) -> tuple[Passage, ...]:
    """Return Python's language reference in passages; a paragraph that comes again is left out.

    Args:
        least: words of a passage; shorter paragraphs of one section are joined until they have as
            many, and what is left at a section's end joins the passage before it. 1 keeps
            paragraphs apart.

    Example:
        >>> len(manual_passages(80)) < len(manual_passages(1))
        True

    Source: `pydoc_data.topics` of the running Python, PSF licence.
    """
    least = checks.count("least", least)
    from pydoc_data.topics import topics

    seen: set[str] = set()
    passages: list[Passage] = []
    for topic in sorted(topics):
        for section, paragraphs in _sections(topics[topic]):
            fresh = []
            for paragraph in paragraphs:
                known_as = " ".join(paragraph.split())
                if known_as not in seen:
                    seen.add(known_as)
                    fresh.append(paragraph)
            passages += [
                Passage(topic, section, text) for text in _joined(fresh, least)
            ]
    return tuple(passages)


def _sections(text: str) -> list[tuple[str, list[str]]]:
    """Return titles with the paragraphs below each; a title is a line with a rule below it."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip("\n").split("\n")
        if len(lines) > 1 and _UNDERLINE.match(lines[1].strip()):
            found.append((lines[0].strip(), []))
            lines = lines[2:]
        if any(_WORD.search(line) for line in lines):
            found[-1][1].append("\n".join(lines))
    return [each for each in found if each[1]]


def _joined(paragraphs: list[str], least: int) -> list[str]:
    passages: list[str] = []
    waiting: list[str] = []
    for paragraph in paragraphs:
        waiting.append(paragraph)
        if sum(len(_WORD.findall(each)) for each in waiting) >= least:
            passages.append("\n\n".join(waiting))
            waiting = []
    if waiting and passages and least > 1:
        passages[-1] = "\n\n".join([passages[-1], *waiting])
    elif waiting:
        passages.append("\n\n".join(waiting))
    return passages


def sentences(text: str, least: int = 6) -> list[str]:
    r"""Return the sentences of a text, each on one line.

    Args:
        text: any text; paragraphs end sentences.
        least: words of a sentence, ≥ 1; shorter ones are left out.

    Example:
        >>> sentences("Yes. It is so\nbecause it is. And so on.", least=3)
        ['It is so because it is.', 'And so on.']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    least = checks.count("least", least)
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            if (
                sentence[-1:] in (".", "!", "?")
                and len(_WORD.findall(sentence)) >= least
            ):
                found.append(sentence)
    return found


TYPES: tuple[type, ...] = (
    object, type, int, float, str, list, dict, set, property, BaseException,
)  # fmt: skip
"""Whose special methods are asked about."""


@cache
def docstring_questions() -> tuple[Question, ...]:
    """Return what docstrings say of builtins, exceptions and special methods, without the name.

    They were written apart from the manual, so their words differ. Lines of fewer than four words,
    such as "Return self+value.", are left out. A line that says the same of several names is asked
    once for each: such a question has no single answer.

    Example:
        >>> [q.text for q in docstring_questions() if q.answer == "len"]
        ['Return the number of items in a container.']

    Source: the docstrings of the running Python, PSF licence.
    """
    found: dict[str, str] = {}
    for name, thing in sorted(vars(builtins).items()):
        if not name.startswith("_") and callable(thing):
            found.setdefault(name, _first_paragraph(thing))
    for owner in TYPES:
        for name, thing in sorted(vars(owner).items()):
            if name.startswith("__") and callable(thing):
                found.setdefault(name, _first_paragraph(thing))
    questions = []
    for name, text in sorted(found.items()):
        asked = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)(\(\))?", "", text)
        asked = " ".join(asked.split())
        if len(_WORD.findall(asked)) >= 4:
            questions.append(Question(asked, name))
    return tuple(questions)


def _first_paragraph(thing: object) -> str:
    """Return the first paragraph of a docstring that is prose; some begin with signatures."""
    paragraphs = (getattr(thing, "__doc__", None) or "").strip().split("\n\n")
    return next((text for text in paragraphs if "->" not in text), "")


def mentions(text: str, names: Sequence[str]) -> list[str]:
    """Return which names a passage speaks of, in the order of `names`.

    A name that could be an English word, such as `all`, must stand in quotes or be called.

    Args:
        text: a passage.
        names: of builtins, exceptions and special methods.

    Example:
        >>> mentions('all of "any()" raise ValueError', ["all", "any", "ValueError"])
        ['any', 'ValueError']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must hold strings, got {names!r:.60}")
    return [name for name in names if name in text and _pattern(name).search(text)]


@cache
def _pattern(name: str) -> re.Pattern[str]:
    plain = re.escape(name)
    if name.startswith("__") or name[:1].isupper():
        return re.compile(rf"(?<!\w){plain}(?!\w)")
    return re.compile(rf'["`]{plain}(\([^"`]*\))?["`]|(?<![\w.]){plain}\(')
