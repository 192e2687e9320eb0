"""What is folded on a page: each fold says what it holds, and one stands before the text."""

import html
import json
import re

import pytest
from docutils import nodes
from docutils.utils import new_document

from pipeline import ROOT
from pipeline.site import folds
from tests.book.looking import CHAPTERS, REASON, SITE

KNOWN = re.compile(
    r"Parameters and imports|Parameters|Imports|Output|Code|Code and output"
    r"|Code of this (figure|slider|table|check|text)"
    r"|Code of these (figures|sliders|tables|checks|numbers)"
    r"|Source of [\w., ]+|Solution( to exercise \d+)?"
)
_FOLD = re.compile(r'<details class="nn-fold">\s*<summary>(.*?)</summary>', re.DOTALL)
_ASKED = re.compile(r"<strong>Exercise (\d+)\.</strong>|<summary>Solution to exercise (\d+)<")


def cell(code, shown="", mode="input", tags=(), **metadata):
    """Return a folded cell as myst-nb leaves it when it has read a page."""
    metadata = {"tags": list(tags), **metadata}
    node = nodes.container(nb_element="cell_code", hide_mode=mode, cell_metadata=metadata)
    source = nodes.container(nb_element="cell_code_source")
    source += nodes.literal_block(code, code)
    node += source
    if shown:
        output = nodes.container(nb_element="cell_code_output")
        output += nodes.raw(shown, shown, format="html") if "<" in shown else nodes.Text(shown)
        node += output
    return node


def page(*parts):
    """Return a document: what stands before the first section, and that section last."""
    document, top = new_document("page"), nodes.section(ids=["top"])
    document += top
    top += parts
    folds._label(None, document)
    return top


def said(*parts):
    return [part["prompt_show"] for part in page(nodes.section("", *parts))[-1] if in_fold(part)]


def in_fold(part):
    return isinstance(part, nodes.container) and part.get("hide_mode")


FIGURE = '<figure class="nn-figure" id="figure-a"></figure>'


@pytest.mark.parametrize(
    ("folded", "label"),
    [
        (cell("steps = 3", tags=["parameters"]), "Parameters"),
        (cell("import math\n\nfrom nnlib import notebook\nd = notebook.setup()"), "Imports"),
        (cell("x = 3"), "Code"),
        (cell("from x import TOPICS\npages = []"), "Code"),
        (cell("%pip install x"), "Code"),
        (cell("def a(): ...\n\nclass B: ..."), "Source of a and B"),
        (cell("\n".join(f"def f{n}(): ..." for n in range(5))), "Source of f0, f1 and 3 more"),
        (cell("figure(fig)", FIGURE), "Code of this figure"),
        (cell("figure(fig)", 2 * FIGURE), "Code of these figures"),
        (cell("scrub(f)", '<figure class="nn-figure nn-slider">'), "Code of this slider"),
        (cell("table(a)", "<table></table>"), "Code of this table"),
        (cell("check(a)", "✓ it holds"), "Code of this check"),
        (cell("check(a)", "✓ it holds\n✓ so does it"), "Code of these checks"),
        (cell("say(a)", "An error of 0.3."), "Code of these numbers"),
        (cell("say(a)", "Nothing."), "Code of this text"),
        (cell("run()", "done", mode="output"), "Output"),
        (cell("run()", "done", mode="all"), "Code and output"),
        (cell("show_source(a.B, c)", "code", mode="output"), "Source of a.B and c"),
        (cell("show_source(a.B)", "code", mode="input+output"), "Source of a.B"),
        (cell("# Solution: 3\nx = 3"), "Solution"),
        (cell("x = 3", mystnb={"code_prompt_show": "The long way"}), "The long way"),
    ],
)
def test_a_fold_says_what_its_cell_holds(folded, label):
    assert said(folded) == [label]


def test_a_solution_has_the_number_of_its_exercise():
    def asked(text):
        return nodes.paragraph("", "", nodes.Text(""), nodes.strong("", text), nodes.Text(" Do."))

    solved = cell("# Solution\nx = 1"), cell("y = 2"), cell("# Solution\nz = 3"), cell("w = 4")
    told = nodes.paragraph("", "A word between.")
    found = said(
        asked("Exercise 1."), solved[0], solved[1], asked("Exercise 2."), told, solved[2],
        asked("Question 3."), solved[3],
    )  # fmt: skip
    assert found == [*2 * ["Solution to exercise 1"], "Solution to exercise 2", "Code"]


@pytest.mark.parametrize("name", ["card", "show_source"])
def test_a_call_whose_output_says_all_is_left_out(name):
    (left,) = page(nodes.section("", cell(f'{name}("lstm")', "<div>all</div>")))[-1]
    assert "lstm" not in left.astext() and "all" in left.astext() and not left["hide_mode"]


def test_all_folds_before_the_first_section_become_one_that_stands_last():
    lead = nodes.paragraph("", "To remember it.")
    top = page(
        cell("steps = 3", tags=["parameters"]), cell("import math"),
        cell('card("lstm")', "<div>1997</div>"), cell("figure(f)", FIGURE), lead,
        nodes.section("", cell("x = 3")),
    )  # fmt: skip
    assert [fold["prompt_show"] for fold in filter(in_fold, top)] == ["Parameters and imports"]
    shown, fold, section = top[:-2], top[-2], top[-1]
    assert in_fold(fold) and in_fold(section[0])
    assert fold.astext().split("\n\n") == ["steps = 3", "import math", "figure(f)"]
    assert [part.astext() for part in shown] == ["<div>1997</div>", FIGURE, "To remember it."]


def test_a_page_without_folded_code_gets_no_fold():
    words = nodes.paragraph("", "Words.")
    assert list(page(words)) == [words]


def named(chapter):
    """The names that a chapter itself gives to some folds."""
    notebook = json.loads((ROOT / chapter).with_suffix(".ipynb").read_text("utf8"))
    told = [cell["metadata"].get("mystnb", {}) for cell in notebook["cells"]]
    return {cell["code_prompt_show"] for cell in told if "code_prompt_show" in cell}


@pytest.mark.skipif(bool(REASON), reason=f"the site is not looked at: {REASON}")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_fold_of_a_chapter_says_what_it_holds(chapter):
    text = (SITE / chapter).read_text("utf8")
    article = text[text.index("<article") : text.rindex("</article>")]
    labels, own = [*map(html.unescape, _FOLD.findall(article))], named(chapter)
    assert labels and [x for x in labels if not KNOWN.fullmatch(x) and x not in own] == []
    assert not re.search(r"Show (source|code)|Toggle hidden", article)
    before = "<section".join(article.split("<section")[:2])
    assert len(re.findall("<details", before)) <= 1
    last, solved = None, 0
    for asked, answered in _ASKED.findall(article):
        assert not answered or answered == last
        solved += bool(answered)
        last = asked or last
    source = (ROOT / chapter).with_suffix(".md").read_text("utf8")
    assert solved == len(re.findall(r"^# Solution\b", source, re.MULTILINE))
