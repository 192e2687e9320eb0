"""The first code cell of every chapter, which finds or installs nnlib: written, never edited.

It stands in `pipeline/template/chapter.md`; the names that it holds, in pyproject.toml. `make sync`
writes it into the chapters, so that a repository that moves changes one line.
"""

from pathlib import Path

import jupytext
import nbformat

from pipeline import ROOT, address, project

TEMPLATE = Path(__file__).resolve().parents[1] / "template" / "chapter.md"
TAG = "remove-cell"


def words(root: Path = ROOT) -> dict[str, str]:
    """Return what stands in the template for this distribution and its repository."""
    return {"distribution": project(root)["name"], "repository": address(root)}


def filled(text: str, given: dict[str, str]) -> str:
    """Return a template's text with every `<<word>>` filled in."""
    for key, value in given.items():
        text = text.replace(f"<<{key}>>", value)
    return text


def cell(root: Path = ROOT) -> str:
    """Return the source of the cell."""
    found = jupytext.read(TEMPLATE).cells
    return filled(next(c.source for c in found if c.cell_type == "code"), words(root))


def write(root: Path, chapter: str) -> bool:
    """Write the cell into both files of a chapter whose files agree; return whether it changed."""
    notebook = root / "chapters" / f"{chapter}.ipynb"
    page = notebook.with_suffix(".md")
    content, wanted = nbformat.read(notebook, 4), cell(root)
    first = next((c for c in content.cells if c.cell_type == "code"), None)
    if first is None or TAG not in first.metadata.get("tags", []) or first.source == wanted:
        return False
    text = page.read_text("utf8")
    page.write_text(text.replace(first.source.strip("\n"), wanted, 1), "utf8")
    first.source = wanted
    notebook.write_text(nbformat.writes(content).rstrip("\n") + "\n", "utf8")
    return True
