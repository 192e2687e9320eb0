"""What git knows of pages reaches them; addresses are made in one place; feed and map are sound."""

import subprocess
import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qs, urlsplit

import pytest
from pybtex.database import parse_string

from pipeline import ROOT, address
from pipeline.site import about, changes, history, not_found, page_end, site_files
from pipeline.site.toc import toc_pages

ATOM = "{http://www.w3.org/2005/Atom}"
TOLD = about.About(
    title="A Book & More",
    authors="the authors",
    version="1.2.0",
    repository="https://github.com/who/what",
    year="2020",
    site="https://who.github.io/what/",
    written=["chapters/a/one"],
    changed={"chapters/a/one": "2024-02-03T10:00:00Z"},
)


@pytest.fixture
def repository(tmp_path):
    """A repository with two pages, one of which was changed once more."""

    def git(*arguments, day=1):
        when = f"2024-03-{day:02d}T12:00:00+00:00"
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True,
            env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when},
        )  # fmt: skip

    git("init", "-q")
    for day, names in ((1, ["one", "two"]), (5, ["one"])):
        for name in names:
            (tmp_path / f"{name}.md").write_text(f"# {name} {day}\n")
        git("add", ".", day=day)
        git("commit", "-qm", f"a/one: day {day}; more", day=day)
    (tmp_path / "one.py").write_text("")
    git("add", ".", day=9)
    git("commit", "-qm", "no page", day=9)
    return tmp_path


def test_a_page_was_changed_when_its_own_file_was(repository):
    known = history.commits(repository)
    assert [commit.subject for commit in known] == ["a/one: day 5; more", "a/one: day 1; more"]
    assert history.changed(known, ["one", "two", "never"]) == {
        "one": "2024-03-05T12:00:00Z", "two": "2024-03-01T12:00:00Z",
    }  # fmt: skip


def test_a_history_that_was_cut_off_tells_nothing(repository, tmp_path_factory):
    shallow = tmp_path_factory.mktemp("clone") / "shallow"
    call = ["git", "clone", "-q", "--depth=1", repository.as_uri(), str(shallow)]
    subprocess.run(call, check=True, capture_output=True)
    assert (shallow / "one.md").exists()
    assert history.commits(shallow) == []


def test_without_git_nothing_is_told(tmp_path, monkeypatch):
    assert history.commits(tmp_path) == []
    monkeypatch.setenv("PATH", "")
    assert history.commits(ROOT) == []


def test_what_is_written_is_what_may_be_edited():
    told = about.About(**__import__("json").loads(about.collect(ROOT, toc_pages(ROOT))))
    assert told.repository == address()
    for doc in told.written:
        assert (ROOT / history.source(doc)).is_file()
        assert told.source(doc, "edit") == f"{address()}/edit/main/{history.source(doc)}"
    chapters = [doc for doc in toc_pages(ROOT) if (ROOT / f"{doc}.ipynb").exists()]
    assert set(chapters) <= set(told.written) and "truth" not in told.written


def test_a_chapter_is_cited_with_all_that_a_list_of_works_needs():
    entry = page_end.bibtex(TOLD, "chapters/a/one", "One & only")
    ((key, parsed),) = parse_string(entry, "bibtex").entries.items()
    assert key == "encyclopedia-a-one"
    assert parsed.fields["title"] == r"{One \& only}"
    assert parsed.fields["booktitle"] == r"A Book \& More"
    assert parsed.fields["year"] == "2024"
    assert parsed.fields["url"] == "https://who.github.io/what/chapters/a/one.html"
    assert parsed.fields["note"] == "Version 1.2.0, last changed 3 February 2024"
    assert page_end.sentence(TOLD, "chapters/a/one", "One") == (
        "The authors. “One.” In A Book & More. Version 1.2.0, last changed 3 February 2024. "
        "https://who.github.io/what/chapters/a/one.html"
    )


def test_without_git_the_year_is_the_books():
    parsed = parse_string(page_end.bibtex(TOLD, "chapters/a/two", "Two"), "bibtex")
    assert parsed.entries["encyclopedia-a-two"].fields["year"] == "2020"


def test_a_report_opens_an_issue_with_the_page_filled_in():
    url = urlsplit(page_end.report(TOLD, "chapters/a/one", "Q&A"))
    assert url.path == "/who/what/issues/new"
    asked = parse_qs(url.query)
    assert asked["title"] == ["Q&A: "]
    assert asked["body"][0].startswith(
        "Page: https://who.github.io/what/chapters/a/one.html\nSection: Q&A\n"
    )


def test_the_end_of_a_page_escapes_what_it_shows():
    shown = page_end.ending(TOLD, "chapters/a/one", "<b>", chapter=True, written=True)
    assert "<b>" not in shown and "“&lt;b&gt;.”" in shown
    assert "nn-cite" in shown and "edit/main/chapters/a/one.md" in shown
    plain = page_end.ending(TOLD, "truth", "Truth", chapter=False, written=False)
    assert "nn-cite" not in plain and "/edit/" not in plain and "issues/new" in plain


def test_the_map_names_every_page_with_its_day():
    tree = ElementTree.fromstring(site_files.sitemap(TOLD, ["chapters/a/one", "truth"]))
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    assert [e.text for e in tree.iter(f"{space}loc")] == [
        TOLD.url("chapters/a/one"),
        TOLD.url("truth"),
    ]
    assert [e.text for e in tree.iter(f"{space}lastmod")] == ["2024-02-03"]
    assert f"Sitemap: {TOLD.site}sitemap.xml" in site_files.robots(TOLD)


def test_the_feed_tells_changes_newest_first_and_the_same_each_time(repository):
    known = history.commits(repository)
    told = about.About(**vars(TOLD) | {"news": about._news(known, ["one", "two"])})
    text = site_files.feed(told, {"one": "One & only", "two": "Two"})
    assert text == site_files.feed(told, {"one": "One & only", "two": "Two"})
    feed = ElementTree.fromstring(text)
    assert feed.find(f"{ATOM}updated").text == "2024-03-05T12:00:00Z"
    entries = feed.findall(f"{ATOM}entry")
    assert [e.find(f"{ATOM}title").text for e in entries] == [
        "One & only: day 5; more", "2 pages: day 1; more",
    ]  # fmt: skip
    assert len({e.find(f"{ATOM}id").text for e in entries}) == 2
    assert entries[0].find(f"{ATOM}link").get("href") == "https://who.github.io/what/one.html"
    assert "/commit/" in entries[1].find(f"{ATOM}link").get("href")


def test_a_feed_without_git_is_still_one():
    feed = ElementTree.fromstring(site_files.feed(TOLD, {}))
    assert feed.find(f"{ATOM}updated").text and not feed.findall(f"{ATOM}entry")


def test_the_page_for_lost_readers_needs_nothing_beside_it():
    page = not_found.page(TOLD, [("Part & one", "chapters/a/index")])
    assert (
        "Part &amp; one" in page
        and 'href="https://who.github.io/what/chapters/a/index.html"' in page
    )
    assert "src=" not in page and "stylesheet" not in page and 'href="/' not in page


def test_the_changelog_becomes_a_page():
    page = changes.page(ROOT)
    assert (
        page.startswith("# What changed\n")
        and "## Unreleased" in page
        and "[Unreleased]" not in page
    )


def test_a_date_is_written_the_same_whatever_the_language():
    assert about.day("2026-03-01T10:00:00Z") == "1 March 2026"
