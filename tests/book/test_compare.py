"""Comparisons of a family: what the chapters record becomes a table, and stays what they record."""

import json
import statistics
import sys
from types import SimpleNamespace

import pytest

from benchmarks import measure
from pipeline import ROOT
from pipeline.execute import compare
from pipeline.execute.parameters import BadParameter
from pipeline.site import landing

FAMILIES = sorted(
    file.stem
    for file in (ROOT / compare.FOLDER).glob("*.yaml")
    if "made_by" not in compare.plan(file.stem)  # tests/book/test_readers.py has the others
)
WANTED = {
    "seeds": [0, 1],
    "columns": {"Fréchet ↓": ".1f", "bits": ".2f"},
    "rows": {"generative/vae": {"real": "*real digits*", "VAE": "[VAE](vae.md)"}},
}
RUNS = {
    "generative/vae": [
        {"real | Fréchet ↓": 1.0, "VAE | Fréchet ↓": 4.0, "VAE | bits": 2.0, "a band": 7.0},
        {"real | Fréchet ↓": 1.0, "VAE | Fréchet ↓": 6.0, "VAE | bits": 2.5, "a band": 8.0},
    ]
}


def _family(root, **content):
    folder = root / compare.FOLDER
    folder.mkdir(parents=True)
    (folder / "some.yaml").write_text(json.dumps(WANTED))
    (folder / "some.json").write_text(json.dumps({"seeds": [0, 1], **content}))


def test_the_rows_hold_a_number_for_each_seed_where_there_is_one():
    real, vae = compare.gathered(WANTED, RUNS)
    assert real["label"] == "*real digits*" and real["values"] == {"Fréchet ↓": [1.0, 1.0]}
    assert vae["values"] == {"Fréchet ↓": [4.0, 6.0], "bits": [2.0, 2.5]}


def test_a_row_that_no_chapter_records_is_named_with_those_that_are():
    wanted = WANTED | {"rows": {"generative/vae": {"VEA": "VAE"}}}
    with pytest.raises(BadParameter, match="vae records no row 'VEA'; it records: VAE, real"):
        compare.gathered(wanted, RUNS)


def test_a_family_without_a_table_and_a_misspelt_plan_are_named(tmp_path):
    _family(tmp_path)
    with pytest.raises(BadParameter, match=r"FAMILY='other' has no .*there are: some"):
        compare.plan("other", tmp_path)
    (tmp_path / compare.FOLDER / "some.yaml").write_text("seed: [0]")
    with pytest.raises(BadParameter, match=r"some.yaml must hold seeds, columns, rows"):
        compare.plan("some", tmp_path)


def test_what_no_chapter_records_is_made_by_a_module_and_kept_as_it_is_found(tmp_path, monkeypatch):
    _family(tmp_path)
    folder, seen = tmp_path / compare.FOLDER, []
    plan = WANTED | {"made_by": "maker", "rows": {"one": "One"}, "cost": {"ms": ".1f"}}
    (folder / "some.yaml").write_text(json.dumps(plan))

    def make(wanted, kept, keep):
        seen.append((wanted["cost"], kept["seeds"]))
        row = {"name": "one", "label": "One", "values": {"bits": [1.0, 2.0], "ms": [0.25]}}
        keep({"rows": [row], "notes": {"cost": "On one thread."}})
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "maker", SimpleNamespace(make=make))
    with pytest.raises(KeyboardInterrupt):
        compare.compare("some", tmp_path)
    assert seen == [({"ms": ".1f"}, [0, 1])]
    page = "<!-- book: comparison some -->\n\n<!-- book: comparison some cost -->\n"
    shown = landing.fill(page, "chapters/some/index", tmp_path, {}).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "| One | – | 1.50 ± 0.71 |" in shown and "the best is bold" in shown
    assert "| One | 0.2 |" in shown and shown.endswith("On one thread.\n")


def test_the_best_is_bold_among_those_that_compete(tmp_path):
    values = {"the data": 0.0, "near": 1.02, "nearer": 0.98, "far": 3.0}
    rows = [
        {"label": f"*{name}*" if name == "the data" else name, "values": {"Fréchet ↓": [value] * 2}}
        for name, value in values.items()
    ]
    _family(tmp_path, rows=rows)
    shown = compare.table("some", root=tmp_path)
    assert "| *the data* | 0.0 |" in shown and "| far | 3.0 |" in shown
    assert "| near | **1.0** |" in shown and "| nearer | **1.0** |" in shown


def test_a_page_shows_mean_and_spread_where_its_mark_stands(tmp_path):
    _family(tmp_path, rows=compare.gathered(WANTED, RUNS))
    page = "# Family\n\n<!-- book: comparison some -->\n\nMore.\n"
    shown = landing.fill(page, "chapters/some/index", tmp_path, {})
    assert "| *real digits* | 1.0 | – |" in shown
    shown = shown.replace("\N{NO-BREAK SPACE}", " ")
    assert f"| [VAE](vae.md) | **5.0** ± {statistics.stdev([4, 6]):.1f} | 2.25 ± 0.35 |" in shown
    assert "with the seeds 0, 1" in shown and shown.endswith("More.\n")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_what_the_book_was_built_with(family):
    """On the machine that made it, seed 0 is the book's own run; elsewhere, it is near."""
    content = json.loads((ROOT / compare.FOLDER / f"{family}.json").read_text("utf8"))
    plan = compare.plan(family)
    assert content["seeds"] == plan["seeds"] and plan["seeds"][0] == 0 and len(plan["seeds"]) >= 3
    chapters = {row["chapter"] for row in content["rows"]}
    files = {c: ROOT / "_build" / "executed" / "chapters" / f"{c}.json" for c in chapters}
    if missing := [c for c, file in files.items() if not file.exists()]:
        pytest.skip(f"not built: {', '.join(missing)}")
    runs = {c: [json.loads(f.read_text("utf8"))["scalars"]] * 3 for c, f in files.items()}
    here = content["device"] == measure.device_name("cpu")
    same = here and content["versions"]["torch"] == measure.versions()["torch"]
    now = compare.gathered(plan, runs)
    assert [row["label"] for row in content["rows"]] == [row["label"] for row in now]
    for kept, row in zip(content["rows"], now, strict=True):
        assert kept["values"].keys() == row["values"].keys(), f"make compare FAMILY={family}"
        for column, values in kept["values"].items():
            room = 1e-6 * abs(values[0]) if same else 5 * statistics.stdev(values)
            told = f"{row['label']}, {column}: make compare FAMILY={family}"
            assert abs(row["values"][column][0] - values[0]) <= room, told
