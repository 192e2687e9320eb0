"""The first touch loads a model that answers as torch does, or says why there is none."""

import pytest

from tests.book.live.tab import FIRST_TOUCH, Tab, compared
from tests.book.live.toys import FORMS, RULES


@pytest.mark.parametrize("name", [name for name in FORMS if name not in RULES])
def test_the_page_answers_as_torch_does(name, opened, folder):
    tab = opened()
    tab.form(name).locator("button, input").first.click()
    worst = compared(tab, f"#live-{name}", folder / "live" / f"toys-toy-{name}.json")
    assert worst <= 1e-4
    assert set(tab.asked) == FIRST_TOUCH | {f"live/toys-toy-{name}.js"}


def test_an_example_is_what_its_button_says(opened):
    tab = opened()
    form = tab.form("writes")
    for name, letter in (("the third", "c"), ("the first", "a"), ("the second", "b")):
        form.get_by_role("button", name=name).click()
        tab.page.wait_for_function("document.querySelector('#live-writes').nnForm")
        assert form.get_by_role("textbox").input_value() == letter


def test_it_works_from_a_page_that_is_opened_as_a_file(browser, folder):
    tab = Tab(browser, f"file://{folder}/").open()
    tab.form("gap").get_by_role("button", name="Blank b").or_(
        tab.form("gap").locator("input")
    ).first.click()
    tab.told("gap", "The model says")
    assert compared(tab, "#live-gap", folder / "live" / "toys-toy-gap.json") <= 1e-4
    assert tab.visit.complaints == []
    tab.visit.close()


@pytest.mark.parametrize("name", ["pad", "gap", "wave", "line"])
def test_the_first_touch_moves_nothing_on_a_phone(name, opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    after = tab.page.locator("#after")
    before = after.bounding_box()["y"] + tab.page.evaluate("scrollY")
    tab.form(name).locator("button, input").last.tap()
    tab.page.wait_for_function("id => document.querySelector(id).nnForm", arg=f"#live-{name}")
    tab.page.wait_for_function(
        "id => !/^(You see|Loading)/.test(document.querySelector(id).textContent)",
        arg=f"#live-{name} .nn-live-told",
    )
    assert abs(after.bounding_box()["y"] + tab.page.evaluate("scrollY") - before) < 1


def test_without_the_engine_it_says_so_and_tries_again(browser, address):
    tab = Tab(browser, address).open()
    before = tab.form("gap").locator(".nn-text").inner_text()
    tab.page.route("**/engine.js*", lambda route: route.abort())
    tab.form("gap").get_by_role("textbox").click()
    tab.told("gap", "could not be loaded: what you see is the recorded example")
    assert tab.form("gap").locator(".nn-text").inner_text() == before
    tab.page.unroute("**/engine.js*")
    tab.form("gap").get_by_role("textbox").fill("c_")
    tab.told("gap", "cc; c, 100 %")
    tab.visit.close()


@pytest.mark.parametrize("blocked", ["vendor/live/ort.js", "vendor/live/engine.js", "live/live.js"])
def test_without_a_part_of_it_every_form_shows_its_recorded_example(blocked, browser, address):
    tab = Tab(browser, address).open()
    shown = tab.page.locator(".nn-live .nn-now, .nn-live .nn-seen svg")
    before = shown.evaluate_all("all => all.map(e => e.innerHTML)")
    typed = tab.form("writes").get_by_role("textbox")
    tab.page.route(f"**/{blocked}*", lambda route: route.abort())
    typed.press_sequentially("bb")
    for name in FORMS:
        if name in (*RULES, "heals") and "live.js" not in blocked:
            continue  # whose rule stands in the page; which asks for no answer before Run
        if name != "writes":
            tab.form(name).locator("button, input").last.click()
        if name == "wave":
            tab.form(name).get_by_role("slider").fill("2")
        tab.told(name, "could not be loaded")
        assert "recorded" in tab.says(name)
    assert typed.input_value() == "a"
    assert tab.form("wave").get_by_role("slider").input_value() == "0.5"
    if "live.js" not in blocked:
        tab.form("line").get_by_role("button", name="apart").click()
        tab.told("line", "Done")
    changed = shown.evaluate_all("all => all.map(e => e.innerHTML)")
    assert [was for was, now in zip(before, changed, strict=True) if was != now] == []
    tab.visit.close()
