"""Time functions fairly, and keep what was found: one results file a device.

Functions that are compared take turns, round after round, so that a machine that is busy or warm
for a while slows all of them alike; what counts is the median. On a GPU the cache is emptied before
each call, because a kernel in a real program finds its input in main memory.
"""

import datetime
import json
import os
import platform
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
SUBJECTS = ("kernels", "models", "run")
ROUNDS = 5  # at least, however slow a function is
MOST_ROUNDS = 1000
SAMPLE = 1e-3  # seconds that one sample on the CPU takes at least; shorter calls are repeated


def seconds(function: Callable[[], Any], device: str | torch.device, *, budget: float = 0.5):
    """Return the median time of one call, in seconds, after a warm-up.

    Args:
        function: what to time; called with no argument.
        device: where it computes.
        budget: seconds to spend on it; five calls at least are made.
    """
    return compare({"it": function}, device, budget=budget)["it"]


def compare(
    functions: dict[str, Callable[[], Any]], device: str | torch.device, *, budget: float = 0.5
) -> dict[str, float]:
    """Return each function's median time, in seconds; they take turns, in random order.

    Args:
        functions: name and what to time; each is called with no argument.
        device: where they compute.
        budget: seconds to spend on each of them; five rounds at least are made.

    Raises:
        ValueError: nothing to time, or a budget that is not above 0.
        TypeError: an entry that cannot be called.
    """
    device = torch.device(device)
    if not functions:
        raise ValueError("functions={} must name one function or more")
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"functions[{name!r}]={function!r} must be callable")
    if not budget > 0:
        raise ValueError(f"budget={budget!r} must be above 0, in seconds")
    clock = _CudaClock(device) if device.type == "cuda" else _WallClock(device)
    cost = {}
    for name, function in functions.items():
        try:
            cost[name] = clock.warm_up(function)
        except Exception as error:
            error.add_note(f"while {name!r} was being timed on {device}")
            raise
    slowest = max(cost.values())
    repeats = {name: max(1, int(SAMPLE / (c + 1e-9))) for name, c in cost.items()}
    spent = sum(c * clock.repeats(repeats[name]) for name, c in cost.items())
    rounds = max(ROUNDS, min(MOST_ROUNDS, int(budget * len(functions) / max(spent, slowest))))
    names, order = list(functions), random.Random(0)
    for _ in range(rounds):
        order.shuffle(names)  # who comes before leaves its mark on caches: nobody always does
        for name in names:
            clock.time(name, functions[name], repeats[name])
    samples = clock.samples()
    return {name: statistics.median(samples[name]) for name in functions}


class _WallClock:
    """Times calls with the clock on the wall; for the CPU and for Apple's GPUs."""

    def __init__(self, device: torch.device):
        self.finish = torch.mps.synchronize if device.type == "mps" else lambda: None
        self.found: dict[str, list[float]] = {}

    def repeats(self, count: int) -> int:
        return count

    def warm_up(self, function) -> float:
        for _ in range(2):  # the first call may compile or allocate
            start = time.perf_counter()
            function()
            self.finish()
            once = time.perf_counter() - start
        return once

    def time(self, name, function, repeats):
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        self.finish()
        self.found.setdefault(name, []).append((time.perf_counter() - start) / repeats)

    def samples(self):
        return self.found


class _CudaClock:
    """Times single calls with the GPU's own events, each after the cache was emptied.

    `triton.testing.do_bench` does that for one function at a time. Here several take turns, so that
    a GPU that gets warm, or has a neighbour, is so for all of them.
    """

    def __init__(self, device: torch.device):
        self.device = device
        # far larger than the cache, so that filling it also gives the host time to queue the call
        room = min(2**30, torch.cuda.mem_get_info(device)[0] // 8)
        self.scratch = torch.empty(room, dtype=torch.int8, device=device)
        self.events: dict[str, list] = {}

    def repeats(self, count: int) -> int:
        return 1

    def warm_up(self, function) -> float:
        for _ in range(3):
            function()
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        for _ in range(3):
            self.scratch.zero_()
            function()
        torch.cuda.synchronize(self.device)
        return (time.perf_counter() - start) / 3

    def time(self, name, function, repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.scratch.zero_()
        start.record(torch.cuda.current_stream(self.device))
        function()
        end.record(torch.cuda.current_stream(self.device))
        self.events.setdefault(name, []).append((start, end))

    def samples(self):
        torch.cuda.synchronize(self.device)
        return {
            name: [start.elapsed_time(end) / 1e3 for start, end in pairs]
            for name, pairs in self.events.items()
        }


def fairly(turns: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return turns so that each name has its largest first, then each its second largest."""
    by_name: dict[str, list[Any]] = {}
    for name, size in turns:
        by_name.setdefault(name, []).insert(0, size)
    ranks = range(max(map(len, by_name.values()), default=0))
    return [(n, sizes[r]) for r in ranks for n, sizes in by_name.items() if r < len(sizes)]


def device_name(device: str | torch.device) -> str:
    """Return the name of the GPU or of the processor, as its maker writes it."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = named[1] if named else name
    name = name or platform.machine()
    return f"{name}, MPS" if device.type == "mps" else name


def copy_bandwidth(device: str | torch.device, *, budget: float = 0.5) -> float:
    """Return bytes a second that a large copy moves, reads and writes counted: the memory's roof.

    Args:
        device: whose memory.
        budget: seconds to spend.
    """
    device = torch.device(device)
    size = 2**26  # 64 MiB, above any cache of a processor that this is likely to run on
    if device.type == "cuda":
        size = min(2**30, torch.cuda.mem_get_info(device)[0] // 8)
    source = torch.zeros(size, dtype=torch.int8, device=device)
    copy = torch.empty_like(source)
    return 2 * size / seconds(lambda: copy.copy_(source), device, budget=budget)


def matmul_rate(
    device: str | torch.device, dtype: torch.dtype = torch.bfloat16, *, budget: float = 0.5
) -> float:
    """Return FLOP/s of a large square matrix product in `dtype`: the arithmetic's roof.

    Args:
        device: where to multiply.
        dtype: of the factors. float32 is as torch is set: full precision, or TF32.
        budget: seconds to spend.
    """
    device = torch.device(device)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype={dtype!r} must be a floating-point torch.dtype")
    n = 8192 if device.type == "cuda" else 512
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator).to(device, dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device, budget=budget)


def versions() -> dict[str, str]:
    """Return what the times depend on: the versions of python, torch and triton."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    try:
        found["triton"] = metadata.version("triton")
    except metadata.PackageNotFoundError:
        found["triton"] = "absent"
    return found


def slug(name: str) -> str:
    """Return a device's name as a file's name: `NVIDIA H200` becomes `nvidia-h200`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def save(
    subject: str, content: dict[str, Any], device: str | torch.device, folder: Path = RESULTS
) -> Path:
    """Write `content`, with date and versions, into the device's results file, and return its path.

    What the file holds of other subjects stays; the file is replaced in one step, so that a run
    that is cut off leaves the old one whole.

    Args:
        subject: `"kernels"`, `"models"`, or `"run"`: what `benchmarks.gpu` did and owes.
        content: what was found; numbers, text, lists and dictionaries.
        device: where it was found.
        folder: of the results.

    Raises:
        ValueError: an unknown subject, a number that is not finite, or a file that is no results
            file of this device.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"subject={subject!r} must be one of {list(SUBJECTS)}")
    device, folder = torch.device(device), Path(folder)
    kind, name = "cpu" if device.type == "cpu" else "gpu", device_name(device)
    path = folder / f"{slug(name)}.json"
    record = {"kind": kind, "device": name}
    if path.exists():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            told = record["kind"], record["device"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no results file: {error}; move it away") from error
        if told != (kind, name):
            raise ValueError(f"{path} is about {told}, not about {(kind, name)}; move it away")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    record[subject] = {"date": today, "versions": versions(), **content}
    try:
        text = json.dumps(record, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"content must hold finite numbers only: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path
