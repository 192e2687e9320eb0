"""The repository's address stands once, in pyproject.toml; what must repeat it agrees."""

import json
import re

import pytest

from nnlib import notebook
from nnlib.notebook import words
from pipeline import ROOT, address, project, site_address
from pipeline.checks import bootstrap
from pipeline.execute.dependencies import chapters

FORM = re.compile(r"https://github\.com/[\w-]+/[\w.-]+(?<![.-])")


def test_it_is_the_address_of_a_repository_and_its_site_follows_from_it(tmp_path):
    assert FORM.fullmatch(address())
    text = '[project]\nname = "x"\nurls = {repository = "https://github.com/who/what"}\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert site_address(tmp_path) == "https://who.github.io/what"


def test_the_read_me_repeats_it():
    text = (ROOT / "README.md").read_text("utf8")
    assert set(FORM.findall(text)) == {address()}
    assert f'pip install "{project()["name"]} @ git+{address()}@main"' in text


@pytest.mark.parametrize("chapter", chapters())
def test_the_first_cell_of_a_chapter_repeats_it(chapter):
    for kind in ("md", "ipynb"):
        text = (ROOT / "chapters" / f"{chapter}.{kind}").read_text("utf8")
        told = f"chapters/{chapter}.{kind}: `make sync` writes the address of pyproject.toml"
        assert re.findall(r"git\+([^\s\"'\\]+)@main", text) == [address()], told


def test_no_other_file_holds_it():
    """A second copy would go stale unseen."""
    owner = address().split("/")[-2]
    files = [f for folder in ("nnlib", "pipeline", "tests") for f in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "_config.yml", *(ROOT / "pipeline" / "template").iterdir()]
    assert [str(f.relative_to(ROOT)) for f in files if owner in f.read_text("utf8")] == []


@pytest.fixture
def book(tmp_path):
    """A book of one chapter at an old address."""
    folder = tmp_path / "chapters" / "tiny"
    folder.mkdir(parents=True)
    chapter = ROOT / "chapters" / chapters()[0]
    for kind in ("md", "ipynb"):
        text = chapter.with_suffix(f".{kind}").read_text("utf8")
        (folder / f"one.{kind}").write_text(text, "utf8")
    moved = '[project]\nname = "book"\nurls = {repository = "https://github.com/who/what"}\n'
    (tmp_path / "pyproject.toml").write_text(moved)
    return tmp_path


def test_a_new_address_is_written_into_both_files_and_nothing_else_changes(book):
    files = [book / "chapters" / "tiny" / f"one.{kind}" for kind in ("md", "ipynb")]
    before = [file.read_text("utf8") for file in files]
    assert bootstrap.write(book, "tiny/one")
    old = f"{project()['name']}[all] @ git+{address()}@"
    new = "book[all] @ git+https://github.com/who/what@"
    after = [text.replace(old, new) for text in before]
    assert [file.read_text("utf8") for file in files] == after
    assert json.loads(after[1]) and not bootstrap.write(book, "tiny/one")


def test_a_chapter_without_that_cell_is_left_alone(book):
    file = book / "chapters" / "tiny" / "one.ipynb"
    text = file.read_text("utf8").replace("remove-cell", "keep-cell")
    file.write_text(text, "utf8")
    assert not bootstrap.write(book, "tiny/one")
    assert file.read_text("utf8") == text


def test_without_an_address_code_is_named_and_not_linked(monkeypatch):
    shown = []
    monkeypatch.setattr(words, "REPOSITORY", "")
    monkeypatch.setattr(words, "display", lambda thing: shown.append(thing.data))
    notebook.card("perceptron")
    notebook.show_source(bootstrap.filled)
    assert "<code>nnlib/foundations/perceptron.py</code>" in shown[0]
    assert "/blob/" not in "".join(shown)
