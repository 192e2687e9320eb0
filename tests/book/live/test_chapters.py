"""The live models of the book's chapters, on their own pages."""

import pytest

from pipeline import ROOT
from pipeline.site.browser import served
from tests.book.live.tab import FIRST_TOUCH, Tab, compared
from tests.book.looking import CHAPTERS, REASON, SITE

LIVE = [
    page
    for page in CHAPTERS
    if "from nnlib.live" in (ROOT / page).with_suffix(".md").read_text("utf8")
]


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
@pytest.mark.parametrize("page", LIVE)
def test_a_chapters_models_answer_as_torch_does(page, browser):
    with served(SITE) as address:
        tab = Tab(browser, address, width=390)
        tab.open(page)
        figures = tab.page.locator("figure.nn-live")
        assert figures.count() >= 1
        for figure in figures.all():
            key, own = figure.get_attribute("data-live"), f"#{figure.get_attribute('id')}"
            tab.asked.clear()
            figure.locator("button:visible").last.click()
            tab.page.wait_for_function("id => document.querySelector(id).nnForm", arg=own)
            held = SITE / "live" / f"{key}.json"
            if held.exists():
                assert compared(tab, own, held) <= 1e-4
            else:
                tab.page.wait_for_function("id => document.querySelector(id).nnForm.run", arg=own)
            assert set(tab.asked) <= FIRST_TOUCH | {f"live/{key}.js"}
            assert (SITE / "live" / f"{key}.js").stat().st_size <= 400_000 * 4 / 3 + 50_000
        assert tab.visit.complaints == [] and tab.visit.foreign == []
        tab.visit.close()
