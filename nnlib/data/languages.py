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
    try:
        locale = Locale.parse(code)
    except Exception as error:
        raise ValueError(
            f"languages holds {code!r}, which CLDR does not know"
        ) from error
    tables = {"t": locale.territories, "l": locale.languages, "c": locale.currencies}
    return {
        f"{kind}:{key}": unicodedata.normalize("NFC", name.lower())
        for kind, table in tables.items()
        for key, name in table.items()
        if len(name) > 3 and not any(letter.isdigit() for letter in name)
    }
