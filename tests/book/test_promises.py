"""Lines with ✓ on a page: what they mean is said once; a long list is one line, and ✗ is open."""

import json
import re

import pytest
from docutils import nodes
from docutils.utils import new_document

from pipeline import ROOT
from pipeline.site import promises
from pipeline.site.browser import Visit
from tests.book.looking import CHAPTERS, REASON, SITE


class App:
    class env:
        docname = "chapters/vision/cnn"


def page(*printed, hide=""):
    """Return the outputs of cells as the page shows them, one cell for each text."""
    document = new_document("page")
    for text in printed:
        cell = nodes.container(nb_element="cell_code", hide_mode=hide)
        output = nodes.container(nb_element="cell_code_output")
        output += nodes.literal_block(text, text, classes=["output", "stream"], language="none")
        document += cell
        cell += output
    promises._shown(App, document)
    return document


def kept(*numbers):
    return "".join(f"✓ claim {number}\n" for number in numbers)


def folded(document):
    return [node.astext().split("\n") for node in document.findall(promises.Kept)]


def in_the_open(document):
    """Return the lines of all blocks that are not folded."""
    blocks = document.findall(nodes.literal_block)
    free = [block for block in blocks if not isinstance(block.parent, promises.Kept)]
    return [line for block in free for line in block.astext().splitlines()]


@pytest.mark.parametrize("count", [1, 3])
def test_few_promises_stand_open(count):
    document = page(kept(*range(count)))
    assert folded(document) == [] and len(in_the_open(document)) == count


def test_many_promises_fold_and_none_is_lost():
    document = page(kept(1, 2, 3, 4))
    assert folded(document) == [["✓ claim 1", "✓ claim 2", "✓ claim 3", "✓ claim 4"]]
    assert in_the_open(document) == []


def test_what_is_no_promise_stays_open_and_in_its_place():
    text = f"before\n{kept(1, 2, 3, 4)}between\n{kept(5, 6)}after\n"
    document = page(text)
    assert in_the_open(document) == ["before", "between", "✓ claim 5", "✓ claim 6", "after"]
    assert "\n".join(document.astext().split("\n\n")[:1]) == "before"
    shown = [
        line
        for block in document.findall(nodes.literal_block)
        for line in block.astext().split("\n")
    ]
    assert "\n".join(shown) + "\n" == text


def test_a_broken_promise_is_never_folded():
    document = page(kept(1, 2, 3, 4) + "✗ claim 5: largest difference 1\n" + kept(6, 7, 8, 9))
    assert in_the_open(document) == ["✗ claim 5: largest difference 1"]
    assert [len(lines) for lines in folded(document)] == [4, 4]


def test_blocks_are_coloured_as_the_one_that_was_printed():
    (block,) = page(kept(1, 2, 3, 4)).findall(nodes.literal_block)
    assert block["classes"] == ["output", "stream"] and block["language"] == "none"
    assert block.rawsource == block.astext()  # else Sphinx takes it for parsed text


def meanings(document):
    return [node.astext() for node in document.findall(promises.Meaning)]


def test_the_first_promise_of_a_page_says_what_it_means():
    document = page("no promise\n", kept(1), kept(1, 2, 3, 4))
    assert meanings(document) == ["✓ compared when this page was built (what this means)"]
    (line,) = document.findall(promises.Meaning)
    assert "claim 1" in line.parent.children[0].astext()
    assert meanings(page("no promise\n", "a ✓ within a line\n")) == []


def test_it_is_said_where_a_reader_sees_it():
    assert meanings(page(kept(1), hide="output")) == []
    assert meanings(page(kept(1), hide="input")) != []


def test_a_cells_code_is_no_promise():
    document = new_document("page")
    source = nodes.container(nb_element="cell_code_source")
    source += nodes.literal_block("✓ x", "✓ x")
    document += source
    promises._shown(App, document)
    assert meanings(document) == []


def test_a_fold_says_how_many_and_what_about():
    assert promises.about(["Base", "Large (atol 1e-06)"]) == "Base; Large"
    long = "a claim that takes most of the room which the line has for all of them"
    assert promises.about([long, "b", "c"]) == f"{long}; and 2 more"


# ---------------------------------------------------------------- the built pages

looking = pytest.mark.skipif(bool(REASON), reason=f"the site is not looked at: {REASON}")


@looking
@pytest.mark.parametrize("page", CHAPTERS)
def test_each_chapter_says_once_what_the_mark_means_and_the_link_leads_there(page):
    text = (SITE / page).read_text("utf8")
    (line,) = re.findall(r'<p class="nn-meaning">(.*?)</p>', text, re.S)
    target, _, anchor = re.search(r'href="([^"]+)"', line)[1].partition("#")
    there = (SITE / page).parent / target
    assert f'id="{anchor}"' in there.resolve().read_text("utf8")
    assert text.index("✓ ") > text.index("</h1>")


def lists(page):
    """Return how many promises each cell has printed, from the stored outputs."""
    cells = json.loads((ROOT / page).with_suffix(".ipynb").read_text("utf8"))["cells"]
    texts = ("".join("".join(out.get("text", "")) for out in c.get("outputs", [])) for c in cells)
    return [run.count("✓ ") for text in texts for run in re.findall(r"(?:^✓ .*\n)+", text, re.M)]


@looking
@pytest.mark.parametrize("page", CHAPTERS)
def test_each_long_list_of_a_chapter_is_one_line(page):
    told = re.findall(r'class="nn-kept"><summary>✓ (\d+) ', (SITE / page).read_text("utf8"))
    assert [*map(int, told)] == [count for count in lists(page) if count > promises.OPEN]


LONGEST = max(CHAPTERS, key=lambda page: max(lists(page)))
LINES = "details.nn-kept .output"


@pytest.fixture
def longest(browser, address):
    visit = Visit(browser, address, width=390, height=844)
    visit.open(LONGEST)
    yield visit.page
    visit.close()


@looking
def test_a_fold_opens_at_a_click_and_prints_open(longest):
    lines, summary = longest.locator(LINES).first, longest.locator("details.nn-kept summary").first
    assert not lines.is_visible() and summary.is_visible()
    longest.emulate_media(media="print")
    assert all(one.bounding_box()["height"] > 60 for one in longest.locator(LINES).all())
    assert not summary.is_visible()
    longest.emulate_media(media="screen")
    summary.click()
    assert lines.is_visible()


@looking
def test_a_fold_opens_without_scripts(browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address + LONGEST)
    lines = tab.locator(LINES).first
    assert not lines.is_visible()
    tab.locator("details.nn-kept summary").first.click()
    assert lines.is_visible()
    context.close()
