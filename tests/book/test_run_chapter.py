"""The kernel of a chapter: what it starts with, and what is left when it dies."""

import json

import nbformat
import pytest
from nbformat import v4

from pipeline import COLLECT
from pipeline.execute.run_chapter import ChapterError, run


def store(root, name, *texts):
    """Store a chapter of such cells, the first of which holds its parameter."""
    cells = [v4.new_code_cell(text) for text in ("steps = 1", *texts)]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = root / "chapters" / f"{name}.ipynb"
    notebook.parent.mkdir(parents=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)


def said(notebook):
    """Return what its cells printed."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    return [line for c in cells for o in c.get("outputs", ()) for line in o.get("text", ())]


def test_a_kernel_starts_with_nothing_of_the_users_and_collects_seldom(tmp_path, monkeypatch):
    startup = tmp_path / "mine/profile_default/startup/00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "mine"))
    shows = "print(sorted({'gc', 'mine'} & set(dir())))\nimport gc\nprint(gc.get_threshold())"
    store(tmp_path, "tiny/shows", shows)
    run("tiny/shows", {"steps": 2}, root=tmp_path)
    told = said(tmp_path / "_build/custom/chapters/tiny/shows.ipynb")
    assert told == ["[]\n", f"{COLLECT}\n"]


def test_a_dead_kernel_leaves_the_notebook_as_far_as_it_ran(tmp_path):
    """Papermill saves nothing while the chapter runs."""
    store(tmp_path, "tiny/dies", "print('once')", "import os", "os._exit(3)")
    with pytest.raises(ChapterError, match="tiny/dies failed in cell 4"):
        run("tiny/dies", {"steps": 2}, root=tmp_path)
    assert "once\n" in said(tmp_path / "_build/failed/chapters/tiny/dies.ipynb")
