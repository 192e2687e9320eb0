"""A chapter whose kernel dies: papermill saves nothing while it runs, and yet nothing is lost."""

import json

import nbformat
import pytest
from nbformat import v4

from pipeline.execute.run_chapter import ChapterError, run


def test_a_dead_kernel_leaves_the_notebook_as_far_as_it_ran(tmp_path):
    cells = [v4.new_code_cell(text) for text in ("steps = 1", "print('once')", "import os")]
    cells[0].metadata["tags"] = ["parameters"]
    cells.append(v4.new_code_cell("os._exit(3)"))
    notebook = tmp_path / "chapters" / "tiny" / "dies.ipynb"
    notebook.parent.mkdir(parents=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)
    with pytest.raises(ChapterError, match="tiny/dies failed in cell 4"):
        run("tiny/dies", {"steps": 2}, root=tmp_path)
    kept = json.loads((tmp_path / "_build/failed/chapters/tiny/dies.ipynb").read_text("utf8"))
    assert any("once" in "".join(o["text"]) for c in kept["cells"] for o in c["outputs"])
