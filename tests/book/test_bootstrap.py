"""The first cell of a chapter: it finds nnlib in a clone, and else asks pip for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import ROOT
from pipeline.address import address

CELL = next(
    "".join(cell["source"])
    for cell in json.loads((ROOT / "chapters/foundations/perceptron.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code"
)
# A kernel of the same packages that does not know nnlib: no installation of it, no PYTHONPATH.
BARE = """
import os, sys
sys.path[:] = [p for p in sys.path if not os.path.exists(os.path.join(p or '.', 'nnlib'))]
sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]
sys.modules.pop('nnlib', None)
"""


def bare_kernel(program: str, folder: Path, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-c", BARE + program],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_bare_kernel_does_not_know_nnlib(tmp_path):
    told = bare_kernel("import nnlib", ROOT / "chapters" / "foundations", tmp_path)
    assert "No module named 'nnlib'" in told.stderr


def test_in_a_clone_the_chapter_finds_the_library_above_it(tmp_path):
    program = CELL + "\nfrom nnlib.foundations.perceptron import Perceptron\nimport nnlib\n"
    told = bare_kernel(
        program + "print(nnlib.__file__)", ROOT / "chapters" / "foundations", tmp_path
    )
    assert told.stdout.strip() == str(ROOT / "nnlib" / "__init__.py"), told.stderr


def test_elsewhere_it_asks_pip_for_the_repository(tmp_path):
    pretend = "import subprocess\nsubprocess.check_call = print\n"
    told = bare_kernel(pretend + CELL, tmp_path, tmp_path)
    assert told.stdout.split()[-1].strip("']") == f"git+{address(ROOT)}@main", told.stderr


@pytest.mark.slow
def test_a_whole_chapter_runs_in_a_bare_kernel_of_a_clone(tmp_path):
    notebook = ROOT / "chapters" / "foundations" / "perceptron.ipynb"
    program = f"""
import json
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open({str(notebook)!r}))['cells']:
    if cell['cell_type'] == 'code':
        shell.run_cell(''.join(cell['source'])).raise_error()
"""
    told = bare_kernel(program, notebook.parent, tmp_path)
    assert "0 did not" in told.stdout, told.stderr[-2000:]
