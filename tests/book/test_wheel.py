"""A wheel of the library, in an environment that has what its core asks for and nothing else.

The packages are those of the running environment, linked one by one: what is proved is that the
wheel holds all of the library, that `dependencies` names all that the core imports, and that the
rest names its extra. That pip finds such a set is proved in tests/slow/test_elsewhere.py.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline import ROOT, project

EVERYTHING = """
import importlib, json, pkgutil, nnlib
told = {}
for module in pkgutil.walk_packages(nnlib.__path__, "nnlib.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        told[module.name] = str(error)
print(json.dumps([nnlib.__file__, told]))
"""
USED = """
import torch
from nnlib.attention.gpt import GPT
from nnlib.distribution import repository
from nnlib.sequence.lstm import LSTM

out, _ = LSTM(3, 5)(torch.randn(2, 7, 3))
logits = GPT(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=8).eval()(
    torch.zeros(2, 4, dtype=torch.long)
)
print(tuple(out.shape), tuple(logits.shape), repository())
"""
LACKING = {
    "data": "from nnlib.data.tables import digits; digits()",
    "train": "import torch; from nnlib.train.loop import train; "
    "train(torch.nn.Linear(1, 1), None, (torch.ones(4, 1),), steps=1, batch_size=2)",
    "plot": "import nnlib.plot.curves",
    "notebook": "import nnlib.notebook",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, so that nothing is written into the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nnlib", copied / "nnlib", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, copied)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    subprocess.run([sys.executable, "-m", "pip", *build, "."], cwd=copied, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory):
    """The Python of an environment with the wheel and what its core asks for."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    for name in closure(project()["dependencies"]):
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder / "bin" / "python"


def closure(lines):
    """Return the names of what is asked for, and of what that asks for, as far as it is here."""
    found, waiting = set(), list(lines)
    while waiting:
        asked = Requirement(waiting.pop())
        name = asked.name.lower().replace("_", "-")
        if name in found or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += metadata.requires(name) or ()
    return found


def run(python, program, folder):
    command = [python, "-I", "-c", program]  # neither this tree nor PYTHONPATH
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_wheel_holds_the_whole_library_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "nnlib").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != "ruff.toml"
    }
    assert held == source
    assert wheel.name.startswith("executable_encyclopedia-")


def test_every_module_is_imported_by_the_core_or_names_its_extra(core, tmp_path):
    done = run(core, EVERYTHING, tmp_path)
    assert done.returncode == 0, done.stderr
    where, told = json.loads(done.stdout.splitlines()[-1])
    assert str(core.parent.parent) in where
    strange = {name: error for name, error in told.items() if f"{project()['name']}[" not in error}
    assert not strange, "what they import belongs to pyproject's dependencies, or to an extra"
    rooms = {name.split(".")[1] for name in told}
    assert rooms <= {"plot", "notebook", "data", "live"}, (
        "models, kernels and training need no extra"
    )


def test_models_run_there_and_know_the_repository(core, tmp_path):
    done = run(core, USED, tmp_path)
    assert done.returncode == 0, done.stderr
    home = project()["urls"]["repository"]
    assert done.stdout.strip() == f"(2, 7, 5) (2, 4, 11) {home}"


@pytest.mark.parametrize("extra", LACKING)
def test_what_needs_an_extra_says_which(core, tmp_path, extra):
    done = run(core, LACKING[extra], tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(f'it comes with: pip install "{project()["name"]}[{extra}]"'), done.stderr
