"""Ways through the book, the gallery, and what to read first: all made from the catalogue."""

import re

import pytest

from nnlib import catalog
from pipeline.site import (
    architecture_pages,
    gallery_pages,
    heroes,
    landing,
    read_first,
    ways_pages,
)
from pipeline.site.ways_pages import WAYS

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


@ways
def test_a_way_passes_known_chapters_once(way):
    assert [name for name in way.names if catalog.get(name).name != name] == []
    assert len(set(way.names)) == len(way.names) >= 10


@ways
def test_what_is_required_comes_before_on_a_way(way):
    place = {name: at for at, name in enumerate(way.names)}
    late = [
        f"{name} before {required}"
        for name in way.names
        for required in catalog.get(name).requires
        if place.get(required, -1) > place[name]
    ]
    assert late == []


@ways
def test_a_way_links_what_is_written_and_marks_the_rest(way):
    text = ways_pages.page()
    section = text.split(f"({way.name})=")[1].split("\n(")[0]
    for row in map(catalog.get, way.names):
        link = f'href="chapters/{row.family}/{row.name}.html"'
        assert (link in section) == bool(row.module), row.name
    planned = sum(not catalog.get(name).module for name in way.names)
    assert section.count("to come") == planned


def test_the_gallery_shows_every_written_chapter_in_order_and_names_the_rest(tmp_path):
    page = gallery_pages.page()
    for row in catalog.ARCHITECTURES:
        assert (f" {row.name} " in page.replace("-->", " ")) if row.module else (row.title in page)
    docs = [f"chapters/{row.family}/{row.name}" for row in catalog.written()]
    cards = dict.fromkeys((heroes.place(doc, small=True) for doc in docs), b"")
    text = landing.fill(page, "gallery", tmp_path, cards, {docs[1]})
    assert re.findall(r'<a href="(\S+)\.html"><img', text) == docs
    pictures = re.findall(r"<img [^>]+>", text)
    assert all('width="600" height="315" loading="lazy"' in picture for picture in pictures)
    assert re.findall(r'<li class="nn-photo"><a href="(\S+)\.html">', text) == [docs[1]]
    assert "<img" not in landing.fill(page, "gallery", tmp_path, {})


def test_every_architecture_stands_on_its_page_with_its_idea():
    text = architecture_pages.page()
    for row in catalog.ARCHITECTURES:
        assert text.count(f">{row.title}</a>" if row.module else f">{row.title} <") == 1, row.name
    assert text.count("What it costs") == len(catalog.written())


def test_read_first_links_written_chapters_and_names_planned_ones():
    found = {"chapters/sequence/rnn", "chapters/foundations/optimizers"}
    assert read_first.rows("chapters/sequence/lstm", found) == [("RNN", "chapters/sequence/rnn")]
    assert read_first.rows("chapters/sequence/s4", found) == [
        ("RNN", "chapters/sequence/rnn"),
        ("CNN", ""),
    ]
    for page in ("chapters/intro", "chapters/sequence/index", "api/sequence", "truth"):
        assert read_first.rows(page, found) == []


# ---------------------------------------------------------------- the landing page

NOTEBOOK = b"""{"cells": [{"outputs": [{"data": {"text/html":
["<p></p><figure class='nn-slider' id=\\"figure-walk\\">",
"<figcaption>c</figcaption></figure>x"]}}]}]}"""


def filled(text, tmp_path):
    (tmp_path / "_config.yml").write_text('title: T\nauthor: the authors\ncopyright: "2026"\n')
    urls = '[project]\nurls = {repository = "https://github.com/who/what"}\n'
    (tmp_path / "pyproject.toml").write_text(urls)
    known = {"chapters/a/b.ipynb": NOTEBOOK}
    known["_images/heroes/foundations-perceptron-small.png"] = b""
    return landing.fill(text, "chapters/intro", tmp_path, known)


def test_a_mark_becomes_the_slider_of_a_chapter_that_ran(tmp_path):
    text = filled("A\n\n<!-- book: slider chapters/a/b walk -->\n\nB\n", tmp_path)
    assert "```{raw} html\n<div" in text and "<figure class='nn-slider' id=\"figure-walk\">" in text
    assert 'href="../chapters/a/b.html#figure-walk"' in text and "<p></p>" not in text
    assert filled("<!-- book: slider chapters/a/b run -->", tmp_path) == ""
    assert filled("<!-- book: slider chapters/a/c walk -->", tmp_path) == ""


def test_the_state_counts_chapters_and_equations(tmp_path):
    written, rows = len(catalog.written()), len(catalog.ARCHITECTURES)
    assert f"{written} of {rows} chapters" in filled("<!-- book: state -->", tmp_path)
    assert "equations" not in landing.state(tmp_path) and "changed" not in landing.state(tmp_path)
    (tmp_path / "_build").mkdir()
    told = '{"a": {"tests": [{"outcome": "passed"}]}, "b": {"tests": [{"outcome": "failed"}]}}'
    (tmp_path / "_build/truth.json").write_text(told)
    assert ">1 equations</a>" in landing.state(tmp_path)


def test_links_lead_to_the_book_and_its_repository(tmp_path):
    text = filled("<!-- book: contribute -->", tmp_path)
    for link in ("/issues/new", "/blob/main/CONTRIBUTING.md", "/blob/main/LICENSE-TEXT"):
        assert f"](https://github.com/who/what{link})" in text
    assert "author = {{The authors}}" in text and "url    = {https://who.github.io/what/}" in text
    tiles = filled("<!-- book: tiles perceptron -->", tmp_path)
    assert 'src="../_images/heroes/foundations-perceptron-small.png"' in tiles
    assert 'href="../ways.html#newcomer"' in filled("<!-- book: ways -->", tmp_path)
