"""Before the first touch: the recorded example, and nothing loaded."""

import pytest


def test_who_only_reads_loads_nothing(opened):
    tab = opened()
    for _ in range(12):
        tab.page.keyboard.press("Tab")
    tab.page.mouse.move(400, 300)
    tab.page.mouse.wheel(0, 3000)
    tab.form("wave").locator("figcaption").click()
    tab.form("copies").locator(".nn-answers").click()
    assert tab.asked == []
    assert "recorded when this page was built" in tab.says("pad")


def test_a_finger_that_scrolls_past_loads_nothing(opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    box = tab.form("writes").locator("input[type=text]").bounding_box()
    finger = tab.page.context.new_cdp_session(tab.page)
    for kind, y in (("touchStart", 0), ("touchMove", -150), ("touchEnd", None)):
        points = [] if y is None else [{"x": box["x"] + 40, "y": box["y"] + 10 + y}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert tab.asked == []


@pytest.mark.parametrize("medium", ["no script", "print"])
def test_paper_and_a_page_without_scripts_show_the_recorded_example(medium, opened):
    tab = opened(java_script_enabled=medium != "no script")
    if medium == "print":
        tab.page.emulate_media(media="print")
    controls = ".nn-live :is(button, canvas, input[type=range], .nn-touch)"
    assert tab.page.locator(controls).count() > 10
    assert tab.page.locator(f"{controls}:visible").count() == 0
    assert tab.form("copies").locator(".nn-text").inner_text().strip() == "abc"
    assert tab.form("pad").locator(".nn-seen svg").is_visible()
    assert (
        tab.says("pad").strip() == "You see an answer that was recorded when this page was built."
    )
    assert "100 %" in tab.form("pad").locator("li[data-best]").inner_text()
    assert tab.form("line").locator(".nn-line").get_attribute("d").startswith("M")
    assert tab.form("writes").locator("input[type=text]").input_value() == "a"
