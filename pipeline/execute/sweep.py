"""Run one chapter over a grid of parameters and seeds: `python -m pipeline.execute.sweep`.

    parameters:            # every combination of these …
      hidden: [16, 32]
      steps: [100, 200]
    seeds: [0, 1, 2]       # … once for each seed; [0] when left out
    fixed:                 # the same for every run; may be left out
      batch_size: 32

Each run is a job of the Snakefile, so runs go side by side or to a cluster, and what is there is
not run again: a sweep that was interrupted, or whose grid has grown, goes on where it stood.
`_build/sweeps/<family>/<name>/<grid>/` then holds `results.csv` (a row a run), `summary.csv` (mean
and spread over the seeds), and a picture of them. Without a grid, the block `sweep` of
`chapters/<family>/<name>.yaml` is the chapter's own.
"""

import argparse
import difflib
import hashlib
import itertools
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT, book
from pipeline.execute import presets, run_chapter
from pipeline.execute.parameters import BadParameter, cells_of, checked

KEYS = ("parameters", "seeds", "fixed")
RESERVED = ("seed", "figures_dir", "strict")  # of these the sweep itself takes care


@dataclass(frozen=True)
class Sweep:
    """A grid, checked against its chapter.

    Args:
        chapter: `family/name`.
        folder: where everything of it goes.
        varied: the parameters that the grid varies, in its order.
        points: name of a run -> its parameters.
    """

    chapter: str
    folder: Path
    varied: tuple[str, ...]
    points: dict[str, dict[str, Any]]

    def record(self, point: str) -> Path:
        return self.folder / "runs" / f"{point}.json"


def read(chapter: str, grid: Path | None, *, preset: str = "", root: Path = ROOT) -> Sweep:
    """Read a grid, or the chapter's own when there is none, and check all of it.

    Raises:
        ChapterError: there is no such chapter.
        BadParameter: the grid is missing or misspelt, or a value does not fit the chapter.
    """
    cells = cells_of(run_chapter.find(chapter, root))
    where = f"{presets.place(chapter)}: sweep" if grid is None else str(grid)
    content = _own(chapter, root) if grid is None else _mapping(grid)
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            told = f"did you mean {near[0]}?" if near else f"it takes {', '.join(KEYS)}"
            raise BadParameter(f"{where}: unknown key {key!r}; {told}")
    varied, fixed = content.get("parameters") or {}, content.get("fixed") or {}
    for key, value in (("parameters", varied), ("fixed", fixed)):
        if not isinstance(value, dict):
            raise BadParameter(f"{where}: {key} must hold name: value, got {value!r}")
        for name in value:
            if name in RESERVED:
                told = "goes under seeds" if name == "seed" else "is set by the sweep"
                raise BadParameter(f"{where}: {name} {told}, not under {key}")
    if both := sorted(varied.keys() & fixed.keys()):
        raise BadParameter(f"{where}: {', '.join(both)} stands under parameters and under fixed")
    axes = {name: _values(where, name, values) for name, values in varied.items()}
    seeds = _values(where, "seeds", content.get("seeds", [0]))
    given = presets.values(presets.load(preset, root), chapter) if preset else {}
    points = {}
    for combination in itertools.product(*axes.values(), seeds):
        chosen = dict(zip([*axes, "seed"], combination, strict=True))
        try:
            values = checked(chapter, cells, given | fixed | chosen | {"strict": False})
        except BadParameter as error:
            raise BadParameter(f"{where}: {error}") from None
        points[_name(values)] = values
    name = presets.SWEEP if grid is None else grid.stem
    folder = root / "_build" / "sweeps" / chapter / (name + (f"-{preset}" if preset else ""))
    return Sweep(chapter, folder, tuple(axes), points)


def _own(chapter: str, root: Path) -> dict[str, Any]:
    content = presets.read(chapter, root).get(presets.SWEEP)
    if content is None:
        told = f"{presets.place(chapter)} has no block `sweep`; give a grid: GRID=grid.yaml"
        raise BadParameter(f"{chapter} has no grid of its own: {told}")
    return content


def _mapping(grid: Path) -> dict[str, Any]:
    if not grid.is_file():
        example = presets.place("foundations/mlp")
        told = f"the block `sweep` of {example} is an example of what it holds"
        raise BadParameter(f"GRID={str(grid)!r} is no file; {told}")
    try:
        content = yaml.safe_load(grid.read_text("utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{grid} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise BadParameter(f"{grid} must hold {', '.join(KEYS)}, got {content!r}")
    return content


def _values(grid: str, name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise BadParameter(f"{grid}: {name} must be a list of values, got {values!r}")
    if any(value in values[:at] for at, value in enumerate(values)):
        raise BadParameter(f"{grid}: {name} holds a value twice: {values}")
    return values


def _name(values: Mapping[str, Any]) -> str:
    """Name a run after its parameters, so that the same run has the same name in every grid."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run(sweep: Sweep, options: list[str], *, root: Path = ROOT) -> list[str]:
    """Run what is missing; return the names of the runs that failed."""
    for point, values in sweep.points.items():
        file = sweep.folder / "points" / f"{point}.json"
        text = json.dumps({"chapter": sweep.chapter, "parameters": values}, ensure_ascii=False)
        if not file.exists() or file.read_text("utf8") != text:
            run_chapter.publish(text.encode(), file)
    targets = [str(sweep.record(point).relative_to(root)) for point in sweep.points]
    book.run(targets, options, root=root)
    return [point for point in sweep.points if not sweep.record(point).exists()]


def run_point(file: Path, root: Path = ROOT) -> bool:
    """Run one point of a sweep, in a job of the Snakefile; tell in a line how it went."""
    point = json.loads(file.read_text("utf8"))
    chapter, values = point["chapter"], point["parameters"]
    folder, name = file.parents[1], file.stem
    story = folder / "failed" / f"{name}.txt"
    shown = " ".join(f"{key}={value}" for key, value in values.items() if key != "strict")
    try:
        record = run_chapter.run(
            chapter,
            values,
            root=root,
            target=folder / "runs" / f"{name}.ipynb",
            failed=folder / "failed" / f"{name}.ipynb",
        )
    except (run_chapter.ChapterError, BadParameter) as error:
        run_chapter.publish(f"{error}\n".encode(), story)
        print(f"✗ {chapter}  {shown}\n{error}", flush=True)
        return False
    story.unlink(missing_ok=True)
    print(f"✓ {chapter}  {shown}  {record['wall_seconds']:.1f} s", flush=True)
    return True


def gather(sweep: Sweep, root: Path = ROOT) -> dict[str, Any]:
    """Write the tables and the picture of the runs that are there; return name -> table."""
    import pandas as pd  # here: the checks above must answer at once

    rows = [_row(sweep, point, values) for point, values in sweep.points.items()]
    results = pd.DataFrame(rows)
    keys = ["point", "status", *_columns(sweep), "cpu_seconds", "wall_seconds", "error"]
    scalars = [name for name in results.columns if name not in keys]
    results = results.reindex(columns=[*keys[:-3], *scalars, *keys[-3:]])
    summary = _summary(results, list(sweep.varied), scalars)
    for name, table in (("results", results), ("summary", summary)):
        run_chapter.publish(table.to_csv(index=False).encode(), sweep.folder / f"{name}.csv")
    if len(summary):
        from pipeline.execute.sweep_plot import draw

        draw(results, summary, list(sweep.varied), sweep.folder / "sweep")
    return {"results": results, "summary": summary}


def _columns(sweep: Sweep) -> list[str]:
    first = next(iter(sweep.points.values()))
    held = [name for name in first if name not in (*sweep.varied, "seed", "strict")]
    return [*sweep.varied, "seed", *held]


def _row(sweep: Sweep, point: str, values: Mapping[str, Any]) -> dict[str, Any]:
    plain = {
        name: json.dumps(value) if isinstance(value, list | tuple | dict) else value
        for name, value in values.items()
        if name != "strict"
    }
    row = {"point": point, "status": "failed", **plain, "error": ""}
    file, story = sweep.record(point), sweep.folder / "failed" / f"{point}.txt"
    if file.exists():
        record = json.loads(file.read_text("utf8"))
        seconds = {kind: record[kind] for kind in ("cpu_seconds", "wall_seconds")}
        # A result may bear the name of a parameter, such as "steps".
        taken = {*row, *seconds}
        found = {(f"result {n}" if n in taken else n): v for n, v in record["scalars"].items()}
        return row | {"status": "done", **found, **seconds}
    lines = (
        story.read_text("utf8").splitlines() if story.exists() else ["it did not run to its end"]
    )
    return row | {"error": " ".join(line.strip() for line in lines[:2])}


def _summary(results: Any, varied: list[str], scalars: list[str]) -> Any:
    """Return one row for each combination and scalar: mean and spread over the seeds."""
    import pandas as pd

    done = results[results["status"] == "done"]
    long = done.melt([*varied, "seed"], scalars, "scalar", "value").dropna(subset="value")
    if not len(long):
        return pd.DataFrame(columns=[*varied, "scalar", "runs", "mean", "std", "least", "most"])
    groups = long.groupby([*varied, "scalar"], sort=False, dropna=False)["value"]
    return groups.agg(runs="count", mean="mean", std="std", least="min", most="max").reset_index()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a chapter over a grid of parameters.")
    parser.add_argument("chapter", nargs="?", default="", help="family/name")
    parser.add_argument(
        "grid", nargs="?", default="", help="a YAML file; the chapter's own when none"
    )
    parser.add_argument("--preset", default="", help="a preset, for the rest")
    parser.add_argument("--profile", default="", help="a folder of profiles: where to run")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    parser.add_argument("--point", type=Path, help="run one point of a sweep (for the Snakefile)")
    args = parser.parse_args()
    root = args.root.resolve()
    if args.point:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return 0 if run_point(args.point.resolve(), root) else 1
    grid = Path(args.grid) if args.grid else None
    try:
        sweep = read(args.chapter, grid, preset=args.preset, root=root)
        options = book.where(args.profile, root)
    except (run_chapter.ChapterError, BadParameter) as error:
        print(f"✗ {error}")
        return 1
    before = sum(sweep.record(point).exists() for point in sweep.points)
    print(f"{sweep.chapter}: {_runs(sweep.points)}, {before} of them done before", flush=True)
    failed = run(sweep, options, root=root)
    table = gather(sweep, root)["summary"]
    print(f"\n{table.to_string(index=False, float_format='{:.4g}'.format)}\n" if len(table) else "")
    print(f"{sweep.folder.relative_to(root)}: results.csv, summary.csv, sweep.svg")
    if failed:
        print(f"{_runs(failed)} failed; the same command tries them again:")
        for point in failed:
            print(f"  {_row(sweep, point, sweep.points[point])['error']}")
    return 1 if failed else 0


def _runs(points: Iterable[str]) -> str:
    count = len(list(points))
    return f"{count} run{'s' * (count != 1)}"


if __name__ == "__main__":
    sys.exit(main())
