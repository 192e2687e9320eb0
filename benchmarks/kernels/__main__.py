"""Measure every operation of nnlib/kernels against its reference, torch's own form and its peers.

    python -m benchmarks.kernels                      # everything, on the best device
    python -m benchmarks.kernels --quick              # small sizes; printed, not kept
    python -m benchmarks.kernels --only softmax,rope  # two operations; printed, not kept

All times of a run, the copy bandwidth and the rate of matrix products that they are held against
included, come from that run. What the columns mean, and how to measure on a GPU in a few calls:
benchmarks/README.md.
"""

import argparse
import difflib
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from benchmarks.kernels import OPERATIONS, _run, load
from nnlib.device import pick_device
from pipeline import ROOT


def red(tests: list[str], device: torch.device) -> str | None:
    """Run the tests of the kernels; return why nothing may be measured, or None."""
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    command += ["-m", "gpu"] * (device.type == "cuda")
    print(f"$ {' '.join(command[1:])}", flush=True)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
    if done.returncode == 0:
        print(end.splitlines()[-1], flush=True)
        return None
    why = {1: "a test is red", 5: "no test was found"}.get(done.returncode, "pytest failed")
    return f"nothing is measured: {why} in {' '.join(tests)}\n{end}"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", metavar="NAME,NAME", help="the operations to measure")
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:<n>")
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, briefly")
    parser.add_argument("--budget", type=float, help="seconds for each form of a row")
    parser.add_argument("--without", default="", metavar="FORM,FORM", help="such as inductor")
    parser.add_argument("--within", type=float, default=math.inf, help="seconds for all of it")
    parser.add_argument(
        "--tested", action="store_true", help="the tests have just passed: run none"
    )
    parser.add_argument("--tests", nargs="+", help="run these tests instead of the operations' own")
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER",
        help="where to write; a whole run writes to benchmarks/results, a part nowhere unless told",
    )  # fmt: skip
    told = parser.parse_args(arguments)
    known = OPERATIONS
    told.end = time.monotonic() + told.within
    told.without = told.without.split(",")
    told.whole = not (told.only or told.quick or told.within < math.inf)
    told.only = told.only.split(",") if told.only else known
    for name in told.only:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            parser.error(f"--only={name!r} must be among {', '.join(known)}{meant}")
    told.budget = (0.05 if told.quick else 0.3) if told.budget is None else told.budget
    if not told.budget > 0:
        parser.error(f"--budget={told.budget:g} must be above 0, in seconds")
    try:
        told.device = pick_device(told.device)
    except ValueError as error:
        parser.error(f"--{error}")
    if told.device.type == "mps":
        parser.error("--device='mps' has no kernels of nnlib; take cpu")
    if told.tests is None:
        whole = told.only == known
        told.tests = (
            ["tests/kernels"] if whole else [f"tests/kernels/test_{n}.py" for n in told.only]
        )
    return told


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write what was found; return 1 when an operation could not be."""
    told = _options(arguments)
    if not told.tested:
        why = red(told.tests, told.device)
        if why:
            print(why, file=sys.stderr)
            return 1
    dtype = torch.bfloat16 if told.device.type == "cuda" else torch.float32
    like = {"device": told.device, "dtype": dtype}
    notes: list[str] = []
    content: dict[str, Any] = {
        "copy_bandwidth": measure.copy_bandwidth(told.device, budget=told.budget),
        "matmul_rate": {
            str(kind).removeprefix("torch."): measure.matmul_rate(
                told.device, kind, budget=told.budget
            )
            for kind in dict.fromkeys((dtype, torch.float32))
        },
        "rows": [],
    }
    failed: list[str] = []
    turns = []
    for name in told.only:
        try:
            file = load(name)
        except Exception as error:  # the others go on, and the exit status tells
            failed.append(f"{name} was not measured: {_run.told(error)}")
            continue
        sizes = file.GPU if told.device.type == "cuda" else file.CPU
        turns += [(name, size) for size in (sizes[:2] if told.quick else sizes)]
    if told.within < math.inf:
        turns = measure.fairly(turns)
    owed = []
    for name, size in turns:
        if time.monotonic() > told.end:
            owed.append(f"{name} {size}: no time was left")
            continue
        try:
            content["rows"] += _run.rows_of(
                name, size, like, told.budget, notes.append, without=told.without
            )
        except Exception as error:
            failed.append(f"{name} {size} was not measured: {_run.told(error)}")
        if told.device.type == "cuda":
            torch.compiler.reset()  # else it gives up on the ninth shape of one function
            torch.cuda.empty_cache()
    content["owed"] = failed + owed
    print(_run.table(content, measure.device_name(told.device)))
    for line in dict.fromkeys(notes + failed + owed):
        print(line)
    folder = told.results or (measure.RESULTS if told.whole and not failed else None)
    if folder and content["rows"]:
        print(f"written to {measure.save('kernels', content, told.device, folder)}")
    else:
        print("written nowhere: only a whole run without a failure is kept; or name --results")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
