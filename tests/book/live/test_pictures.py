"""A pad to draw on, and a picture to wipe out."""

import math
import re

import pytest


def test_the_first_stroke_is_not_lost(opened):
    tab = opened()
    box = tab.form("pad").locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    for step in range(5):
        tab.page.mouse.move(x, y + 30 * step)
    tab.page.mouse.up()
    tab.told("pad", "The model says")
    path = tab.form("pad").locator(".nn-seen svg").inner_html()
    rows = {int(row) for row in re.findall(r"M\d (\d)", path)}
    assert rows == {0, 1, 2, 3}  # scaled to fill the square
    assert "50 %" in tab.says("pad")  # and centred


@pytest.mark.parametrize(
    ("drawn", "rows", "columns"),
    [
        ("a circle", {0, 1, 2, 3}, {1, 2}),  # squeezed, to the box of four by two
        ("a dash", {1, 2}, {1, 2}),  # by twofold and no more: it is no blot
    ],
)
def test_a_broad_drawing_is_squeezed_as_the_training_data_were(drawn, rows, columns, opened):
    tab = opened()
    box = tab.form("pad").locator("canvas").bounding_box()
    high = {"a circle": 0.4, "a dash": 0.02}[drawn]
    for turn in range(33):
        angle = math.tau * turn / 32
        x, y = 0.5 + 0.4 * math.cos(angle), 0.5 + high * math.sin(angle)
        tab.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if not turn:
            tab.page.mouse.down()
    tab.page.mouse.up()
    tab.told("pad", "The model says")
    path = tab.form("pad").locator(".nn-seen svg").inner_html()
    seen = re.findall(r"M(\d) (\d)", path)
    assert {int(y) for _, y in seen} == rows and {int(x) for x, _ in seen} == columns


def test_a_drawing_is_shifted_and_cleared(opened):
    tab = opened()
    form = tab.form("pad")
    form.get_by_role("button", name="right").click()
    tab.told("pad", "right, 100 %")
    form.get_by_role("slider").focus()
    for _ in range(3):
        tab.page.keyboard.press("ArrowLeft")
    tab.told("pad", "left, 100 %")
    form.get_by_role("button", name="Clear").click()
    tab.told("pad", "draw something")


def test_keys_draw(opened):
    tab = opened()
    form = tab.form("pad")
    form.locator("canvas").focus()
    tab.page.keyboard.press("ArrowRight")
    tab.page.wait_for_function("document.querySelector('#live-pad').nnForm")
    form.get_by_role("button", name="Clear").click()
    form.locator("canvas").focus()
    tab.page.keyboard.press(" ")
    for _ in range(2):
        tab.page.keyboard.press("Shift+ArrowDown")
    tab.told("pad", "The model says")
    assert form.locator(".nn-seen path").count() > 0


def test_a_finger_draws_and_the_page_stays(opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    box = tab.form("pad").locator("canvas").bounding_box()
    finger = tab.page.context.new_cdp_session(tab.page)
    x, y = box["x"] + 0.7 * box["width"], box["y"] + 30
    for kind, down in (
        ("touchStart", 0),
        ("touchMove", 60),
        ("touchMove", 120),
        ("touchEnd", None),
    ):
        points = [] if down is None else [{"x": x, "y": y + down}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.told("pad", "The model says")
    assert tab.page.evaluate("scrollY") == 0
    assert tab.form("pad").locator(".nn-seen path").count() > 0


def test_a_damaged_picture_heals_step_by_step(opened):
    tab = opened()
    form = tab.form("heals")
    form.locator(".nn-damage").scroll_into_view_if_needed()
    box = form.locator(".nn-damage").bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    tab.page.wait_for_function("document.querySelector('#live-heals').nnForm")
    whole = "#live-heals .nn-damage path[fill-opacity='1']"
    tab.page.wait_for_function(
        "s => document.querySelector(s)?.getAttribute('d').split('M').length < 17", arg=whole
    )
    form.get_by_role("button", name="Run").click()
    step = "Number(document.querySelector('#live-heals .nn-live-told').textContent.slice(5))"
    tab.page.wait_for_function(f"{step} >= 60")  # 0.9⁶⁰ of the damage is left
    form.get_by_role("button", name="Stop").click()
    assert tab.page.locator(whole).get_attribute("d").count("M") == 16
    form.get_by_role("button", name="One step").click()


TOLD = "document.querySelector('#live-grows .nn-live-told').textContent"
STEP = f"Number(/^Step (\\d+)$/.exec({TOLD})?.[1])"
LEAF = "#live-grows .nn-damage path[fill-opacity='1']"


def ink(tab):
    return tab.page.locator(LEAF).get_attribute("d").count("M")


def test_what_is_alive_runs_at_the_first_touch_and_while_it_is_wiped(opened):
    tab = opened()
    form = tab.form("grows")
    form.scroll_into_view_if_needed()
    form.get_by_role("button", name="bud").click()
    tab.page.wait_for_function(f"{STEP} >= 60")
    assert ink(tab) == 16
    box = form.locator(".nn-damage").bounding_box()
    x, y = (box[at] + 0.125 * box[side] for at, side in (("x", "width"), ("y", "height")))
    now = tab.page.evaluate(STEP)
    tab.page.mouse.click(x, y)  # the corner loses both channels, so it can never grow again
    tab.page.wait_for_function(f"{STEP} >= {now + 60}")
    assert ink(tab) == 15
    form.get_by_role("button", name="Whole again").click()
    tab.page.wait_for_function(f"{STEP} >= {now + 180}")
    assert ink(tab) == 16


def test_what_is_alive_waits_out_of_sight_and_stops_when_it_is_told(opened):
    tab = opened()
    form = tab.form("grows")
    form.scroll_into_view_if_needed()
    form.get_by_role("button", name="bud").click()
    tab.page.wait_for_function(f"{STEP} >= 5")
    tab.page.locator("#after").scroll_into_view_if_needed()
    tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.page.wait_for_timeout(500)
    seen = tab.page.evaluate(STEP)
    tab.page.wait_for_timeout(500)
    assert tab.page.evaluate(STEP) == seen
    form.scroll_into_view_if_needed()
    tab.page.wait_for_function(f"{STEP} > {seen}")
    form.get_by_role("button", name="Stop").click()
    stopped = tab.page.evaluate(STEP)
    box = form.locator(".nn-damage").bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate(STEP) <= stopped + 1  # wiped, and at rest
    form.get_by_role("button", name="bud").click()
    tab.page.wait_for_function(f"{STEP} >= {stopped + 3} || {STEP} < {stopped}")


def test_who_wants_less_motion_presses_run(opened):
    tab = opened(reduced_motion="reduce")
    form = tab.form("grows")
    form.get_by_role("button", name="bud").click()
    tab.told("grows", "press Run")
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate(STEP) is None or not tab.page.evaluate(f"{STEP} > 0")
    form.get_by_role("button", name="Run").click()
    tab.page.wait_for_function(f"{STEP} >= 3")
    form.get_by_role("button", name="Stop").click()


def test_what_is_wiped_while_the_model_is_at_work_stays_wiped(opened):
    """The model is asked, a finger wipes, and only then comes the answer."""
    tab = opened(reduced_motion="reduce")
    form = tab.form("grows")
    form.scroll_into_view_if_needed()
    form.get_by_role("button", name="bud").click()
    tab.told("grows", "press Run")
    left = tab.page.evaluate("""async () => {
      const form = document.querySelector('#live-grows').nnForm;
      const box = document.querySelector('#live-grows .nn-damage').getBoundingClientRect();
      const answers = await form.ask(form.given.read().feed);
      form.given.replay({ type: "pointerdown", button: 0,
        clientX: box.left + box.width / 8, clientY: box.top + box.height / 8 });
      form.given.replay({ type: "pointerup" });
      form.given.put(answers[0].data);
      const wiped = Array.from(form.given.read().feed[0].data);
      const asked = await form.ask(form.given.read().feed);
      form.given.set(new Array(32).fill(0.5));
      form.given.put(asked[0].data);
      return [wiped, Array.from(form.given.read().feed[0].data)];
    }""")
    assert left[0][0] == 0 and left[0][16] == 0 and sum(left[0][16:]) == 15
    assert left[1] == [0.5] * 32  # what was chosen meanwhile stays as well


def test_what_is_chosen_goes_to_the_model_and_a_line_follows_its_answers(opened):
    tab = opened()
    form = tab.form("chosen")
    form.get_by_role("button", name="Run").click()
    tab.told("chosen", "Settled after")
    picture = "#live-chosen .nn-damage path"
    assert tab.page.locator(picture).get_attribute("d").count("M") == 16  # all ink
    line = (
        "document.querySelector('#live-chosen polyline').getAttribute('points').split(' ').length"
    )
    assert tab.page.evaluate(line) == 8  # no longer than its trail
    form.get_by_label("Goes to").select_option("paper")
    form.get_by_role("button", name="One step").click()
    tab.page.wait_for_function(f"{line} === 1")  # a line of its own
    assert tab.page.locator(picture).get_attribute("fill-opacity") == "0.5"
    form.get_by_role("button", name="full").click()  # which leaves the choice
    form.get_by_role("button", name="Run").click()
    tab.told("chosen", "Settled after")
    assert tab.page.locator(picture).count() == 0


def test_nodes_are_joined_and_parted_by_buttons_and_by_a_finger(opened):
    tab = opened()
    form = tab.form("friends")
    says = "document.querySelector('#live-friends .nn-numbers .nn-now').textContent"

    def told(edges, triangles):
        wanted = f"edges{edges}.0triangles{triangles}.0"
        tab.page.wait_for_function(f"{says} === '{wanted}'")

    told(2, 0)  # as recorded: A – B – D
    for name in "AD":
        form.get_by_role("button", name=name, exact=True).click()
    told(3, 1)
    svg = form.locator(".nn-links svg")
    assert svg.locator("line").count() == 3
    box = svg.bounding_box()
    for across, down in ((0.5, 0.12), (0.88, 0.5)):  # A at the top, B at the right
        tab.page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
    told(2, 0)
    form.get_by_role("button", name="A", exact=True).click()
    assert svg.locator(".nn-chosen").count() == 1
    form.get_by_role("button", name="A", exact=True).click()  # a second press lets it go
    assert svg.locator(".nn-chosen").count() == 0
    form.get_by_role("button", name="a triangle").click()
    told(3, 1)


def test_nodes_pressed_before_the_model_has_come_are_joined_all_the_same(opened):
    tab = opened()
    form = tab.form("friends")
    form.evaluate(  # at once, so that the script cannot have come between the two
        """form => [..."AD"].forEach((name) => [...form.querySelectorAll("[data-node]")]
        .find((button) => button.textContent.trim() === name).click())"""
    )
    says = "document.querySelector('#live-friends .nn-numbers .nn-now').textContent"
    tab.page.wait_for_function(f"{says} === 'edges3.0triangles1.0'")
    assert form.locator(".nn-links svg line").count() == 3


POLE = "document.querySelector('#live-rolls .nn-pole').getAttribute('x2')"


def test_a_pole_is_pushed_by_buttons_keys_and_from_either_side(opened):
    tab = opened()
    form = tab.form("rolls")
    form.get_by_role("button", name="Push →").click()
    tab.page.wait_for_function(f"{POLE} > 0.02")  # it runs by itself, and leans to the right
    form.get_by_role("button", name="Stop").click()
    form.get_by_role("button", name="upright").click()  # which begins anew
    tab.page.wait_for_function(f"Math.abs({POLE}) < 0.005")
    form.locator(".nn-cart").focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.wait_for_function(f"{POLE} < -0.02")
    form.get_by_role("button", name="upright").click()
    box = form.locator(".nn-cart").bounding_box()
    tab.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"])
    tab.page.wait_for_function(f"{POLE} < -0.02")  # from the right, so it leans to the left
    form.get_by_role("button", name="upright").click()
    tab.page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    tab.page.wait_for_function(f"{POLE} > 0.02")
    form.get_by_role("button", name="Stop").click()
