"""Hold the sides of each case together, time them, and say who is late."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import measure
from benchmarks.models import CASES
from benchmarks.models._contest import SEED, Size, hold_equal

GOAL = 1.2  # at most this many times the peer's time (decisions and README state it)
PEERS = ("torch.nn", "transformers", "bm25s", "faiss", "mambapy", "reservoirpy", "torchvision")
PEERS += ("sklearn", "xlstm", "zuko", "torch_geometric", "torchdiffeq", "ncps", "snntorch", "kan")
PEERS += ("scipy", "torch.func", "torch.distributions", "gensim", "minisom")
PEERS += ("pytorch_metric_learning",)


def run(
    names: Sequence[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    quick: bool = False,
    budget: float | None = None,
    within: float = math.inf,
    owed: list[str] | None = None,
    tell: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Hold every case to its peer, time both, print a line a row, and return the rows.

    A case whose peer is not installed is left out, and said so.

    Args:
        names: of the cases; None is all.
        device: where to compute; bfloat16 on a GPU, float32 elsewhere.
        quick: whether to take the smallest size only.
        budget: seconds for each side of a row; None is 2, or 0.3 when quick.
        within: seconds after which no more is begun; with a limit, every case has its turn at one
            size before any has it at two.
        owed: receives what was left out, and why.
        tell: receives the lines.

    Raises:
        ValueError: an unknown name; the message lists those there are.
        AssertionError: two sides do not compute the same.
    """
    names = list(CASES) if names is None else list(names)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ValueError(f"names={unknown!r} must be among {list(CASES)}")
    device = torch.device(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    gpu = device.type == "cuda"
    budget = budget or (0.3 if quick else 2.0)
    rows: list[dict[str, Any]] = []
    owed = [] if owed is None else owed
    turns = [(name, size) for name in names for size in sizes(name, quick=quick, gpu=gpu)]
    if within < math.inf:
        turns = measure.fairly(turns)
    end = time.monotonic() + within
    tell(f"{measure.device_name(device)}, {dtype}; peer's time over nnlib's in brackets")
    for name, size in turns:
        if time.monotonic() > end:
            owed.append(f"{name} {size}: no time was left")
            continue
        torch.manual_seed(SEED)
        try:
            contests = CASES[name].build(size, device, dtype)
        except ImportError as error:
            owed.append(f"{name}: {error}")
            continue
        for contest in contests:
            try:
                hold_equal(contest, dtype)
            except (AssertionError, RuntimeError) as error:
                if within == math.inf:
                    raise
                owed.append(f"{contest.what} {size}: {str(error).splitlines()[0]}")
                continue
            taken = measure.compare(contest.runs, device, budget=budget)
            rows.append({"what": contest.what, "shape": size, "seconds": taken})
            tell(line(rows[-1]))
    for told in dict.fromkeys(owed):
        tell(f"left out: {told}")
    return rows


def sizes(name: str, *, quick: bool, gpu: bool) -> list[Size]:
    """Return the sizes of a case, smallest first; the smallest alone when quick."""
    told = CASES[name].gpu if gpu else CASES[name].cpu
    return told[: 1 if quick else None]


def ratio(row: dict[str, Any]) -> float | None:
    """Return nnlib's time over the best peer's; None where no other library does the same."""
    peers = [seconds for name, seconds in row["seconds"].items() if name in PEERS]
    return row["seconds"]["nnlib"] / min(peers) if peers else None


def is_late(row: dict[str, Any]) -> bool:
    """Return whether the row misses the goal; without a peer there is none to miss."""
    found = ratio(row)
    return found is not None and found > GOAL


def line(row: dict[str, Any]) -> str:
    mine, shape = row["seconds"]["nnlib"], " ".join(f"{k}{v}" for k, v in row["shape"].items())
    others = ", ".join(
        f"{name} {1e3 * seconds:.2f} ms ({seconds / mine:.2f})"
        for name, seconds in row["seconds"].items()
        if name != "nnlib"
    )
    late = f"   SLOWER than {GOAL} times the peer" if is_late(row) else ""
    return f"{row['what']:28s} {shape:32s} nnlib {1e3 * mine:.2f} ms, {others}{late}"
