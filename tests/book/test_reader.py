"""What readers have on a page: previews, keys, a report that names the section, a citation."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from pipeline import site_address
from pipeline.site import heroes
from pipeline.site.browser import Visit
from tests.book.looking import CHAPTERS, PAGES, REASON, SITE

PAGE = next((page for page in CHAPTERS if page.endswith("/lstm.html")), CHAPTERS[0])
LIGHT = "chapters/glossary.html"
BOX = "#nn-preview"
TERM = "article a.nn-term"

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)


@pytest.fixture(scope="module")
def visit(browser, address):
    """A chapter, opened once for all tests that leave it as it was."""
    visit = Visit(browser, address, width=1280, height=900)
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open(PAGE)
    yield visit
    assert visit.foreign == [] and visit.complaints == []
    visit.close()


@pytest.fixture
def tab(visit):
    """The chapter with nothing open, and the pointer in a corner."""
    yield visit.page
    visit.page.mouse.move(2, 2)
    visit.page.keyboard.press("Escape")
    visit.page.evaluate("document.activeElement.blur()")
    visit.page.locator(BOX).wait_for(state="hidden")


def hover(tab, selector):
    """Point at the first such link; return the preview that opens."""
    link = tab.locator(selector).first
    link.scroll_into_view_if_needed()
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    link.hover()
    box = tab.locator(BOX)
    box.wait_for()
    return link, box


def test_nothing_is_fetched_before_a_link_is_pointed_at(visit, tab):
    before = [url for url in visit.asked if url.endswith(".html")]
    assert before == [visit.address + PAGE]
    link, box = hover(tab, TERM)
    after = [url for url in visit.asked if url.endswith(".html")]
    assert after == [*before, f"{visit.address}chapters/glossary.html"]
    name = link.get_attribute("href").split("#")[1]
    said = box.inner_text()
    assert len(said) > 20 and link.get_attribute("aria-describedby") == "nn-preview"
    assert box.locator(f"dt[id='preview-{name}']").count() == 1


def test_an_equation_shows_with_its_number(tab):
    link, box = hover(tab, "article a[href^='#equation-']:not(.headerlink)")
    assert box.locator("div.math").count() == 1
    assert link.inner_text().strip("()") in box.locator(".eqno").inner_text()


def test_a_citation_shows_its_entry(tab):
    link, box = hover(tab, "article .bibtex-citation a")
    assert box.locator(".citation").count() == 1
    assert link.get_attribute("title") in (None, "")  # no second box by the browser
    said = box.inner_text()
    assert any(year in said for year in map(str, range(1900, 2030)))


def test_a_link_to_a_chapter_shows_its_title_and_idea(tab):
    _, box = hover(tab, "article section > p > a[href$='rnn.html']")
    assert box.locator("h1").count() == 1 and box.locator("p").count() == 1


def test_it_covers_no_link_moves_nothing_and_lets_the_pointer_in(tab):
    size = "[document.documentElement.scrollHeight, document.querySelector('article').offsetTop]"
    before = tab.evaluate(size)
    link, box = hover(tab, TERM)
    one, other = link.bounding_box(), box.bounding_box()
    apart = other["y"] >= one["y"] + one["height"] or other["y"] + other["height"] <= one["y"]
    assert apart and tab.evaluate(size) == before
    assert other["x"] >= 0 and other["x"] + other["width"] <= 1280
    tab.mouse.move(other["x"] + 20, other["y"] + other["height"] / 2, steps=4)
    tab.wait_for_timeout(500)
    assert box.is_visible()
    tab.keyboard.press("Escape")
    assert not box.is_visible()


def test_the_keyboard_opens_and_closes_it(tab):
    link = tab.locator(TERM).first
    link.scroll_into_view_if_needed()
    tab.keyboard.press("Shift")  # from now on the focus is seen
    link.focus()
    tab.locator(BOX).wait_for()
    tab.keyboard.press("Tab")
    tab.locator(BOX).wait_for(state="hidden")


def test_a_tap_follows_the_link(browser, address):
    visit = Visit(browser, address, width=390, height=844, has_touch=True)
    visit.open(LIGHT)
    link = visit.page.locator("article dd a[href^='#term-']").first
    link.tap()
    visit.page.wait_for_url("**/glossary.html#term-*")
    assert visit.page.locator(BOX).is_hidden()
    visit.close()


def test_a_report_names_the_section_in_view(tab):
    tab.locator("article h2").nth(1).evaluate("h => h.scrollIntoView()")
    link = tab.locator(".nn-beside a")
    link.hover()
    heading = tab.locator("article h2").nth(1).inner_text().replace("#", "").strip()
    asked = parse_qs(urlsplit(link.get_attribute("href")).query)
    assert heading in asked["title"][0]
    assert f"Section: {heading}\n" in asked["body"][0] and f"{PAGE}#" in asked["body"][0]


def test_a_citation_is_copied(tab):
    tab.locator(".nn-cite summary").click()
    tab.get_by_role("button", name="Copy BibTeX").click()
    tab.wait_for_function("document.querySelector('pre .nn-copy').textContent === 'Copied'")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("@incollection{") and copied.rstrip().endswith("}")


def test_keys_show_a_list_and_turn_pages(browser, address):
    visit = Visit(browser, address, width=1280, height=900)
    visit.open(LIGHT)
    tab = visit.page
    tab.keyboard.press("?")
    assert tab.locator("dialog.nn-keys").is_visible()
    tab.keyboard.press("ArrowRight")  # nothing while it is open
    tab.keyboard.press("Escape")
    for quiet in ("Control+ArrowRight", "Alt+n", "Shift+ArrowRight"):
        tab.dispatch_event("body", "keydown", {
            "key": quiet.split("+")[1], "bubbles": True,
            f"{quiet.split('+')[0].lower().replace('control', 'ctrl')}Key": True,
        })  # fmt: skip
    tab.evaluate("document.querySelector('article').insertAdjacentHTML('afterbegin', '<input>')")
    tab.locator("article > input").focus()
    tab.keyboard.press("ArrowRight")
    tab.evaluate("document.activeElement.blur()")
    assert tab.url == address + LIGHT
    following = tab.evaluate("document.querySelector('link[rel=next]').href")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(following)
    tab.keyboard.press("p")
    tab.wait_for_url(f"**/{LIGHT}")
    visit.close()


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_links_terms_once_each_and_in_running_text(page):
    text = (SITE / page).read_text("utf8")
    found = re.findall(r'<a class="[^"]*\bnn-term\b[^"]*" href="([^"]+)">', text)
    assert len(found) >= 5
    assert len(found) == len(set(found)) and all("glossary.html#term-" in at for at in found)
    for outside in (
        r"<h[1-6].*?</h[1-6]>",
        r"<pre.*?</pre>",
        r"<math.*?</math>",
        r"<table.*?</table>",
    ):
        assert not any("nn-term" in part for part in re.findall(outside, text, re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_the_head_and_the_end_of_a_page_tell_what_it_is(page):
    text = (SITE / page).read_text("utf8")
    head = text.split("</head>")[0]
    assert f'<link rel="canonical" href="{site_address()}/{page}" />' in head
    assert re.search(r'<meta name="description" content="[^"]{10,302}">', head)
    assert re.search(r'<meta property="og:title" content="[^"]+">', head)
    assert 'type="application/atom+xml"' in head
    feed = re.search(r'href="([^"]*feed\.xml)"', text.partition("<footer")[2])[1]
    assert ((SITE / page).parent / feed).resolve() == (SITE / "feed.xml").resolve()
    assert "/issues/new?title=" in text
    chapter = page in CHAPTERS
    assert ("@incollection{" in text) == chapter and (" min read</span>" in text) == chapter
    picture = heroes.place(page.removesuffix(".html"))
    shown = f'<meta property="og:image" content="{site_address()}/{picture}">' in head
    assert shown == (SITE / picture).is_file()
    assert shown or not chapter


@pytest.mark.parametrize("page", [PAGES[0], "gallery.html"])
def test_pages_of_many_chapters_have_a_picture_for_previews_too(page):
    card = SITE / heroes.place(page.removesuffix(".html"))
    assert Image.open(card).size == (1200, 630)  # what previews are cropped to
    assert card.stat().st_size <= 120_000
    assert f"{card.name}" in (SITE / page).read_text("utf8").split("</head>")[0]


@pytest.mark.parametrize("page", [PAGES[0], "gallery.html"])
def test_a_tile_tells_the_time_that_its_chapter_takes(page):
    told = re.findall(r"min read</span>|<li.*?</li>", (SITE / page).read_text("utf8"), re.S)
    tiles = [tile for tile in told if "nn-tile-title" in tile]
    assert tiles
    for tile in tiles:
        chapter = re.search(r'href="(?:\.\./)*([^"]+)"', tile)[1]
        time = re.search(r'<span class="nn-tile-time">(\d+) min</span>', tile)[1]
        assert f"<span>{time} min read</span>" in (SITE / chapter).read_text("utf8")


def test_the_map_names_every_page_and_lost_readers_find_back():
    known = (SITE / "sitemap.xml").read_text("utf8")
    assert [page for page in PAGES if f"<loc>{site_address()}/{page}</loc>" not in known] == []
    assert f"{site_address()}/search.html" in (SITE / "404.html").read_text("utf8")
    assert (SITE / "feed.xml").is_file() and (SITE / "robots.txt").is_file()
