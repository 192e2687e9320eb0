"""Presets: whole and checked before anything runs; each builds a book of its own."""

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
    assert preset.load("quick", ROOT) == {"all": {}}
    assert preset.folder("quick", ROOT) == ROOT / "_build"


def test_every_chapter_has_a_larger_run():
    for name in ("gpu", "colab"):
        missing = set(chapters(ROOT)) - set(preset.load(name, ROOT))
        assert not missing, f"pipeline/presets/{name}.yaml has no block for {sorted(missing)}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("foundations/mpl: {steps: 5}", "no chapter 'foundations/mpl'; did you mean foundations/"),
        ("nothing: {steps: 5}", "there is no chapter 'nothing'"),
        ("foundations/mlp: {stepps: 5}", "foundations/mlp has no parameter 'stepps'; it has seed"),
        ("foundations/mlp: {steps: many}", "parameter steps='many' must be a whole number"),
        ("all: {depth: 3}", "has no parameter 'depth'"),
        ("foundations/mlp: 5", "foundations/mlp must hold name: value, got 5"),
        ("[1, 2]", "must hold blocks"),
        ("a: {b", "is no YAML"),
    ],
)
def test_a_slip_in_a_preset_is_named(tmp_path, text, told):
    (tmp_path / "pipeline" / "presets").mkdir(parents=True)
    (tmp_path / "chapters").symlink_to(ROOT / "chapters")
    (tmp_path / "pipeline" / "presets" / "mine.yaml").write_text(text)
    with pytest.raises(BadParameter) as error:
        preset.load("mine", tmp_path)
    assert str(error.value).startswith("mine.yaml") and told in str(error.value)


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(BadParameter, match="PRESET='gpuu' is unknown; there is colab, gpu, quick"):
        preset.load("gpuu", ROOT)


@pytest.mark.slow
def test_a_preset_builds_its_own_book_and_leaves_the_first_alone(tmp_path):
    book = Scratch(tmp_path)
    folder = book.root / "pipeline" / "presets"
    for file in folder.glob("*.yaml"):
        file.write_text("")
    for chapter in ("tiny/one", "tiny/two"):
        book.write(chapter, "print('steps', steps)", parameters="steps = 3\nstrict = True")
    status, said = book.run("make", "book")
    assert status == 0, said
    site = os.readlink(book.root / "_build" / "html")
    (folder / "gpu.yaml").write_text("tiny/two: {steps: 77}\n")
    status, said = book.run("make", "book", "PRESET=gpu")
    assert status == 0 and "book: _build/presets/gpu/html/index.html" in said, said
    made = book.root / "_build" / "presets" / "gpu" / "html" / "chapters" / "tiny"
    assert "steps 77" in (made / "two.html").read_text("utf8")
    assert "steps 3" in (made / "one.html").read_text("utf8")
    assert os.readlink(book.root / "_build" / "html") == site
    (folder / "gpu.yaml").write_text("tiny/two: {steps: 78}\n")
    status, said = book.run("make", "book", "PRESET=gpu")
    assert "[1/1] tiny/two" in said and "tiny/one" not in said.split("chapter ")[0], said
    status, said = book.run("make", "book", "PRESET=cpu")
    assert status != 0 and "PRESET='cpu' is unknown; there is colab, gpu, quick" in said
    status, said = book.run("make", "book", "PROFILE=slurn")
    assert status != 0 and "PROFILE='slurn' is unknown" in said
