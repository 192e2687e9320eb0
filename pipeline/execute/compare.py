"""Gather the table that compares a family: `python -m pipeline.execute.compare generative`.

`benchmarks/families/<family>.yaml` says which rows it has; the chapters record them with
`nnlib.notebook.record`:

    seeds: [0, 1, 2]
    columns: {"Fréchet ↓": .2f}       # and how its numbers are written
    rows:                             # chapter → name that it records → what the table calls it
      generative/vae: {"VAE, samples": "[VAE](vae.md)"}

Each chapter runs once for each seed, as a sweep does, so that what is there is not run again.
The numbers go to `benchmarks/families/<family>.json`, which is kept with the book, because a build
runs each chapter once, not three times; the mark `<!-- book: comparison family -->` shows them.
"""

import argparse
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
    if not isinstance(content, dict) or sorted(content) != sorted(KEYS):
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

    wanted = plan(family, root)
    records = {}
    for chapter in wanted["rows"]:
        grid = root / "_build" / "sweeps" / "comparison.yaml"
        run_chapter.publish(json.dumps({"seeds": wanted["seeds"]}).encode(), grid)
        runs = sweep.read(chapter, grid, root=root)
        if failed := sweep.run(runs, book.where("", root), root=root):
            raise run_chapter.ChapterError(f"{chapter}: {len(failed)} of its runs failed")
        read = [json.loads(runs.record(point).read_text("utf8")) for point in runs.points]
        records[chapter] = [record["scalars"] for record in read]
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": measure.device_name("cpu"),
        "versions": measure.versions(),
        "seeds": wanted["seeds"],
        "rows": gathered(wanted, records),
    }
    file = root / FOLDER / f"{family}.json"
    run_chapter.publish((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(), file)
    return file


def table(family: str, root: Path = ROOT) -> str:
    """Return the table in Markdown: mean ± standard deviation over the seeds, and what made it."""
    columns = plan(family, root)["columns"]
    content = json.loads((root / FOLDER / f"{family}.json").read_text("utf8"))
    rows = []
    for row in content["rows"]:
        cells = [_cell(row["values"].get(name), form) for name, form in columns.items()]
        rows.append((row["label"], *cells))
    runs = len(content["seeds"])
    return (
        markup.table(("", *columns), rows)
        + f"\n\nMean ± standard deviation over {runs} runs of each chapter, with the seeds "
        f"{', '.join(map(str, content['seeds']))}; `make compare FAMILY={family}` makes the table "
        "anew."
    )


def _cell(values: Sequence[float] | None, form: str) -> str:
    if not values:
        return "–"
    mean = format(statistics.fmean(values), form)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{format(spread, form)}" if spread else mean


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
