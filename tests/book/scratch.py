"""A small copy of the project with two tiny chapters, in which tests may break things."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
from nbformat import v4

from pipeline import ROOT

FILES = (
    "Makefile", "Snakefile", "pyproject.toml", "requirements.txt", "requirements-test.txt",
    "jupytext.toml", "_config.yml", "references.bib",
)  # fmt: skip
TOC = """\
format: jb-book
root: chapters/intro
chapters:
  - file: chapters/tiny/one
  - file: chapters/tiny/two
"""
HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""


class Scratch:
    """The copy, and what may be done to it."""

    def __init__(self, folder: Path):
        self.root = folder
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        for name in ("pipeline", "nnlib", "_static"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        (folder / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
        # This book has no generated pages, so the step that makes them may do nothing.
        (folder / "pipeline" / "site" / "generated_pages.py").write_text("")
        (ROOT / ".cache").mkdir(exist_ok=True)
        (folder / ".cache").symlink_to(ROOT / ".cache")
        self._borrow_venv()
        (folder / "_toc.yml").write_text(TOC)
        (folder / "chapters").mkdir()
        (folder / "chapters" / "intro.md").write_text("# A tiny book\n")
        self.write("tiny/one", "from nnlib import catalog\nprint('one', steps)")
        self.write("tiny/two", "from nnlib.data import split\nprint('two', steps)")

    def _borrow_venv(self) -> None:
        """Let `make` find the running environment as if it had just installed it."""
        venv = self.root / ".venv"
        venv.mkdir()
        for item in Path(sys.prefix).iterdir():
            if not item.name.startswith(".installed"):
                (venv / item.name).symlink_to(item)
        for stamp, names in ((".installed", []), (".installed-test", ["requirements-test.txt"])):
            names = ["requirements.txt", *names, "pyproject.toml"]
            pins = b"".join((self.root / name).read_bytes() for name in names)
            done = subprocess.run(["cksum"], input=pins, capture_output=True, check=True)
            (venv / stamp).write_bytes(done.stdout)

    def write(self, chapter: str, code: str, parameters: str = "steps = 3") -> None:
        """Write both files of a chapter: a title, its parameters, and the code."""
        cells = [
            v4.new_markdown_cell(f"# Chapter {chapter}", id="title"),
            v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
            v4.new_code_cell(code, id="code"),
        ]
        spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
        text = (
            f"{HEADER}\n# Chapter {chapter}\n\n```{{code-cell}} ipython3\n:tags: [parameters]\n\n"
        )
        text += f"{parameters}\n```\n\n```{{code-cell}} ipython3\n{code}\n```\n"
        page = self.root / "chapters" / f"{chapter}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, "utf8")
        nbformat.write(notebook, page.with_suffix(".ipynb"))

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Start a command here, in a process group of its own, its words in one stream."""
        env = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MAKE", "MFLAGS"))
        }
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=env | {"CI": "true"},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command here; return its status and all that it said."""
        process = self.start(*command)
        said, _ = process.communicate(timeout=3600)
        return process.returncode, said

    def executed(self, chapter: str) -> Path:
        return self.root / "_build" / "executed" / "chapters" / f"{chapter}.ipynb"

    def page(self, chapter: str) -> str:
        """Return a page of the site as it stands."""
        return (self.root / "_build" / "html" / "chapters" / f"{chapter}.html").read_text("utf8")


def kernels(book):
    """Return the kernels that run in the copy's environment."""
    here = str(book.root / ".venv")
    lines = [process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if here in line[0] and "ipykernel_launcher" in line]


def wait_for(condition, what, seconds=1200):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)
