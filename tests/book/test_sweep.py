"""Sweeps: a grid is checked whole, resumes where it stood, and one failure stops no other run."""

import json
import os
import signal

import pandas as pd
import pytest

from nnlib.notebook import band
from pipeline import ROOT
from pipeline.execute import presets, sweep
from pipeline.execute.dependencies import chapters
from pipeline.execute.parameters import BadParameter
from pipeline.execute.run_chapter import ChapterError
from tests.book.scratch import Scratch, kernels, wait_for

CHAPTER = "foundations/mlp"
MEASURE = """\
import json, os, time
from pathlib import Path
if steps == 13 and not Path("mended").exists():
    raise RuntimeError("thirteen")
while Path("hold").exists():
    time.sleep(0.1)
with open(os.environ["NNLIB_SCALARS"], "a") as out:
    print(json.dumps(["accuracy", steps + 10 * seed]), file=out)
"""


@pytest.mark.parametrize("chapter", [c for c in chapters() if presets.SWEEP in presets.read(c)])
def test_a_chapters_own_grid_fits_it(chapter):
    own = sweep.read(chapter, None)
    assert own.points and own.folder == ROOT / "_build" / "sweeps" / chapter / "sweep"


def test_a_slip_in_a_chapters_own_grid_is_named_with_its_file(tmp_path):
    (tmp_path / "chapters" / "foundations").mkdir(parents=True)
    for kind in ("md", "ipynb"):
        file = f"chapters/{CHAPTER}.{kind}"
        (tmp_path / file).symlink_to(ROOT / file)
    with pytest.raises(BadParameter, match=r"no grid of its own: chapters/foundations/mlp\.yaml"):
        sweep.read(CHAPTER, None, root=tmp_path)
    (tmp_path / f"chapters/{CHAPTER}.yaml").write_text("sweep: {parameters: {stepps: [5]}}")
    with pytest.raises(BadParameter, match=r"chapters/foundations/mlp.yaml: sweep: .*'stepps'"):
        sweep.read(CHAPTER, None, root=tmp_path)


def test_a_grid_is_every_combination_for_every_seed(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text("parameters: {steps: [5, 6], batch_size: [8]}\nseeds: [0, 1, 2]")
    points = sweep.read(CHAPTER, grid).points
    assert sorted((p["steps"], p["seed"]) for p in points.values()) == [
        (steps, seed) for steps in (5, 6) for seed in (0, 1, 2)
    ]
    grid.write_text("parameters: {steps: [6, 7], batch_size: [8]}\nseeds: [2, 1]")
    again = sweep.read(CHAPTER, grid).points
    assert len(points.keys() & again.keys()) == 2, "the same run has the same name"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("parameter: {steps: [5]}", "unknown key 'parameter'; did you mean parameters?"),
        ("zzz: 1", "unknown key 'zzz'; it takes parameters, seeds, fixed"),
        ("parameters: {stepps: [5]}", "foundations/mlp has no parameter 'stepps'"),
        ("parameters: {steps: [5, five]}", "parameter steps='five' must be a whole number"),
        ("parameters: {steps: 5}", "steps must be a list of values, got 5"),
        ("parameters: {steps: []}", "steps must be a list of values, got []"),
        ("parameters: {steps: [5, 5]}", "steps holds a value twice"),
        ("parameters: {seed: [1]}", "seed goes under seeds"),
        ("fixed: {strict: true}", "strict is set by the sweep"),
        ("{parameters: {steps: [5]}, fixed: {steps: 4}}", "under parameters and under fixed"),
        ("seeds: 3", "seeds must be a list of values, got 3"),
        ("seeds: [a]", "parameter seed='a' must be a whole number"),
        ("- 1", "must hold parameters, seeds, fixed"),
        ("a: {b", "is no YAML"),
    ],
)
def test_a_slip_in_a_grid_is_named(tmp_path, text, told):
    grid = tmp_path / "grid.yaml"
    grid.write_text(text)
    with pytest.raises(BadParameter) as error:
        sweep.read(CHAPTER, grid)
    assert str(grid) in str(error.value) and told in str(error.value)


def test_a_missing_grid_and_a_misspelt_chapter_are_named(tmp_path):
    with pytest.raises(
        BadParameter, match="is no file; the block `sweep` of chapters/foundations/mlp"
    ):
        sweep.read(CHAPTER, tmp_path / "none.yaml")
    with pytest.raises(ChapterError, match="did you mean foundations/mlp"):
        sweep.read("foundations/mpl", tmp_path / "none.yaml")


def test_a_band_hands_what_it_measured_to_the_runner(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NNLIB_SCALARS", str(tmp_path / "scalars.jsonl"))
    band("accuracy", 0.93, at_least=0.9)
    assert json.loads((tmp_path / "scalars.jsonl").read_text()) == ["accuracy", 0.93]
    assert capsys.readouterr().out == "✓ accuracy at least 0.9\n"


def test_a_sweep_resumes_after_a_kill_and_reports_what_failed(tmp_path):
    book = Scratch(tmp_path)
    book.write("tiny/two", MEASURE, parameters="seed = 0\nsteps = 3\nstrict = True")
    chapter, folder = book.root / "chapters" / "tiny", book.root / "_build/sweeps/tiny/two/grid"
    (book.root / "grid.yaml").write_text("parameters: {steps: [7, 13]}\nseeds: [0, 1]\n")
    command = ("make", "sweep", "CHAPTER=tiny/two", "GRID=grid.yaml")
    status, said = book.run(*command)
    assert status != 0
    for words in ("4 runs, 0 of them done before", "✗ tiny/two", "RuntimeError: thirteen",
                  "2 runs failed; the same command tries them again"):  # fmt: skip
        assert words in said, said
    results = pd.read_csv(folder / "results.csv").sort_values(["steps", "seed"])
    assert results["status"].tolist() == ["done", "done", "failed", "failed"]
    assert results["accuracy"].tolist()[:2] == [7, 17]
    assert results["error"].iloc[2].startswith("tiny/two failed in cell 3")

    # Mended, and killed while the runs that failed before are under way.
    (chapter / "mended").touch()
    (chapter / "hold").touch()
    process = book.start(*command)
    try:
        wait_for(lambda: kernels(book), "a kernel")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    wait_for(lambda: not kernels(book), "the end of the kernels")
    assert len(list((folder / "runs").glob("*.json"))) == 2
    (chapter / "hold").unlink()
    status, said = book.run(*command)
    assert status == 0 and "4 runs, 2 of them done before" in said, said
    assert "[2/2] tiny/two" in said
    table = pd.read_csv(folder / "summary.csv").sort_values("steps")
    assert table["mean"].tolist() == [12, 18] and table["runs"].tolist() == [2, 2]
    assert table["std"].tolist() == pytest.approx([50**0.5] * 2)
    assert pd.read_csv(folder / "results.csv")["status"].eq("done").all()
    assert (folder / "sweep.svg").exists() and (folder / "sweep.png").exists()
    status, said = book.run(*command)
    assert status == 0 and "4 runs, 4 of them done before" in said and "✓" not in said, said
