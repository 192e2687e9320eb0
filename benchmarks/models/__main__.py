"""Time nnlib's models beside other libraries' that do the same work, in one run.

    python -m benchmarks.models                       everything, on the CPU; saves the results
    python -m benchmarks.models gpt bert              these only; saves nothing
    python -m benchmarks.models --quick               small sizes, under a minute; saves nothing
    python -m benchmarks.models --device cuda         on a GPU, in bfloat16

Both sides of a row have the same weights, the same batch and the same optimizer, and must agree
before they are timed: the same output or loss, and the same gradients. A model that has no peer
stands beside another that would be taken in its place, and its row has no goal.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.models import CASES, _run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all when left out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the CPU; one is what busy machines agree on"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, saving nothing")
    parser.add_argument("--folder", type=Path, default=measure.RESULTS, help="of the results")
    parser.add_argument("--keep", action="store_true", help="save a part of the rows too")
    parser.add_argument("--within", type=float, default=math.inf, help="seconds for all of it")
    parser.add_argument("--budget", type=float, help="seconds for each side of a row")
    given = parser.parse_args(arguments)
    owed: list[str] = []
    torch.set_num_threads(given.threads)
    try:
        rows = _run.run(
            given.names or None, device=given.device, quick=given.quick, budget=given.budget,
            within=given.within, owed=owed,
        )  # fmt: skip
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    held = [row for row in rows if _run.ratio(row) is not None]
    late = [row for row in held if _run.is_late(row)]
    print(f"{len(held) - len(late)} of {len(held)} rows within {_run.GOAL} times the peer")
    whole = not given.names and not given.quick and given.within == math.inf
    if rows and (whole or given.keep):
        content = {"threads": given.threads, "rows": rows, "owed": list(dict.fromkeys(owed))}
        path = measure.save("models", content, given.device, given.folder)
        print(f"saved {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
