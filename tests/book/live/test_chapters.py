"""The live models of the book's chapters, on their own pages."""

import math

import pytest

from pipeline import ROOT
from pipeline.site.browser import served
from tests.book import axe
from tests.book.live.tab import FIRST_TOUCH, Tab, compared
from tests.book.looking import CHAPTERS, REASON, SITE

LIVE = [
    page
    for page in CHAPTERS
    if "from nnlib.live" in (ROOT / page).with_suffix(".md").read_text("utf8")
]
ALONE = """() => {
  for (const part of document.querySelectorAll("article section > *"))
    if (!part.closest(".nn-live") && !part.querySelector(".nn-live")) part.remove();
}"""
SHRUNK = """() => [...document.querySelectorAll('.nn-heat svg')]
    .filter(e => e.getBoundingClientRect().width < e.getAttribute('width') - 1)
    .map(e => e.outerHTML.slice(0, 200))"""
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def tab(browser):
    with served(SITE) as address:
        tab = Tab(browser, address, width=390)
        yield tab
        assert tab.visit.complaints == [] and tab.visit.foreign == []
        tab.visit.close()


@pytest.fixture(scope="module", params=LIVE)
def page(request, tab):
    """A chapter on a phone: on paper, and then with each of its models touched."""
    tab.open(request.param)
    tab.page.emulate_media(media="print")
    tab.paper = (
        tab.page.locator(".nn-live :is(button, canvas, .nn-touch):visible").count(),
        [shown.inner_html() for shown in tab.page.locator(".nn-live .nn-now:visible").all()],
    )
    tab.page.emulate_media(media="screen")
    tab.loaded = {}
    for figure in tab.page.locator("figure.nn-live").all():
        own = f"#{figure.get_attribute('id')}"
        tab.asked.clear()
        figure.locator("button:visible").last.click()
        tab.page.wait_for_function("id => document.querySelector(id).nnForm?.run", arg=own)
        tab.page.wait_for_function(
            "id => !/^(You see|Loading)/.test(document.querySelector(id).textContent)",
            arg=f"{own} .nn-live-told",
        )
        tab.loaded[own] = figure.get_attribute("data-live"), set(tab.asked)
    assert tab.loaded
    return tab


def test_a_chapters_paper_shows_the_recorded_example(page):
    offered, shown = page.paper
    assert offered == 0 and shown and all(shown)


def test_a_chapters_models_answer_as_torch_does(page):
    for own, (key, asked) in page.loaded.items():
        held = SITE / "live" / f"{key}.json"
        if held.exists():
            assert compared(page, own, held) <= 1e-4
        assert asked <= FIRST_TOUCH | {f"live/{key}.js"}
        assert (SITE / "live" / f"{key}.js").stat().st_size <= 400_000 * 4 / 3 + 50_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_a_chapters_models(theme, page):
    page.visit.set_theme(theme)
    small = page.page.locator(".nn-live :is(button, select, input):visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 44).map(e => e.outerHTML)"
    )
    assert small == []
    shrunk = page.page.evaluate(SHRUNK)  # at once: a figure may draw itself anew in between
    assert shrunk == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.page.evaluate(ALONE)  # axe would read the whole chapter first
    assert axe.grave(page.page, within="figure.nn-live") == []


def test_a_round_nought_is_read_as_one(tab):
    """As broad as it is high, while every digit of the training data is five by eight."""
    tab.open("chapters/foundations/mlp.html")
    canvas = tab.form("digit").locator("canvas")
    canvas.hover()  # waits until it stands still
    box = canvas.bounding_box()
    for turn in range(33):
        angle = math.tau * turn / 32
        x, y = 0.5 + 0.35 * math.sin(angle), 0.5 - 0.35 * math.cos(angle)
        tab.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if not turn:
            tab.page.mouse.down()
    tab.page.mouse.up()
    tab.told("digit", "The model says: 0")
