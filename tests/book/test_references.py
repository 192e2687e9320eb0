"""Every work can be found by its number, is published when it says, and serves the book."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pybtex.database import Entry, parse_string

from nnlib import catalog
from pipeline import ROOT
from tests.book.references import cited, references

NUMBERS = {
    "doi": r"10\.\d{4,9}/\S+",
    "eprint": r"\d{4}\.\d{4,5}",
    "isbn": r"97[89]\d{10}",
}
# Why a work has no number, and the hosts that its page may have; none named, any host.
UNNUMBERED: dict[str, set[str]] = {
    "proceedings": {
        "proceedings.mlr.press",
        "proceedings.neurips.cc",
        "papers.nips.cc",  # the same archive by its older name
        "icml.cc",
        "apps.dtic.mil",
        "ai.stanford.edu",  # a workshop that left no proceedings: its authors' group
        "papers.cnl.salk.edu",  # a meeting of 1983, as its authors' laboratory keeps it
    },
    "journal": {
        "jmlr.org",
        "www.iti.zcu.cz",  # a meeting on a Soviet paper of 1968, with its translation
        "www.jstor.org",
        "gallica.bnf.fr",
        "mi.mathnet.ru",
        "www.complex-systems.com",
        "www.derczynski.com",  # a copy: the magazine is no more, and left no archive
    },
    "report": set(),
    "thesis": set(),
    "manuscript": set(),
    "slides": set(),
    "data sheet": set(),
    "data": set(),
    "software": set(),
    "article on the web": set(),
}
# They have a number that no record open to us gives: to be looked up, never to be added to.
WANTED = {"conrad1965order"}


def every(test):
    return pytest.mark.parametrize("key", references())(test)


def faults(entry: Entry) -> list[str]:
    """Return what keeps a reader from finding a work."""
    fields = entry.fields
    numbers = [name for name in NUMBERS if name in fields]
    found = [
        f"{name} = {fields[name]} has another form"
        for name in numbers
        if not re.fullmatch(NUMBERS[name], fields[name])
    ]
    if "eprint" in fields and fields.get("archiveprefix") != "arXiv":
        found.append("an eprint needs archiveprefix = {arXiv}")
    if "isbn" in fields and sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(fields["isbn"])) % 10:
        found.append(f"isbn = {fields['isbn']}: its check digit is another")
    if "url" in fields and urlsplit(fields["url"]).scheme != "https":
        found.append(f"url = {fields['url']} must begin with https://")
    why = fields.get("unnumbered")
    if numbers:
        return found + [f"unnumbered = {{{why}}}, and yet it has {numbers}"] * bool(why)
    if why not in UNNUMBERED:
        return [*found, f"no {', '.join(NUMBERS)}; unnumbered = {{{why}}} is no reason for that"]
    host = urlsplit(fields.get("url", "")).hostname
    if not host or (UNNUMBERED[why] and host not in UNNUMBERED[why]):
        found.append(f"{why}: url must lead to its publisher or archive, not to {host}")
    kind = "report" if entry.type == "techreport" else "thesis" if "thesis" in entry.type else why
    return found + [f"a {kind} called {why}"] * (kind != why)


@every
def test_a_work_is_complete_and_its_key_has_one_form(key):
    entry = references()[key]
    assert re.fullmatch(r"[a-z]+\d{4}[a-z][a-z0-9]*", key), key
    assert entry.persons.get("author"), key
    assert {"title", "year"} <= set(entry.fields), key


@every
def test_the_year_of_a_key_is_that_of_the_publication_or_of_the_preprint(key):
    fields = references()[key].fields
    years = {int(fields["year"])}
    if preprint := fields.get("eprint"):
        years.add(2000 + int(preprint[:2]))
    assert int(re.search(r"\d{4}", key)[0]) in years, f"{key}: only {years} would be right"


@every
def test_a_work_has_a_number_or_says_why_not(key):
    if key in WANTED:
        fields = references()[key].fields
        assert fields["unnumbered"] == "not found"
        assert not fields.keys() & NUMBERS.keys(), f"{key} is found: take it out of WANTED"
        return
    assert not (wrong := faults(references()[key])), f"{key}: {'; '.join(wrong)}"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("", "no doi"),
        ("unnumbered = {lost}, url = {https://jmlr.org/a}", "no reason"),
        ("unnumbered = {journal}", "publisher or archive"),
        ("unnumbered = {journal}, url = {https://example.org/a.pdf}", "not to example.org"),
        ("unnumbered = {journal}, url = {http://jmlr.org/a}", "https"),
        ("unnumbered = {journal}, doi = {10.1000/182}", "yet it has"),
        ("doi = {https://doi.org/10.1000/182}", "another form"),
        ("eprint = {1706.03762}", "archiveprefix"),
        ("isbn = {9780262035614}", "check digit"),
    ],
)
def test_what_cannot_be_found_is_told(fields, told):
    [entry] = parse_string(f"@article{{one, {fields}}}", "bibtex").entries.values()
    assert told in "; ".join(faults(entry))


def test_a_thesis_and_a_report_are_called_so():
    for kind in ("phdthesis", "mastersthesis", "techreport"):
        text = f"@{kind}{{one, unnumbered = {{data}}, url = {{https://example.org/a}}}}"
        [entry] = parse_string(text, "bibtex").entries.values()
        assert faults(entry) == [f"a {kind[-6:]} called data"]


@pytest.mark.parametrize("name", ["doi", "eprint"])
def test_a_number_belongs_to_one_work(name):
    fields = [entry.fields for entry in references().values()]
    numbers = [one[name].lower() for one in fields if name in one]
    assert not {one for one in numbers if numbers.count(one) > 1}


def unused(root: Path, named: set[str]) -> list[str]:
    """Return the works that no page cites and that are not among `named`."""
    pages = (page.read_text(encoding="utf-8") for page in (root / "chapters").rglob("*.md"))
    return sorted(references(root).keys() - named.union(*map(cited, pages)))


def test_a_page_cites_a_work_or_the_catalogue_names_it():
    idle = unused(ROOT, {row.source for row in catalog.ARCHITECTURES})
    assert not idle, f"no page cites {idle}, and no row of nnlib/catalog.py names them"


def test_a_work_that_serves_nothing_is_told(tmp_path):
    (tmp_path / "chapters" / "vision").mkdir(parents=True)
    works = "".join(f"@misc{{{key}, title = {{T}}}}\n" for key in ("a1", "b2", "c3", "d4"))
    (tmp_path / "references.bib").write_text(works)
    (tmp_path / "chapters" / "vision" / "cnn.md").write_text("Seen {cite}`a1, b2`.")
    assert unused(tmp_path, {"c3"}) == ["d4"]


def test_a_work_stands_in_one_file_of_references(tmp_path):
    entry = "@misc{lecun1989backpropagation, author = {LeCun, Yann}, title = {T}, year = {1989}}"
    (tmp_path / "chapters" / "vision").mkdir(parents=True)
    for folder in ("", "chapters/vision"):
        (tmp_path / folder / "references.bib").write_text(entry)
    with pytest.raises(ValueError, match=r"propagation stands in references\.bib and in chapters"):
        references(tmp_path)
