"""The table of seconds per chapter, from the records of the last runs: `python -m pipeline.times`.

`over(root)` names the chapters that take more than the book allows. `--settle` times those again,
alone: side by side, two chapters share caches and cost each other seconds that are not theirs. And
it times a yardstick beside them: on a rented machine whose neighbours are busy, the same work may
cost several times the seconds, and such seconds count for less.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CPU_SECONDS, WALL_SECONDS = 20.0, 30.0  # of one chapter at its defaults
YARDSTICK = ("-c", "import torch")
YARDSTICK_SECONDS = 2.0  # of CPU that it takes on the machine that the budget is meant for


def records(root: Path = ROOT, work: Path | None = None) -> list[dict[str, Any]]:
    """Return the record of every executed chapter that the book still has, by name."""
    folder = (work or root / "_build") / "executed" / "chapters"
    found = [json.loads(file.read_text("utf8")) for file in sorted(folder.glob("*/*.json"))]
    return [r for r in found if (root / "chapters" / f"{r['chapter']}.ipynb").exists()]


def over(root: Path = ROOT) -> list[str]:
    """Return one sentence for each chapter beyond its budget."""
    return [
        f"{record['chapter']} took {record[kind]:.1f} {words}, {most:.0f} are allowed"
        for record in records(root)
        for kind, words, most in (
            ("cpu_seconds", "CPU-seconds", CPU_SECONDS),
            ("wall_seconds", "seconds", WALL_SECONDS),
        )
        if record[kind] > most * record.get("slowness", 1.0)
    ]


def slowness() -> float:
    """Return how many times longer the yardstick takes than it should, the best of three; ≥ 1."""
    taken = []
    for _ in range(3):
        before = _children_seconds()
        subprocess.run([sys.executable, *YARDSTICK], check=True)
        taken.append(_children_seconds() - before)
    return max(1.0, min(taken) / YARDSTICK_SECONDS)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def settle(root: Path = ROOT) -> None:
    """Run each chapter that seems too slow once more, by itself; that record counts."""
    from pipeline.run_chapter import run

    late = [line.split(" took ")[0] for line in over(root)]
    for chapter in dict.fromkeys(late):
        file = root / "_build" / "executed" / "chapters" / f"{chapter}.json"
        record = json.loads(file.read_text("utf8"))
        slow = slowness()
        with tempfile.TemporaryDirectory() as folder:
            alone = run(chapter, root=root, into=Path(folder))
        told = (
            f"{record['cpu_seconds']:.1f} s of CPU beside others, {alone['cpu_seconds']:.1f} alone"
        )
        alone["slowness"] = round(min(slow, slowness()), 2)
        if alone["slowness"] > 1:
            told += f"; everything takes {alone['slowness']:.1f} times as long here now"
        print(f"{chapter}: {told}", flush=True)
        alone["sha256"] = record.get("sha256", "")  # of the notebook that stays
        file.write_text(json.dumps(alone, indent=1, ensure_ascii=False) + "\n", "utf8")


def table(root: Path = ROOT, work: Path | None = None) -> str:
    """Return the table that `make book` ends with; `work` holds the book of a preset."""
    rows = [(r["chapter"], r["cpu_seconds"], r["wall_seconds"]) for r in records(root, work)]
    if not rows:
        return "no chapter has been executed"
    total = ("total", sum(r[1] for r in rows), sum(r[2] for r in rows))
    width = max(len(row[0]) for row in [*rows, total])
    lines = [f"{'chapter':<{width}}   CPU s  wall s"]
    lines += [f"{name:<{width}}  {cpu:6.1f}  {wall:6.1f}" for name, cpu, wall in [*rows, total]]
    late = over(root) if work in (None, root / "_build") else []  # a larger run may take its time
    return "\n".join([*lines, *(f"over budget: {problem}" for problem in late)])


if __name__ == "__main__":
    if "--settle" in sys.argv[1:]:
        settle()
    else:
        print(table())
