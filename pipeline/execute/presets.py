"""Named sets of parameters, beside the chapter that they are for: `chapters/<family>/<name>.yaml`.

    colab: # for a free Colab session: one T4 with 16 GB, minutes a chapter
      steps: 2000
    gpu: # for one data-centre GPU
      steps: 5000
    sweep: # the chapter's own grid, for `make sweep`
      parameters: {steps: [100, 300]}

Every name but `sweep` is a preset, and `quick` is always one: the chapters' own defaults. A preset
runs on the best device that there is, unless it says otherwise. A chapter that nothing would
enlarge says so in a sentence: `gpu: it has nothing to train`. All files are checked against the
chapters' `parameters` cells before anything runs.
"""

import difflib
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter, cells_of, checked, declared

QUICK = "quick"  # the chapters' own defaults: the book that readers see
SWEEP = "sweep"  # a chapter's own grid

Blocks = dict[str, dict[str, Any]]


def read(chapter: str, root: Path = ROOT) -> dict[str, Any]:
    """Return the blocks of one chapter's file, or none where there is no file.

    Raises:
        BadParameter: it is no YAML, or holds something else than blocks.
    """
    file = root / place(chapter)
    if not file.is_file():
        return {}
    try:
        blocks = yaml.safe_load(file.read_text("utf8")) or {}
    except yaml.YAMLError as error:
        raise BadParameter(f"{place(chapter)} is no YAML: {error}") from None
    if not isinstance(blocks, dict):
        raise BadParameter(f"{place(chapter)} must hold blocks, preset: {{name: value}}")
    for name, block in blocks.items():
        if not isinstance(block, dict) and not (isinstance(block, str) and name != SWEEP):
            told = "must hold name: value, or say in a sentence why not"
            raise BadParameter(f"{place(chapter)}: {name} {told}, got {block!r}")
    return blocks


def place(chapter: str) -> str:
    """Return the path of a chapter's file."""
    return f"chapters/{chapter}.yaml"


def names(root: Path = ROOT) -> list[str]:
    """Return the presets that there are."""
    found = {name for chapter in chapters(root) for name in read(chapter, root)}
    return sorted((found | {QUICK}) - {SWEEP})


def folder(name: str, root: Path = ROOT) -> Path:
    """Return where the book of a preset is made."""
    return root / "_build" / ("" if name in ("", QUICK) else f"presets/{name}")


def load(name: str, root: Path = ROOT) -> Blocks:
    """Return what a preset sets, for each chapter that it knows, in the types of the defaults.

    Raises:
        BadParameter: no such preset, or a file beside the chapters does not fit them.
    """
    known = chapters(root)
    for file in sorted((root / "chapters").glob("*/*.yaml")):
        chapter = f"{file.parent.name}/{file.stem}"
        if chapter not in known:
            near = difflib.get_close_matches(chapter, known, n=1, cutoff=0.4)
            told = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise BadParameter(f"{place(chapter)}: there is no chapter {chapter!r}; {told}")
    if name not in names(root):
        raise BadParameter(f"PRESET={name!r} is unknown; there is {', '.join(names(root))}")
    found = {}
    for chapter in known:
        block = read(chapter, root).get(name)
        if isinstance(block, dict):
            cells = cells_of(root / "chapters" / f"{chapter}.ipynb")
            best = {"device": "auto"} if "device" in declared(cells) else {}
            try:
                found[chapter] = checked(chapter, cells, best | block)
            except BadParameter as error:
                raise BadParameter(f"{place(chapter)}: {name}: {error}") from None
    return found


def values(blocks: Blocks, chapter: str) -> dict[str, Any]:
    """Return what a preset sets for one chapter."""
    return blocks.get(chapter, {})
