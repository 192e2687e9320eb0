"""The whole book as one PDF: links that lead somewhere, page numbers, fonts, and faults.

The first part prints the site of this folder, if it is built, and keeps its hands off it; the
second breaks things in a small copy of the project.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline import ROOT
from pipeline.forms import downloads as forms
from pipeline.forms import pdf
from pipeline.site.browser import why_not
from tests.book.scratch import Scratch, wait_for

SITE = ROOT / "_build" / "html"
MEGABYTES = 40
pypdf = pytest.importorskip("pypdf")

if reason := why_not(SITE):
    pytest.skip(f"no PDF is printed: {reason}", allow_module_level=True)


# ---------------------------------------------------------------- the book


@pytest.fixture(scope="module")
def printed():
    content, _ = pdf._printed(SITE.resolve(), pdf.entries(ROOT), pdf.front(ROOT))
    return content


@pytest.fixture(scope="module")
def book(printed):
    return pypdf.PdfReader(io.BytesIO(printed))


@pytest.fixture(scope="module")
def places(book):
    """Return the page, from 1, of every name that a link may lead to."""
    numbers = {page.indirect_reference.idnum: n for n, page in enumerate(book.pages, 1)}
    return {name[1:]: numbers[at.page.idnum] for name, at in book.named_destinations.items()}


@pytest.fixture(scope="module")
def chapters(places):
    """Return the first page of each page of the site, and the first after it."""
    starts = {e.doc: places[e.doc.removeprefix("chapters/").replace("/", "-")]
              for e in pdf.entries(ROOT)}  # fmt: skip
    ends = [*list(starts.values())[1:], None]
    return {doc: (start, end) for (doc, start), end in zip(starts.items(), ends, strict=True)}


@pytest.fixture(scope="module")
def words(book):
    known: dict[int, str] = {}

    def read(first: int, end: int | None = None) -> str:
        numbers = range(first, end or len(book.pages) + 1)
        for number in numbers:
            if number not in known:
                known[number] = book.pages[number - 1].extract_text()
        return "\n".join(known[number] for number in numbers)

    return read


def test_it_is_not_too_large(printed):
    assert len(printed) <= MEGABYTES * 1e6


def test_every_link_leads_to_a_page_or_to_an_address(book, places):
    inside, outside, lost = 0, 0, []
    for number, page in enumerate(book.pages, 1):
        for link in page.get("/Annots") or ():
            link = link.get_object()
            if link["/Subtype"] != "/Link":
                continue
            address = link.get("/A", {}).get("/URI", "")
            if str(link.get("/Dest", "/"))[1:] in places:
                inside += 1
            elif re.match(r"https?://(?!127\.0\.0\.1|localhost)|mailto:", address):
                outside += 1
            else:
                lost.append((number, link.get("/Dest"), address))
    assert lost == []
    assert inside > 20 * len(places) ** 0.5 and outside > 0


def test_the_contents_name_the_page_that_each_chapter_begins_on(book, words, chapters):
    contents = words(2, chapters["chapters/intro"][0])
    for doc, (start, _) in chapters.items():
        title = words(start, start + 1).split("\n")[0].strip()  # the head of the sheet
        told = re.findall(rf"^{re.escape(title)}\s*(\d+)$", contents, re.M)
        assert str(start) in told, f"{doc}: {title!r} begins on page {start}"


def test_every_sheet_but_the_first_has_its_number(book, words):
    last = len(book.pages)
    for number in {2, 3, 10, last // 2, last}:
        assert re.search(rf"^{number}$", words(number, number + 1), re.M), number
    assert not re.search(r"^1$", words(1, 2), re.M)


def test_the_outline_is_the_table_of_contents(book, chapters):
    def tree(items):
        found = []
        for item in items:
            if isinstance(item, list):
                found[-1][2].extend(tree(item))
            else:
                found.append((item.title, book.get_destination_page_number(item) + 1, []))
        return found

    outline = tree(book.outline)
    tops = [entry for entry in pdf.entries(ROOT) if entry.level == 1]
    assert [page for _, page, _ in outline] == [2, *(chapters[top.doc][0] for top in tops)]
    families = {page: held for _, page, held in outline}
    held = families[chapters["chapters/foundations/index"][0]]
    begin = chapters["chapters/foundations/perceptron"][0]
    [sections] = [[title for title, _, _ in inner] for _, page, inner in held if page == begin]
    assert sections[:2] == ["In short", "Origin and intuition"]
    assert sections[-2:] == ["References", "Answers"]


CHAPTERS = [e.doc for e in pdf.entries(ROOT) if (ROOT / e.doc).with_suffix(".ipynb").exists()]


@pytest.mark.parametrize("doc", CHAPTERS)
def test_a_chapter_has_its_equations_sliders_and_answers(doc, words, chapters):
    text = words(*chapters[doc])
    source = (ROOT / f"{doc}.md").read_text("utf8")
    equations = len(re.findall(r"^.*\$\$ \([\w-]+\)$", source, re.M))
    # The mark after a number leads to the equation's tests.
    lost = [n for n in range(1, equations + 1) if not re.search(rf"\({n}\) ✓$", text, re.M)]
    assert not lost, f"equations {lost} of {equations}"
    assert text.count("Shown:") == len(re.findall(r"^ *scrub\(", source, re.M))
    recorded = "an answer that was recorded when this page was built."
    assert " ".join(text.split()).count(recorded) == len(re.findall(r"^live\(", source, re.M))
    assert "Touch anything" not in text
    asked = re.findall(r"^\*\*((?:Question|Exercise) \d+\.)\*\*", source, re.M)
    answers = text[text.rindex("\nAnswers") :]
    assert asked and all(label in answers for label in asked)
    assert not re.search(r"^\\\[$", text, re.M), "an equation is not typeset"


def test_fonts_are_inside(book):
    lacking = set()
    for page in book.pages:
        for font in (page["/Resources"].get("/Font") or {}).values():
            font = font.get_object()
            for part in [font, *(f.get_object() for f in font.get("/DescendantFonts", ()))]:
                described = part.get("/FontDescriptor")
                # A font of type 3 is drawn by procedures, which are in the file themselves.
                drawn = part.get("/Subtype") == "/Type3" and part.get("/CharProcs")
                if (
                    described
                    and not drawn
                    and not {"/FontFile", "/FontFile2", "/FontFile3"} & set(described)
                ):
                    lacking.add(str(part.get("/BaseFont")))
    assert not lacking


def test_it_has_a_language_a_title_and_tags(book):
    root = book.trailer["/Root"]
    assert root["/Lang"].startswith("en") and root["/MarkInfo"]["/Marked"]
    assert book.metadata.title == pdf.front(ROOT)["title"]


# ---------------------------------------------------------------- faults


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A small book with its PDF."""
    scratch = Scratch(tmp_path_factory.mktemp("book"))
    landing = "# A tiny book\n\nAlso [one PDF]{.nn-form-pdf} and [a zip]{.nn-form-zip}.\n"
    (scratch.root / "chapters" / "intro.md").write_text(landing)
    status, said = scratch.run("make", "pdf")
    assert status == 0 and "pdf: _build/forms/executable-encyclopedia.pdf" in said, said
    return scratch


def made(copy) -> bytes:
    return (copy.root / "_build" / "forms" / forms.PDF).read_bytes()


def landing(copy) -> str:
    return copy.page("intro")


def change(copy, mark: str) -> None:
    copy.write("tiny/two", f"from nnlib.data import split\nprint({mark!r})")
    status, said = copy.run("make", "book")
    assert status == 0, said


def test_the_site_links_its_pdf_and_its_zip(copy):
    for name, words in ((forms.PDF, "one PDF"), (forms.ZIP, "a zip")):
        assert f'href="../forms/{name}">{words}</a>' in landing(copy)
        assert (copy.root / "_build/html/forms" / name).is_file()
    assert "earlier" not in landing(copy)


def test_a_second_time_nothing_is_printed(copy):
    before = made(copy)
    status, said = copy.run("make", "pdf")
    assert status == 0 and made(copy) == before, said


def test_a_new_book_calls_the_pdf_earlier_until_it_is_printed_again(copy):
    before = made(copy)
    change(copy, "another")
    assert "of an earlier state of this book" in landing(copy) and made(copy) == before
    status, said = copy.run("make", "pdf")
    assert status == 0, said
    assert "earlier" not in landing(copy) and made(copy) != before
    assert "another" in pypdf.PdfReader(io.BytesIO(made(copy))).pages[-1].extract_text()


def test_a_killed_print_leaves_the_last_pdf_and_the_next_one_succeeds(copy):
    before = made(copy)
    change(copy, "killed")
    for seconds in (1.5, 3, 5):
        process = copy.start("make", "pdf")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert made(copy) == before or made(copy).rstrip().endswith(b"%%EOF")
        assert (copy.root / "_build" / "html" / "index.html").is_file()
    wait_for(lambda: not _browsers(copy), "the end of the browsers")
    status, said = copy.run("make", "pdf")
    assert status == 0, said
    record = json.loads((copy.root / "_build" / "forms" / forms.RECORD).read_text())
    assert record["of"] == forms.fingerprint(copy.root / "_build", copy.root)
    assert "earlier" not in landing(copy)
    assert not list((copy.root / "_build" / "forms").glob(".*"))


def _browsers(copy) -> list[int]:
    """Return the browsers that were started in the copy."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(copy.root) in (process.cwd() or "") and "chrom" in process.name():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_without_a_browser_it_says_so_and_the_last_pdf_stands(copy):
    before = made(copy)
    change(copy, "blind")
    status, said = _alone(copy, dict(os.environ) | {"PATH": "/nowhere"})
    assert status == 1 and "✗ no new PDF: no Chromium on this machine" in said, said
    assert made(copy) == before


def test_a_lost_link_stops_the_pdf_and_is_named(copy):
    before = made(copy)
    page = (copy.root / "_build" / "html").resolve() / "chapters" / "tiny" / "one.html"
    text = page.read_text("utf8")
    begin = '<article class="bd-article">'
    page.write_text(text.replace(begin, f'{begin}<a href="two.html#gone">there</a>'), "utf8")
    status, said = _alone(copy, dict(os.environ))
    page.write_text(text, "utf8")
    assert status == 1 and "a link leads nowhere: #tiny-two--gone (there)" in said, said
    assert made(copy) == before


def _alone(copy, env: dict[str, str]) -> tuple[int, str]:
    paths = os.pathsep.join(filter(None, [str(copy.root), env.get("PYTHONPATH")]))
    told = subprocess.run(
        [sys.executable, "-m", "pipeline.forms.pdf"],
        cwd=copy.root,
        env=env | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    return told.returncode, told.stdout + told.stderr
