"""Times: of a call, on this machine; of kernels and models, on the GPUs that were measured."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nnlib import checks


def seconds(
    run: Callable[[], Any], repeat: int = 3, *, warm: bool = True, budget: float = 0.0
) -> float:
    """Return the seconds that `run()` takes: the best of several.

    The best and not the mean, since a busy machine only ever adds. On a CPU it is the processor's
    time on one core, which a neighbour disturbs least and which means the same on every machine.
    Where CUDA is in use it is the clock on the wall, after all that was queued has been done.

    Args:
        run: what is timed.
        repeat: how often, ≥ 1.
        warm: whether to run once before, so that caches, compilers and memory are ready.
        budget: go on repeating for as many seconds.

    Returns:
        Seconds > 0.

    Example:
        >>> seconds(lambda: sum(range(1000))) > 0
        True
    """
    repeat = checks.count("repeat", repeat)
    budget = checks.number("budget", budget, least=0)
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    clock, wait = (
        (time.perf_counter, torch.cuda.synchronize)
        if cuda
        else (time.process_time, int)
    )
    least = time.get_clock_info("perf_counter" if cuda else "process_time").resolution
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if checks.flag("warm", warm):
            run()
        taken: list[float] = []
        while len(taken) < repeat or sum(taken) < budget:
            wait()
            began = clock()
            run()
            wait()
            taken.append(max(clock() - began, least))
    finally:
        torch.set_num_threads(threads)
    return min(taken)


def measured(subject: str) -> list[dict[str, Any]]:
    """Return what `benchmarks/<subject>` found on GPUs, one record a device, newest first.

    Args:
        subject: `"kernels"` or `"models"`.

    Returns:
        Records with `device`, `date`, `versions` and the subject's own entries; none where no GPU
        was measured, or where nnlib was installed without the repository.
    """
    folder = Path(__file__).parent.parent / "benchmarks" / "results"
    records = []
    for file in sorted(folder.glob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["kind"] == "gpu" and subject in told:
            records.append({"device": told["device"], **told[subject]})
    return sorted(records, key=lambda record: record["date"], reverse=True)
