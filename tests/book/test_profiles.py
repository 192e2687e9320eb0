"""What goes to a cluster: profiles are named, and steps that run elsewhere are heard here."""

import importlib.util
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline import ROOT, book
from pipeline.execute import remote_logs as said
from pipeline.execute.parameters import BadParameter
from tests.book.test_install import asked, pins

PROFILES = sorted(file.parent.name for file in (ROOT / "profiles").glob("*/config.yaml"))


@pytest.fixture
def cluster(monkeypatch):
    """A machine that has the plugins, and submits to Slurm."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return monkeypatch


def test_there_is_a_profile_for_slurm_and_one_for_kubernetes(cluster):
    assert PROFILES == ["kubernetes", "slurm"]
    for name in PROFILES:
        option, folder = book.where(name)
        assert option == "--workflow-profile"
        content = yaml.safe_load((Path(folder) / "config.yaml").read_text("utf8"))
        assert content["executor"] == name and content["jobs"] > 1
    assert book.where("") == []


def test_a_misspelt_profile_is_named(cluster):
    with pytest.raises(
        BadParameter, match="PROFILE='slrum' is unknown; there is kubernetes, slurm"
    ):
        book.where("slrum")


def test_a_missing_plugin_is_named_with_the_command_that_installs_it(cluster):
    cluster.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadParameter, match="snakemake-executor-plugin-slurm: `make cluster`"):
        book.where("slurm")


def test_a_machine_without_slurm_is_told_so(cluster):
    cluster.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadParameter, match="there is no sbatch here"):
        book.where("slurm")


def test_the_pins_of_a_cluster_agree_with_the_books():
    mine, books = pins("requirements-cluster.txt"), pins("requirements.txt")
    assert asked("cluster") <= mine.keys()
    assert not mine.keys() & books.keys()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A Snakemake that ends after one word of its own; what others say goes to files."""
    monkeypatch.setattr(said, "SECONDS", 0.01)
    folder = tmp_path / "_build" / "said"
    folder.mkdir(parents=True)
    (tmp_path / "log").touch()
    process = SimpleNamespace(stdout=io.StringIO("… site\n"))

    def hear():
        return list(said.lines(process, folder, tmp_path / "log"))

    return SimpleNamespace(folder=folder, log=tmp_path / "log", hear=hear)


def test_words_of_other_machines_come_first_whole_and_once(elsewhere):
    (elsewhere.folder / "tiny").mkdir()
    (elsewhere.folder / "tiny" / "one.log").write_text("… tiny/one\n✓ tiny/one  1.0 s\n")
    (elsewhere.folder / "tiny" / "two.log").write_text("… tiny/two\nhalf a li")
    assert elsewhere.hear() == [
        "… tiny/one\n",
        "✓ tiny/one  1.0 s\n",
        "… tiny/two\n",
        "… site\n",
        "half a li",
    ]


DEATHS = """\
[Sat Nov 21 15:06:02 2026]
Error in rule execute:
    message: SLURM-job '2' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable \
(status command is not 'sacct').For further error details see the cluster/cloud log.
    jobid: 0
    output: _build/executed/chapters/tiny/two.ipynb
    log: _build/said/tiny/two.log (send to storage), {0}/2.log (check log file(s) for error details)
    external_jobid: 2
[Sat Nov 21 15:06:03 2026]
Error in rule execute:
    message: SLURM-job '1' failed, SLURM status is: 'FAILED'. Detailed failure reason unavailable
    jobid: 1
    log: _build/said/tiny/one.log (check log file(s) for error details)
[Sat Nov 21 15:06:04 2026]
Error in rule truth:
    message: SLURM sbatch failed. The error message was 'sbatch: error: no such partition
sbatch: error: Batch job submission failed'.
    sbatch call:
        sbatch --parsable …
For further error details see the cluster/cloud log.
    jobid: 3
    log: _build/truth.log (check log file(s) for error details)
[Sat Nov 21 15:06:05 2026]
Error in rule pairs:
    message: None
    jobid: 4
    output: _build/stamps/pairs
Exiting because a job execution failed.
"""


def test_who_died_without_a_word_is_named_and_who_spoke_is_not(elsewhere, tmp_path):
    (elsewhere.folder / "tiny").mkdir()
    (elsewhere.folder / "tiny" / "one.log").write_text("… tiny/one\n✗ tiny/one failed in cell 3\n")
    (elsewhere.folder / "tiny" / "two.log").write_text("… tiny/two\n")
    (tmp_path / "2.log").write_text("Building DAG\nslurmstepd: error: DUE TO TIME LIMIT\n")
    elsewhere.log.write_text(DEATHS.format(tmp_path))
    heard = elsewhere.hear()[4:]
    assert heard == [
        "✗ tiny/two did not end by itself: SLURM-job '2' failed, SLURM status is: 'TIMEOUT'.\n",
        "    | … tiny/two\n",
        "    | slurmstepd: error: DUE TO TIME LIMIT\n",
        f"  all that is known: {tmp_path}/2.log\n",
        "✗ truth did not end by itself: SLURM sbatch failed. The error message was 'sbatch: error: "
        "no such partition sbatch: error: Batch job submission failed'.\n",
    ]
