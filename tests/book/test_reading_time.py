"""The reading time counts what stands open, by a rule that is stated."""

from docutils import nodes
from docutils.utils import new_document

from pipeline.site import about, head, reading_time


def paragraph(words):
    return nodes.paragraph("", "", nodes.Text("word " * words))


def section(title, *children):
    return nodes.section("", nodes.title("", title), *children)


def document(*children):
    root = new_document("page")
    root += section("One", *children)
    return root


def test_words_equations_and_pictures_count():
    cell = nodes.container("", nb_element="cell_code")
    code = nodes.container("", nodes.literal_block("", "x " * 5000), nb_element="cell_code_source")
    shown = nodes.raw("", '<figure class="nn-figure" id="figure-a"></figure>' * 5, format="html")
    cell += [code, shown]
    maths = [nodes.math_block("", "a = b") for _ in range(10)]
    # 630 words are 3 minutes, 10 equations and 5 pictures one each.
    assert reading_time.minutes(document(paragraph(629), *maths, cell)) == 5
    assert reading_time.minutes(document(paragraph(629))) == 3
    assert reading_time.minutes(document()) == 1


def test_folds_questions_and_lists_of_works_do_not():
    fold = nodes.container("", paragraph(5000), design_component="dropdown")
    closed = [section(title, paragraph(5000)) for title in ("Check yourself", "References")]
    listing = nodes.literal_block("", "word " * 5000)
    assert reading_time.minutes(document(paragraph(420), fold, listing, *closed)) == 2


def test_the_line_under_the_title_leaves_out_what_git_does_not_know():
    told = about.About(repository="https://x.org/a/b", changed={"c/one": "2025-12-01T00:00:00Z"})
    assert reading_time.line(told, "c/two", None) == ""
    assert "<span>2 min read</span>" in reading_time.line(told, "c/two", 2)
    line = reading_time.line(told, "c/one", None)
    assert '<time datetime="2025-12-01">1 December 2025</time>' in line
    assert "https://x.org/a/b/commits/main/c/one.md" in line


def test_a_description_is_the_idea_or_the_first_sentence():
    idea = nodes.paragraph("", "", nodes.strong("", "One idea. With two sentences."))
    assert head.description(document(idea, paragraph(3))) == "One idea. With two sentences."
    plain = nodes.paragraph("", "", nodes.Text("It begins\nhere: 3.5 of them. And goes on."))
    assert head.description(document(plain)) == "It begins here: 3.5 of them."
    long = head.description(document(paragraph(200)))
    assert len(long) <= 302 and long.endswith(" …")
