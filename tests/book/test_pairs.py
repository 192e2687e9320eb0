"""The two files of every chapter agree, and a missing half is named."""

import nbformat
import pytest

from pipeline import ROOT
from pipeline.checks import pairing as pairs
from pipeline.execute.dependencies import chapters, missing_halves

CHAPTERS = chapters(ROOT)
TEXT = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---

# A title

```{code-cell} ipython3
:tags: [parameters]

steps = 3
```
"""


@pytest.fixture
def book(tmp_path):
    """A book of one chapter whose halves agree."""
    folder = tmp_path / "chapters" / "tiny"
    folder.mkdir(parents=True)
    (folder / "one.md").write_text(TEXT, "utf8")
    cells = [
        nbformat.v4.new_markdown_cell("# A title"),
        nbformat.v4.new_code_cell("steps = 3", metadata={"tags": ["parameters"]}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "one.ipynb")
    return tmp_path


def edit(book, change):
    """Change the notebook's code cell."""
    file = book / "chapters" / "tiny" / "one.ipynb"
    notebook = nbformat.read(file, 4)
    change(notebook)
    nbformat.write(notebook, file)


def test_no_chapter_lacks_a_half():
    assert missing_halves(ROOT) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_text_and_notebook_agree(chapter):
    assert pairs.disagreements(ROOT, chapter) == []


def test_an_agreeing_pair_passes(book):
    assert pairs.check(book) == []


def test_outputs_and_counts_are_no_disagreement(book):
    edit(book, lambda n: n.cells[1].update(execution_count=7))
    assert pairs.check(book) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda n: n.cells[1].update(source="steps = 4"), "the source of cell 2"),
        (lambda n: n.cells[1].metadata.update(tags=["other"]), "the tags of cell 2"),
        (lambda n: n.cells[0].update(cell_type="raw"), "the kind of cell 1"),
        (lambda n: n.cells.append(nbformat.v4.new_markdown_cell("more")), "2 and 3 cells"),
    ],
)
def test_a_disagreement_names_chapter_and_cell(book, change, named):
    edit(book, change)
    (problem,) = pairs.check(book)
    assert "chapters/tiny/one" in problem and named in problem


@pytest.mark.parametrize("lost", ["one.md", "one.ipynb"])
def test_a_missing_half_is_named(book, lost):
    (book / "chapters" / "tiny" / lost).unlink()
    (problem,) = pairs.check(book)
    assert problem.startswith(f"chapters/tiny/{lost} is missing")


def test_a_plain_page_needs_no_notebook(book):
    (book / "chapters" / "tiny" / "index.md").write_text("# The family\n", "utf8")
    assert pairs.check(book) == []


@pytest.mark.parametrize("action", ["check", "sync"])
def test_a_misspelt_chapter_is_named(book, action, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pairs", action, "tiny/onee", "--root", str(book)])
    with pytest.raises(SystemExit) as left:
        pairs.main()
    assert left.value.code == 1
    assert "there is no chapter 'tiny/onee' (family/name); did you mean tiny/one" in (
        capsys.readouterr().err
    )
