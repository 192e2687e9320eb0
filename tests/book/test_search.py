"""The search of the built site in a browser: what it finds, how it is used, what it costs."""

import re

import pytest

from pipeline.site.browser import Visit
from tests.book.looking import REASON, SITE
from tests.book.search_queries import QUERIES

PAGE = "chapters/notation.html"
FIND = """async ([from, queries]) => {
  const { find } = await import(from);
  const found = {};
  for (const query of queries) found[query] = (await find(query)).pages;
  return found;
}"""
MARKED = "[...(CSS.highlights.get('nn-marks') ?? [])].map(String)"

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)


@pytest.fixture(scope="module")
def visit(browser, address):
    """One tab, on a page whose search was not opened yet."""
    visit = Visit(browser, address, width=1280, height=900)
    visit.open(PAGE)
    yield visit
    visit.close()


def test_nothing_is_loaded_before_the_search_is_opened(visit):
    assert len(visit.asked) > 2
    assert [url for url in visit.asked if "/search/" in url or "searchindex" in url] == []


@pytest.fixture(scope="module")
def found(visit):
    """What each query finds, best page first."""
    queries = [query.words for query in QUERIES]
    return visit.page.evaluate(FIND, [visit.address + "search/find.js", queries])


def answered(query, pages):
    """Whether a page that answers stands among the first three, with its section."""
    for page in pages[:3]:
        if page["page"].removesuffix(".html") in query.pages:
            sections = [section["anchor"] for section in page["sections"]]
            return not query.section or query.section in sections
    return False


def test_queries_are_answered_in_the_first_three(found):
    assert len(QUERIES) == len(found) == 30
    missed = [query.words for query in QUERIES if not answered(query, found[query.words])]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.words)
def test_the_answer_that_is_wanted_exists(query):
    for page in query.pages:
        text = (SITE / f"{page}.html").read_text("utf8")
        assert not query.section or len(query.pages) > 1 or f'id="{query.section}"' in text


def test_every_result_leads_to_a_section_that_exists(found):
    places = {
        (page["page"], section["anchor"])
        for pages in found.values()
        for page in pages
        for section in page["sections"]
    }
    assert len(places) > 100
    pages = {page: (SITE / page).read_text("utf8") for page, _ in places}
    lost = [(page, id_) for page, id_ in places if id_ and f'id="{id_}"' not in pages[page]]
    assert lost == []


def test_excerpts_mark_the_words_and_hold_no_code_of_formulas(found):
    excerpts = [
        section["excerpt"]
        for pages in found.values()
        for page in pages[:3]
        for section in page["sections"]
    ]
    # The others match in their title.
    assert sum("<mark>" in excerpt for excerpt in excerpts) > 0.6 * len(excerpts)
    assert [excerpt for excerpt in excerpts if re.search(r"\\[a-z]{2,}", excerpt)] == []


def test_a_slip_is_answered_by_keyboard_and_leads_to_marked_words(visit):
    tab = visit.page
    tab.keyboard.press("/")
    box = tab.get_by_role("combobox", name="Search the book")
    box.wait_for(timeout=10_000)
    tab.keyboard.type("softmx")
    status = tab.locator("dialog.nn-search [role=status]")
    status.get_by_role("button", name="softmax").wait_for(timeout=10_000)
    assert re.search(r"Did you mean softmax\?.* results on \d+ pages", status.inner_text())
    first = box.get_attribute("aria-activedescendant")
    tab.keyboard.press("ArrowDown")
    second = box.get_attribute("aria-activedescendant")
    assert first != second
    chosen = tab.get_by_role("option", selected=True)
    assert chosen.get_attribute("id") == second
    target = chosen.get_attribute("href")
    tab.keyboard.press("Enter")
    tab.wait_for_url(target)
    tab.wait_for_function(f"{MARKED}.length > 0")
    assert {word.lower()[:7] for word in tab.evaluate(MARKED)} == {"softmax"}
    tab.get_by_role("button", name="Remove the marks").click()
    assert tab.evaluate(MARKED) == [] and "marks=" not in tab.url
    assert visit.foreign == [] and visit.failed == [] and visit.complaints == []


def test_escape_closes_and_the_button_opens(visit):
    tab = visit.page
    tab.locator(".search-button__button:visible").first.click()
    dialog = tab.get_by_role("dialog", name="Search")
    dialog.wait_for(timeout=10_000)
    tab.keyboard.type("qqqqqqq")
    tab.get_by_text("Nothing was found").wait_for(timeout=10_000)
    tab.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_the_page_of_the_search_answers_a_link_to_it(visit):
    visit.open("search.html?q=forget+gate")
    links = visit.page.get_by_role("option")
    links.first.wait_for(timeout=10_000)
    assert "chapters/sequence/lstm.html?marks=forget+gate" in links.first.get_attribute("href")
    assert visit.foreign == [] and visit.failed == [] and visit.complaints == []


def test_without_javascript_the_page_of_the_search_leads_on():
    told = re.search(r"<noscript>(.*?)</noscript>", article(SITE / "search.html"), re.S)[1]
    links = re.findall(r'href="([^"]+)"', told)
    assert len(links) == 3 and all((SITE / link).is_file() for link in links)


def article(page):
    return page.read_text("utf8").split('<section id="search">')[1]


def test_pages_no_longer_load_the_index_of_sphinx():
    pages = [page for page in SITE.resolve().rglob("*.html") if "vendor" not in page.parts]
    assert len(pages) > 20
    assert [page.name for page in pages if "searchindex.js" in page.read_text("utf8")] == []
    assert not (SITE / "searchindex.js").exists()
