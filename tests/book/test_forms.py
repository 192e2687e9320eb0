"""The zip of notebooks runs where it is unpacked, and the site links only what is there.

The PDF itself is held to its promises in tests/slow/test_pdf.py.
"""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline import ROOT
from pipeline.execute.dependencies import chapters
from pipeline.forms import downloads as forms
from pipeline.forms import notebooks_zip as bundle
from pipeline.forms import pdf
from pipeline.site.publishing import publish
from pipeline.site.toc import toc_pages
from tests.book.test_bootstrap import bare_kernel

LANDING = "chapters/intro"


@pytest.fixture(scope="module")
def packed():
    return bundle.pack(bundle.contents(ROOT))


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
    [top] = folder.iterdir()
    return top


# ---------------------------------------------------------------- the zip


def test_the_zip_holds_every_chapter_as_it_is_in_the_repository(unpacked):
    held = {file.relative_to(unpacked) for file in unpacked.rglob("*.ipynb")}
    assert held == {Path(f"chapters/{chapter}.ipynb") for chapter in chapters(ROOT)}
    for name in held:
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_zip_holds_the_whole_library_and_its_pins(unpacked):
    library = {file.relative_to(ROOT) for file in (ROOT / "nnlib").rglob("*.py")}
    assert {file.relative_to(unpacked) for file in (unpacked / "nnlib").rglob("*.py")} == library
    for name in ("pyproject.toml", "requirements.txt", "LICENSE", "LICENSE-TEXT"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_its_readme_names_files_that_are_inside(unpacked):
    text = (unpacked / "README.md").read_text("utf8")
    assert (unpacked / re.search(r"jupyter lab (\S+)", text)[1]).is_file()
    assert (unpacked / re.search(r"-c (\S+)", text)[1]).is_file()


def test_the_same_files_make_the_same_bytes(packed):
    files = bundle.contents(ROOT)
    assert bundle.pack(dict(reversed(files.items()))) == packed
    dates = {entry.date_time for entry in zipfile.ZipFile(io.BytesIO(packed)).infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}


def test_an_unpacked_chapter_finds_the_library_beside_it(unpacked, tmp_path):
    notebook = unpacked / "chapters" / "foundations" / "perceptron.ipynb"
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = "\n".join([*code[:3], "import nnlib, os", "print(os.path.realpath(nnlib.__file__))"])
    told = bare_kernel(program, notebook.parent, tmp_path)
    assert told.stdout.strip() == str((unpacked / "nnlib" / "__init__.py").resolve()), told.stderr


# ---------------------------------------------------------------- links from the site


@pytest.fixture
def built(tmp_path):
    """A site of one page that names both forms, and the folder that it was built in."""
    (tmp_path / "_build/src").mkdir(parents=True)
    page = tmp_path / "site" / f"{LANDING}.html"
    page.parent.mkdir(parents=True)
    marks = "".join(f'<span class="nn-form-{form}">one {form}</span>' for form in ("pdf", "zip"))
    page.write_text(f"<p>{marks}</p>", "utf8")
    return tmp_path


def placed(root: Path) -> str:
    forms.place(root / "site", root / "_build", root)
    return (root / "site" / f"{LANDING}.html").read_text("utf8")


def test_a_form_that_is_not_there_is_not_offered(built):
    text = placed(built)
    assert "<a" not in text and not (built / "site" / "forms").exists()
    for form in ("pdf", "zip"):
        assert f'<span class="nn-form-{form}" hidden="hidden">one {form}</span>' in text


def test_a_form_that_is_there_is_copied_and_linked(built):
    forms.write(built / "_build/forms" / forms.ZIP, b"zip" * 100_000)
    text = placed(built)
    link = re.search(r'href="([^"]+)">one zip</a> <small>\(0\.3 MB\)', text)[1]
    assert ((built / "site" / LANDING).parent / link).resolve().read_bytes() == b"zip" * 100_000


def test_a_site_may_be_placed_again(built):
    before = placed(built)
    assert placed(built) == before
    forms.write(built / "_build/forms" / forms.PDF, b"pdf")
    linked = placed(built)
    assert ">one pdf</a>" in linked and placed(built) == linked
    (built / "_build/forms" / forms.PDF).unlink()
    assert placed(built) == before


def test_a_pdf_of_an_earlier_book_is_called_so(built):
    work = built / "_build"
    forms.write(work / "forms" / forms.PDF, b"pdf")
    record = {"pages": 7, "of": forms.fingerprint(work, built)}
    forms.write(work / "forms" / forms.RECORD, json.dumps(record).encode())
    assert "(7 pages, 0.0 MB)" in placed(built)
    (work / "src" / "intro.md").write_text("another word")
    assert "of an earlier state of this book" in placed(built)


def test_the_landing_page_names_both_forms():
    text = (ROOT / f"{LANDING}.md").read_text("utf8")
    assert "]{.nn-form-pdf}" in text and "]{.nn-form-zip}" in text


def test_the_built_site_links_what_there_is():
    page = ROOT / "_build" / "html" / f"{LANDING}.html"
    if not page.exists():
        pytest.skip("the site is not built: run `make book` first")
    links = re.findall(r'href="([^"]*forms/[^"]+)"', page.read_text("utf8"))
    there = {file.name for file in (ROOT / "_build/html/forms").iterdir()}
    assert {Path(link).name for link in links} == there and forms.ZIP in there
    assert all((page.parent / link).is_file() for link in links)


# ---------------------------------------------------------------- the PDF, before it is printed


def test_the_pdf_has_every_page_of_the_book_once_and_in_its_order():
    listed = pdf.entries(ROOT)
    assert [entry.doc for entry in listed] == toc_pages(ROOT)
    levels = {entry.doc: entry.level for entry in listed}
    assert levels["chapters/foundations/index"] == 1
    assert levels["chapters/foundations/perceptron"] == 2


def test_what_goes_wrong_leaves_the_last_pdf_and_the_site(built, monkeypatch):
    work = built / "_build"
    publish(_html(built), work, built)
    monkeypatch.setattr(pdf, "entries", lambda root: [])
    monkeypatch.setattr(pdf, "front", lambda root: {})
    monkeypatch.setattr(pdf, "_printed", lambda *rest: (b"good", 3))
    assert pdf.build(built)["pages"] == 3
    published = (work / "html").resolve()
    assert (published / "forms" / forms.PDF).read_bytes() == b"good"

    def fail(*rest):
        raise pdf.PdfError("an equation is not typeset")

    monkeypatch.setattr(pdf, "_printed", fail)
    assert pdf.build(built)["pages"] == 3  # nothing changed: nothing is printed
    (work / "src" / "intro.md").write_text("another word")
    with pytest.raises(pdf.PdfError, match="typeset"):
        pdf.build(built)
    assert (work / "forms" / forms.PDF).read_bytes() == b"good"
    assert (work / "html").resolve() == published


def _html(root: Path) -> Path:
    (root / "site" / "index.html").write_text("good")
    return root / "site"


def test_without_a_site_it_says_what_to_do(tmp_path):
    with pytest.raises(pdf.PdfError, match="make book"):
        pdf.build(tmp_path)


def test_a_misspelt_preset_is_refused_by_name():
    command = [sys.executable, "-m", "pipeline.forms.pdf", "--preset", "gpuu"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 1 and "'gpuu' is unknown; there is" in told.stdout
