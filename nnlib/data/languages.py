"""Names of countries, languages and currencies in twenty languages: which language is it?

Source: Unicode CLDR through babel, Unicode licence.
"""

import functools
import unicodedata

import torch
from torch import Tensor

from nnlib import checks
from nnlib.data.split import Split, Strings
from nnlib.distribution import extra

with extra("data"):
    from babel import Locale

LANGUAGES = (
    "en", "de", "nl", "sv", "da", "is", "fr", "es", "pt", "it",
    "ro", "pl", "cs", "hr", "hu", "fi", "et", "tr", "vi", "id",
)  # fmt: skip


@functools.cache
def language_names(
    split: str = "train",
    languages: tuple[str, ...] = LANGUAGES,
    test_share: float = 0.2,
) -> Split[Strings, Tensor]:
    """Return names `x`, the number of each one's language `y`, and the languages' codes, `classes`.

    A thing (a country, a language, a currency) stands in one split only, in all its languages;
    names that two languages share are left out, as nobody could tell them apart.

    Args:
        split: "train", "test" or "all".
        languages: codes that CLDR knows, two or more.
        test_share: share of things held out, between 0 and 1.
    """
    checks.one_of("split", split, ("train", "test", "all"))
    share = checks.number("test_share", test_share, above=0, below=1)
    if len(languages) < 2:
        raise ValueError(f"languages must hold two codes or more, got {languages!r}")
    named: dict[str, dict[str, set[str]]] = {}
    for code in languages:
        for thing, name in _named(code).items():
            named.setdefault(name, {}).setdefault(code, set()).add(thing)
    things = sorted({thing for code in languages for thing in _named(code)})
    order = torch.randperm(
        len(things), generator=torch.Generator().manual_seed(0)
    ).tolist()
    held_out = {things[i] for i in order[: round(share * len(things))]}
    names, numbers = [], []
    for name, owners in sorted(named.items()):
        if len(owners) > 1:
            continue
        ((code, of),) = owners.items()
        inside = bool(of & held_out)
        if split == "all" or inside == (split == "test"):
            names.append(name)
            numbers.append(languages.index(code))
    return Split(
        x=tuple(names),
        y=torch.tensor(numbers),
        split=split,
        classes=tuple(languages),
        source="Unicode Common Locale Data Repository (CLDR), through babel",
        licence="Unicode License v3 (CLDR); babel: BSD-3-Clause",
    )


@functools.cache
def _named(code: str) -> dict[str, str]:
    """Return thing -> name in a language, in lower case and composed letters."""
    locale = _locale(code)
    tables = {"t": locale.territories, "l": locale.languages, "c": locale.currencies}
    return {
        f"{kind}:{key}": unicodedata.normalize("NFC", name.lower())
        for kind, table in tables.items()
        for key, name in table.items()
        if len(name) > 3 and not any(letter.isdigit() for letter in name)
    }


def _locale(code: str) -> Locale:
    try:
        return Locale.parse(code)
    except Exception as error:
        raise ValueError(
            f"languages holds {code!r}, which CLDR does not know"
        ) from error


WRITTEN = (
    "en", "de", "fr", "es", "pl", "fi", "tr", "vi", "el", "ru", "he", "ar", "hi", "bn", "ta",
    "th", "my", "ka", "am", "ko", "ja", "zh",
)  # fmt: skip
"""Languages of many scripts, which all have names for the countries."""


@functools.cache
def country_names(
    languages: tuple[str, ...] = WRITTEN,
) -> dict[str, dict[str, str]]:
    """Return, for each language, country → its name there: the same things in other words.

    Only countries that all of these languages name are given, as ISO's two letters have them.

    Source: Unicode CLDR through babel, Unicode licence.

    Args:
        languages: codes that CLDR knows, one or more.

    Example:
        >>> names = country_names(("en", "de"))
        >>> names["en"]["JP"], names["de"]["FR"]
        ('Japan', 'Frankreich')
    """
    if not languages:
        raise ValueError("languages must hold a code or more, got ()")
    named = {code: _locale(code).territories for code in languages}
    every = set.intersection(*(set(names) for names in named.values()))
    kept = sorted(code for code in every if code.isalpha() and code != "ZZ")
    return {
        language: {code: unicodedata.normalize("NFC", names[code]) for code in kept}
        for language, names in named.items()
    }


def language_name(code: str) -> str:
    """Return the English name of a language.

    Args:
        code: that CLDR knows.

    Example:
        >>> language_name("my")
        'Burmese'
    """
    return Locale.parse("en").languages[str(_locale(code))]
