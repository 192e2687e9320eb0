"""The index of the search is made once for the same records, and is the same each time."""

import json

import pytest
import yaml

from pipeline import ROOT
from pipeline.site import search_index
from pipeline.site.formula_text import as_text

LEAD = {"id": "", "title": "One", "kind": "chapter", "text": ["On networks & nets."], "code": ""}
WAY = {"id": "way", "title": "A way", "kind": "section", "text": ["Of < it."], "code": "f(x)"}
OBJECT = {"id": "b.f", "title": "f", "kind": "api", "text": ["Return it."], "code": ""}
RECORDS = {
    "a/one": {"title": "One", "records": [LEAD, WAY]},
    "api/b": {"title": "b", "records": [OBJECT]},
}


@pytest.fixture
def book(tmp_path):
    """A folder of a book whose pages were read, and `place`, which publishes its index."""
    (tmp_path / "_build/jb/_build").mkdir(parents=True)
    tell(tmp_path, RECORDS)
    return tmp_path


def tell(book, records):
    (book / "_build/jb/_build/search.json").write_text(json.dumps(records))


def place(book, name):
    site = book / name
    site.mkdir()
    search_index.place(site, book / "_build", book)
    return {file.relative_to(site).as_posix(): file for file in site.rglob("*") if file.is_file()}


def test_the_same_records_make_the_same_files(book, tmp_path):
    first = place(book, "first")
    (other := tmp_path / "other").mkdir()
    search_index.make(RECORDS, {}, other)
    again = {f"search/{file.relative_to(other).as_posix()}" for file in other.rglob("*.*")}
    assert {name for name in again if (tmp_path / "other" / name[7:]).is_file()} == first.keys()
    for name, file in first.items():
        assert file.read_bytes() == (other / name.removeprefix("search/")).read_bytes(), name
    assert {"search/pagefind.js", "search/find.js", "search/dialog.js"} <= first.keys()
    assert sum(name.startswith("search/fragment/") for name in first) == 3


def test_an_index_is_made_again_only_when_a_record_changed(book, monkeypatch):
    first = place(book, "first")
    with monkeypatch.context() as patch:
        patch.setattr(search_index, "make", lambda *_: pytest.fail("it was made again"))
        second = place(book, "second")
    assert {name: file.stat().st_ino for name, file in first.items()} == {
        name: file.stat().st_ino for name, file in second.items()
    }
    changed = json.loads(json.dumps(RECORDS))
    changed["a/one"]["records"][0]["text"] = ["On something else."]
    tell(book, changed)
    third = place(book, "third")
    assert third.keys() != first.keys()


def test_a_site_that_is_published_once_more_has_the_index_once(book):
    first = place(book, "first")
    search_index.place(book / "first", book / "_build", book)
    again = {file for file in (book / "first").rglob("*") if file.is_file()}
    assert again == set(first.values()) != set()


def test_a_book_that_was_not_read_has_no_search(book):
    (book / "_build/jb/_build/search.json").unlink()
    assert place(book, "site") == {}


def test_words_of_titles_come_first():
    words = search_index.words(RECORDS, {"a/one.html": "net"})
    assert set(words[:3]) == {"net", "one", "way"}
    assert set(words[3:]) == {"networks", "nets", "return"}


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\mathbf{W}\mathbf{x} + \mathbf{b}", "Wx + b"),
        (r"\frac{a}{b} \le \theta_t", "a/b ≤ θ_t"),
        (r"e^{L}", "e^L"),
        (r"\operatorname{softmax}(\mathbf{z})", "softmax(z)"),
    ],
)
def test_a_formula_reads_as_text(formula, text):
    assert as_text(formula) == text


def test_further_words_are_of_pages_that_exist():
    for place in yaml.safe_load((ROOT / search_index.ALSO).read_text("utf8")):
        assert (ROOT / f"{place.partition('#')[0]}.md").is_file(), place


def test_further_words_are_of_sections_that_exist():
    records = ROOT / "_build/jb/_build/search.json"
    if not records.exists():
        pytest.skip("the site is not built")
    known = json.loads(records.read_text("utf8"))
    ids = {f"{doc}#{r['id']}".rstrip("#") for doc, page in known.items() for r in page["records"]}
    told = yaml.safe_load((ROOT / search_index.ALSO).read_text("utf8"))
    assert set(told) - ids == set()
