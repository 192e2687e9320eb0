"""Code on a page: 88 columns fit, what is longer hangs under its line, and nothing is cut."""

import pytest
from pygments import highlight
from pygments.lexers import PythonLexer, TextLexer

from pipeline import ROOT
from pipeline.site.browser import Visit, browsing, chromium, served
from pipeline.site.code_lines import Lines

FULL = "x = 1  # " + "a" * 79  # 88 columns
LONG = "        y = 2  # " + "a word " * 20
DEEP = " " * 50 + "[0] * 4), strict=True):  # far in"
CODE = f"def f():\n{FULL}\n{LONG}\n\n    return x < 3\n{DEEP}\n"
PAGE = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>t</title>
<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="code.css">
<article class="bd-article" style="max-width: {}; padding: 0">
<div class="highlight-ipython3 notranslate">{}</div>
<div class="highlight-text notranslate">{}</div></article>"""
ROWS = """() => [...document.querySelectorAll('.highlight-ipython3 .nn-line')].map(line => {
  const range = document.createRange(); range.selectNodeContents(line);
  const lefts = new Map();
  for (const { top, left } of range.getClientRects()) {
    const row = Math.round(top / 4);
    lefts.set(row, Math.min(left, lefts.get(row) ?? Infinity));
  }
  return [...lefts.values()];
})"""


def test_every_line_says_how_far_in_it_begins_and_the_text_stays_the_same():
    shown = highlight(CODE, PythonLexer(), Lines())
    assert shown.count('<span class="nn-line"') == 5  # an empty line has nothing to hang
    assert '<span class="nn-line" style="--nn-in:8">' in shown
    lines = shown.splitlines()  # as Sphinx cuts the page of a module
    assert all(line.count("<span") == line.count("</span") for line in lines)


def test_a_string_over_several_lines_stays_whole():
    shown = highlight('"""a\n    b"""\n', PythonLexer(), Lines())
    assert all(line.count("<span") == line.count("</span") for line in shown.splitlines())
    assert '--nn-in:4"><span class="sd">    b' in shown


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Where the rows of each line begin, and the code boxes that scroll, by the page's width."""
    pytest.importorskip("playwright")
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("page")
    code, text = highlight(CODE, PythonLexer(), Lines()), highlight("▔" * 20, TextLexer(), Lines())
    (folder / "wide.html").write_text(PAGE.format("688px", code, text), "utf8")
    (folder / "phone.html").write_text(PAGE.format("358px", code, text), "utf8")
    for name in ("book.css", "code.css"):
        (folder / name).write_bytes((ROOT / "_static" / name).read_bytes())
    found = {}
    with served(folder) as address, browsing() as browser:
        for name, width in (("wide", 1280), ("phone", 390)):
            visit = Visit(browser, address, width=width, height=844)
            visit.page.goto(f"{address}{name}.html")
            cut = "all => all.filter(e => e.scrollWidth > e.clientWidth).length"
            found[name] = visit.page.evaluate(ROWS), visit.page.eval_on_selector_all("pre", cut)
            visit.close()
    return found


def test_88_columns_fit_where_there_is_room(rows):
    (_, full, long, last, _), cut = rows["wide"]
    assert len(full) == 1 and len(long) > 1 and len(last) == 1
    assert cut == 0


@pytest.mark.parametrize("page", ["wide", "phone"])
def test_a_line_that_wraps_hangs_under_its_beginning_and_nothing_scrolls(page, rows):
    (first, _, long, last, _), cut = rows[page]
    assert cut == 0
    # Its own spaces are part of the line, so its first row begins where all lines do.
    assert long[0] == pytest.approx(first[0], abs=1) == pytest.approx(last[0], abs=1)
    letter = 0.6 * 16 * 0.7
    assert {round(left, 1) for left in long[1:]} == {round(long[1], 1)}
    assert long[1] - long[0] > 11 * letter
