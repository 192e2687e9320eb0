"""Staging, publishing and the book's Sphinx extension, each without building a book."""

import json
import os

import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document

from pipeline.site import SiteError, build, notebooks
from pipeline.site.publishing import publish
from pipeline.site.sphinx_nnlib import keep_punctuation, to_rst
from pipeline.site.staging import stage
from pipeline.site.toc import contents, toc_pages
from tests.support import write

HOME = "https://github.com/who/what"
NOTEBOOK = {
    "cells": [{"cell_type": "code", "metadata": {"papermill": {"duration": 1}, "tags": ["x"]}}],
    "metadata": {"papermill": {"input_path": "/somewhere/a.ipynb"}, "kernelspec": {}},
}


@pytest.fixture
def book(tmp_path):
    """A repository with a page of each kind."""
    write(tmp_path / "_toc.yml", "root: intro\nchapters:\n- file: a/one\n- glob: api/*\n")
    write(tmp_path / "_config.yml", "title: T\n")
    write(tmp_path / "pyproject.toml", f'[project]\nurls = {{repository = "{HOME}"}}\n')
    write(tmp_path / "references.bib", "")
    write(tmp_path / "chapters/vision/references.bib", "")
    write(tmp_path / "_static/book.css", "")
    write(tmp_path / "_extra/vendor/x.js", "")
    write(tmp_path / "intro.md", "# Intro\n")
    write(tmp_path / "a/one.ipynb", "{}")
    write(tmp_path / "a/one.md", "# One\n")
    write(tmp_path / "_build/executed/a/one.ipynb", json.dumps(NOTEBOOK))
    write(tmp_path / "_build/pages/api/train.md", "# train\n")
    write(tmp_path / "_build/pages/tree.svg", "<svg/>")
    return tmp_path


def staged(book):
    source = book / "_build/src"
    stage(book, toc_pages(book), source)
    return {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}


def test_toc_names_pages_in_order_and_globs_stand_for_generated_ones(book):
    assert toc_pages(book) == ["intro", "a/one", "api/train"]


def test_globs_are_spelt_out_in_the_order_of_the_families_each_page_once(book):
    toc = "root: intro\nchapters:\n- file: a/one\n- file: api/index\n  sections:\n  - glob: api/*\n"
    write(book / "_toc.yml", toc)
    for name in ("index", "kernels", "foundations", "sequence"):
        write(book / f"_build/pages/api/{name}.md", f"# {name}\n")
    sections = yaml.safe_load(contents(book))["chapters"][1]["sections"]
    order = ["foundations", "sequence", "kernels", "train"]
    assert [entry["file"] for entry in sections] == [f"api/{name}" for name in order]


def test_only_what_sphinx_needs_is_staged(book):
    write(book / "README.md", "# Read me\n")
    write(book / "_build/pages/stray.md", "# Not in the book\n")
    assert set(staged(book)) == {
        "_config.yml", "_toc.yml", "references.bib", "_static/book.css", "_extra/vendor/x.js",
        "about.json",
        "intro.md", "a/one.ipynb", "api/train.md", "tree.svg", "chapters/vision/references.bib",
    }  # fmt: skip


def test_the_staged_settings_know_the_address_and_every_familys_references(book):
    settings = yaml.safe_load(staged(book)["_config.yml"].read_text())
    assert settings["repository"]["url"] == HOME
    assert settings["bibtex_bibfiles"] == ["references.bib", "chapters/vision/references.bib"]


def test_published_notebook_holds_no_path_of_this_machine(book):
    published = staged(book)["a/one.ipynb"].read_text()
    assert "papermill" not in published
    assert json.loads(published)["cells"][0]["metadata"] == {"tags": ["x"]}


def test_what_a_cell_prints_is_one_output_however_it_came():
    def printed(text, name="stdout"):
        return {"output_type": "stream", "name": name, "text": text}

    shown = {"output_type": "display_data", "data": {"text/plain": "x"}}
    pieces = [printed(["a\n"]), printed("b\n"), shown, printed("c\n"), printed("!", "stderr")]
    assert [out.get("text") for out in notebooks.joined(pieces)] == ["a\nb\n", None, "c\n", "!"]
    assert notebooks.joined([shown, shown]) == [shown, shown]


def test_a_notebook_is_made_anew_only_when_it_changed(book, monkeypatch):
    staged(book)
    kept = book / "_build/published"
    (before,) = kept.iterdir()
    monkeypatch.setattr(notebooks, "make", None)  # would fail
    staged(book)
    monkeypatch.undo()
    write(book / "_build/executed/a/one.ipynb", json.dumps(NOTEBOOK | {"metadata": {"new": 1}}))
    assert json.loads(staged(book)["a/one.ipynb"].read_text())["metadata"] == {"new": 1}
    (after,) = kept.iterdir()
    assert after != before


def test_staging_touches_only_what_changed_and_removes_what_left(book):
    before = {name: file.stat().st_mtime_ns for name, file in staged(book).items()}
    write(book / "intro.md", "# Another\n")
    (book / "_build/pages/api/train.md").unlink()
    write(book / "_build/pages/api/data.md", "# data\n")
    after = {name: file.stat().st_mtime_ns for name, file in staged(book).items()}
    assert "api/train.md" not in after and "api/data.md" in after
    changed = {name for name in before.keys() & after if before[name] != after[name]}
    assert changed == {"intro.md", "_toc.yml"}


def test_missing_pages_are_all_named(book):
    (book / "intro.md").unlink()
    (book / "_build/executed/a/one.ipynb").unlink()
    with pytest.raises(SiteError, match="intro, a/one"):
        staged(book)


def test_a_chapter_that_was_not_executed_may_stand_as_it_is_stored(book):
    (book / "_build/executed/a/one.ipynb").unlink()
    write(book / "a/one.ipynb", json.dumps(NOTEBOOK | {"metadata": {"stored": True}}))
    source = book / "_build/src"
    stage(book, toc_pages(book), source, stored=book)
    assert json.loads((source / "a/one.ipynb").read_text())["metadata"] == {"stored": True}


def built(book, text):
    html = book / "_build/jb/_build/html"
    write(html / "index.html", text)
    return html


def test_publishing_swaps_a_link_and_keeps_the_previous_site(book):
    work = book / "_build"
    # Of three lengths: what is as long, and of the same instant, passes for the same.
    sites = [publish(built(book, str(10**n)), work) for n in range(3)]
    assert (work / "html").is_symlink()
    assert (work / "html/index.html").read_text() == "100"
    assert sorted(os.listdir(work / "sites")) == [s.name for s in sites[1:]]


def test_two_sites_share_the_pages_that_did_not_change_and_no_other(book):
    work = book / "_build"
    html = built(book, "one")
    write(html / "same.html", "same")
    first = publish(html, work)
    built(book, "two")
    second = publish(html, work)
    assert (first / "same.html").samefile(second / "same.html")
    assert [(s / "index.html").read_text() for s in (first, second)] == ["one", "two"]
    write(html / "same.html", "changed by Sphinx, in place")
    assert (second / "same.html").read_text() == "same"


def test_a_link_to_a_form_is_written_beside_the_page_that_another_site_shares(book):
    work = book / "_build"
    html = built(book, '<span class="nn-form-pdf">a PDF</span>')
    first = publish(html, work)
    before = (first / "index.html").read_text()
    write(work / "forms/executable-encyclopedia.pdf", "pages")
    second = publish(html, work)
    assert "hidden" in before and 'href="forms/' in (second / "index.html").read_text()
    assert (first / "index.html").read_text() == before


def test_publishing_refuses_what_is_no_site(book):
    work = book / "_build"
    publish(built(book, "good"), work)
    (work / "jb/_build/html/index.html").unlink()
    with pytest.raises(SiteError, match=r"left no .*index\.html"):
        publish(work / "jb/_build/html", work)
    assert (work / "html/index.html").read_text() == "good"
    (work / "html").unlink()
    write(work / "html/index.html", "someone's own")
    with pytest.raises(SiteError, match="must be a symlink"):
        publish(built(book, "new"), work)
    assert (work / "html/index.html").read_text() == "someone's own"


def test_unfinished_build_is_forgotten(book):
    jb = book / "_build/jb"
    build._forget_what_is_stale(book, jb)
    write(jb / "_build/.doctrees/environment.pickle", "remembered")
    build._forget_what_is_stale(book, jb)
    assert (jb / "_build/.doctrees/environment.pickle").exists()
    (jb / "unfinished").touch()
    build._forget_what_is_stale(book, jb)
    assert not (jb / "_build").exists()


@pytest.mark.parametrize(
    ("markdown", "rst"),
    [
        ("of $x_i$, and `code`", "of :math:`x_i`, and ``code``"),
        ("over two $a\n    + b$ lines", "over two :math:`a\n    + b` lines"),
        ("costs $5 and $6", "costs $5 and $6"),
        ("|z| = 3, zero_ and __init__", r"\|z\| = 3, zero\_ and __init\_\_"),
        ("``literal_`` and :func:`name_`", "``literal_`` and :func:`name_`"),
        ("    >>> f(x_) | $y$\n    `z`", "    >>> f(x_) | $y$\n    `z`"),
    ],
)
def test_docstrings_become_restructured_text(markdown, rst):
    assert to_rst(markdown) == rst


def test_displayed_equations_become_blocks():
    text = to_rst("Return\n\n    $$ a = b\n    + c $$ (mlp-forward)\n\nend")
    assert "    .. math::\n\n       a = b\n       + c\n" in text
    assert "mlp-forward" not in text


def test_a_stop_stays_with_its_formula_and_every_other_stop_where_it_was():
    """docutils finds a child by equality, and one stop equals another."""
    paragraph = nodes.paragraph("", "", nodes.emphasis("", "one"), *map(nodes.Text, (".", "\n")))
    paragraph += [nodes.Text("It costs "), nodes.math("", "h"), nodes.Text(".")]
    document = new_document("page")
    document += paragraph
    keep_punctuation(None, document)
    assert paragraph.astext() == "one.\nIt costs h."
    [whole] = paragraph.findall(nodes.inline)
    assert whole.astext() == "h."
