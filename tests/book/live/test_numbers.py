"""Sliders, points of a plane, and a point to pull."""

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


def test_a_point_is_pulled_and_the_picture_follows(opened):
    tab = opened()
    form = tab.form("spot")
    svg, point = form.locator(".nn-pull > svg"), form.locator(".nn-point")
    svg.scroll_into_view_if_needed()
    before = form.locator(".nn-picture .nn-now").inner_html()
    box = svg.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x + 10, y)  # beside the point: it comes
    tab.page.mouse.down()
    tab.page.mouse.move(x - box["width"] / 4, y + box["height"] / 4, steps=4)
    tab.page.mouse.up()
    tab.told("spot", "the model's answer")
    assert point.get_attribute("aria-label") == "A code, at -1.12, -1.12"  # 2 · 56/100
    assert form.locator(".nn-picture .nn-now").inner_html() != before
    tab.page.mouse.move(x, y)  # no longer held
    assert point.get_attribute("aria-label") == "A code, at -1.12, -1.12"


def test_a_point_is_moved_by_keys_and_stays_in_the_plane(opened):
    tab = opened()
    form = tab.form("spot")
    point = form.locator(".nn-point")
    point.focus()
    tab.page.keyboard.press("ArrowLeft")  # the first touch counts
    tab.told("spot", "the model's answer")
    assert point.get_attribute("aria-label") == "A code, at 0.40, 0.00"
    form.get_by_role("button", name="corner").click()
    assert point.get_attribute("aria-label") == "A code, at 2.00, -2.00"
    point.focus()
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowRight")
    assert point.get_attribute("aria-label") == "A code, at 2.00, -2.00"
    tab.page.keyboard.press("ArrowUp")
    assert point.get_attribute("aria-label") == "A code, at 2.00, -1.90"


def test_a_finger_pulls_a_point_and_not_the_page(opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    form = tab.form("spot")
    svg = form.locator(".nn-pull > svg")
    svg.scroll_into_view_if_needed()
    box, scrolled = svg.bounding_box(), tab.page.evaluate("scrollY")
    finger = tab.page.context.new_cdp_session(tab.page)
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 4
    for step in range(9):
        kind = "touchMove" if step else "touchStart"
        at = [{"x": x, "y": y + 10 * step}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        tab.page.wait_for_timeout(30)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.told("spot", "the model's answer")
    assert tab.page.evaluate("scrollY") == scrolled
    up = float(form.locator(".nn-point").get_attribute("aria-label").split(", ")[2])
    assert up == pytest.approx(2 * (112 * 0.5 - 224 * 80 / box["width"]) / 100, abs=0.05)
