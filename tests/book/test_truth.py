"""The truth pages in a browser: every proof readable, and found by its words."""

import re

import pytest

from pipeline.site.browser import Visit
from tests.book.looking import CHAPTERS, PAGES, REASON, SITE

FAMILIES = [page for page in PAGES if page.startswith("truth/")]

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)


@pytest.fixture(scope="module")
def page(browser, address):
    visit = Visit(browser, address, width=390, height=844)
    visit.open(FAMILIES[0])
    yield visit.page
    visit.close()


def kept(page):
    """Return the ids of the equations that show, and what the form says of them."""
    ids = page.eval_on_selector_all(
        ".nn-proof", "all => all.filter(e => e.checkVisibility()).map(e => e.id)"
    )
    return ids, page.locator(".nn-sieve output").inner_text()


def sift(page, words="", state=""):
    page.locator("#nn-sieve-words").fill(words)
    page.locator("#nn-sieve-state").select_option(state)
    return kept(page)


def test_every_equation_stands_above_its_tests_on_a_phone(page):
    outside = page.evaluate(
        """[...document.querySelectorAll('.nn-proof')].filter((proof) => {
          const [maths, list] = ['div.math', 'ul'].map((e) => proof.querySelector(e));
          const below = maths.getBoundingClientRect().bottom <= list.getBoundingClientRect().top;
          const links = [...list.querySelectorAll('a')].map((e) => e.getBoundingClientRect());
          return !below || links.some(({ left, right }) => left < 0 || right > innerWidth);
        }).map((proof) => proof.id)"""
    )
    assert kept(page)[0] and outside == []


def test_equations_are_found_by_label_words_and_chapter(page):
    every, said = sift(page)
    assert said == f"{len(every)} equations"
    assert sift(page, every[3]) == ([every[3]], f"1 equation of {len(every)}")
    proof = page.locator(f"[id='{every[-1]}']")
    words = proof.locator("li a").first.inner_text()
    title = proof.locator("xpath=ancestor::section[1]/h2").inner_text().split("#")[0].strip()
    assert every[-1] in sift(page, words.upper())[0]
    found, said = sift(page, title)
    assert every[-1] in found and said == f"{len(found)} equations of {len(every)}"
    assert sift(page, "no such words") == ([], f"no equations of {len(every)}")
    assert page.locator("article section section:visible").count() == 0
    page.locator("#nn-sieve-words").press("Escape")
    assert kept(page)[0] == every


def test_equations_are_found_by_state_and_the_address_says_so(page):
    every, _ = sift(page)
    states = page.locator("#nn-sieve-state option").all()
    counts = [len(sift(page, state=option.get_attribute("value"))[0]) for option in states]
    assert sum(counts[1:]) == counts[0] == len(every)
    sift(page, every[0])
    assert f"find={every[0]}" in page.url
    page.reload()
    assert kept(page)[0] == [every[0]]
    page.evaluate("label => { location.hash = label }", every[-1])
    page.wait_for_function("!document.querySelector('#nn-sieve-words').value")
    assert kept(page)[0] == every


LAST = "[...document.querySelectorAll('.nn-proof')].at(-1)"


def test_what_is_far_below_is_not_laid_out_and_yet_found(page):
    """A proof far from the window costs nothing, and links and the browser's search reach it."""
    page.goto(page.url.split("#")[0])
    skipped = "e => e.checkVisibility() && !e.checkVisibility({contentVisibilityAuto: true})"
    inside = f"{LAST}.querySelector('ul a')"
    assert page.evaluate(f"({skipped})({inside})")
    words = page.evaluate(f"{inside}.textContent")
    assert page.evaluate("words => window.find(words, true)", words)
    page.wait_for_function("scrollY > 0")
    page.evaluate(f"scrollTo(0, 0), location.hash = {LAST}.id")
    page.wait_for_function(f"{LAST}.getBoundingClientRect().bottom <= innerHeight + 1")
    assert page.evaluate(f"{LAST}.getBoundingClientRect().top >= 0")
    page.wait_for_function(f"!({skipped})({inside})")


def test_on_paper_all_is_laid_out(page):
    page.goto(page.url.split("#")[0])
    page.emulate_media(media="print")
    hidden = "e => !e.checkVisibility({contentVisibilityAuto: true})"
    proofs = page.eval_on_selector_all(".nn-proof ul", f"all => all.filter({hidden}).length")
    page.emulate_media(media="screen")
    assert proofs == 0


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_number_of_an_equation_leads_to_its_tests(page):
    text = (SITE / page).read_text("utf8")
    labels = re.findall(r'<div class="math[^>]*id="equation-([\w-]+)"', text)
    family = page.split("/")[1]
    linked = re.findall(rf'class="nn-tested" href="../../truth/{family}.html#([\w-]+)"', text)
    assert linked == labels != []


@pytest.mark.parametrize("family", FAMILIES)
def test_all_is_shown_without_a_script(family, browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address + family)
    count = (SITE / family).read_text("utf8").count('<div class="nn-proof"')
    assert tab.locator(".nn-proof:visible").count() == count > 0
    assert not tab.locator(".nn-sieve").is_visible()
    context.close()
