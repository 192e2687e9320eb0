"""Localised dates: parsed back by other code, held-out days, one draw a seed, no network."""

import datetime
import re

import babel
import pytest
import torch
from babel.dates import format_date

from nnlib.data.dates import STYLES, date_pairs, month_names, padded
from nnlib.data.text import Vocabulary
from tests.support import refuses


def days(pairs):
    return [[datetime.date.fromisoformat(d) for d in t.split("/")] for t in pairs.y]


@pytest.mark.parametrize("style", STYLES)
def test_each_string_is_what_babel_writes_for_the_target(style):
    pairs = date_pairs(60, locales=("de", "en", "pt", "ja"), style=style)
    assert len(pairs) == 60
    for string, name, (one, other) in zip(pairs.x, pairs.locales, days(pairs), strict=True):
        first, second = (format_date(d, style, locale=name) for d in (one, other))
        assert string.startswith(first) and string.endswith(second)
        between = string[len(first) : len(string) - len(second)]
        assert re.fullmatch(r"\s*[–～~-]\s*", between), between
        assert one < other


def test_a_single_date_has_nothing_between():
    pairs = date_pairs(20, locales=["fr"], dates=1)
    for string, (day,) in zip(pairs.x, days(pairs), strict=True):
        assert string == format_date(day, "long", locale="fr")


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_no_day_of_the_test_split_occurs_in_training(share):
    seen = {}
    for split in ("train", "test"):
        pairs = date_pairs(4000, split, locales=["nl"], years=(2000, 2001), test_share=share)
        seen[split] = {day for row in days(pairs) for day in row}
        assert pairs.split == split
    assert not seen["train"] & seen["test"]
    assert len(seen["test"]) == pytest.approx(731 * share, abs=2)
    assert len(seen["train"] | seen["test"]) > 720
    whole = {day for row in days(date_pairs(2000, "all", years=(2000, 2001))) for day in row}
    assert whole & seen["train"] and whole & seen["test"]


def test_the_split_of_days_does_not_depend_on_the_seed():
    held_out = [
        {d for row in days(date_pairs(2000, "test", years=(2000, 2001), seed=s)) for d in row}
        for s in (0, 1)
    ]
    assert held_out[0] == held_out[1]


def test_a_seed_gives_the_same_draw_and_another_seed_another():
    assert date_pairs(30, seed=3) == date_pairs(30, seed=3)
    assert date_pairs(30, seed=3).x != date_pairs(30, seed=4).x
    assert date_pairs(30, seed=3).x[:10] == date_pairs(10, seed=3).x


def test_years_and_locales_are_those_asked_for():
    pairs = date_pairs(200, locales=("it", "sv"), years=(1999, 2000))
    assert {d.year for row in days(pairs) for d in row} == {1999, 2000}
    assert set(pairs.locales) == {"it", "sv"}
    assert abs(pairs.locales.count("it") - 100) < 40


def test_source_and_licence_are_told():
    pairs = date_pairs(1)
    assert "CLDR" in pairs.source and "babel" in pairs.source
    assert "Unicode" in pairs.licence


@pytest.mark.parametrize("name", ["pt", "de", "pl", "el"])
def test_months_are_the_words_within_dates(name):
    for month, word in enumerate(month_names(name), 1):
        day = datetime.date(2001, month, 14)
        assert word in format_date(day, "long", locale=babel.Locale.parse(name))


def test_padding_is_on_the_right_and_undone_by_decoding():
    strings = date_pairs(40).x
    letters = Vocabulary(["", *sorted(set("".join(strings)))])
    rows = padded(strings, letters)
    assert rows.shape == (40, max(map(len, strings))) and rows.dtype == torch.int64
    for row, string in zip(rows, strings, strict=True):
        assert "".join(letters.decode(row)) == string
        assert (row == 0).sum() == len(row) - len(string)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: date_pairs(0), ValueError, "count=0 must be an integer ≥ 1"),
        (lambda: date_pairs(2.5), TypeError, "count=2.5"),
        (lambda: date_pairs(1, "dev"), ValueError, "split='dev' must be one of"),
        (lambda: date_pairs(1, style="short"), ValueError, "style='short' must be one of"),
        (lambda: date_pairs(1, dates=3), ValueError, "dates=3 must be one of [1, 2]"),
        (lambda: date_pairs(1, locales=[]), TypeError, "locales=[] must be a sequence"),
        (lambda: date_pairs(1, locales="pt"), TypeError, "locales='pt' must be a sequence"),
        (lambda: date_pairs(1, locales=["pt", "xx"]), ValueError, "locales[1]='xx' must be a CLDR"),
        (lambda: date_pairs(1, locales=[7]), TypeError, "locales[0]=7"),
        (lambda: date_pairs(1, locales=["pt", "pt"]), ValueError, "locales[1]='pt' stands twice"),
        (lambda: date_pairs(1, years=(2001, 2000)), ValueError, "years=(2001, 2000) must rise"),
        (lambda: date_pairs(1, years=(1, 2000)), ValueError, "years[0]=1"),
        (lambda: date_pairs(1, years=(9999, 10_000)), ValueError, "within 1000 … 9999"),
        (lambda: date_pairs(1, years=2000), TypeError, "years=2000"),
        (lambda: date_pairs(1, test_share=0.0), ValueError, "test_share=0.0"),
        (lambda: date_pairs(1, seed=-1), ValueError, "seed=-1"),
        (lambda: month_names("xx"), ValueError, "locale='xx' must be a CLDR locale"),
        (lambda: month_names(None), TypeError, "locale=None"),
        (lambda: padded([], Vocabulary("a")), ValueError, "strings must hold"),
        (lambda: padded(["b"], Vocabulary("a")), ValueError, "outside the vocabulary"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
