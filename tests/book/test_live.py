"""Live models: from what a notebook holds to what a reader touches, in a browser."""

import copy
import json
import re
import shutil

import pytest
import torch
from torch import nn

from nnlib.live import (
    Bars,
    Corrects,
    Curve,
    Damage,
    DrawingPad,
    HeatMap,
    Picture,
    Plane,
    Repeats,
    Sliders,
    Text,
    TextField,
    Translates,
    Writes,
    show,
)
from nnlib.live.runs import Once
from pipeline import ROOT
from pipeline.site import live, live_engine
from pipeline.site.browser import Visit, browsing, chromium, served
from tests.book import axe
from tests.book.looking import CHAPTERS, REASON, SITE

PAGE = """<!doctype html><html lang="en" data-theme="light" data-content_root="./">
<meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="figures.css">
<link rel="stylesheet" href="live.css">
<style>html {{ background: var(--pst-color-background); color: var(--pst-color-text-base) }}
* {{ box-sizing: border-box }}</style>
<script src="live.js" defer></script>
<main><article class="bd-article"><h1>Live</h1>{}
<p id="after" style="margin-bottom: 2000px">After it.</p></article></main>"""
FIRST_TOUCH = {"_static/live/live.js", "vendor/live/ort.js", "vendor/live/engine.js"}
LETTERS = "abc "
SMALL = 4  # pixels of the pad


# ---------------------------------------------------------------- models whose answers are known


class Ink(nn.Module):
    """Says on which half of a picture there is more ink."""

    def forward(self, x):
        halves = x.view(-1, SMALL, SMALL)
        return 3 * torch.stack([halves[..., :2].sum((1, 2)), halves[..., 2:].sum((1, 2))], 1)


class After(nn.Module):
    """Guesses the letter after the last one; its state counts what it has read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", 30 * torch.eye(4).roll(1, 1))

    def forward(self, letter, state):
        return self.table[letter], state + 1


class Copies(nn.Module):
    """Writes what it read, and looks at what it copies."""

    def forward(self, x, before):
        steps = before.shape[1]
        weights = torch.eye(6)[None, :steps] + 0.0 * before[..., None]
        return nn.functional.one_hot(x[:, :steps], 4).float(), weights


class Heals(nn.Module):
    """Brings each value a tenth nearer to 1."""

    def forward(self, x):
        return x + 0.1 * (1 - x)


class Wave(nn.Module):
    def forward(self, x):
        return torch.sin(x[:, :1] * torch.arange(8.0))


class Gap(nn.Module):
    """Fills every place with the letter before it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", 10 * torch.eye(5))

    def forward(self, ids):
        return self.table[ids.roll(1, 1)]


def corrected(points, classes):
    """Apply the perceptron's rule, as the page does."""
    w, count = torch.zeros(3), 0
    for _ in range(100):
        for (x, y), kind in zip(points.tolist(), classes.tolist(), strict=True):
            error = kind - int(w[0] * x + w[1] * y + w[2] >= 0)
            w, count = w + error * torch.tensor([x, y, 1.0]), count + abs(error)
    return w.tolist(), count


pad = DrawingPad(
    label="A blot", size=SMALL, pen=1,
    examples={"left": torch.eye(4)[0].expand(4, 4), "right": torch.eye(4)[3].expand(4, 4)},
)  # fmt: skip
word = TextField(label="A word", letters=LETTERS, length=8, keep="last", examples={"b": "b"})
read = TextField(label="To copy", letters=LETTERS, length=6, pad=0)
gaps = TextField(label="A word with a gap", letters=["", *"abc", "_"], length=5, pad=0, blank="_")
photo = Damage(label="A picture", shape=(4, 4))
wind = Sliders(label="Weather", ranges={"wind": (0, 2, 0.5)})
plane = Plane(
    label="Points", classes=("circle", "square"),
    examples={"apart": [(-0.5, -0.5, 0), (0.5, 0.5, 1)], "one of each at one place":
              [(0.5, 0.5, 0), (0.5, 0.5, 1)]},
)  # fmt: skip
writes = Writes(letters=LETTERS, stop=3, most=12, temperature=0.0, state=torch.zeros(1, 1))
FORMS = {
    "pad": (Ink(), pad, [Bars(names=["left", "right"])], Once(), torch.eye(4)[0].expand(4, 4)),
    "writes": (After(), word, [Text(), Bars(names=LETTERS, top=2)], writes, "a"),
    "copies": (
        Copies(), read, [Text(joined=False), HeatMap(label="Where it looks")],
        Translates(symbols=LETTERS, steps=3), "abc",
    ),
    "gap": (Gap(), gaps, [Text(fill=gaps.letters), Bars(names=gaps.letters)], Once(), "b_"),
    "heals": (Heals(), photo, [Picture(shape=(4, 4))], Repeats(), torch.ones(4, 4)),
    "wave": (Wave(), wind, [Curve(label="wave")], Once(), [0.5]),
    "line": (None, plane, [Text(joined=False)], Corrects(rule=corrected), plane.examples["apart"]),
}  # fmt: skip


def values(name):
    """Return ten values of a form's input."""
    return {
        "pad": [torch.rand(4, 4) for _ in range(10)],
        "writes": ["a", "b", "c", "ab", "ba", "aa", "bb", "ca", "ac", "abab"],
        "copies": ["abc", "cab", "bbb", "aaa", "abca", "ccc", "bca", "acb", "cba", "ab"],
        "gap": ["a_", "b_", "c_", "_a", "_", "ab_", "a_b", "cc_", "_cc", "bc_a"],
        "heals": [torch.rand(4, 4) for _ in range(10)],
        "wave": [[at / 5] for at in range(10)],
    }.get(name, [])


@pytest.fixture(scope="module")
def made():
    """What `live` leaves in a notebook, for each form."""
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    cells = []
    for name, (model, given, shown, run, example) in FORMS.items():
        answer = run.answer(model, given, example)
        held = show.for_the_page(
            model, given, shown, name, f"Try {name}", example, "Look.", run, values(name), answer
        )
        data = {live.VIEW: {}, "text/plain": "VBox()", live.MIME: held}
        cells.append({"outputs": [{"data": data}, {"name": "stdout"}]})
    return {"cells": cells}


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    """A site of one page with all forms."""
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    pytest.importorskip("playwright")
    engine = ROOT / "_extra" / "vendor" / "live"
    if not engine.is_dir():
        pytest.skip("the engine is not vendored: run `make book` first")
    folder = tmp_path_factory.mktemp("live")
    content = copy.deepcopy(made)
    files = live.convert(content, "chapters/toys/toy")
    for name, data in files.items():
        file = folder / name.removeprefix("_extra/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    figures = [cell["outputs"][0]["data"]["text/html"] for cell in content["cells"]]
    (folder / "index.html").write_text(PAGE.format("".join(figures)), "utf8")
    for name in ("book.css", "figures.css", "live.css", "live.js"):
        shutil.copy(ROOT / "_static" / name, folder / name)
    shutil.copytree(ROOT / "_static" / "live", folder / "_static" / "live")
    shutil.copytree(engine, folder / "vendor" / "live")
    return folder


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as address:
        yield address


class Tab:
    """A visit, what it has asked for, and its forms."""

    def __init__(self, browser, address, **options):
        self.asked = []
        self.visit = Visit(
            browser, address, width=options.pop("width", 1280), height=900, **options
        )
        self.page = self.visit.page
        self.page.on("request", lambda request: self.asked.append(self._name(request.url)))

    def _name(self, url):
        return url.removeprefix(self.visit.address).split("?")[0]

    def open(self, name="index.html"):
        self.page.goto(self.visit.address + name)
        self.visit.settle()
        self.asked.clear()
        return self

    def form(self, name, prefix="live-"):
        return self.page.locator(f"#{prefix}{name}")

    def told(self, name, words):
        """Wait until a form says something."""
        self.page.wait_for_function(
            "([id, words]) => document.querySelector(id + ' .nn-live-told').textContent"
            ".includes(words)",
            arg=[f"#live-{name}", words],
        )

    def says(self, name):
        return self.form(name).locator(".nn-live-told").inner_text()


@pytest.fixture
def opened(browser, address):
    tabs = []

    def open_it(where=address, **options):
        tabs.append(Tab(browser, where, **options))
        return tabs[-1].open()

    yield open_it
    for tab in tabs:
        assert tab.visit.complaints == [] and tab.visit.foreign == []
        tab.visit.close()


# ---------------------------------------------------------------- what is staged


def test_the_notebook_keeps_the_markup_and_the_files_stand_beside_it(made):
    content = copy.deepcopy(made)
    files = live.convert(content, "chapters/toys/toy")
    assert set(files) == {
        *(f"_extra/live/toys-toy-{name}.js" for name in FORMS),
        *(f"_extra/live/toys-toy-{name}.json" for name in FORMS if name != "line"),
    }
    for name, cell in zip(FORMS, content["cells"], strict=True):
        assert list(cell["outputs"][0]["data"]) == ["text/html"]
        assert f'data-live="toys-toy-{name}"' in cell["outputs"][0]["data"]["text/html"]
    assert all(len(data) < 20_000 for name, data in files.items() if name.endswith(".js"))


def test_two_of_one_name_stop_the_build(made):
    content = copy.deepcopy(made)
    content["cells"] += copy.deepcopy(content["cells"][:1])
    with pytest.raises(live.LiveError, match=r"chapters/toys/toy: two live models .*'pad'"):
        live.convert(content, "chapters/toys/toy")


def test_an_engine_of_another_make_is_refused():
    good = b"const a=1,b=2,c=import.meta.url;export{a as InferenceSession,b as Tensor,c as env};"
    script = live_engine.script(good).decode()
    assert "self.ort={InferenceSession:a,Tensor:b,env:c}" in script
    assert "import.meta" not in script and "export{" not in script
    for bad in (b"export{a as Tensor};", b"module.exports = {}"):
        with pytest.raises(live_engine.EngineError):
            live_engine.script(bad)
    with pytest.raises(live_engine.EngineError):
        live_engine.machine(b"<html>")


# ---------------------------------------------------------------- before the first touch


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
    controls = ".nn-live :is(button, select, canvas, input[type=range])"
    assert tab.page.locator(controls).count() > 10
    assert tab.page.locator(f"{controls}:visible").count() == 0
    assert tab.form("copies").locator(".nn-text").inner_text().strip() == "abc"
    assert tab.form("pad").locator(".nn-seen svg").is_visible()
    assert "100 %" in tab.form("pad").locator("li[data-best]").inner_text()
    assert tab.form("line").locator(".nn-line").get_attribute("d").startswith("M")
    assert tab.form("writes").locator("input[type=text]").input_value() == "a"


# ---------------------------------------------------------------- touched


@pytest.mark.parametrize("name", [name for name in FORMS if name != "line"])
def test_the_page_answers_as_torch_does(name, opened, folder):
    tab = opened()
    tab.form(name).locator("button, input").first.click()
    worst = compared(tab, f"#live-{name}", folder / "live" / f"toys-toy-{name}.json")
    assert worst <= 1e-4
    assert set(tab.asked) == FIRST_TOUCH | {f"live/toys-toy-{name}.js"}


ASKED = """async ([id, feeds]) => {
  const form = document.querySelector(id).nnForm;
  const typed = ({type, dims, data}) => ({type, dims, data: type === "int64"
    ? BigInt64Array.from(data, BigInt) : Float32Array.from(data)});
  const answers = [];
  for (const feed of feeds)
    answers.push((await form.ask(feed.map(typed))).map((out) => Array.from(out.data, Number)));
  return answers;
}"""


def compared(tab, figure, file):
    """Return the largest difference between the page's answers and torch's, on ten inputs."""
    records = json.loads(file.read_text("utf8"))
    assert len(records) >= 10
    tab.page.wait_for_function("id => document.querySelector(id).nnForm", arg=figure)
    answers = tab.page.evaluate(ASKED, [figure, [record["feed"] for record in records]])
    worst = 0.0
    for got, record in zip(answers, records, strict=True):
        for out, wanted in zip(got, record["wanted"], strict=True):
            difference = torch.tensor(out) - torch.tensor(wanted["data"])
            worst = max(worst, float(difference.abs().max()))
    return worst


def test_it_works_from_a_page_that_is_opened_as_a_file(browser, folder):
    tab = Tab(browser, f"file://{folder}/").open()
    tab.form("gap").get_by_role("button", name="Blank b").or_(
        tab.form("gap").locator("input")
    ).first.click()
    tab.told("gap", "The model says")
    assert compared(tab, "#live-gap", folder / "live" / "toys-toy-gap.json") <= 1e-4
    assert tab.visit.complaints == []
    tab.visit.close()


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


def test_it_writes_letter_by_letter_and_stops(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("textbox").fill("a")
    tab.told("writes", "b, 100 %")
    form.get_by_role("button", name="One letter").click()
    tab.told("writes", "So far: “ab”")
    form.get_by_role("button", name="Write").click()
    tab.told("writes", "It wrote: “abc”")
    assert form.locator(".nn-text").inner_text() == "abc"
    state = "document.querySelector('#live-writes').nnForm"
    assert tab.page.evaluate(f"!!{state}")
    form.get_by_role("button", name="Write").click()  # begins anew
    tab.told("writes", "It wrote: “abc”")


def test_write_waits_until_the_text_is_read(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("textbox").fill("c")
    tab.told("writes", "The model says")
    tab.page.evaluate(
        """() => {
          const form = document.querySelector("#live-writes");
          const field = form.querySelector("input[type=text]");
          field.value = "ab";
          field.dispatchEvent(new Event("input", { bubbles: true }));
          form.querySelector("[data-do=write]").click();
        }"""
    )
    tab.told("writes", "It wrote: “abc”")
    assert form.get_by_role("button", name="Stop").count() == 0


def test_a_warmer_letter_is_drawn_by_chance(opened):
    tab = opened()
    form = tab.form("writes")
    form.get_by_role("slider").fill("2")
    tab.told("writes", "The model says")
    assert form.locator("output").inner_text() == "2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "type a letter"),
        ("   ", "type a letter"),
        ("🙂7", "has never seen"),
        ("b" + "a" * 5000, "sees the last 8 letters only"),
        ("A<img src=x onerror=alert(1)>b", "has never seen"),
    ],
)
def test_nonsense_gets_a_plain_word(text, words, opened):
    tab = opened()
    tab.form("writes").get_by_role("textbox").fill(text)
    tab.told("writes", words)
    tab.form("writes").get_by_role("button", name="Write").click()
    tab.page.wait_for_timeout(100)
    assert tab.page.locator("#live-writes img").count() == 0


def test_a_translation_is_written_with_what_it_looks_at(opened):
    tab = opened()
    form = tab.form("copies")
    form.get_by_role("textbox").fill("bca")
    tab.told("copies", "It wrote bca")
    assert form.locator(".nn-text").inner_text() == "bca"
    rects = form.locator(".nn-heat rect")
    places = [(r.get_attribute("x"), r.get_attribute("y")) for r in rects.all()]
    assert places == [("18", "18"), ("30", "33"), ("42", "48")]


def test_the_map_keeps_its_room_while_it_is_written(opened):
    tab = opened()
    form = tab.form("copies")
    before = form.bounding_box()["height"]
    tab.page.evaluate(
        """() => {
          const figure = document.querySelector("#live-copies");
          const seen = (window.heights = new Set());
          new MutationObserver(() => seen.add(figure.getBoundingClientRect().height))
            .observe(figure, { childList: true, subtree: true });
        }"""
    )
    form.get_by_role("textbox").fill("bca")
    tab.told("copies", "It wrote bca")
    heights = tab.page.evaluate("[...heights]")
    assert heights and all(abs(height - before) < 1 for height in heights)


def test_a_letter_is_blanked_by_a_tap_and_given_back(opened):
    tab = opened()
    form = tab.form("gap")
    form.get_by_role("textbox").fill("abc")
    tab.told("gap", "Nothing is blank yet")
    form.get_by_role("button", name="Blank b").click()
    tab.told("gap", "aac; a, 100 %")
    assert form.locator("mark").inner_text() == "a"
    form.get_by_role("button", name="A blank: show the letter").click()
    assert form.get_by_role("textbox").input_value() == "abc"


def test_no_more_letters_are_offered_than_are_read(opened):
    tab = opened()
    form = tab.form("gap")
    form.get_by_role("textbox").fill("a_" + "b" * 500)
    tab.told("gap", "reads 5 letters at most")
    assert form.locator(".nn-letters button").count() == 5


def test_the_first_touch_may_be_a_letter(opened):
    tab = opened()
    tab.form("gap").get_by_role("button", name="Blank b").click()
    tab.told("gap", "The model says")
    assert tab.form("gap").get_by_role("textbox").input_value() == "__"


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


def test_what_no_line_parts_never_ends_and_says_so(opened):
    tab = opened()
    tab.form("line").get_by_role("button", name="one of each").click()
    tab.told("line", "it never ends")
    assert "300 corrections" in tab.says("line")


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


def test_without_its_script_it_says_so(browser, address):
    tab = Tab(browser, address).open()
    tab.page.route("**/_static/live/live.js*", lambda route: route.abort())
    tab.form("gap").get_by_role("textbox").click()
    tab.told("gap", "could not be loaded")
    tab.visit.close()


# ---------------------------------------------------------------- for everybody


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


def test_who_listens_hears_the_answer_once_it_has_settled(opened):
    tab = opened()
    form = tab.form("pad")
    form.get_by_role("button", name="right").click()
    tab.told("pad", "right, 100 %")
    status = form.get_by_role("status")
    assert status.count() == 1
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


# ---------------------------------------------------------------- in the book

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
