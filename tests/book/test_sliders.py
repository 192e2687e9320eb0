"""Sliders: from what a notebook holds to what a reader moves, in a browser and without scripts."""

import copy
import json
import re

import ipywidgets
import pytest
from ipywidgets import embed

from nnlib import notebook
from nnlib.notebook import pictures
from nnlib.plot.style import subplots
from pipeline import ROOT
from pipeline.site import sliders
from pipeline.site.browser import Visit, browsing, chromium, served

VALUES = ["0.5", "1.00, Xavier", "an odd <value>", "7"]
PAGE = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>t</title>
<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="figures.css">
<link rel="stylesheet" href="slider.css"><script src="slider.js" defer></script>
<article class="bd-article">{}<p id="after" style="margin-bottom: 2000px">After it.</p></article>"""


def executed(box, tags=()):
    """Return a notebook whose third cell shows a widget, as papermill leaves it."""
    view = {"model_id": box.model_id, "version_major": 2, "version_minor": 0}
    shown = {"text/plain": "VBox()", sliders.VIEW: view}
    output = {"output_type": "display_data", "metadata": {}, "data": shown}
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "outputs": [output]}
    other = {"cell_type": "markdown", "metadata": {}}
    state = {"state": embed.dependency_state([box])}
    return {"metadata": {"widgets": {sliders.STATE: state}}, "cells": [other, other, cell]}


@pytest.fixture(scope="module")
def slid():
    """A notebook with a slider over four figures, of which one is larger than the others."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "display", shown.append)
        notebook.setup()
        notebook.scrub(
            [drawn(at, 2.4 if at == 2 else 2) for at in range(4)], "walk", label="scale & g",
            caption="Watch the *line* at $\\eta < 1$.", alt="A line.", values=VALUES, interval=40,
        )  # fmt: skip
    return executed(shown[0])


def drawn(at, height):
    fig, ax = subplots(width=3, height=height)
    ax.plot([0, 1], [at, 1], label=f"run {at}")
    ax.set_title("Walking")
    return fig


@pytest.fixture
def taken(slid):
    """The same notebook, converted."""
    content = copy.deepcopy(slid)
    sliders.convert(content, "chapters/a")
    return content


def markup(content):
    return content["cells"][2]["outputs"][0]["data"]["text/html"]


def test_the_widgets_and_their_state_leave_the_notebook(taken):
    assert taken["metadata"] == {}
    assert list(taken["cells"][2]["outputs"][0]["data"]) == ["text/html"]


def test_a_slider_has_its_name_its_values_and_its_words(taken):
    page = markup(taken)
    assert page.startswith(
        '<figure class="nn-figure nn-slider" id="figure-walk" data-interval="40"'
    )
    assert '<label for="figure-walk-at">scale &amp; g</label>' in page
    assert 'aria-label="Play: scale &amp; g"' in page
    assert 'max="3" step="1" value="0" autocomplete="off" aria-valuetext="0.5"' in page
    assert 'data-longest="an odd &lt;value&gt;"' in page
    assert "<figcaption>Watch the <em>line</em> at <span class=" in page
    assert r"\(\eta &lt; 1\)</span>.</figcaption>" in page


def test_every_frame_but_the_first_waits_and_the_letters_do_not(taken):
    page = markup(taken)
    assert page.count('<div class="nn-frame"') == 1 and page.count("<template") == 3
    for value in ("0.5", "1.00, Xavier", "an odd &lt;value&gt;", "7"):
        assert f'class="nn-frame" data-value="{value}"' in page
    letters = page[page.rindex("</template>") :]
    assert "<defs>" in letters and "<template" not in letters


def test_all_frames_show_the_same_part_of_the_plane(taken):
    assert len(set(re.findall(r"viewBox='([^']+)'", markup(taken)))) == 1
    assert len(set(re.findall(r"'width:(\d+)px", markup(taken)))) == 1


def test_frames_of_several_places_and_sizes_get_one_box_and_keep_their_scale():
    picture = "<svg {}viewBox='{}' role='img' style='width:{}px;max-width:100%'><g/></svg>"
    narrow = picture.format("class='nn-narrow' ", "0 0 50 90", 50)
    first = picture.format("class='nn-wide' ", "5 5 100 50", 200) + narrow
    second = picture.format("class='nn-wide' ", "0 10 80 70", 160)
    wide = picture.format("class='nn-wide' ", "0 5 105 75", 210)
    assert sliders._one_canvas([first, second]) == [wide + narrow, wide]


def test_where_only_some_frames_have_a_narrow_picture_all_are_as_high_on_a_phone():
    picture = "<svg {}viewBox='0 0 {}' role='img' style='width:{}px'><g/></svg>"
    wide = picture.format("", "600 120", 800)
    narrow = picture.format("class='nn-narrow' ", "240 300", 320)
    assert sliders._least([wide + narrow, wide]) == ' style="--nn-least:400px"'
    assert sliders._least([wide + narrow] * 2) == sliders._least([wide] * 2) == ""


def test_the_same_slider_of_another_run_is_the_same_page(slid, taken):
    """The ids of widgets are drawn by chance; a page must not depend on them."""
    text = json.dumps(slid)
    for number, model in enumerate(slid["metadata"]["widgets"][sliders.STATE]["state"]):
        text = text.replace(model, f"model{number}")
    other = json.loads(text)
    sliders.convert(other, "chapters/a")
    assert markup(other) == markup(taken)


@pytest.mark.parametrize("widget", [ipywidgets.FloatProgress, ipywidgets.VBox])
def test_any_other_widget_is_an_error_that_names_page_and_cell(widget):
    with pytest.raises(sliders.WidgetError, match=r"^chapters/a, cell 3: .*nnlib\.notebook\.scrub"):
        sliders.convert(executed(widget()), "chapters/a")


def test_a_view_whose_state_was_lost_is_an_error_too(slid):
    content = copy.deepcopy(slid) | {"metadata": {}}
    with pytest.raises(sliders.WidgetError, match="chapters/a, cell 3"):
        sliders.convert(content, "chapters/a")


def test_a_notebook_that_was_not_executed_stays_as_it_is():
    content = {"metadata": {"kernelspec": {}}, "cells": [{"cell_type": "code", "outputs": []}]}
    before = copy.deepcopy(content)
    sliders.convert(content, "chapters/a")
    assert content == before


# ---- In a browser


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright")
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(slid, tmp_path_factory):
    """The slider on a page of its own, with the book's own styles and script."""
    folder = tmp_path_factory.mktemp("page")
    content = copy.deepcopy(slid)
    sliders.convert(content, "chapters/a")
    (folder / "index.html").write_text(PAGE.format(markup(content)), "utf8")
    for name in ("book.css", "figures.css", "slider.css", "slider.js"):
        (folder / name).write_bytes((ROOT / "_static" / name).read_bytes())
    with served(folder) as address:
        yield address


@pytest.fixture
def opened(browser, address):
    """Open the page; the function takes what playwright's contexts take."""
    visits = []

    def open_it(width=1280, **options):
        visits.append(Visit(browser, address, width=width, height=844, **options))
        visits[-1].page.goto(address + "index.html")
        return visits[-1].page

    yield open_it
    for visit in visits:
        assert visit.complaints == []
        visit.close()


def now(tab):
    """Return what the slider shows, after asserting that all its parts agree."""
    shown = tab.locator("output").inner_text()
    handle = tab.get_by_role("slider", name="scale & g")
    assert handle.get_attribute("aria-valuetext") == shown
    assert VALUES[int(handle.input_value())] == shown
    frame = tab.locator(".nn-frame:visible")
    assert frame.count() == 1 and frame.get_attribute("data-value") == shown
    assert frame.get_by_role("img").get_attribute("aria-label") == f"A line. (scale & g: {shown})"
    return shown


def test_keys_move_it_and_nothing_else_moves(opened):
    tab = opened()
    place = "document.querySelector('#after').getBoundingClientRect().top"
    tab.get_by_role("slider").focus()
    seen, tops = [now(tab)], {tab.evaluate(place)}
    for key in ("ArrowRight", "End", "ArrowLeft", "Home"):
        tab.keyboard.press(key)
        seen.append(now(tab))
        tops.add(tab.evaluate(place))
    assert seen == [VALUES[at] for at in (0, 1, 3, 2, 0)]
    assert len(tops) == 1


def test_play_goes_to_the_end_then_begins_anew(opened):
    tab = opened()
    play, pause = (
        tab.get_by_role("button", name=f"{word}: scale & g", exact=True)
        for word in ("Play", "Pause")
    )
    for _ in range(2):
        play.click()
        tab.wait_for_function("document.querySelector('output').value === '7'")
        play.wait_for()
        assert now(tab) == "7"
    assert pause.count() == 0


def slow(tab):
    """Let playing take so long that a test can act between two frames."""
    tab.locator("figure").evaluate("figure => { figure.dataset.interval = 1e6 }")


def test_pause_holds_the_frame_and_many_clicks_do_no_harm(opened):
    tab = opened()
    slow(tab)
    button = tab.locator(".nn-play")
    for _ in range(3):
        button.click()
    assert button.get_attribute("aria-label") == "Pause: scale & g"
    assert now(tab) == "an odd <value>"  # a step at the first click and at the third
    button.click()
    assert button.get_attribute("aria-label") == "Play: scale & g"
    assert now(tab) == "an odd <value>"


def test_moving_it_while_it_plays_pauses(opened):
    tab = opened()
    slow(tab)
    tab.locator(".nn-play").click()
    tab.get_by_role("slider").press("ArrowRight")
    assert now(tab) == "an odd <value>"
    assert tab.get_by_role("button", name="Play: scale & g").count() == 1


def test_a_finger_drags_it_on_a_phone(opened):
    tab = opened(width=390, has_touch=True, is_mobile=True)
    box = tab.get_by_role("slider").bounding_box()
    assert box["height"] >= 44 and box["width"] >= 340
    x, y = box["x"] + 12, box["y"] + box["height"] / 2 + 18  # beside the thumb, within its reach
    finger = tab.context.new_cdp_session(tab)

    def touch(kind, *at):
        points = [{"x": x, "y": y} for x, y in at]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x, y))
    for part in (0.2, 0.4, 0.6, 0.8, 1.0):
        touch("touchMove", (x + part * (box["width"] - 24), y))
    assert now(tab) == "7"
    touch("touchEnd")
    assert now(tab) == "7"
    assert tab.evaluate("scrollY") == 0
    button = tab.locator(".nn-play").bounding_box()
    assert min(button["width"], button["height"]) >= 44


@pytest.mark.parametrize("medium", ["no script", "print"])
def test_what_cannot_move_shows_the_first_frame_and_its_value(medium, opened):
    tab = opened(java_script_enabled=medium != "no script")
    if medium == "print":
        tab.emulate_media(media="print")
    assert tab.locator("input, button").evaluate_all("all => all.length") == 2
    assert tab.locator("input:visible, button:visible").count() == 0
    assert tab.locator(".nn-frame:visible").count() == 1
    assert tab.locator(".nn-told").inner_text().split() == ["scale", "&", "g", "0.5"]
    assert "Watch the line" in tab.locator("figcaption").inner_text()
