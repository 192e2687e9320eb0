"""Figures in a browser: two variants, colours, the dialog, downloads; on one page of our own."""

import re
import shutil

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from nnlib.notebook.pictures import _figure_markup
from nnlib.plot.colors import COLORS
from nnlib.plot.curves import curves
from nnlib.plot.diagram import Diagram
from nnlib.plot.maps import matrix, token_row
from nnlib.plot.picture import picture
from nnlib.plot.style import bare, subplots
from pipeline import ROOT
from pipeline.checks.measuring import instrument
from pipeline.site.browser import Visit, browsing, chromium, served
from pipeline.site.figures import _CAPTION

playwright = pytest.importorskip("playwright")
if chromium() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

STYLES = ("fonts.css", "book.css", "figures.css")
CARD = (
    '<div class="nn-card"><p class="nn-card-idea">Idea.</p><dl><dt>Code</dt>'
    "<dd><code>x</code></dd></dl></div>"
)


def lines() -> Figure:
    fig, axes = subplots(1, 2, title="All meanings", xlabel="step")
    for ax, names in zip(axes, (list(COLORS)[:4], list(COLORS)[4:]), strict=True):
        curves(ax, [0, 1], {name: [at, at] for at, name in enumerate(names)}, colors=names)
    return fig


def cells() -> Figure:
    fig, (left, right) = subplots(1, 2, height=2.4)
    matrix(left, [[0.0, 0.4], [0.6, 1.0]], bar=None)
    for at in range(4):
        left.text(at % 2, at // 2, f"{at}", ha="center", va="center")
    token_row(bare(right), "abcdef", 0, "gate", [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    right.set(xlim=(0, 6), ylim=(0, 1))
    return fig


def chain() -> Figure:
    canvas = Diagram(width=12, height=1.4)
    canvas.chain(*(canvas.box(1 + 2 * at, 0.7, "a long name") for at in range(6)))
    return canvas.figure


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A tab on a page with three figures and a card."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "_static", site / "_static")
    count = iter(range(1, 9))
    body = CARD
    for draw in (lines, cells, chain):
        shown = picture(draw(), draw.__name__, f"The picture of {draw.__name__}")
        body += _figure_markup(shown, draw.__name__, "What to see.")
    plt.close("all")
    body = _CAPTION.sub(
        lambda m: f'{m[1]}<a class="nn-number" href="#{m[2]}">Figure {next(count)}</a> ', body
    )
    head = "".join(f'<link rel="stylesheet" href="_static/{name}">' for name in STYLES)
    (site / "index.html").write_text(
        f'<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>x</title>'
        f"{head}<style>body {{ margin: 0; background: var(--pst-color-background) }}"
        f"article {{ padding: 0 16px; max-width: 46rem }}</style>"
        f'<article class="bd-article">{body}</article><script src="_static/figures.js"></script>',
        "utf8",
    )
    with served(site) as address, browsing() as browser:
        visit = Visit(browser, address, width=390, height=844)
        visit.page.goto(address)
        instrument(visit.page)
        yield visit.page
        visit.close()


def at(page, width, theme="light"):
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    return page


@pytest.mark.parametrize(("width", "least", "kind"), [(390, 9, "narrow"), (1280, 11, "wide")])
def test_type_is_large_enough_and_one_variant_shows(page, width, least, kind):
    sizes = at(page, width).evaluate("nnMeasure.types()")
    assert len(sizes) > 20 and sizes[0][0] >= least - 0.01, sizes[:3]
    shown = page.evaluate(
        "[...document.querySelectorAll('#figure-lines svg[role]')].filter(s => s.checkVisibility())"
        ".map(s => s.getAttribute('class'))"
    )
    assert shown == [f"nn-{kind}"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_words_and_lines_stand_out_from_their_ground(page, width, theme):
    assert at(page, width, theme).evaluate("nnMeasure.pale()") == {"words": [], "lines": []}


def test_what_cannot_get_slimmer_scrolls_within_its_box(page):
    box, document = at(page, 390).evaluate(
        "[document.querySelector('.nn-scrolls'), document.documentElement]"
        ".map(e => e.scrollWidth - e.clientWidth)"
    )
    assert box > 10 and document == 0


def test_a_click_enlarges_and_escape_gives_the_focus_back(page):
    button = at(page, 390).get_by_role("button", name="Enlarge or download: Figure 2")
    button.press("Enter")
    dialog = page.get_by_role("dialog", name="Figure 2")
    assert dialog.locator(".nn-large > svg").bounding_box()["width"] >= 690
    assert dialog.locator(".nn-enlarge, .nn-number").count() == 0
    page.keyboard.press("Escape")
    assert dialog.count() == 0 and button.evaluate("b => b === document.activeElement")
    page.locator("#figure-lines .nn-narrow").click()
    assert page.get_by_role("dialog", name="Figure 1").count() == 1
    page.get_by_role("button", name="Close").click()


def test_figures_are_handed_out_with_the_colours_of_a_light_page(page):
    at(page, 1280, "dark").locator("#figure-lines .nn-enlarge").click()
    files = {}
    for kind in ("SVG", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download as {kind}").click()
        files[kind] = download.value
    page.keyboard.press("Escape")
    assert files["SVG"].suggested_filename == "figure-lines.svg"
    svg = files["SVG"].path().read_text("utf8")
    assert not re.search(r"var\(|currentColor|light-dark", svg)
    assert "rgb(192, 53, 74)" in svg and "All meanings" in svg  # the ink of what is learned
    png = files["PNG"].path().read_bytes()
    assert png[:4] == b"\x89PNG" and int.from_bytes(png[16:20]) >= 2000


def test_every_rule_of_the_style_sheet_finds_something(page):
    at(page, 390).locator("#figure-lines .nn-enlarge").click()
    lost = page.evaluate(
        """() => {
          const sheet = [...document.styleSheets].find((s) => s.href.endsWith("figures.css"));
          const flat = (rules) => [...rules].flatMap((r) => [r, ...flat(r.cssRules ?? [])]);
          const plain = (s) => s.replace(/:hover|::?(before|after|backdrop)/g, "");
          document.documentElement.dataset.theme = "dark";
          document.body.insertAdjacentHTML("beforeend", '<i class="nn-bench nn-light"></i>'
            + '<p class="nn-sound"><span></span><audio></audio></p>'
            + '<p class="nn-picture"><svg><a href="#"><path/><text>linked</text></a></svg></p>');
          return flat(sheet.cssRules)
            .filter((r) => r.selectorText && !document.querySelector(plain(r.selectorText)))
            .map((r) => r.selectorText);
        }"""
    )
    page.keyboard.press("Escape")
    assert lost == []
