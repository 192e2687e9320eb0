"""A GPU's few minutes: prove, measure, run two chapters large, and say what is still owed.

    make gpu                                     ten minutes, with the python3 that is there
    make gpu PYTHON=/opt/torch/bin/python MINUTES=5
    python -m benchmarks.gpu --device cpu        as far as it goes without one: nothing large, and
                                                 written nowhere unless --results names a folder

Nothing is installed and nothing is fetched: it takes the torch and the triton of the machine, says
what else is missing and what that costs, and gives each part a share of the time. What a part had
no time for is owed, by name, and stands in the results file.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipeline import ROOT

CHAPTERS = ("kernels/flash_attention", "attention/transformer")  # a minute each when large

NEEDED = ("torch", "numpy", "scipy", "jaxtyping")
OPTIONAL = {  # what cannot be done without it
    "triton": "no kernel runs",
    "pytest": "no test runs",
    "beartype": "tests do not check the shapes that annotations promise",
    "hypothesis": "tests that draw their inputs are left out",
    "transformers": "GPT and BERT have no peer",
    "liger_kernel": "kernels have one peer fewer",
    "yaml": "chapters do not run: their large presets cannot be read",
    "IPython": "chapters do not run",
    "matplotlib": "chapters do not run",
    "accelerate": "nothing trains, in chapters neither",
    "papermill": "chapters run in a plain process",
    "ipykernel": "chapters run in a plain process",
}


class Part(NamedTuple):
    """A command, and its share of the time; `within` is its own option to end in time."""

    name: str
    share: float
    command: list[str]
    needs: tuple[str, ...] = ()
    within: bool = False


class Outcome(NamedTuple):
    """What became of a part: `done`, `failed` or `owed`, why, and the seconds it took."""

    name: str
    state: str
    why: str
    seconds: float


def present(name: str) -> bool:
    """Return whether a package is there, without importing it."""
    return importlib.util.find_spec(name) is not None


def parts(device: str, results: Path, chapters: list[str]) -> list[Part]:
    """Return what is to be done on a device, most important first."""
    python = [sys.executable, "-m"]
    gpu = device != "cpu"
    tests = [*python, "pytest", "-q", "-m", "gpu" if gpu else "interpreter"]
    if not present("beartype"):  # which the settings of pytest name
        tests += ["-o", "addopts=--import-mode=importlib"]
    if present("xdist") and gpu:
        tests += ["-n", "4"]
    brief = [] if gpu else ["--quick"]
    kernels = ["--tested", f"--device={device}", "--budget=0.1", "--without=inductor", *brief]
    models = [f"--device={device}", "--budget=0.2", "--keep", f"--folder={results}", *brief]
    preset = "gpu" if gpu else "quick"
    whole = present("papermill") and present("ipykernel")
    run = ["pipeline.execute.run_chapter", "--preset", preset] if whole else ["benchmarks.cells"]
    run = [*python, *run]
    return [
        Part("tests of the kernels", 0.25, [*tests, "tests/kernels"], ("pytest", "triton")),
        Part(
            "kernels", 0.3, [*python, "benchmarks.kernels", f"--results={results}", *kernels],
            within=True,
        ),
        Part("models", 0.2, [*python, "benchmarks.models", *models], within=True),
        *(
            Part(
                f"chapter {chapter}", 0.2 / len(chapters),
                [*run, chapter] if whole else [*run, chapter, preset],
                ("yaml", "IPython", "matplotlib", "accelerate"),
            )
            for chapter in chapters
        ),
        Part(
            "tests of the models", 0.05,
            [*tests, "tests", "--ignore=tests/kernels", "--ignore=tests/book",
             "--continue-on-collection-errors"],
            ("pytest",),
        ),
    ]  # fmt: skip


def do(part: Part, seconds: float, log: Path) -> Outcome:
    """Run one part, and end it when its time is over; its words go to the log."""
    lacks = [name for name in part.needs if not present(name)]
    if lacks:
        return Outcome(part.name, "owed", f"{', '.join(lacks)} is not installed", 0.0)
    command = list(part.command)
    if part.within:  # it has to start, and may have begun something when its time is over
        command.append(f"--within={max(1.0, 0.85 * seconds - 10):.0f}")
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": _path(), "PYTHONUTF8": "1"}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            status = None
        except BaseException:
            _end(process)
            raise
    took = time.monotonic() - begin
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing"
    if status is None:
        reached = re.findall(r"\[ *(\d+%)\]", "\n".join(lines))
        how_far = f", {reached[-1]} done" if reached else ""
        return Outcome(part.name, "owed", f"not finished in {seconds:.0f} s{how_far}", took)
    if status:
        return Outcome(part.name, "failed", f"{last} (all of it: {log})", took)
    return Outcome(part.name, "done", last, took)


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def _end(process: subprocess.Popen) -> None:
    """End a process with all that it started: politely first."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait()


def run(todo: list[Part], seconds: float, logs: Path) -> list[Outcome]:
    """Do the parts in order; time that one leaves over goes to the others."""
    end, outcomes = time.monotonic() + seconds, []
    for at, part in enumerate(todo):
        rest = sum(other.share for other in todo[at:])
        mine = (end - time.monotonic()) * part.share / rest
        if mine < 1:
            outcomes.append(Outcome(part.name, "owed", "no time was left", 0.0))
            continue
        print(f"… {part.name}, at most {mine:.0f} s", flush=True)
        log = logs / f"{re.sub(r'[^a-z]+', '-', part.name)}.log"
        outcomes.append(do(part, mine, log))
        print(f"{_sign(outcomes[-1])} {outcomes[-1].why}", flush=True)
    return outcomes


def _sign(outcome: Outcome) -> str:
    return {"done": "✓", "failed": "✗", "owed": "○"}[outcome.state]


def owed(outcomes: list[Outcome], record: dict) -> list[str]:
    """Return what is still to be done or to be mended, a line each."""
    from benchmarks import goals

    lines = [f"{o.name}: {o.why}" for o in outcomes if o.state != "done"]
    for subject in ("kernels", "models"):
        lines += [f"{subject}: {left}" for left in record.get(subject, {}).get("owed", [])]
    for verdict in goals.judge(record):
        if not verdict.met:
            state = "not measured" if verdict.met is None else "missed"
            lines.append(f"{verdict.goal}: {state}, {verdict.told}")
    return lines


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10, help="for all of it")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try how far it goes")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where to write")
    parser.add_argument("--chapters", default=",".join(CHAPTERS), metavar="FAMILY/NAME,…")
    told = parser.parse_args(arguments)
    if not told.minutes > 0:
        parser.error(f"--minutes={told.minutes:g} must be above 0")
    return told


def main(arguments: list[str] | None = None) -> int:
    """Do it all; return 1 when something failed, 2 when it cannot begin. To owe is no failure."""
    told = _options(arguments)
    begin = time.monotonic()
    lacks = [name for name in NEEDED if not present(name)]
    if lacks:
        print(
            f"{sys.executable} lacks {', '.join(lacks)}: without them nothing runs. A folder "
            "that holds them can be named: PYTHONPATH=folder make gpu",
            file=sys.stderr,
        )
        return 2  # fmt: skip
    import torch

    from benchmarks import measure  # here: it needs torch

    if told.device != "cpu" and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} sees no CUDA device; `python -m benchmarks.gpu --device "
            "cpu` goes as far as it can",
            file=sys.stderr,
        )
        return 2  # fmt: skip
    name = measure.device_name(told.device)
    versions = ", ".join(f"{what} {it}" for what, it in measure.versions().items())
    print(f"{name}: {versions}; {told.minutes:g} minutes", flush=True)
    for missing, cost in OPTIONAL.items():
        if not present(missing):
            print(f"  {missing} is not installed: {cost}", flush=True)
    kept = measure.RESULTS if told.device != "cpu" else None
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        results = (told.results or kept or Path(scratch)).resolve()
        logs = ROOT / "_build" / "gpu"
        logs.mkdir(parents=True, exist_ok=True)
        todo = parts(told.device, results, [c for c in told.chapters.split(",") if c])
        left = 60 * told.minutes - (time.monotonic() - begin)
        outcomes = run(todo, left, logs)
        content = {"minutes": told.minutes, "parts": [o._asdict() for o in outcomes]}
        path = measure.save("run", content, told.device, results)
        record = json.loads(path.read_text("utf-8"))
        lines = owed(outcomes, record)
        measure.save("run", content | {"owed": lines}, told.device, results)
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes"
          + (f"; written to {path}" if told.results or kept else "; written nowhere"))  # fmt: skip
    print("still owed:" if lines else "nothing is owed")
    for line in lines:
        print(f"  {line}")
    return 1 if any(o.state == "failed" for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
