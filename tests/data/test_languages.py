import torch

from nnlib.data import languages
from nnlib.data.languages import LANGUAGES, language_names
from tests.support import refuses


def test_names_are_split_by_thing_and_belong_to_one_language():
    splits = [language_names(split) for split in ("train", "test", "all")]
    (train, test, everything), codes = (split.x for split in splits), splits[0].classes
    train_labels, test_labels, labels = (split.y for split in splits)
    assert all(split.classes == LANGUAGES for split in splits)
    assert [split.split for split in splits] == ["train", "test", "all"]
    assert "CLDR" in splits[0].source and "Unicode" in splits[0].licence
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(everything)
    assert len(everything) == len(set(everything)) == len(labels)
    assert torch.bincount(train_labels, minlength=20).min() > 200
    assert torch.bincount(test_labels, minlength=20).min() > 50
    known = dict(zip(everything, labels.tolist(), strict=True))
    assert codes[known["deutschland"]] == "de"
    assert codes[known["frankrijk"]] == "nl"


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "split='dev' must be one of ['train', 'test', 'all']"):
        language_names("dev")
    with refuses(ValueError, "languages holds 'xx', which CLDR does not know"):
        language_names("all", ("en", "xx"))
    with refuses(ValueError, "languages must hold two codes or more"):
        language_names("all", ("en",))


def test_countries_have_a_name_in_each_language():
    names = languages.country_names()
    codes = {tuple(named) for named in names.values()}
    assert set(names) == set(languages.WRITTEN) and len(codes) == 1 and len(*codes) > 200
    assert names["el"]["GR"] == "Ελλάδα" and names["ja"]["JP"] == "日本"
    assert languages.language_name("el") == "Greek"


def test_a_language_that_nobody_knows_is_named():
    with refuses(ValueError, "languages holds 'xyzzy'"):
        languages.country_names(("en", "xyzzy"))
    with refuses(ValueError, "languages must hold a code or more"):
        languages.country_names(())
