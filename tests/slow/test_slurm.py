"""Chapters and sweeps through a real Slurm: the results are those of this machine.

Slurm runs here for as long as the tests do (slurm_host.py), with two nodes that share the file
system, as those of a cluster do. The profile is the one that a user gets, unchanged.
"""

import json
import os
import shutil
import signal

import nbformat
import pandas as pd
import pytest

from tests.book.scratch import Scratch, wait_for
from tests.slow import slurm_host

REAL = ("foundations/perceptron", "foundations/mlp")
PLUGIN = "snakemake_executor_plugin_slurm"


# A chapter small enough for a sweep.
TRAINING = """\
import torch
from pipeline import ROOT
from nnlib.foundations.mlp import MLP
from nnlib.notebook import band
torch.manual_seed(seed)
x, model = torch.randn(64, 4), MLP(sizes=[4, 8, 1])
optimizer = torch.optim.Adam(model.parameters())
for _ in range(steps):
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
band("loss", loss.item(), at_most=100.0)"""


@pytest.fixture(scope="module")
def slurm():
    """A Slurm of our own; what it knows of its jobs comes from `jobs`."""
    pytest.importorskip(PLUGIN, reason=f"there is no {PLUGIN}; `make cluster` installs it")
    if reason := slurm_host.missing():
        pytest.skip(reason)
    with slurm_host.slurm() as env, pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, env[name])
        yield env


@pytest.fixture
def book(tmp_path, slurm):
    """A small copy of the project."""
    scratch = Scratch(tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles", dirs_exist_ok=True)
    return scratch


def run(book, *command, seconds=900):
    """Run a command in the copy; return its status and all that it said."""
    process = book.start(*command)
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def borrow(book, chapter):
    """Copy a real chapter."""
    for suffix in (".ipynb", ".md"):
        target = book.root / "chapters" / f"{chapter}{suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "chapters" / f"{chapter}{suffix}", target)


def execute(book, *chapters, profile=""):
    targets = [f"_build/executed/chapters/{chapter}.ipynb" for chapter in chapters]
    command = (".venv/bin/python", "-m", "pipeline.book", f"--profile={profile}", *targets)
    return run(book, *command)


def ids(slurm):
    return {job["JobId"] for job in slurm_host.jobs(slurm)}


def new_jobs(slurm, known):
    """Return the jobs that Slurm has seen since it had seen only the known ones."""
    return [job for job in slurm_host.jobs(slurm) if job["JobId"] not in known]


def results(book, chapter):
    """Return what a chapter found, which takes no notice of times, and what its cells printed."""
    file = book.executed(chapter)
    record = json.loads(file.with_suffix(".json").read_text("utf8"))
    cells = nbformat.read(file, as_version=4).cells
    said = [
        "".join(output.text for output in cell.get("outputs", []) if output.get("name") == "stdout")
        for cell in cells
    ]
    return {key: record[key] for key in ("parameters", "scalars", "bands", "broken")}, said


def test_the_whole_book_is_made_through_slurm(book, slurm):
    known = ids(slurm)
    status, said = run(book, "make", "book", "PROFILE=slurm")
    assert status == 0, said
    for words in ("… tiny/one", "[2/2] tiny/", "book: _build/html/index.html"):
        assert words in said, said
    assert "two 3" in book.page("tiny/two")
    jobs = {job["Comment"]: job for job in new_jobs(slurm, known)}
    chapters = {f"rule_execute_wildcards_tiny_{name}" for name in ("one", "two")}
    assert set(jobs) == chapters | {"rule_truth"}
    for name in chapters:
        job = jobs[name]
        assert job["JobState"] == "COMPLETED" and job["NodeList"] in ("node1", "node2")
        assert job["TimeLimit"] == "00:30:00" and "mem=4000M" in job["TRES"]
        assert "TresPerJob" not in job, "a chapter at its defaults asks for no GPU"


def test_two_chapters_find_what_they_find_here(book, slurm):
    for chapter in REAL:
        borrow(book, chapter)
    status, said = execute(book, *REAL)
    assert status == 0, said
    here = {chapter: results(book, chapter) for chapter in REAL}
    assert all(record["bands"] and any(words) for record, words in here.values())
    shutil.rmtree(book.root / "_build")

    known = ids(slurm)
    status, said = execute(book, *REAL, profile="slurm")
    assert status == 0 and "[2/2]" in said, said
    assert len(new_jobs(slurm, known)) == 2
    for chapter in REAL:
        assert results(book, chapter) == here[chapter]


def test_a_sweep_finds_what_it_finds_here(book, slurm):
    chapter = "tiny/two"
    book.write(chapter, TRAINING, parameters="seed = 0\nsteps = 3\ndevice = 'cpu'\nstrict = True")
    # device: auto asks for a GPU, so Slurm sends every run to the node that says it has one.
    grid = "parameters: {steps: [20, 40]}\nseeds: [0, 1]\nfixed: {device: auto}\n"
    command = ["make", "sweep", f"CHAPTER={chapter}"]
    tables = {}
    for name, options in (("here", []), ("there", ["PROFILE=slurm"])):
        (book.root / f"{name}.yaml").write_text(grid)
        known = ids(slurm)
        status, said = run(book, *command, f"GRID={name}.yaml", *options)
        assert status == 0 and "4 runs, 0 of them done before" in said and "[4/4]" in said, said
        table = pd.read_csv(book.root / "_build/sweeps" / chapter / name / "results.csv")
        tables[name] = table.drop(columns=["cpu_seconds", "wall_seconds"])
    jobs = new_jobs(slurm, known)
    assert [job["NodeList"] for job in jobs] == ["node2"] * 4
    assert {job["TresPerJob"] for job in jobs} == {"gres:gpu:1"}
    assert tables["here"]["status"].eq("done").all()
    assert tables["here"]["loss"].nunique() == 4
    pd.testing.assert_frame_equal(tables["here"], tables["there"])


def test_a_profile_may_ask_for_more(book, slurm):
    profile = book.root / "profiles" / "slurm" / "config.yaml"
    with profile.open("a") as file:
        file.write("set-resources:\n  execute:\n    gpu: 1\n    mem_mb: 5000\n    runtime: 90\n")
        file.write("    slurm_extra: '--nice=7'\n")
    known = ids(slurm)
    status, said = execute(book, "tiny/one", profile="slurm")
    assert status == 0, said
    (job,) = new_jobs(slurm, known)
    assert job["NodeList"] == "node2" and job["TresPerJob"] == "gres:gpu:1"
    assert job["TimeLimit"] == "01:30:00" and "mem=5000M" in job["TRES"]
    assert job["Nice"] == "7"


def test_what_went_wrong_elsewhere_is_told_here(book, slurm):
    book.write("tiny/one", "wanted = 7\nraise RuntimeError('on purpose')")
    book.write("tiny/two", "import time\ntime.sleep(600)")
    known = ids(slurm)
    process = book.start("make", "book", "PROFILE=slurm")
    words = book.root / "_build" / "said" / "tiny" / "two.log"
    wait_for(lambda: words.exists() and "… tiny/two" in words.read_text("utf8"), "the chapter")
    (late,) = (j for j in new_jobs(slurm, known) if j["Comment"].endswith("tiny_two"))
    slurm_host.cancel(slurm, late["JobId"])
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    for told in (
        "✗ tiny/one failed in cell 3 (In [2]), chapters/tiny/one.md:21",
        "RuntimeError: on purpose",
        "    | wanted = 7\n",
        f"✗ tiny/two did not end by itself: SLURM-job '{late['JobId']}' failed, "
        "SLURM status is: 'CANCELLED'",
        "failed: tiny/one, tiny/two",
    ):
        assert told in said, said
    assert "✗ tiny/one did not end" not in said


def test_an_interrupted_book_leaves_no_job_behind(book, slurm):
    book.write("tiny/one", "import time\ntime.sleep(600)")
    known = ids(slurm)
    command = (".venv/bin/python", "-m", "pipeline.book", "--profile=slurm")
    process = book.start(*command, "_build/executed/chapters/tiny/one.ipynb")
    words = book.root / "_build" / "said" / "tiny" / "one.log"
    wait_for(lambda: words.exists() and "… tiny/one" in words.read_text("utf8"), "the chapter")
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0, said
    # For some seconds after its end a job is still COMPLETING.
    wait_for(lambda: new_jobs(slurm, known)[0]["JobState"] == "CANCELLED", f"the end; {said}")
    assert len(new_jobs(slurm, known)) == 1


def test_a_refused_job_is_told(book, slurm):
    profile = book.root / "profiles" / "slurm" / "config.yaml"
    with profile.open("a") as file:
        file.write("default-resources:\n  slurm_partition: nowhere\n")
    status, said = execute(book, "tiny/one", profile="slurm")
    assert status != 0
    assert "✗ tiny/one did not end by itself" in said and "partition" in said, said
