"""Run the chapters again with nbval and compare what they print.

Only those run whose notebook, or a file that they import in the end, has other content than when
nbval last found them in order. With `--all`, and in continuous integration, every chapter runs.
What is compared are words and numbers, so figures are made but not drawn: a sixth of the time.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.execute.dependencies import Graph, chapters, digest
from pipeline.execute.run_chapter import ipython

STAMPS = Path("_build/stamps/nbval.json")
OPTIONS = ("-q", "-o", "addopts=", "-p", "nbval", "--nbval-lax", "--nbval-current-env")
LIMITS = ("--nbval-cell-timeout=600",)


def states(root: Path = ROOT) -> dict[str, str]:
    """Return a digest of all that each chapter's outputs depend on, its stored outputs included."""
    graph, found = Graph(root), {}
    for chapter in chapters(root):
        notebook = f"chapters/{chapter}.ipynb"
        files = [notebook, *graph.files(root / notebook), "requirements.txt"]
        files += sorted(f.relative_to(root).as_posix() for f in root.glob("benchmarks/results/*"))
        found[chapter] = digest(root, files)
    return found


def stamps(root: Path = ROOT) -> dict[str, str]:
    """Return the states in which nbval found the chapters in order."""
    try:
        return json.loads((root / STAMPS).read_text("utf8"))
    except (OSError, ValueError):
        return {}


class Verdicts:
    """A plugin of pytest that learns which chapters are in order."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.bad: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        chapter = report.nodeid.partition("::")[0].removeprefix("chapters/").removesuffix(".ipynb")
        (self.bad if report.failed else self.good).add(chapter)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.bad.add(report.nodeid.removeprefix("chapters/").removesuffix(".ipynb"))


def run(root: Path, wanted: list[str], workers: int) -> int:
    """Run these chapters; return pytest's status. Those in order are remembered."""
    import pytest

    known = states(root)
    verdicts = Verdicts()
    spread = ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else ["-p", "no:xdist"]
    files = [f"chapters/{chapter}.ipynb" for chapter in wanted]
    options = [*OPTIONS, *LIMITS, f"--rootdir={root}", "-p", "no:cacheprovider", *spread]
    with tempfile.TemporaryDirectory(prefix="nn-") as folder, pytest.MonkeyPatch.context() as env:
        env.setenv("IPYTHONDIR", ipython(Path(folder)))
        env.setenv("NNLIB_UNDRAWN", "yes")
        status = int(pytest.main([*options, *files], plugins=[verdicts]))
    kept = {c: s for c, s in stamps(root).items() if c in known and c not in verdicts.bad}
    # Ended early, it may have left cells out.
    kept |= {c: known[c] for c in verdicts.good - verdicts.bad if status in (0, 1)}
    (root / STAMPS).parent.mkdir(parents=True, exist_ok=True)
    (root / STAMPS).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", "utf8")
    return status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run chapters again with nbval, and compare.")
    parser.add_argument("--all", action="store_true", help="also those that are known to be good")
    parser.add_argument("-n", type=int, default=2, help="how many at once")
    args = parser.parse_args(arguments)
    now, known = states(ROOT), stamps(ROOT)
    everything = args.all or os.environ.get("CI", "").lower() not in ("", "0", "false")
    wanted = [c for c in now if everything or known.get(c) != now[c]]
    print(
        f"nbval: {len(wanted)} of {len(now)} chapters run, the others are as they were found good"
    )
    return run(ROOT, wanted, args.n) if wanted else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
