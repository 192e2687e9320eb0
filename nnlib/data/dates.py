"""Dates as people write them in many languages, with the same dates as ISO 8601 writes them.

Every string is rendered from Unicode's Common Locale Data Repository (CLDR), which babel carries:
names of months, order of the parts, and the dash between two dates, as each locale has them.
"""

import datetime
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.data.split import Split, Strings, split_indices
from nnlib.data.text import Vocabulary
from nnlib.distribution import extra

if TYPE_CHECKING:
    from babel import Locale

STYLES = ("medium", "long", "full")
"""CLDR's forms of a date. Its `short` is left out: 3/4/05 is three different days."""


@dataclass(frozen=True, kw_only=True)
class DatePairs(Split[Strings, Strings]):
    """Strings in the manner of a locale, and the same in ISO 8601.

    Attributes:
        x: such as `28 de outubro de 1977 – 3 de maio de 1981`.
        y: such as `1977-10-28/1981-05-03`; all of one length.
        locales: the locale of each string.
        split, source, licence: as for `Split`.
    """

    locales: Strings


def date_pairs(
    count: int,
    split: str = "train",
    *,
    locales: Sequence[str] = ("en", "fr", "nl", "pt"),
    style: str = "long",
    dates: int = 2,
    years: tuple[int, int] = (1970, 2029),
    test_share: float = 0.2,
    seed: int = 0,
) -> DatePairs:
    """Draw localised dates, or pairs "from – to", with their ISO 8601 form.

    Days are split, not strings: a day of the test split occurs in no training string, in no
    locale. The days of each split are fixed; `seed` only draws from them.

    Args:
        count: strings to draw, ≥ 1.
        split: `train`, `test` or `all`.
        locales: names of CLDR locales, drawn with equal chance.
        style: `medium` (28 Oct 1977), `long` (28 October 1977) or `full` (with the weekday).
        dates: dates in a string, 1 or 2; of two, the first is the earlier.
        years: first and last year, both included, within 1000 … 9999.
        test_share: share of the days held out, in (0, 1).
        seed: of the draw, ≥ 0.

    Returns:
        The strings, their targets and their locales.

    Example:
        >>> pairs = date_pairs(2, locales=["en"], dates=1, years=(1977, 1977))
        >>> pairs.x[0], pairs.y[0]
        ('November 14, 1977', '1977-11-14')

    Source: Unicode CLDR, through babel's `format_date` patterns.
    """
    count = checks.count("count", count)
    checks.one_of("style", style, STYLES)
    checks.one_of("dates", dates, (1, 2))
    patterns = _patterns(locales, style)
    first, last = _years(years)
    days = (datetime.date(last, 12, 31) - datetime.date(first, 1, 1)).days + 1
    offset = datetime.date(first, 1, 1).toordinal()
    chosen = [offset + day for day in split_indices(days, test_share, split).tolist()]
    draw = random.Random(checks.count("seed", seed, least=0))
    written, targets, names = [], [], []
    for _ in range(count):
        name = draw.choice(list(patterns))
        pattern, between, locale = patterns[name]
        when = [
            datetime.date.fromordinal(day) for day in sorted(draw.sample(chosen, dates))
        ]
        parts = [pattern.apply(day, locale) for day in when]
        written.append(parts[0] if dates == 1 else between.format(*parts))
        targets.append("/".join(day.isoformat() for day in when))
        names.append(name)
    return DatePairs(
        x=tuple(written),
        y=tuple(targets),
        locales=tuple(names),
        split=split,
        source="Unicode Common Locale Data Repository (CLDR), through babel",
        licence="Unicode License v3 (CLDR); babel: BSD-3-Clause",
    )


def month_names(locale: str) -> tuple[str, ...]:
    """Return the twelve months of a locale as they stand within a date.

    Args:
        locale: name of a CLDR locale.

    Example:
        >>> month_names("pt")[9]
        'outubro'

    Source: Unicode CLDR, through babel.
    """
    return tuple(
        _locale("locale", locale).months["format"]["wide"][m] for m in range(1, 13)
    )


def padded(strings: Iterable[str], letters: Vocabulary) -> Int[Tensor, "n t"]:
    """Return strings as rows of numbers, filled up on the right with the first token's number, 0.

    Args:
        strings: what to encode, character by character; at least one.
        letters: a vocabulary whose token 0 stands for "nothing here" and occurs in no string.

    Example:
        >>> padded(["ab", "b"], Vocabulary(["", "a", "b"])).tolist()
        [[1, 2], [2, 0]]
    """
    rows = [letters.encode(string) for string in strings]
    if not rows:
        raise ValueError("strings must hold at least one string")
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _locale(name: str, value: str) -> "Locale":
    with extra("data"):
        from babel import Locale, UnknownLocaleError

    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be the name of a CLDR locale")
    try:
        return Locale.parse(value)
    except (UnknownLocaleError, ValueError):
        message = (
            f"{name}={value!r} must be a CLDR locale that babel knows, such as 'pt'"
        )
        raise ValueError(message) from None


def _patterns(
    locales: Sequence[str], style: Any
) -> "dict[str, tuple[Any, str, Locale]]":
    """Return name -> (pattern of a date, pattern of "from – to", locale)."""
    with extra("data"):
        from babel.dates import get_date_format

    if isinstance(locales, str) or not isinstance(locales, Sequence) or not locales:
        raise TypeError(
            f"locales={locales!r} must be a sequence of names, one at least"
        )
    patterns = {}
    for at, name in enumerate(locales):
        locale = _locale(f"locales[{at}]", name)
        if name in patterns:
            raise ValueError(f"locales[{at}]={name!r} stands twice")
        between = locale.interval_formats[None]  # what CLDR falls back on: "{0} – {1}"
        patterns[name] = get_date_format(style, locale=locale), between, locale
    return patterns


def _years(years: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(years, Sequence) or len(years) != 2:
        raise TypeError(f"years={years!r} must be the first and the last year")
    first, last = (
        checks.count(f"years[{at}]", year, least=1000) for at, year in enumerate(years)
    )
    if not first <= last <= 9999:
        raise ValueError(f"years={years!r} must rise, within 1000 … 9999")
    return first, last
