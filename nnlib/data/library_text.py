"""What numpy, scipy and torch say about themselves, as sentences of words.

It is the text of the installed packages, which changes a little from one release to the next, so
nothing may depend on its exact content.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache

from nnlib.data._docstrings import sections

MODULES = (
    "numpy", "numpy.ma", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.polynomial",
    "scipy.linalg", "scipy.sparse", "scipy.sparse.linalg", "scipy.fft", "scipy.special",
    "scipy.stats", "scipy.signal", "scipy.ndimage", "scipy.optimize", "scipy.interpolate",
    "scipy.integrate", "scipy.cluster.hierarchy", "scipy.spatial", "scipy.spatial.distance",
    "scipy.sparse.csgraph", "torch", "torch.nn", "torch.nn.functional", "torch.linalg",
    "torch.fft", "torch.special", "torch.optim", "torch.distributions",
)  # fmt: skip
"""Modules that are read; torch and scipy are installed wherever this package is."""

_LEFT_OUT = {"Examples", "References", "See Also"}
_MATHS = re.compile(r":math:`[^`]*`|\$[^$]*\$")
_ROLE = re.compile(r":[a-z:]+:(?=`)")
_END = re.compile(r"(?<=[.!?:;])\s+")
_WORD = re.compile(r"[a-z]{2,}")


@cache
def library_sentences(
    modules: tuple[str, ...] = MODULES, least: int = 4
) -> tuple[list[str], ...]:
    """Return the sentences of the docstrings of modules, each a list of lower-case words.

    Functions, classes and their methods are read once each. Left out are examples, references,
    formulas, words of one letter, and a paragraph that has stood before: many docstrings of one
    module share theirs. With numpy 2.4, scipy 1.17 and torch 2.13 it is about 600 000 words.

    Args:
        modules: names of modules that can be imported, one or more.
        least: words of a sentence, ≥ 1; shorter ones are left out.

    Example:
        >>> read = library_sentences(("numpy.linalg",))
        >>> ["norm" in sentence for sentence in read].count(True) > 5
        True

    Source: the docstrings of numpy, scipy and torch, as installed; BSD-3-Clause.
    """
    if isinstance(modules, str) or not modules:
        raise ValueError(
            f"modules={modules!r} must name one module or more, in a tuple"
        )
    seen: set[str] = set()
    found: list[list[str]] = []
    for text in _docstrings(modules):
        for paragraph in _paragraphs(text):
            if paragraph in seen:
                continue
            seen.add(paragraph)
            for sentence in _END.split(paragraph):
                words = _WORD.findall(sentence.lower())
                if len(words) >= least:
                    found.append(words)
    return tuple(found)


def _docstrings(modules: Iterable[str]) -> Iterator[str]:
    """Yield the docstrings of what modules hold, and of the methods of their classes."""
    seen: set[int] = set()
    for module in modules:
        for name, thing in sorted(vars(importlib.import_module(module)).items()):
            if name.startswith("_") or not callable(thing) or id(thing) in seen:
                continue
            seen.add(id(thing))
            yield inspect.getdoc(thing) or ""
            if not inspect.isclass(thing):
                continue
            for part, method in vars(thing).items():
                text = getattr(method, "__doc__", None)
                if (
                    not part.startswith("_")
                    and isinstance(text, str)
                    and id(method) not in seen
                ):
                    seen.add(id(method))
                    yield inspect.cleandoc(text)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring, without examples and formulas, each on one line."""
    read = "\n\n".join(part for title, part in sections(text) if title not in _LEFT_OUT)
    for paragraph in re.split(r"\n\s*\n", read):
        if ">>>" not in paragraph:
            yield " ".join(_ROLE.sub("", _MATHS.sub(" ", paragraph)).split())
