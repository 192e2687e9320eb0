"""After an edit few pages are written, and the site is what a build from nothing makes."""

import base64
import io
import json
import os
import re
import shutil
import subprocess

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from pipeline.site import SiteError
from pipeline.site import build as site
from pipeline.site.toc import toc_pages
from tests.support import write

CONFIG = """\
title: A small book
only_build_toc_files: true
execute: {execute_notebooks: "off"}
parse: {myst_enable_extensions: [dollarmath, colon_fence]}
sphinx:
  recursive_update: true
  extra_extensions:
    [sphinx.ext.autodoc, sphinx.ext.napoleon, sphinx.ext.viewcode, pipeline.site.sphinx_nnlib]
  config:
    math_numfig: false
    myst_heading_anchors: 2
    bibtex_reference_style: author_year
    bibtex_default_style: nnlib
    suppress_warnings: [bibtex.duplicate_citation]
"""
TOC = """\
format: jb-book
root: intro
chapters:
  - file: part/index
    sections: [{file: part/one}, {file: part/two}]
  - file: works
  - {glob: api/*}
"""
BIB = """\
@article{first, author={Ann Able}, title={On one}, journal={J}, year={1999}}
@article{second, author={Bob Best}, title={On two}, journal={J}, year={2001}}
"""
ONE = """\
# One

A page that is about [the second](two.md), after {cite:t}`first`.

$$a = b$$ (one-a)

$$c = d$$ (one-c)

## A heading

Here.

```{bibliography}
:filter: docname in docnames
```
"""
TWO = """\
# Two

Equation {eq}`one-c` stands under [that heading](one.md#a-heading), and {py:func}`small.shape.area`.
"""
MODULE = '''"""Shapes.

Chapter: part/one.md     Paper: none
"""


def area(side: float) -> float:
    """Return $s^2$."""
    return side * side
'''
API = """\
# small

```{eval-rst}
.. automodule:: small.shape
   :members:
```
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A small book with a page of each kind, built once."""
    root = tmp_path_factory.mktemp("book")
    for name, text in {
        "_config.yml": CONFIG,
        "_toc.yml": TOC,
        "pyproject.toml": '[project]\nurls = {repository = "https://github.com/who/book"}\n',
        "references.bib": BIB,
        "_static/book.css": "p { color: black }\n",
        "intro.md": "# Intro\n\nBegin, as {cite:t}`second` does.\n",
        "part/index.md": "# Part\n\n```{tableofcontents}\n```\n",
        "part/one.md": ONE,
        "works.md": "# Works\n\n```{bibliography}\n:all:\n```\n",
        "small/__init__.py": "",
        "small/shape.py": MODULE,
        "_build/pages/api/small.md": API,
        "_build/pages/api/other.md": "# Other\n\nNothing here.\n",
    }.items():
        write(root / name, text)
    notebook(root, TWO)
    site.render(root, root / "_build")
    return root


def notebook(root, text, *shown):
    """Write the page that is a notebook, and its run."""
    outputs = [v4.new_output("stream", text="printed\n"), *shown]
    cells = [v4.new_markdown_cell(text, id="text")]
    cells += [v4.new_code_cell("print(1)", id="code", outputs=outputs, execution_count=1)]
    for file in (root / "part/two.ipynb", root / "_build/executed/part/two.ipynb"):
        file.parent.mkdir(parents=True, exist_ok=True)
        spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
        about = {"kernelspec": spec, "language_info": {"name": "python"}}
        nbformat.write(v4.new_notebook(cells=cells, metadata=about), file)


def edit(file, old, new):
    text = file.read_text("utf8")
    assert old in text
    file.write_text(text.replace(old, new), "utf8")


def edit_a_text(root):
    edit(root / "part/one.md", "Here.", "Here, in other words.")
    return {"part/one", "part/index", "intro"}  # Sphinx writes what lists a page with it


def edit_the_notebook(root):
    notebook(root, TWO + "\nMore of it.\n")
    return {"part/two", "part/index", "intro"}


def hero():
    """Return the output of a cell that shows the picture that stands for a chapter."""
    card = io.BytesIO()
    Image.new("RGB", (1200, 630), "white").save(card, "png")
    svg = '<svg viewBox="0 0 9 9" role="img" aria-label="A dot"><path d="M1 1h1"/></svg>'
    markup = f'<figure class="nn-figure" id="figure-dot">{svg}<figcaption>Dot</figcaption></figure>'
    data = {"text/html": markup, "image/png": base64.b64encode(card.getvalue()).decode()}
    return v4.new_output("display_data", data=data)


def add_a_hero(root):
    notebook(root, TWO, hero())
    return {"part/two", "part/index", "intro"}


def take_the_hero_away(root):
    assert (root / "_build/jb/_build/html/_images/heroes/part-two.png").is_file()
    notebook(root, TWO)
    return {"part/two", "part/index", "intro"}


def edit_a_title(root):
    edit(root / "part/one.md", "# One", "# The one")


def edit_a_number(root):
    edit(root / "part/one.md", "$$a = b$$ (one-a)", "$$z = y$$ (one-z)\n\n$$a = b$$ (one-a)")
    return {"part/one", "part/two", "part/index", "intro"}


def edit_a_heading(root):
    edit(root / "part/one.md", "## A heading", "## Before it\n\nSo.\n\n## A heading")
    return {"part/one", "part/index", "intro"}


def edit_a_citation(root):
    edit(root / "part/one.md", "{cite:t}`first`", "{cite:t}`first` and {cite:t}`second`")


def edit_a_style_sheet(root):
    edit(root / "_static/book.css", "black", "navy")


def edit_a_docstring(root):
    edit(root / "small/shape.py", "Return $s^2$.", "Return the square, $s^2$.")
    # The generated page says what it is made from, so that it changes with the module.
    edit(root / "_build/pages/api/small.md", "# small", "% another state of the module\n\n# small")
    return {"api/small", "intro"}


def add_a_function(root):
    with (root / "small/shape.py").open("a") as module:
        module.write('\n\ndef edge(area: float) -> float:\n    """Return the side."""\n')
    edit(root / "_build/pages/api/small.md", "another state", "a third state")
    return {"api/small", "intro"}


def commit(root):
    """Let git know the pages, which so tell when they were last changed."""
    who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")}  # fmt: skip
    for call in (["init", "-q"], ["add", "*.md"], ["commit", "-qm", "part/one: a change"]):
        subprocess.run(["git", *call], cwd=root, check=True, env=os.environ | who)


def delete_a_page(root):
    (root / "_build/pages/api/other.md").unlink()


@pytest.mark.parametrize(
    "change",
    [
        edit_a_text,
        edit_the_notebook,
        add_a_hero,
        take_the_hero_away,
        edit_a_title,
        edit_a_number,
        edit_a_heading,
        edit_a_citation,
        edit_a_style_sheet,
        edit_a_docstring,
        add_a_function,
        delete_a_page,
        commit,
    ],
)
def test_after_an_edit_the_site_is_that_of_a_build_from_nothing(book, change, tmp_path):
    before = times(book)
    expected = change(book)
    site.render(book, book / "_build")
    shutil.copytree(book, tmp_path / "fresh", ignore=shutil.ignore_patterns("jb", "src"))
    fresh = tmp_path / "fresh"
    site.render(fresh, fresh / "_build")
    made, wanted = contents(book), contents(fresh)
    assert made.keys() == wanted.keys()
    assert [name for name in made if made[name] != wanted[name]] == []
    assert found(book) == found(fresh) and "part/one" in found(book)
    if expected is not None:
        after = times(book)
        assert {page for page in after if after[page] != before.get(page)} == expected


def test_a_commit_writes_the_pages_whose_date_it_changes(book, monkeypatch):
    if not (book / ".git").exists():
        commit(book)
    edit(book / "part/one.md", "Here", "Once more: here")
    site.render(book, book / "_build")
    before = times(book)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2031-05-06T12:00:00+00:00")
    commit(book)
    site.render(book, book / "_build")
    after = times(book)
    assert {page for page in after if after[page] != before.get(page)} == {
        "part/one", "part/index", "intro"
    }  # fmt: skip
    page = (book / "_build/jb/_build/html/part/one.html").read_text("utf8")
    assert '<time datetime="2031-05-06">6 May 2031</time>' in page
    assert "part/one.html</loc><lastmod>2031-05-06" in (
        book / "_build/jb/_build/html/sitemap.xml"
    ).read_text("utf8")


def test_only_pages_that_warned_are_read_again(book):
    edit(book / "part/one.md", "## A heading", "{eq}`nowhere`\n\n## A heading")
    for _ in range(2):  # the second time nothing has changed, and it warns all the same
        with pytest.raises(SiteError, match=r"part/one\.md.*nowhere"):
            site.render(book, book / "_build")
    before = times(book)
    edit(book / "part/one.md", "{eq}`nowhere`\n\n## A heading", "## A heading")
    site.render(book, book / "_build")
    after = times(book)
    assert {page for page in after if after[page] != before.get(page)} == {
        "part/one", "part/index", "intro"
    }  # fmt: skip


def times(root):
    """Return when each page of the book was written."""
    html = root / "_build/jb/_build/html"
    return {
        doc: (html / f"{doc}.html").stat().st_mtime_ns
        for doc in toc_pages(root)
        if (html / f"{doc}.html").exists()
    }


def found(root):
    """Return what the search finds on each page."""
    return json.loads((root / "_build/jb/_build/search.json").read_text("utf8"))


def contents(root):
    """Return every file of the site, and what it holds."""
    html = root / "_build/jb/_build/html"
    return {
        file.relative_to(html).as_posix(): file.read_bytes()
        for file in html.rglob("*")
        if file.is_file() and not re.match(r"\.buildinfo", file.name)
    }
