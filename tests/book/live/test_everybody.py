"""For everybody: axe finds nothing, thumbs have room, and who listens hears what settled."""

import pytest

from tests.book import axe
from tests.book.live.toys import FORMS


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_keeps_anybody_from_using_it(width, theme, opened):
    tab = opened(width=width)
    tab.visit.set_theme(theme)
    for name in FORMS:
        tab.form(name).locator("button, input").first.click()
        tab.page.wait_for_function("id => document.querySelector(id).nnForm", arg=f"#live-{name}")
    tab.told("copies", "It wrote")
    assert axe.grave(tab.page) == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    small = tab.page.locator(".nn-live :is(button, select, input):visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 44).map(e => e.outerHTML)"
    )
    assert small == []


def test_who_listens_hears_the_answer_once_it_has_settled(opened):
    tab = opened()
    form = tab.form("pad")
    form.get_by_role("button", name="right").click()
    tab.told("pad", "right, 100 %")
    assert form.locator("[role=status], output:not([aria-live=off])").count() == 1
    tab.page.evaluate(
        """() => {
          window.heard = [];
          const status = document.querySelector("#live-pad [role=status]");
          new MutationObserver(() => heard.push(status.textContent))
            .observe(status, { childList: true, characterData: true, subtree: true });
        }"""
    )
    tab.page.wait_for_function("heard.length === 1")
    box = form.locator("canvas").bounding_box()
    tab.page.mouse.move(box["x"] + 20, box["y"] + 20)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 20, box["y"] + 150, steps=20)
    tab.page.mouse.up()
    tab.page.wait_for_function("heard.length > 1")
    tab.page.wait_for_timeout(1500)
    heard = tab.page.evaluate("heard")
    assert len(heard) <= 3  # not a word for each of twenty moves; a busy machine may rest between
    assert heard[-1] == tab.says("pad")
