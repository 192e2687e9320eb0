"""The first cell of a chapter: it finds our nnlib in a clone, and else asks pip for it."""

import subprocess
import sys
from pathlib import Path

from pipeline import ROOT, address, project
from pipeline.checks import bootstrap

FAMILY = ROOT / "chapters" / "foundations"
CELL = bootstrap.cell() + "\n"
# Stands for the notebook's pip, which needs a network.
PIP = """
class get_ipython:
    def run_line_magic(self, name, line): print(name, line)
"""
WANTED = f'pip install -q "{project()["name"]}[all] @ git+{address()}@main"'
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
    told = bare_kernel("import nnlib", FAMILY, tmp_path)
    assert "No module named 'nnlib'" in told.stderr


def test_in_a_clone_the_chapter_finds_the_library_above_it(tmp_path):
    program = CELL + "from nnlib.foundations.perceptron import Perceptron\nimport nnlib\n"
    told = bare_kernel(program + "print(nnlib.__file__)", FAMILY, tmp_path)
    assert Path(told.stdout.strip()).resolve() == ROOT / "nnlib" / "__init__.py", told.stderr


def test_elsewhere_it_asks_pip_for_the_repository(tmp_path):
    told = bare_kernel(PIP + CELL, tmp_path, tmp_path)
    assert told.stdout.strip() == WANTED, told.stderr


def test_another_package_of_that_name_does_not_pass_for_ours(tmp_path):
    """An unrelated nnlib has been on PyPI since 2018."""
    (tmp_path / "theirs" / "nnlib" / "utils").mkdir(parents=True)
    (tmp_path / "theirs" / "nnlib" / "__init__.py").touch()
    theirs = f"sys.path.append({str(tmp_path / 'theirs')!r})\n"
    told = bare_kernel(theirs + PIP + CELL, tmp_path, tmp_path)
    assert told.stdout.strip() == WANTED, told.stderr
    told = bare_kernel(theirs + CELL + "print(nnlib.distribution.NAME)", FAMILY, tmp_path)
    assert told.stdout.strip() == project()["name"], "a clone's own nnlib comes first"


def test_once_pip_has_installed_ours_over_the_other_it_is_found(tmp_path):
    """Both stand in one folder then, and the other's has been imported already."""
    (tmp_path / "nnlib").mkdir()
    (tmp_path / "nnlib" / "__init__.py").touch()
    installs = f"""
sys.path.append({str(tmp_path)!r})
class get_ipython:
    def run_line_magic(self, name, line):
        shutil.copytree({str(ROOT / "nnlib")!r}, {str(tmp_path / "nnlib")!r}, dirs_exist_ok=True)
import shutil
"""
    program = installs + CELL + "from nnlib import notebook\nprint(notebook.__file__)"
    told = bare_kernel(program, tmp_path, tmp_path)
    assert told.stdout.strip() == str(tmp_path / "nnlib" / "notebook" / "__init__.py"), told.stderr


def test_a_whole_chapter_runs_in_a_bare_kernel_of_a_clone(tmp_path):
    notebook = FAMILY / "perceptron.ipynb"
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
