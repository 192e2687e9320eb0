"""The frame of every page: what it loads, how it stands, how it is reached by the keyboard."""

import pytest

from pipeline.site import assets, stylesheet
from pipeline.site.browser import Visit
from tests.book import axe
from tests.book.looking import CHAPTERS, PAGES, REASON, SITE

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)

STOPS = 60  # presses of Tab to the end of a section, where it is the first and an average one


@pytest.fixture
def frame(looks):
    """What stands around the text of a page in a window."""
    return lambda page: looks(page)["frame"] | {"stops": looks(page)["stops"]}


@pytest.mark.parametrize("page", PAGES)
def test_nothing_keeps_anyone_from_using_the_page(page, frame):
    assert frame(page)["barriers"] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [PAGES[0], "architectures.html", CHAPTERS[0], "api/train.html"])
def test_nothing_keeps_anyone_from_using_the_page_on_a_phone(page, theme, visit):
    tab = visit(page, width=390, theme=theme)
    assert axe.grave(tab) == []


@pytest.mark.parametrize("page", PAGES)
def test_text_is_soon_reached_by_the_keyboard(page, frame):
    stops = frame(page)["stops"]
    assert stops["before"] <= STOPS
    if page in CHAPTERS:
        assert stops["before"] + stops["section"] <= STOPS, stops


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_one_script_and_one_style_sheet(page, frame):
    seen = frame(page)
    assert seen["scripts"] == [assets.SCRIPT]
    assert seen["sheets"] == [assets.STYLE]
    assert seen["icons"] == 0, "the font of these icons is not loaded"


@pytest.mark.parametrize("page", PAGES)
def test_text_begins_at_the_same_place_on_every_page(page, frame):
    assert frame(page)["text"] == frame(PAGES[0])["text"]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_line_of_code_holds_88_letters(page, frame):
    assert frame(page)["columns"] >= 88


@pytest.mark.parametrize("page", PAGES)
def test_the_chapters_beside_the_page_show_where_one_is(page, frame):
    seen = frame(page)
    assert seen["open"] <= 1
    assert seen["current"] is not False


# Written into pages, and without a meaning there: by the theme's contents, by Sphinx's index.
STRAY = {"flex-column", "toggler"}


def test_no_page_has_a_class_that_is_left_out_of_the_theme():
    found = {
        f"{file.name}: {name}"
        for file in SITE.resolve().rglob("*.html")
        for name in stylesheet.classes(file.read_text("utf8")) - STRAY
        if assets.unused(name)
    }
    assert found == set()


@pytest.fixture
def visit(browser, address):
    visits = []

    def visit(page, width=1280, height=800, theme=None, **options):
        visits.append(Visit(browser, address, width=width, height=height, **options))
        visits[-1].open(page, theme)
        return visits[-1].page

    yield visit
    for one in visits:
        one.close()


def test_what_the_keyboard_reaches_is_seen(visit):
    tab = visit(CHAPTERS[0])
    unseen = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        unseen += tab.evaluate(
            """() => {
              const e = document.activeElement, s = getComputedStyle(e);
              const seen = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2;
              return seen ? [] : [e.outerHTML.slice(0, 100)];
            }"""
        )
    assert unseen == []


def test_the_first_stop_leads_to_the_text(visit):
    tab = visit(CHAPTERS[0])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('main') !== null")


def test_the_button_changes_the_colours_and_the_next_page_keeps_them(visit):
    tab = visit(CHAPTERS[0], color_scheme="light")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    tab.locator(".theme-switch-button").click()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.reload(wait_until="commit")
    tab.wait_for_selector("h1")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_menu_opens_and_escape_closes_it(visit):
    tab = visit(CHAPTERS[0])
    menu = tab.locator("details.nn-menu").first
    menu.locator("summary").click()
    assert menu.get_by_role("button", name="Print").is_visible()
    tab.keyboard.press("Escape")
    assert menu.get_attribute("open") is None
    assert tab.evaluate("document.activeElement.localName") == "summary"


def test_the_contents_follow_the_reader(visit):
    tab = visit(CHAPTERS[0])
    links = tab.locator("#pst-page-toc-nav > ul > li > a")
    last = links.nth(links.count() - 1)
    last.click()
    tab.wait_for_selector("#pst-page-toc-nav > ul > li:last-child a[aria-current]")
    assert tab.evaluate("document.querySelectorAll('#pst-page-toc-nav [aria-current]').length") == 1


@pytest.mark.parametrize("jump", ["link", "address"])
def test_a_link_into_the_page_lands_at_its_heading(jump, visit):
    tab = visit(CHAPTERS[0] + ("#references" if jump == "address" else ""))
    if jump == "link":
        tab.locator("#pst-page-toc-nav a[href='#references']").click()
    tab.wait_for_function(
        """() => {
          const top = document.querySelector("#references h2").getBoundingClientRect().top;
          return top >= 0 && top < innerHeight / 2;
        }"""
    )


@pytest.mark.parametrize("system", ["light", "dark"])
def test_without_script_the_page_is_whole(system, browser, address):
    visit = Visit(
        browser, address, width=390, height=844, java_script_enabled=False, color_scheme=system
    )
    tab = visit.page
    tab.goto(address + CHAPTERS[0])
    ground = {"light": "rgb(252, 251, 248)", "dark": "rgb(22, 25, 30)"}[system]
    assert tab.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == ground
    assert tab.locator("nav.bd-links a").first.is_visible()
    assert tab.locator(".pst-js-only:visible").count() == 0
    assert tab.locator(".bd-article p").first.is_visible()
    visit.close()


def test_on_paper_there_is_the_text_alone(visit):
    tab = visit(CHAPTERS[0])
    tab.emulate_media(media="print")
    frame = ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, footer, .copybtn"
    assert tab.locator(f":is({frame}):visible").count() == 0
    assert tab.evaluate(
        """() => [...document.querySelectorAll("article > section > section")]
          .every((section) => getComputedStyle(section).contentVisibility === "visible")"""
    )


def test_works_name_the_sections_that_cite_them(visit):
    tab = visit(CHAPTERS[0])
    tab.locator(".nn-cited a").first.click()
    tab.wait_for_function("location.hash && document.querySelector(location.hash) !== null")
    assert tab.locator(".bd-article span.label").count() == 0


def test_copying_code_takes_what_can_be_run(visit):
    tab = visit(CHAPTERS[0])
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = tab.locator(".cell_input div.highlight:visible").first
    block.hover()
    block.locator("button.copybtn").click()
    block.locator("button[aria-label=Copied]").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == block.locator("pre").inner_text().rstrip()


def test_arrows_open_and_close_a_family_whose_link_is_the_only_stop(visit):
    tab = visit(CHAPTERS[0])
    family = tab.locator(".bd-docs-nav .has-children:not(.current)").first
    assert family.locator("summary").evaluate("summary => summary.tabIndex") == -1
    family.locator("> a").focus()
    here = tab.url
    for key, opened in (("ArrowRight", True), ("ArrowLeft", False)):
        tab.keyboard.press(key)
        assert family.locator("details").evaluate("fold => fold.open") is opened
    assert tab.url == here, "no page is turned"


def test_up_and_down_lead_through_the_pages_and_a_familys_chapters_are_one_stop(visit):
    tab = visit(CHAPTERS[0])
    current = tab.locator(".bd-docs-nav .has-children.current li > a")
    stops = current.evaluate_all("links => links.map((link) => link.tabIndex)")
    assert len(stops) > 2 and stops.count(0) == 1
    assert current.nth(stops.index(0)).evaluate("a => a.closest('li.current') !== null")
    families = tab.locator(".bd-docs-nav .has-children > a")
    stops = families.evaluate_all("links => links.map((link) => link.tabIndex)")
    assert len(stops) > 2 and stops.count(0) == 1
    tab.locator(".bd-docs-nav .has-children.current > a").focus()
    told = "document.activeElement.textContent.trim()"
    names = current.all_inner_texts()
    for key, wanted in (("ArrowDown", names[0]), ("ArrowDown", names[1]), ("ArrowUp", names[0])):
        tab.keyboard.press(key)
        assert tab.evaluate(told) == wanted.strip()
