"""The profile for Kubernetes, up to where a cluster begins: kubernetes_host.py pretends one."""

import os
import shutil
import signal
import subprocess

import pandas as pd
import pytest

from tests.book.scratch import Scratch
from tests.slow.kubernetes_host import kubernetes

PLUGINS = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")


MEASURE = """\
from pipeline import ROOT
from nnlib.notebook import band
if steps == 13:
    raise RuntimeError("thirteen")
band("twice", 2.0 * steps, at_most=100.0)"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for plugin in PLUGINS:
        pytest.importorskip(plugin, reason=f"there is no {plugin}; `make cluster` installs it")
    for program in ("git", "rsync"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")
    folder = tmp_path / "cluster"
    folder.mkdir()
    with kubernetes(folder) as (cluster, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield cluster


@pytest.fixture
def book(tmp_path, cluster):
    """A small copy of the project, under version control, on what stands for the shared volume."""
    (tmp_path / "book").mkdir()
    scratch = Scratch(tmp_path / "book")
    shutil.copytree(ROOT / "profiles", scratch.root / "profiles", dirs_exist_ok=True)
    shutil.copy(ROOT / ".gitignore", scratch.root)
    profile = scratch.root / "profiles" / "kubernetes" / "config.yaml"
    profile.write_text(profile.read_text("utf8").replace("/book", str(scratch.root)), "utf8")
    return scratch


def make(book, *words):
    """Commit what there is, since pods get what is under version control; run `make`."""
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for git in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "book: all of it")):
        subprocess.run(["git", *git], cwd=book.root, check=True, capture_output=True)
    process = book.start("make", *words, "PROFILE=kubernetes")
    try:
        said, _ = process.communicate(timeout=900)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def test_the_whole_book_is_made_of_jobs(book, cluster):
    status, said = make(book, "book")
    assert status == 0 and "[2/2] tiny/" in said, said
    assert "two 3" in book.page("tiny/two")
    jobs = {}
    for job in cluster.sent:
        spec = job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        (target,) = (
            word for word in container["args"][1].split() if "execute:" in word or "truth:" in word
        )
        jobs[target.strip("'")] = container
        assert container["image"] == "your-registry/executable-encyclopedia:latest"
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["book"] == str(book.root)
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if v["name"] == "book"
        ]
        assert claims == ["book"]
    assert set(jobs) == {"execute:family=tiny,name=one", "execute:family=tiny,name=two", "truth:"}
    wanted = jobs["execute:family=tiny,name=two"]["resources"]
    assert wanted["limits"] | {"cpu": "950m"} == wanted["requests"]
    assert wanted["limits"]["memory"] == "4000M" and wanted["limits"]["nvidia.com/gpu"] == "0"


def test_a_gpu_is_asked_for_and_what_went_wrong_is_told_here(book, cluster):
    book.write("tiny/one", "wanted = 7\nraise RuntimeError('on purpose')")
    with (book.root / "profiles" / "kubernetes" / "config.yaml").open("a") as profile:
        profile.write("set-resources:\n  execute:\n    gpu: 1\n")
    status, said = make(book, "book")
    assert status != 0
    for told in (
        "✗ tiny/one failed in cell 3 (In [2]), chapters/tiny/one.md:21",
        "RuntimeError: on purpose",
        "] tiny/two",
        "failed: tiny/one",
    ):
        assert told in said, said
    for job in cluster.sent:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        if "execute:" in container["args"][1]:
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"


def test_a_sweep_is_made_of_jobs(book, cluster):
    book.write("tiny/two", MEASURE, parameters="seed = 0\nsteps = 3\nstrict = True")
    (book.root / "grid.yaml").write_text("parameters: {steps: [7, 13]}\n")
    status, said = make(book, "sweep", "CHAPTER=tiny/two", "GRID=grid.yaml")
    assert status != 0 and "RuntimeError: thirteen" in said, said
    table = pd.read_csv(book.root / "_build/sweeps/tiny/two/grid/results.csv").set_index("steps")
    assert len(cluster.sent) == 2
    assert table["status"].to_dict() == {7: "done", 13: "failed"}
    assert table["twice"][7] == 14
