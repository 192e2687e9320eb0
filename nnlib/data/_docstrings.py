"""Docstrings of installed packages, read: what they say, and what they say to look at next.

They follow numpydoc: sections with underlined names, of which "See Also" lists other functions.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SECTION = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}[ ]*$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_WORD = re.compile(r"[a-z]{3,}")
_READ = {"", "Parameters", "Returns", "Notes", "Raises", "Yields", "Other Parameters"}

SUBJECTS = {
    "arrays": "numpy",
    "masked arrays": "numpy.ma",
    "linear algebra": "numpy.linalg scipy.linalg scipy.sparse.linalg",
    "Fourier transforms": "numpy.fft scipy.fft scipy.fftpack",
    "special functions": "scipy.special",
    "statistics": "scipy.stats.mstats scipy.stats.contingency scipy.stats numpy.random",
    "signals": "scipy.signal.windows scipy.signal",
    "images": "scipy.ndimage",
    "optimization": "scipy.optimize",
    "interpolation": "scipy.interpolate scipy.integrate",
    "distances": "scipy.cluster.hierarchy scipy.cluster.vq scipy.spatial.distance scipy.spatial "
    "scipy.sparse.csgraph",
}
"""Subjects, and the modules of each; of two that share a function, the later one has it."""


@dataclass(frozen=True)
class Described:
    """A function or a class as its docstring describes it.

    Attributes:
        name: with the module where users find it, such as "scipy.fft.dct".
        module: that module.
        words: of the text, in order and in lower case, of three letters or more. Examples,
            references and "See Also" are left out, for they name functions and modules.
        links: what "See Also" names, as written there.
    """

    name: str
    module: str
    words: tuple[str, ...]
    links: tuple[str, ...]


def described(modules: Iterable[str]) -> Iterator[Described]:
    """Yield what modules list as public and describe in a hundred characters or more.

    What two of them share, the first one has.
    """
    seen: set[int] = set()
    for module in modules:
        library = importlib.import_module(module)
        for name in sorted(getattr(library, "__all__", dir(library))):
            thing = getattr(library, name, None)
            text = inspect.getdoc(thing) if callable(thing) else None
            if name.startswith("_") or not text or len(text) < 100 or id(thing) in seen:
                continue
            seen.add(id(thing))
            parts = dict(sections(text))
            read = " ".join(part for title, part in parts.items() if title in _READ)
            yield Described(
                name=f"{module}.{name}",
                module=module,
                words=tuple(_WORD.findall(read.lower())),
                links=tuple(references(parts.get("See Also", ""))),
            )


def sections(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield the sections of a docstring with their titles, the first without one.

    Example:
        >>> list(sections("Sort.\n\nSee Also\n--------\nargsort"))
        [('', 'Sort.\n\n'), ('See Also', '\nargsort')]
    """
    title, start = "", 0
    for found in _SECTION.finditer(text):
        yield title, text[start : found.start()]
        title, start = found[1], found.end()
    yield title, text[start:]


def references(see_also: str) -> Iterator[str]:
    r"""Yield the names in a section "See Also": before the colon of lines that are not indented.

    Example:
        >>> list(references("dct, `idct` : Transforms.\n    Of cosines.\n:func:`numpy.sort`"))
        ['dct', 'idct', 'numpy.sort']
    """
    for line in see_also.splitlines():
        if line[:1] not in ("", " "):
            head = re.sub(r":[a-z:]+:(?=`)", "", line).split(" :")[0].rstrip(":")
            yield from (
                part.strip("`~. ")
                for part in head.split(",")
                if _NAME.fullmatch(part.strip("`~. "))
            )


def resolved(link: str, module: str, known: dict[str, int]) -> int | None:
    """Return the number of what a docstring in `module` calls `link`; None if it is not known.

    The name is looked for in the module, then in the packages around it, then as it stands.

    Example:
        >>> known = {"scipy.fft.dct": 0, "numpy.sort": 1}
        >>> resolved("dct", "scipy.fft", known), resolved("np.sort", "scipy.fft", known)
        (0, 1)
    """
    link = re.sub(r"^np\.", "numpy.", link)
    around = module
    while around:
        if f"{around}.{link}" in known:
            return known[f"{around}.{link}"]
        around = around.rpartition(".")[0]
    return known.get(link)
