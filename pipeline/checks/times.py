"""The table of seconds per chapter, and who takes more than the book allows: `make times`.

What seems late is looked at again. A yardstick is timed: where the same work costs more seconds
than it should, seconds count for less. Who is still late is run again, alone: side by side, two
chapters share caches and cost each other seconds that are not theirs. No test asks a clock.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.checks.yardstick import slowness

CPU_SECONDS, WALL_SECONDS = 20.0, 30.0  # of one chapter at its defaults


def records(root: Path = ROOT, work: Path | None = None) -> list[dict[str, Any]]:
    """Return the record of every executed chapter that the book still has, by name."""
    folder = (work or root / "_build") / "executed" / "chapters"
    found = [json.loads(file.read_text("utf8")) for file in sorted(folder.glob("*/*.json"))]
    return [r for r in found if (root / "chapters" / f"{r['chapter']}.ipynb").exists()]


def over(root: Path = ROOT) -> list[str]:
    """Return one sentence for each chapter beyond its budget."""
    late = []
    for record in records(root):
        for kind, words, most in (
            ("cpu_seconds", "CPU-seconds", CPU_SECONDS),
            ("wall_seconds", "seconds", WALL_SECONDS),
        ):
            allowed = most * record.get("slowness", 1.0)
            if record[kind] > allowed:
                took = f"{record['chapter']} took {record[kind]:.1f} {words}"
                late.append(f"{took}, {allowed:.0f} are allowed")
    return late


def settle(root: Path = ROOT) -> None:
    """Hold each chapter that seems too slow to this machine's speed, and time it again if need be.

    The yardstick stands before and after each run; the mean of the two counts, and that record.
    """
    late = list(dict.fromkeys(line.split(" took ")[0] for line in over(root)))
    if not late:
        return
    now = slowness()
    print(f"the yardstick takes {now:.2f} times as long as it should")
    for chapter in late:
        record = _read(root, chapter)
        record["slowness"] = round(now, 2)
        _write(root, chapter, record)
    for chapter in late:
        if not any(line.startswith(f"{chapter} ") for line in over(root)):
            continue
        record = _read(root, chapter)
        alone = _alone(root, chapter)
        before, now = now, slowness()
        alone["slowness"] = round((before + now) / 2, 2)
        alone |= {k: record[k] for k in ("sha256", "state") if k in record}  # of what stays
        _write(root, chapter, alone)
        told = f"{record['cpu_seconds']:.1f} s of CPU beside others"
        told += f", {alone['cpu_seconds']:.1f} alone"
        print(f"{chapter}: {told}, at {alone['slowness']:.2f} times the yardstick", flush=True)


def _alone(root: Path, chapter: str) -> dict[str, Any]:
    from pipeline.execute.run_chapter import run

    with tempfile.TemporaryDirectory() as folder:
        return run(chapter, root=root, into=Path(folder))


def _file(root: Path, chapter: str) -> Path:
    return root / "_build" / "executed" / "chapters" / f"{chapter}.json"


def _read(root: Path, chapter: str) -> dict[str, Any]:
    return json.loads(_file(root, chapter).read_text("utf8"))


def _write(root: Path, chapter: str, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    _file(root, chapter).write_text(text, "utf8")


def table(root: Path = ROOT, work: Path | None = None) -> str:
    """Return the table that `make book` ends with; `work` holds the book of a preset."""
    rows = [(r["chapter"], r["cpu_seconds"], r["wall_seconds"]) for r in records(root, work)]
    if not rows:
        return "no chapter has been executed"
    total = ("total", sum(r[1] for r in rows), sum(r[2] for r in rows))
    width = max(len(row[0]) for row in [*rows, total])
    lines = [f"{'chapter':<{width}}   CPU s  wall s"]
    lines += [f"{name:<{width}}  {cpu:6.1f}  {wall:6.1f}" for name, cpu, wall in [*rows, total]]
    return "\n".join(lines)


def main(root: Path = ROOT) -> int:
    settle(root)
    print(table(root))
    late = over(root)
    for problem in late:
        print(f"over budget: {problem}")
    if not late:
        most = f"{CPU_SECONDS:.0f} CPU-seconds and {WALL_SECONDS:.0f} seconds"
        print(f"every chapter that was executed is within {most}, by the yardstick")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
