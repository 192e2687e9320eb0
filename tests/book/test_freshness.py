"""Freshness: what it installs, how it finds the package to blame, what the page says."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import ROOT
from pipeline.checks import freshness
from pipeline.execute.parameters import BadParameter


def test_nothing_is_pinned_but_what_is_kept():
    wanted = freshness.requirements(ROOT, ["torch==2.13.0"])
    assert [line for line in wanted if "==" in line.split(";")[0]] == ["torch==2.13.0"]
    assert any(line.startswith("jupyter-book>=1") for line in wanted)


@pytest.mark.parametrize("keep", ["torch", "torch>=2", "torch=2.13", "=="])
def test_a_slip_in_what_is_kept_is_named(keep):
    with pytest.raises(BadParameter, match=r"it takes name==version, such as torch==2\.13\.0"):
        freshness.requirements(ROOT, [keep])
    command = [sys.executable, "-m", "pipeline.checks.freshness", "--keep", keep]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and keep in done.stdout


def test_a_package_that_the_book_does_not_use_is_no_pin():
    assert "torch==2.13.0" in freshness.requirements(ROOT, ["torch==2.13.0"])
    with pytest.raises(BadParameter, match=r"'torchx', .* did you mean torch"):
        freshness.requirements(ROOT, ["torchx==2.13.0"])


@pytest.mark.parametrize("guilty", range(7))
def test_halving_finds_the_package_in_few_runs(guilty):
    names, runs = list("abcdefg"), []

    def breaks(packages):
        runs.append(packages)
        return names[guilty] in packages

    assert freshness.culprit(names, breaks) == names[guilty]
    assert len(runs) <= 4


def test_no_package_is_blamed_for_what_all_of_them_do_not_break():
    assert freshness.culprit(list("abc"), lambda packages: False) == ""
    assert freshness.culprit([], lambda packages: True) == ""


def test_an_overlay_holds_the_chosen_packages_and_no_other(tmp_path):
    site = Path(pytest.__file__).parents[1]
    folder = freshness.overlay(["pluggy"], site, tmp_path / "overlay")
    assert (folder / "pluggy" / "__init__.py").exists()
    assert {name.split("-")[0] for name in (item.name for item in folder.iterdir())} == {"pluggy"}


def test_the_page_tells_what_broke_what():
    statuses = [
        freshness.Status("tiny/one", True, 3.2),
        freshness.Status("tiny/two", False, error="AttributeError: <gone>", culprit="a 1 → 2"),
    ]
    text = freshness.page(statuses, {"a": ("1", "2")}, "2026-01-02")
    for words in ("<b>1 of 2</b>", "a 1 → 2", "AttributeError: &lt;gone&gt;", "2026-01-02"):
        assert words in text
