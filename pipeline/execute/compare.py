"""Gather the table that compares a family: `python -m pipeline.execute.compare generative`.

`benchmarks/families/<family>.yaml` says which rows it has; the chapters record them with
`nnlib.notebook.record`:

    seeds: [0, 1, 2]
    columns: {"Fréchet ↓": .2f}       # and how its numbers are written
    rows:                             # chapter → name that it records → what the table calls it
      generative/vae: {"VAE, samples": "[VAE](vae.md)"}

Each chapter runs once for each seed, as a sweep does, so that what is there is not run again.
Where no chapter has the numbers, `made_by` names the module that makes them (its `make`), and
further keys are its own; `<!-- book: comparison family part -->` shows the columns `part` of it.
The numbers go to `benchmarks/families/<family>.json`, which is kept with the book, because a build
runs each chapter once, not three times; the mark `<!-- book: comparison family -->` shows them.
"""

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from nnlib import markup
from pipeline import ROOT, book
from pipeline.execute import run_chapter, sweep
from pipeline.execute.parameters import BadParameter

FOLDER = Path("benchmarks/families")
KEYS = ("seeds", "columns", "rows")
PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


def plan(family: str, root: Path = ROOT) -> dict[str, Any]:
    """Return what a family's table holds.

    Raises:
        BadParameter: the family has no table, or its file is misspelt.
    """
    file = root / FOLDER / f"{family}.yaml"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in (root / FOLDER).glob("*.yaml")))
        raise BadParameter(f"FAMILY={family!r} has no {FOLDER}/{family}.yaml; there are: {there}")
    content = yaml.safe_load(file.read_text("utf8"))
    keys = sorted(content) if isinstance(content, dict) else []
    if not (set(KEYS) < set(keys) if "made_by" in keys else keys == sorted(KEYS)):
        raise BadParameter(f"{FOLDER}/{family}.yaml must hold {', '.join(KEYS)}, got {content!r}")
    return content


def gathered(wanted: Mapping[str, Any], records: Mapping[str, Sequence[Mapping[str, float]]]):
    """Return the table's rows: label, chapter, and a number for each seed in each column.

    Args:
        wanted: what `plan` returns.
        records: chapter → the scalars of each of its runs, in the order of the seeds.

    Raises:
        BadParameter: a chapter does not record a row that the table wants.
    """
    from nnlib.notebook.records import BETWEEN  # here: it imports torch, and a page must not

    found = []
    for chapter, names in wanted["rows"].items():
        for name, label in names.items():
            values = {}
            for column in wanted["columns"]:
                key = BETWEEN.join((name, column))
                if all(key in scalars for scalars in records[chapter]):
                    values[column] = [scalars[key] for scalars in records[chapter]]
            if not values:
                near = sorted(
                    {k.split(BETWEEN)[0] for s in records[chapter] for k in s if BETWEEN in k}
                )
                told = f"it records: {', '.join(near)}" if near else "it records nothing"
                raise BadParameter(f"{chapter} records no row {name!r}; {told}")
            found.append({"label": label, "chapter": chapter, "name": name, "values": values})
    return found


def compare(family: str, root: Path = ROOT) -> Path:
    """Run what is missing, and write the numbers; return their file.

    Raises:
        BadParameter: see `plan` and `gathered`.
        ChapterError: a run failed.
    """
    from benchmarks import measure  # here, as above

    wanted, file = plan(family, root), root / FOLDER / f"{family}.json"
    told = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": measure.device_name("cpu"),
        "versions": measure.versions(),
        "seeds": wanted["seeds"],
    }
    if "made_by" in wanted:
        kept = json.loads(file.read_text("utf8")) if file.exists() else {}
        maker = importlib.import_module(wanted["made_by"])
        maker.make(wanted, kept, lambda found: _write(file, {**told, **found}))
        return file
    records = {}
    for chapter in wanted["rows"]:
        grid = root / "_build" / "sweeps" / "comparison.yaml"
        run_chapter.publish(json.dumps({"seeds": wanted["seeds"]}).encode(), grid)
        runs = sweep.read(chapter, grid, root=root)
        if failed := sweep.run(runs, book.where("", root), root=root):
            raise run_chapter.ChapterError(f"{chapter}: {len(failed)} of its runs failed")
        read = [json.loads(runs.record(point).read_text("utf8")) for point in runs.points]
        records[chapter] = [record["scalars"] for record in read]
    _write(file, {**told, "rows": gathered(wanted, records)})
    return file


def _write(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    run_chapter.publish(text.encode(), file)


def table(family: str, part: str = "columns", root: Path = ROOT) -> str:
    """Return the table in Markdown: mean ± standard deviation over the seeds, and what made it.

    Where an arrow says which way is better, the best is bold; rows in italics do not compete.
    """
    columns = plan(family, root)[part]
    content = json.loads((root / FOLDER / f"{family}.json").read_text("utf8"))
    rows = [row for row in content["rows"] if any(name in row["values"] for name in columns)]
    best = {name: _best(rows, name, form) for name, form in columns.items()}
    cells = [
        (row["label"], *(_cell(row, name, form, best[name]) for name, form in columns.items()))
        for row in rows
    ]
    runs = len(content["seeds"])
    note = content.get("notes", {}).get(
        part,
        f"Mean ± standard deviation over {runs} runs of each chapter, with the seeds "
        f"{', '.join(map(str, content['seeds']))}; the best is bold. "
        f"`make compare FAMILY={family}` makes the table anew.",
    )
    return f"{markup.table(('', *columns), cells)}\n\n{note}"


def _best(rows: Sequence[Mapping[str, Any]], column: str, form: str) -> str | None:
    """Return the best mean as it is printed, so that what looks alike is bold alike."""
    pick = {"↑": max, "↓": min}.get(column[-1])
    rows = [row for row in rows if column in row["values"] and not _apart(row)]
    if pick is None or not rows:
        return None
    return format(pick(statistics.fmean(row["values"][column]) for row in rows), form)


def _apart(row: Mapping[str, Any]) -> bool:
    return row["label"].startswith("*")


def _cell(row: Mapping[str, Any], column: str, form: str, best: str | None) -> str:
    values = row["values"].get(column)
    if not values:
        return "–"
    mean = format(statistics.fmean(values), form)
    shown = f"**{mean}**" if mean == best and not _apart(row) else mean
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{shown}{PLUS_MINUS}{format(spread, form)}" if spread else shown


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Gather the table that compares a family.")
    parser.add_argument("family", help="generative, …")
    told = parser.parse_args(arguments)
    try:
        file = compare(told.family)
    except (BadParameter, run_chapter.ChapterError) as error:
        print(f"✗ {error}")
        return 1
    print(f"\n{table(told.family)}\n\nwrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
