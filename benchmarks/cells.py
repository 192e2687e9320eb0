"""Run a chapter's cells in this process, where there is no Jupyter: `python -m benchmarks.cells`.

    python -m benchmarks.cells kernels/flash_attention gpu

Pages come from `pipeline.execute.run_chapter`, whose kernel a bare GPU machine lacks; what the
chapter promises can be held here too. The exit status is 1 when a cell fails, and broken promises
are printed.
"""

import contextlib
import io
import json
import linecache
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.execute import presets
from pipeline.execute.parameters import cells_of, checked
from pipeline.execute.run_chapter import find, promises


def run(chapter: str, given: dict[str, Any], root: Path = ROOT) -> list[str]:
    """Run all cells of a chapter with values for its parameters; return the broken promises."""
    notebook = find(chapter, root)
    given = checked(chapter, cells_of(notebook), given)
    os.environ.setdefault("MPLBACKEND", "agg")
    os.chdir(notebook.parent)
    namespace = sys.modules["__main__"] = types.ModuleType("__main__")
    said = io.StringIO()
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        source, name = "".join(cell["source"]), f"<cell {number + 1} of {chapter}>"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        with contextlib.redirect_stdout(said):
            exec(compile(source, name, "exec"), vars(namespace))
            if "parameters" in cell["metadata"].get("tags", ()):
                vars(namespace).update(given)
    printed = {"outputs": [{"name": "stdout", "text": said.getvalue()}]}
    return promises({"cells": [printed]})[1]


def main() -> int:
    chapter, preset = sys.argv[1:]
    given = {} if preset == presets.QUICK else {"strict": False}
    if given:
        given |= presets.values(presets.load(preset), chapter)
    try:
        broken = run(chapter, given)
    except Exception:
        traceback.print_exc()
        return 1
    for claim in broken:
        print(f"  did not hold: {claim}")
    print(f"✓ {chapter}, without Jupyter")
    return 0


if __name__ == "__main__":
    sys.exit(main())
