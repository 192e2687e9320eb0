"""Named sets of parameters for all chapters: `pipeline/presets/<name>.yaml`.

A file holds one block a chapter, and `all` for every chapter. All of it is checked against the
chapters' `parameters` cells before anything runs.
"""

import difflib
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter, cells_of, checked

QUICK = "quick"  # the chapters' own defaults: the book that readers see

Blocks = dict[str, dict[str, Any]]


def names(root: Path = ROOT) -> list[str]:
    """Return the presets that there are."""
    return sorted(file.stem for file in (root / "pipeline" / "presets").glob("*.yaml"))


def folder(name: str, root: Path = ROOT) -> Path:
    """Return where the book of a preset is made."""
    return root / "_build" / ("" if name in ("", QUICK) else f"presets/{name}")


def load(name: str, root: Path = ROOT) -> Blocks:
    """Return chapter -> parameters, in the types of the chapters' defaults; `all` among them.

    Raises:
        BadParameter: no such preset, or a block of it does not fit the chapters.
    """
    if name not in names(root):
        raise BadParameter(f"PRESET={name!r} is unknown; there is {', '.join(names(root))}")
    file = root / "pipeline" / "presets" / f"{name}.yaml"
    try:
        blocks = yaml.safe_load(file.read_text("utf8")) or {}
    except yaml.YAMLError as error:
        raise BadParameter(f"{file.name} is no YAML: {error}") from None
    if not isinstance(blocks, dict):
        raise BadParameter(f"{file.name} must hold blocks, family/name: {{name: value}}")
    known = chapters(root)
    for chapter, block in blocks.items():
        if chapter != "all" and chapter not in known:
            near = difflib.get_close_matches(str(chapter), known, n=1, cutoff=0.4)
            told = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise BadParameter(f"{file.name}: there is no chapter {chapter!r}; {told}")
        if not isinstance(block, dict):
            raise BadParameter(f"{file.name}: {chapter} must hold name: value, got {block!r}")
    cells = {chapter: cells_of(root / "chapters" / f"{chapter}.ipynb") for chapter in known}
    try:
        for chapter in known:
            checked(chapter, cells[chapter], blocks.get("all", {}))
        typed = {c: checked(c, cells[c], block) for c, block in blocks.items() if c != "all"}
    except BadParameter as error:
        raise BadParameter(f"{file.name}: {error}") from None
    return {"all": blocks.get("all", {})} | typed


def values(blocks: Blocks, chapter: str) -> dict[str, Any]:
    """Return what a preset sets for one chapter."""
    return blocks.get("all", {}) | blocks.get(chapter, {})
