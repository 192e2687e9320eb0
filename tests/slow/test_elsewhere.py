"""Readers elsewhere: a bare kernel such as Colab's, a clone, JupyterLab.

Environments are made from scratch, with the pins and with the newest releases, and hold what Colab
ships, which our library must leave as it is. A local repository stands in for the public one.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from pipeline import ROOT, address, project
from pipeline.site.browser import chromium

CHAPTERS = sorted(ROOT.glob("chapters/*/*.ipynb"))
SHIPPED = (
    "numpy", "scipy", "matplotlib", "torch", "pandas", "scikit-learn", "tqdm",
    "ipykernel", "ipywidgets",
)  # fmt: skip
# Runs cells as a kernel does; a cell that raises ends it.
RUN = """
import json, os, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
import nnlib
print("nnlib is", os.path.realpath(nnlib.__file__))
"""


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text("utf8").splitlines()
    return dict(re.match(r"([\w.\-]+)==(\S+)", line).groups() for line in lines if "==" in line)


def cells(chapter: Path) -> list[str]:
    """Return the sources of a chapter's code."""
    found = json.loads(chapter.read_text("utf8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository of this tree as it stands, on main."""
    folder = tmp_path_factory.mktemp("repository")
    names = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    run("git", *author, "commit", "-qm", "all", cwd=folder)
    return folder


class Machine:
    """A Python that has what Colab ships, and for which the public address is our stand-in."""

    def __init__(self, folder: Path, repository: Path, wanted: list[str]):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        venv.create(folder / "venv", with_pip=True)
        config = folder / "gitconfig"
        config.write_text(
            f'[url "file://{repository}"]\n  insteadOf = {address(ROOT)}\n[safe]\n  directory = *\n'
        )
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.env = own | {"GIT_CONFIG_GLOBAL": str(config), "MPLBACKEND": "agg"}
        self.env["PATH"] = f"{self.python.parent}{os.pathsep}{own['PATH']}"
        self.pip("install", "--quiet", *wanted)

    def pip(self, *command: str) -> str:
        return run(str(self.python), "-m", "pip", *command, env=self.env)

    def packages(self) -> dict[str, str]:
        listed = json.loads(self.pip("list", "--format=json", "--disable-pip-version-check"))
        return {item["name"]: item["version"] for item in listed}

    def kernel(self, sources: list[str], cwd: Path) -> str:
        """Run cells in a fresh kernel; return what it printed."""
        cwd.mkdir(exist_ok=True)
        command = [str(self.python), "-P", "-c", RUN]
        return run(*command, cwd=cwd, env=self.env, input=json.dumps(sources))


@pytest.fixture(scope="module", params=["pins", "newest"])
def machine(request, tmp_path_factory, repository):
    pinned = pins()
    wanted = [f"{name}=={pinned[name]}" if request.param == "pins" else name for name in SHIPPED]
    wanted.append("nnlib==0.2")  # somebody else's: it must not pass for ours
    machine = Machine(tmp_path_factory.mktemp(request.param), repository, wanted)
    machine.pinned = request.param == "pins"
    return machine


def test_every_chapter_starts_in_a_bare_kernel_and_from_a_clone(machine, repository):
    before = machine.packages()
    assert project()["name"] not in before
    drive = machine.folder / "drive"
    for chapter in CHAPTERS:  # the first installs nnlib, the others find it
        start = cells(chapter)[:3]
        assert "run_line_magic" in start[0] and "seed = 0" in start[1] and "import" in start[2]
        said = machine.kernel(start, drive)
        assert "site-packages/nnlib/__init__.py" in said, said
    after = machine.packages()
    changed = {n: (v, after.get(n)) for n, v in before.items() if after.get(n) != v}
    assert not changed, f"nnlib changed what was there: {changed}"
    print({name: after[name] for name in ("numpy", "matplotlib", "torch")})
    print("added:", {name: v for name, v in after.items() if name not in before})

    short = ROOT / "chapters" / "foundations" / "perceptron.ipynb"
    assert "0 did not" in machine.kernel(cells(short), drive)

    # A clone that is not installed: the library is found above the chapter.
    machine.pip("uninstall", "--quiet", "--yes", project()["name"])
    for chapter in CHAPTERS:
        inside = repository / chapter.relative_to(ROOT)
        said = machine.kernel(cells(inside)[:3], inside.parent)
        assert f"nnlib is {repository}/nnlib/__init__.py" in said, said
    assert "0 did not" in machine.kernel(cells(short), repository / "chapters" / "foundations")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, repository):
    """JupyterLab on a copy of the tree; its address and the copy."""
    folder, pinned = tmp_path_factory.mktemp("lab"), pins()
    wanted = ["jupyterlab", f"jupytext=={pinned['jupytext']}", "ipykernel"]
    machine = Machine(folder, repository, wanted)
    copy = folder / "clone"
    run("git", "clone", "-q", str(repository), str(copy))
    told = folder / "lab.log"
    with told.open("w") as log:
        process = subprocess.Popen(
            [str(machine.python), "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0",
             "--ServerApp.port_retries=0", "--IdentityProvider.token=secret",
             f"--ServerApp.root_dir={copy}"],
            env=machine.env | {"JUPYTER_CONFIG_DIR": str(folder / "config")},
            cwd=copy, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield _address(told, process), copy
    finally:
        process.terminate()
        process.wait(30)


def _address(log: Path, process: subprocess.Popen) -> str:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/", log.read_text("utf8")):
            return found[0]
        time.sleep(0.5)
    raise AssertionError(log.read_text("utf8")[-2000:])


def ask(url: str, content: dict | None = None) -> dict:
    """Ask the server's contents interface, which the file browser uses; PUT when given content."""
    request = urllib.request.Request(url, method="PUT" if content else "GET")
    request.add_header("Authorization", "token secret")
    request.add_header("Content-Type", "application/json")
    body = json.dumps(content).encode() if content else None
    with urllib.request.urlopen(request, body, timeout=60) as answer:
        return json.load(answer)


def test_jupyterlab_opens_the_text_as_a_notebook_and_saves_both(lab):
    url, copy = lab
    page = copy / "chapters" / "foundations" / "perceptron.md"
    where = f"{url}api/contents/chapters/foundations/perceptron.md?type=notebook"
    model = ask(where)
    assert model["type"] == "notebook" and len(model["content"]["cells"]) > 20
    first = next(c for c in model["content"]["cells"] if c["cell_type"] == "markdown")
    first["source"] += "\n\nA sentence written in JupyterLab."
    ask(where, {"type": "notebook", "format": "json", "content": model["content"]})
    both = page.read_text("utf8"), page.with_suffix(".ipynb").read_text("utf8")
    assert all("A sentence written in JupyterLab." in text for text in both)
    env = os.environ | {"PYTHONPATH": str(copy)}
    said = run(
        sys.executable, "-m", "pipeline.checks.pairing", "check", "--root", str(copy), env=env
    )
    print(said)
    changed = run("git", "diff", "--stat", cwd=copy)
    print(changed)
    assert "2 files changed, " in changed, "nothing else changes"


def test_jupyterlab_shows_the_text_as_a_notebook_in_a_browser(lab):
    from playwright.sync_api import sync_playwright

    url, _ = lab
    program = chromium() or pytest.skip("there is no Chromium here")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}lab?token=secret&reset")
        files = page.locator(".jp-DirListing-item")
        for folder in ("chapters", "foundations"):
            files.filter(has_text=folder).first.dblclick(timeout=120_000)
        files.filter(has_text="perceptron.md").click(button="right")
        page.get_by_text("Open With", exact=True).hover()
        page.locator(".lm-Menu-item").filter(has_text="Jupytext Notebook").click()
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=120_000)
        assert page.locator(".jp-NotebookPanel h1").first.inner_text().startswith("Perceptron")
        browser.close()


def run(*command: str, **options) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, text=True, capture_output=True, timeout=1800, **options)
    assert done.returncode == 0, f"{command[:6]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
