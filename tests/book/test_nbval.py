"""nbval runs a chapter again when its content has changed, and in continuous integration always."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

from nnlib.notebook import pictures
from pipeline import ROOT
from pipeline.checks.pairing import CHECKED

CODE = "open('ran.txt', 'a').write('x'); print('{word}')"


@pytest.fixture
def book(tmp_path):
    """A chapter that writes down that it ran, and whose stored output is right."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=ignored)
    (tmp_path / "chapters/tiny").mkdir(parents=True)
    (tmp_path / "requirements.txt").touch()
    store(tmp_path, "said", "said")
    return tmp_path


def store(book, prints, stored):
    output = v4.new_output("stream", text=f"{stored}\n")
    about = {"tags": [CHECKED]}
    code = CODE.format(word=prints)
    cell = v4.new_code_cell(code, id="a", metadata=about, outputs=[output], execution_count=1)
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = v4.new_notebook(cells=[cell], metadata={"kernelspec": spec})
    nbformat.write(notebook, book / "chapters/tiny/one.ipynb")


def ran(book, **variables):
    """Run the command; return its status, how often the chapter ran, and what it said."""
    record = book / "chapters/tiny/ran.txt"
    record.write_text("")
    command = [sys.executable, "-m", "pipeline.checks.nbval_chapters", "-n", "1"]
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTHONPATH")} | variables
    done = subprocess.run(command, cwd=book, env=env, capture_output=True, text=True, check=False)
    return done.returncode, len(record.read_text()), done.stdout + done.stderr


def test_a_chapter_in_order_runs_once_and_again_when_it_changes(book):
    assert ran(book)[:2] == (0, 1)
    (book / "chapters/tiny/one.ipynb").touch()
    assert ran(book)[:2] == (0, 0)
    assert ran(book, CI="true")[:2] == (0, 1)
    store(book, "other", "said")
    for _ in range(2):  # what is wrong stays wrong until it is mended
        status, times, told = ran(book)
        assert (status, times) == (1, 1), told
        assert "1 of 1 chapters run" in told
    store(book, "other", "other")
    assert ran(book)[:2] == (0, 1)


def test_figures_are_made_and_not_drawn(book):
    store(book, f"' + __import__('os').environ['{pictures.UNDRAWN}'] + '", "yes")
    status, _, told = ran(book)
    assert status == 0, told
