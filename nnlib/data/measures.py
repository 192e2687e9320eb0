"""Lists of measures in two languages: `3 liters and 12 square miles`, and the same in French.

Every text is rendered from Unicode's Common Locale Data Repository (CLDR), which babel carries:
the names of units, their plurals, and what stands between the items of a list.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nnlib import checks
from nnlib.data.dates import _locale
from nnlib.data.split import Split, Strings, split_indices
from nnlib.distribution import extra

if TYPE_CHECKING:
    from babel import Locale

Join = Literal["standard", "or"]
UNITS = (
    "duration-year", "duration-month", "duration-week", "duration-day", "duration-hour",
    "duration-minute", "length-kilometer", "length-meter", "length-mile", "length-nautical-mile",
    "area-square-kilometer", "area-square-meter", "area-square-mile", "volume-cubic-meter",
    "volume-cubic-mile", "volume-liter", "volume-fluid-ounce", "volume-tablespoon",
    "volume-teaspoon", "mass-kilogram", "mass-gram", "mass-ounce", "speed-kilometer-per-hour",
    "speed-mile-per-hour",
)  # fmt: skip
"""The units, as CLDR names them."""


def measure_pairs(
    count: int,
    split: str = "train",
    *,
    locales: Sequence[str] = ("en", "fr"),
    largest: int = 20,
    longest: int = 3,
    test_share: float = 0.2,
    seed: int = 0,
) -> Split[Strings, Strings]:
    """Draw lists of one to `longest` measures, joined by "and" or "or", in two languages.

    Measures are split, not texts: one of the test split, such as 11 square miles, occurs in no
    training text. Only "1 mile" and its like belong to both, since their unit has a form of its
    own. The measures of each split are fixed; `seed` only draws from them.

    Args:
        count: texts to draw, ≥ 1.
        split: `train`, `test` or `all`.
        locales: names of two CLDR locales, of `x` and of `y`.
        largest: numbers are 1 … `largest`, ≥ 2.
        longest: measures in a text, at most; ≥ 1.
        test_share: share of the measures held out, in (0, 1).
        seed: of the draw, ≥ 0.

    Example:
        >>> pairs = measure_pairs(100, longest=1)
        >>> dict(zip(pairs.x, pairs.y))["15 square miles"]
        '15 milles carrés'

    Source: Unicode CLDR, through babel's `format_unit` and `format_list`.
    """
    count = checks.count("count", count)
    largest = checks.count("largest", largest, least=2)
    longest = checks.count("longest", longest)
    both = _two(locales)
    measures = [(number, unit) for unit in UNITS for number in range(2, largest + 1)]
    chosen = [
        measures[at] for at in split_indices(len(measures), test_share, split).tolist()
    ]
    chosen += [(1, unit) for unit in UNITS]
    named = [
        [_measure(number, unit, locale) for number, unit in chosen] for locale in both
    ]
    draw = random.Random(checks.count("seed", seed, least=0))
    texts: tuple[list[str], list[str]] = ([], [])
    for _ in range(count):
        items = draw.sample(range(len(chosen)), draw.randint(1, longest))
        style: Join = draw.choice(("standard", "or"))
        for said, names, locale in zip(texts, named, both, strict=True):
            said.append(_joined([names[item] for item in items], style, locale))
    return Split(
        x=tuple(texts[0]),
        y=tuple(texts[1]),
        split=split,
        source="Unicode Common Locale Data Repository (CLDR), through babel",
        licence="Unicode License v3 (CLDR); babel: BSD-3-Clause",
    )


def _two(locales: Sequence[str]) -> "tuple[Locale, Locale]":
    if (
        isinstance(locales, str)
        or not isinstance(locales, Sequence)
        or len(locales) != 2
    ):
        raise TypeError(f"locales={locales!r} must be the names of two locales")
    return _locale("locales[0]", locales[0]), _locale("locales[1]", locales[1])


def _measure(number: int, unit: str, locale: "Locale") -> str:
    with extra("data"):
        from babel.units import format_unit

    # The space that no line may break at is a space here.
    return format_unit(number, unit, length="long", locale=locale).replace("\xa0", " ")


def _joined(items: list[str], style: Join, locale: "Locale") -> str:
    with extra("data"):
        from babel.lists import format_list

    return format_list(items, style=style, locale=locale)
