"""Presets: beside their chapter, checked before anything runs; each builds a book of its own."""

import os

import pytest

from pipeline import ROOT
from pipeline.execute import presets as preset
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter, cells_of, declared
from tests.book.scratch import Scratch


@pytest.mark.parametrize("name", preset.names(ROOT))
def test_every_preset_fits_the_chapters(name):
    blocks = preset.load(name, ROOT)
    for chapter in chapters(ROOT):
        cells = cells_of(ROOT / "chapters" / f"{chapter}.ipynb")
        assert preset.values(blocks, chapter).keys() <= declared(cells).keys()


def test_the_quick_preset_is_the_book_itself():
    assert preset.load("quick", ROOT) == {}
    assert preset.folder("quick", ROOT) == ROOT / "_build"


@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_every_chapter_has_its_larger_runs(chapter):
    missing = {"gpu", "colab"} - preset.read(chapter).keys()
    told = "a block each, or a sentence that says why not"
    assert not missing, f"{preset.place(chapter)} lacks {sorted(missing)}: {told}"


@pytest.fixture
def book(tmp_path):
    """Two chapters of the book, and none of its presets."""
    (tmp_path / "chapters" / "foundations").mkdir(parents=True)
    for name in ("mlp", "perceptron"):
        for kind in ("md", "ipynb"):
            file = f"chapters/foundations/{name}.{kind}"
            (tmp_path / file).symlink_to(ROOT / file)
    return tmp_path


def write(book, text, name="mlp"):
    (book / "chapters" / "foundations" / f"{name}.yaml").write_text(text)


def test_a_preset_is_found_from_the_files_and_runs_on_the_best_device(book):
    write(book, "gpu: {steps: 7}\nsweep: {seeds: [1]}\n")
    write(book, "mine: {device: cpu}\n", "perceptron")
    assert preset.names(book) == ["gpu", "mine", "quick"]
    assert preset.load("gpu", book) == {"foundations/mlp": {"device": "auto", "steps": 7}}
    assert preset.load("mine", book) == {"foundations/perceptron": {"device": "cpu"}}


def test_a_sentence_says_why_a_chapter_has_no_larger_run(book):
    write(book, "gpu: nothing in it grows\n")
    assert preset.load("gpu", book) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mine: {stepps: 5}", "mine: foundations/mlp has no parameter 'stepps'; it has seed"),
        ("mine: {steps: many}", "parameter steps='many' must be a whole number"),
        ("mine: 5", "mine must hold name: value, or say in a sentence why not, got 5"),
        ("sweep: no", "sweep must hold name: value"),
        ("[1, 2]", "must hold blocks"),
        ("a: {b", "is no YAML"),
    ],
)
def test_a_slip_in_a_preset_is_named_with_its_file(book, text, told):
    write(book, text)
    write(book, "mine: {steps: 5}", "perceptron")
    with pytest.raises(BadParameter) as error:
        preset.load("mine", book)
    assert str(error.value).startswith("chapters/foundations/mlp.yaml")
    assert told in str(error.value)


def test_presets_of_a_chapter_that_does_not_exist_are_named(book):
    write(book, "gpu: {steps: 5}", "mpl")
    with pytest.raises(
        BadParameter, match="no chapter 'foundations/mpl'; did you mean foundations/mlp"
    ):
        preset.load("quick", book)


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(BadParameter, match="PRESET='gpuu' is unknown; there is colab, gpu, quick"):
        preset.load("gpuu", ROOT)


def test_a_preset_builds_its_own_book_and_leaves_the_first_alone(tmp_path):
    book = Scratch(tmp_path)
    for chapter in ("tiny/one", "tiny/two"):
        book.write(chapter, "print('steps', steps)", parameters="steps = 3\nstrict = True")
    status, said = book.run("make", "book")
    assert status == 0, said
    site = os.readlink(book.root / "_build" / "html")
    beside = book.root / "chapters" / "tiny" / "two.yaml"
    beside.write_text("gpu: {steps: 77}\n")
    status, said = book.run("make", "book", "PRESET=gpu")
    assert status == 0 and "book: _build/presets/gpu/html/index.html" in said, said
    made = book.root / "_build" / "presets" / "gpu" / "html" / "chapters" / "tiny"
    assert "steps 77" in (made / "two.html").read_text("utf8")
    assert "steps 3" in (made / "one.html").read_text("utf8")
    assert os.readlink(book.root / "_build" / "html") == site
    beside.write_text("gpu: {steps: 78}\n")
    status, said = book.run("make", "book", "PRESET=gpu")
    assert "[1/1] tiny/two" in said and "tiny/one" not in said.split("chapter ")[0], said
    status, said = book.run("make", "book", "PRESET=cpu")
    assert status != 0 and "PRESET='cpu' is unknown; there is gpu, quick" in said
    status, said = book.run("make", "book", "PROFILE=slurn")
    assert status != 0 and "PROFILE='slurn' is unknown" in said
