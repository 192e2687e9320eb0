"""Figures of the executed chapters: what their runs tell of them, and their numbers on a page."""

import json

import pytest
from docutils import nodes
from docutils.utils import new_document

from nnlib.plot.narrow import READABLE
from pipeline import ROOT
from pipeline.site.figures import number

RECORDS = sorted((ROOT / "_build" / "executed" / "chapters").glob("*/*.json"))
executed = pytest.mark.parametrize(
    "record", RECORDS, ids=[f"{file.parent.name}/{file.stem}" for file in RECORDS]
)


def drawn(record):
    pictures = json.loads(record.read_text("utf8"))["figures"]
    assert pictures, "a chapter has figures"
    return pictures


@executed
def test_no_words_lie_on_words_or_under_a_line(record):
    found = [
        f"{picture['name']} ({picture['variant']}): {told}"
        for picture in drawn(record)
        for told in picture["collisions"]
    ]
    assert found == []


@executed
def test_words_are_readable_on_a_phone(record):
    """Of two variants the narrow one counts; what scrolls is held at a width that is readable."""
    slim = [picture for picture in drawn(record) if picture["variant"] == "narrow"]
    small = [(p["name"], p["smallest"]) for p in slim if p["smallest"] < READABLE]
    assert small == []


def test_figures_and_sliders_of_a_page_are_counted_in_its_order():
    page = new_document("page")
    for kind, name in (("", "first"), (" nn-slider", "second"), ("", "third")):
        markup = f'<figure class="nn-figure{kind}" id="figure-{name}"><svg/><figcaption>words'
        page += nodes.raw("", markup, format="html")
        page += nodes.paragraph("", "words between")
    assert number(page) == 3
    told = [raw.astext() for raw in page.findall(nodes.raw)]
    assert all(
        text.endswith(
            f'<figcaption><a class="nn-number" href="#figure-{name}">Figure {at}</a> words'
        )
        for at, (name, text) in enumerate(zip(("first", "second", "third"), told, strict=True), 1)
    )
