"""Lists of measures: read back by other code, held-out measures, one draw a seed."""

import re

import pytest
from babel.units import format_unit

from nnlib.data.measures import UNITS, measure_pairs
from tests.support import refuses

JOINTS = {"en": r", (?:and|or) |, | (?:and|or) ", "fr": r", | (?:et|ou) "}


def measures(texts, locale):
    """Return the measures of each text, (number, unit), found by trying every unit."""
    known = {
        format_unit(number, unit, length="long", locale=locale).replace("\xa0", " "): (number, unit)
        for unit in UNITS for number in range(1, 21)
    }  # fmt: skip
    assert len(known) == 20 * len(UNITS)  # no two are written alike
    return [tuple(known[part] for part in re.split(JOINTS[locale], text)) for text in texts]


def test_both_texts_name_the_same_measures_with_the_same_conjunction():
    pairs = measure_pairs(400)
    said = measures(pairs.x, "en")
    assert said == measures(pairs.y, "fr")
    assert {len(items) for items in said} == {1, 2, 3}
    assert {unit for items in said for _, unit in items} == set(UNITS)
    for english, french in zip(pairs.x, pairs.y, strict=True):
        assert (" and " in english, " or " in english) == (" et " in french, " ou " in french)


def test_french_is_not_english_word_by_word():
    pairs = dict(zip(*(getattr(measure_pairs(4000, "all"), side) for side in "xy"), strict=True))
    assert pairs["1 square mile"] == "1 mille carré"
    assert pairs["4 tablespoons"] == "4 cuillères à soupe"
    three = next(text for text in pairs if text.count(",") == 2)
    assert pairs[three].count(",") == 1  # no comma before the conjunction


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_no_measure_of_the_test_split_occurs_in_training_but_those_of_one(share):
    train, test = (
        {item for items in measures(measure_pairs(4000, split, test_share=share).x, "en")
         for item in items}
        for split in ("train", "test")
    )  # fmt: skip
    assert train & test == {(1, unit) for unit in UNITS}
    assert len(test) - len(UNITS) == pytest.approx(19 * len(UNITS) * share, abs=1)
    assert len(train | test) == 20 * len(UNITS)
    assert share != 0.2 or (11, "area-square-mile") in test - train  # the chapter's example


def test_a_seed_gives_the_same_draw_and_another_seed_another():
    assert measure_pairs(30, seed=3) == measure_pairs(30, seed=3)
    assert measure_pairs(30, seed=3).x != measure_pairs(30, seed=4).x
    assert measure_pairs(30, seed=3).x[:10] == measure_pairs(10, seed=3).x


def test_numbers_length_languages_and_source_are_those_asked_for():
    pairs = measure_pairs(200, locales=("fr", "en"), largest=3, longest=1)
    assert {number for ((number, _),) in measures(pairs.x, "fr")} == {1, 2, 3}
    assert measures(pairs.x, "fr") == measures(pairs.y, "en")
    assert "CLDR" in pairs.source and "Unicode" in pairs.licence and pairs.split == "train"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, ValueError, "count=0 must be an integer ≥ 1"),
        ({"split": "dev"}, ValueError, "split='dev' must be one of"),
        ({"largest": 1}, ValueError, "largest=1"),
        ({"longest": 0}, ValueError, "longest=0"),
        ({"test_share": 1.0}, ValueError, "test_share=1.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"locales": "en"}, TypeError, "locales='en' must be the names of two locales"),
        ({"locales": ["en"]}, TypeError, "must be the names of two locales"),
        ({"locales": ["en", "xx"]}, ValueError, "locales[1]='xx' must be a CLDR"),
    ],
)
def test_bad_draws_are_refused(options, error, message):
    with refuses(error, message):
        measure_pairs(**{"count": 2, **options})
