"""Hold the arena: cost of a step, number of steps, rate, three seeds; all kept as it is found.

Every reader gets the same CPU-seconds on every task. So that a second run gives the same numbers on
any machine, the seconds are turned into steps once, by the measured cost of one, and both are
written down; after that only the steps count. So what is timed comes first, and wants a quiet
machine for a minute; the trainings after it may run beside other work. What the file holds already
is not run again.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

from benchmarks.readers import echo
from benchmarks.readers.models import BLOCKS, PARAMETERS, Reader, held, sized
from benchmarks.readers.tasks import Task, tasks
from nnlib.sequence.s4 import parameter_groups
from nnlib.train.loop import train
from nnlib.train.metrics import parameter_count
from nnlib.train.schedules import warmup_cosine

BATCH = 32
TURNS = 9  # of measuring what a step costs
WARMUP, CLIP = 0.1, 1.0
LENGTHS = (64, 512, 4096)  # after which a step of generation is measured
SAMPLES = 48  # steps of each
ECHO, CHANCE, SIMPLE = "echo_state", "chance", "simple"

Keep = Callable[[Mapping[str, Any]], None]


def make(wanted: Mapping[str, Any], kept: dict[str, Any], keep: Keep) -> None:
    """Run what is missing in `kept`, and hand it to `keep` whenever something is done.

    Args:
        wanted: the plan: seeds, seconds, rates, columns, and rows: kind → label.
        kept: what was found before; it is added to.
        keep: writes it down.
    """
    torch.set_num_threads(1)
    known = {row["name"]: row for row in kept.get("rows", [])}
    kept["rows"] = rows = [
        {"values": {}, "how": {}, **known.get(name, {}), "name": name, "label": label}
        for name, label in wanted["rows"].items()
    ]
    readers = [row for row in rows if row["name"] in BLOCKS]
    at_work = {column: tasks()[column.split()[0]] for column in wanted["columns"]}
    for column, task in at_work.items():  # what is timed comes first, on a quiet machine
        new = [row for row in readers if column not in row["how"]]
        measured = costs(task, [row["name"] for row in new])
        for row in new:
            size, parameters, cost = measured[row["name"]]
            row["how"][column] = {
                "size": size, "parameters": parameters, "seconds a step": cost,
                "steps": max(1, int(wanted["seconds"] / cost)), "tuned": {}, "seconds": [],
            }  # fmt: skip
    for row in readers:
        if "parameters" not in row["values"]:
            row["values"] |= generation(row["name"])
    keep(kept)
    for column, task in at_work.items():
        for row in rows:
            for _ in _filled(row, column, task, wanted):
                keep(kept)
    kept["notes"] = {"columns": _note(rows, wanted), "generation": _cost_note()}
    keep(kept)


def _filled(row: dict[str, Any], column: str, task: Task, wanted: Mapping[str, Any]):
    """Fill one cell of the table, step by step; yield after each."""
    name = row["name"]
    if name in (CHANCE, SIMPLE):
        if column not in row["values"]:
            value = task.baselines()[name == SIMPLE]
            row["values"] |= {} if value is None else {column: [value]}
            yield
        return
    if name == ECHO and task.higher is False and task.outputs > 1:
        return  # ridge regression gives no probabilities
    how = row["how"].setdefault(column, {"size": echo.units(task), "tuned": {}, "seconds": []})
    for choice in echo.RADII if name == ECHO else wanted["rates"]:
        if str(choice) not in how["tuned"]:
            how["tuned"][str(choice)] = scored(task, name, how | {"rate": choice}, 0, "tune")[0]
            yield
    good = {c: s for c, s in how["tuned"].items() if s is not None}
    best = float((max if task.higher else min)(good, key=good.__getitem__))
    if how.get("rate") != best:  # at first, and where the plan tries more than it did
        how["rate"], how["seconds"], row["values"][column] = best, [], []
    values = row["values"][column]
    for seed in wanted["seeds"][len(values) :]:
        score, seconds = scored(task, name, how, seed)
        values.append(score)
        how["seconds"].append(seconds)
        print(f"{column:10s} {name:12s} seed {seed}: {score:.4f} in {seconds:.1f} s", flush=True)
        yield


def scored(
    task: Task, name: str, how: Mapping[str, Any], seed: int, part: str = "exam"
) -> tuple[float | None, float]:
    """Return a reader's score after its training, and the CPU-seconds of that.

    Args:
        task: see `tasks`.
        name: of the reader.
        how: its size, steps and rate.
        seed: of its weights and of what it learns from.
        part: "exam"; or "tune", for which it trains half as long, without what it is asked.
    """
    begin = time.process_time()
    if name == ECHO:
        return echo.score(task, how["rate"], seed, part), time.process_time() - begin
    steps = how["steps"] if part == "exam" else max(1, how["steps"] // 2)
    data = task.part("learn", steps * BATCH, seed if part == "exam" else -1 - seed)
    torch.manual_seed(seed)
    model = Reader(name, how["size"], task.inputs, task.outputs, task.tokens)
    optimizer = torch.optim.AdamW(parameter_groups(model, how["rate"]), fused=True)
    begin = time.process_time()
    try:
        train(
            model, task.loss, data, steps=steps, batch_size=BATCH, optimizer=optimizer,
            schedule=warmup_cosine(steps, WARMUP), clip=CLIP, seed=seed,
        )  # fmt: skip
    except FloatingPointError:
        return None, time.process_time() - begin
    seconds = time.process_time() - begin
    return task.score(model, *task.part(part, 0, seed)), seconds


def costs(task: Task, names: list[str]) -> dict[str, tuple[int, int, float]]:
    """Return for each reader its size, parameters, and CPU-seconds a step.

    They are measured in turns, and the fastest turn counts: the others had a busy machine.
    """
    batch = [part[:BATCH] for part in task.part("learn", BATCH, 0)]
    steps, found, taken = {}, {}, {name: [] for name in names}
    for name in names:
        size = sized(name, task.inputs, task.outputs, task.tokens)
        model = Reader(name, size, task.inputs, task.outputs, task.tokens)
        optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3), fused=True)

        def step(model=model, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            task.loss(model, *batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()

        steps[name], found[name] = step, (size, parameter_count(model))
        step()
    for _ in range(TURNS):
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(3):
                step()
            taken[name].append((time.process_time() - begin) / 3)
    return {name: (*found[name], min(taken[name])) for name in names}


@torch.no_grad()
def generation(name: str) -> dict[str, list[float]]:
    """Return what a step of a reader of names costs and what it holds, after many steps."""
    task = tasks()["names"]
    size = sized(name, task.inputs, task.outputs, task.tokens)
    model = Reader(name, size, task.inputs, task.outputs, task.tokens).eval()
    token, states, taken = torch.zeros(1, dtype=torch.long), None, []
    values: dict[str, list[float]] = {"parameters": [parameter_count(model)]}
    for read in range(1, max(LENGTHS) + 1):
        begin = time.process_time()
        _, states = model.step(token, states)
        taken.append(time.process_time() - begin)
        if read in LENGTHS:
            values[f"bytes at {read}"] = [held(states)]
            values[f"ms at {read}"] = [1e3 * median(taken[-SAMPLES:])]
    return values


def _note(rows: list[dict[str, Any]], wanted: Mapping[str, Any]) -> str:
    hows = [how for row in rows if row["name"] in BLOCKS for how in row["how"].values()]
    parameters, steps = ([how[key] for how in hows] for key in ("parameters", "steps"))
    rates = ", ".join(map(str, wanted["rates"]))
    return (
        f"Mean ± standard deviation over the seeds {', '.join(map(str, wanted['seeds']))}; bold is "
        f"the best. All readers have {PARAMETERS:,} parameters within 5 % ({min(parameters):,} to "
        f"{max(parameters):,}), batches of {BATCH}, and {wanted['seconds']} CPU-seconds for each "
        f"training, which is {min(steps):,} to {max(steps):,} steps. Each chose its learning rate "
        f"on each task among {rates}, by one run of half as many steps. "
        "`make compare FAMILY=sequence` makes the table anew."
    )


def _cost_note() -> str:
    return (
        f"The readers of names, one character at a time, after so many characters; milliseconds of "
        f"CPU time on one thread, the median of {SAMPLES} steps."
    )
