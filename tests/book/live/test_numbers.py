"""Sliders, and points of a plane."""

import pytest


def test_sliders_move_a_curve(opened):
    tab = opened()
    tab.form("wave").get_by_role("slider").fill("2")
    tab.page.wait_for_function("document.querySelector('#live-wave').dataset.state === 'live'")
    drawn = "document.querySelector('#live-wave polyline').getAttribute('points')"
    tab.page.wait_for_function(f"{drawn}.split(' ').length === 8")
    assert tab.form("wave").locator("output").inner_text() == "2"


def test_points_are_dragged_and_the_rule_runs(opened):
    tab = opened()
    form = tab.form("line")
    form.get_by_role("button", name="apart").click()
    tab.told("line", "Done: the line separates the classes")
    point = form.locator(".nn-point").first
    point.scroll_into_view_if_needed()
    box = point.locator("circle").last.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 40, y, steps=4)
    tab.page.mouse.up()
    tab.told("line", "Done")
    assert point.get_attribute("aria-label") != "Point 1, circle, at -0.5, -0.5"
    point.focus()
    before = point.get_attribute("transform")
    tab.page.keyboard.press("ArrowUp")
    assert point.get_attribute("transform") != before
    tab.page.keyboard.press("Enter")
    assert "square" in point.get_attribute("aria-label")


def test_the_first_key_moves_a_point_and_keeps_it_in_focus(opened):
    tab = opened()
    form = tab.form("line")
    form.locator(".nn-point").nth(1).focus()
    tab.page.keyboard.press("ArrowUp")
    tab.told("line", "Done")
    second = "document.querySelectorAll('#live-line .nn-point')[1]"
    assert tab.page.evaluate(f"document.activeElement === {second}")
    assert form.locator(".nn-point").nth(1).get_attribute("aria-label").endswith("at 0.50, 0.55")
    tab.page.keyboard.press("ArrowUp")
    assert form.locator(".nn-point").nth(1).get_attribute("aria-label").endswith("at 0.50, 0.60")


@pytest.mark.parametrize("first", [True, False])
def test_a_finger_drags_a_point_all_the_way(first, opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    form = tab.form("line")
    if not first:
        form.get_by_role("button", name="apart").tap()
        tab.told("line", "Done")
    point = form.locator(".nn-point").first
    point.scroll_into_view_if_needed()
    box = point.locator(".nn-reach").bounding_box()
    finger = tab.page.context.new_cdp_session(tab.page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for step in range(9):
        kind = "touchMove" if step else "touchStart"
        at = [{"x": x + 10 * step, "y": y}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        tab.page.wait_for_timeout(30)  # a browser takes a finger for itself after a while
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.told("line", "Done")
    now = point.locator(".nn-reach").bounding_box()
    assert now["x"] - box["x"] == pytest.approx(80, abs=3)


def test_what_no_line_parts_never_ends_and_says_so(opened):
    tab = opened()
    tab.form("line").get_by_role("button", name="one of each").click()
    tab.told("line", "it never ends")
    assert "300 corrections" in tab.says("line")
