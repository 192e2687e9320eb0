"""`make new` writes all rooms of an architecture, and the tests then name what is missing.

`smallest/` holds the smallest honest chapter, the first of its family. It is laid into a copy of
the repository to show what a chapter costs: files of its own, and two shared lines.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from pipeline import ROOT
from pipeline import new_chapter as new

COPIED = ("nnlib", "pipeline", "benchmarks", "tests", "chapters")
COPIED += ("_toc.yml", "references.bib", "pyproject.toml")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A copy of the repository in which `make new CHAPTER=vision/squint` was run."""
    root = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    ran = _python(root, "-m", "pipeline.new_chapter", "vision/squint")
    assert ran.returncode == 0, ran.stderr
    return root, ran.stdout


def _python(root, *arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def _tests(root, *files):
    chosen = ["-k", "squint or first_page", "-q", "--tb=line", "-p", "no:cacheprovider"]
    return _python(root, "-m", "pytest", *files, *chosen).stdout


def test_it_writes_the_three_rooms_and_the_pair(scratch):
    root, told = scratch
    for path in (
        "chapters/vision/squint.md",
        "chapters/vision/squint.ipynb",
        "nnlib/vision/squint.py",
        "tests/vision/test_squint.py",
        "chapters/vision/squint.yaml",
    ):
        assert f"wrote {path}" in told
        assert "<<" not in (root / path).read_text()
    assert "- file: chapters/vision/squint" in told
    assert 'Architecture("squint", "vision", "Squint"' in told


def test_the_first_of_a_family_gets_its_first_page_and_package(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: chapters/intro\n")
    written = {path.relative_to(tmp_path).as_posix() for path in new.create("vision/cnn", tmp_path)}
    assert {
        "chapters/vision/index.md",
        "chapters/vision/references.bib",
        "nnlib/vision/__init__.py",
    } < written
    told = new.instructions("vision/cnn", tmp_path)
    assert "- file: chapters/vision/index" in told


def test_the_pair_agrees(scratch):
    pair = [scratch[0] / f"chapters/vision/squint.{suffix}" for suffix in ("md", "ipynb")]
    page, notebook = ([(c.cell_type, c.source) for c in jupytext.read(p).cells] for p in pair)
    assert page == notebook
    assert not any(cell.get("outputs") for cell in jupytext.read(pair[1]).cells)


def test_the_tests_name_what_is_missing(scratch):
    rooms = ("tests/test_layout.py", "tests/vision/test_squint.py")
    told = _tests(scratch[0], *rooms, "tests/book/test_equations.py", "tests/book/test_template.py")
    for gap in (
        "the line `- file: chapters/vision/squint` in _toc.yml",
        "a row for squint with module= and cls= in nnlib/catalog.py",
        "no test is marked with equation squint-forward",
        "vision/squint has no figure(…)",
        "vision/squint never calls ['show_source', 'check', 'band']",
        "vision/squint needs 4–7 `**Question 1.** …`",
        "vision/squint cites nothing",
        "vision/squint: Related architectures links to no chapter",
        "Origin and intuition: TODO",
        "Variants and refinements: TODO",
        "Practical considerations: ### Try it: TODO what the reader does",
        "TODO in tests/vision/test_squint.py",
        "squint.yaml: gpu: ",
    ):
        assert gap in told, f"the tests do not say: {gap}\n{told}"
    for own in ("has code over", "has sections", "lacks the parameters", "its live model lacks"):
        assert own not in told, f"what the template writes is refused: {own}\n{told}"


def test_once_in_the_catalogue_the_contract_names_what_is_missing(scratch):
    root, _ = scratch
    table = root / "nnlib" / "catalog.py"
    row = (
        'Architecture("squint", "vision", "Squint", idea="Look less.", year=2026, '
        'people="Nobody", ancestors=("mlp",), source="rumelhart1986learning", '
        'module="nnlib.vision.squint", cls="Squint"),'
    )
    table.write_text(table.read_text().replace("\n)\n# fmt: on", f"\n    {row}\n)\n# fmt: on"))
    told = _tests(root, "tests/test_contract.py")
    assert "the docstring of nnlib.vision.squint.Squint lacks >>> and Source:" in told, told


@pytest.mark.parametrize(
    ("chapter", "told"),
    [
        ("cnn", "must be family/name in snake_case"),
        ("vision/CNN", "must be family/name in snake_case"),
        ("vision/../cnn", "must be family/name in snake_case"),
        ("", "must be family/name in snake_case"),
        ("seeing/cnn", "the family must be one of foundations, vision"),
        ("sequence/cnn", "the catalogue has it as vision/cnn"),
        ("vision/index", "index is no name"),
        ("foundations/perceptron", "chapters/foundations/perceptron.md, nnlib/foundations"),
    ],
)
def test_what_cannot_be_begun_is_refused_and_nothing_is_written(chapter, told, capsys):
    assert new.main([chapter]) == 1
    assert told in capsys.readouterr().err


def test_the_files_that_it_writes_are_in_style(scratch):
    files = ["nnlib/vision/squint.py", "tests/vision/test_squint.py"]
    for how in (["check"], ["format", "--check"]):
        told = _python(scratch[0], "-m", "ruff", *how, *files)
        assert told.returncode == 0, told.stdout


def test_a_class_is_written_as_its_name_is():
    assert 'cls="GAN"' in new.instructions("generative/gan")
    assert 'cls="Diffusion"' in new.instructions("generative/diffusion")


def test_a_new_architecture_gets_a_whole_row():
    told = new.instructions("vision/depth_map")
    assert 'Architecture("depth_map", "vision", "Depth map"' in told
    assert 'module="nnlib.vision.depth_map", cls="DepthMap"' in told


SMALLEST = Path(__file__).parent / "smallest"
ROOMS = {
    "module.py.txt": "nnlib/vision/cnn.py",
    "test.py.txt": "tests/vision/test_cnn.py",
    "presets.yaml": "chapters/vision/cnn.yaml",
    "index.md": "chapters/vision/index.md",
    "references.bib": "chapters/vision/references.bib",
}
COMPLETED = """\
        module="nnlib.vision.cnn", cls="CNN", trained_by="gradient",
        parameters="o (c s² + 1) + k (o + 1)",
        train_cost="2 o c s² FLOPs a place; keeps every answer",
        use_cost="2 o c s² FLOPs a place"),
"""
CONTENTS = """\
      - file: chapters/vision/index
        sections:
          - file: chapters/vision/cnn
"""


def _forget_the_family(root):
    """Take vision out of a copy again, so that it can be begun there."""
    for room in ("chapters", "nnlib", "tests"):
        shutil.rmtree(root / room / "vision", ignore_errors=True)
    (root / "benchmarks" / "models" / "vision.py").unlink(missing_ok=True)
    contents, catalogue = root / "_toc.yml", root / "nnlib" / "catalog.py"
    pages = r"      - file: chapters/vision/index\n(?: {8,}.*\n)*"
    contents.write_text(re.sub(pages, "", contents.read_text()))
    written = r' {8}module="nnlib\.vision\.(?:.*\n)+? {8}use_cost=.*\n(?: {8}".*\n)*'
    catalogue.write_text(re.sub(written, "", catalogue.read_text()))


def _git(root, *arguments):
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A copy of the repository in which vision/cnn was begun anew, the first of its family."""
    root = tmp_path_factory.mktemp("grown")
    for name in _git(ROOT, "ls-files", "-co", "--exclude-standard", "-z").split("\0")[:-1]:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    _forget_the_family(root)
    _git(root, "init", "-q")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "before")
    begun = _python(root, "-m", "pipeline.new_chapter", "vision/cnn")
    assert begun.returncode == 0, begun.stderr
    for source, target in ROOMS.items():
        shutil.copy(SMALLEST / source, root / target)
    page = root / "chapters" / "vision" / "cnn.md"
    begun = page.read_text()
    first = re.findall(r"```\{code-cell\}.+?\n```\n", begun, re.DOTALL)[:2]
    filled = (SMALLEST / "chapter.md").read_text().replace("<<FIRST CELLS>>\n", "\n".join(first))
    page.write_text(begun[: begun.index("\n# ") + 1] + filled.replace("steps = 100", "steps = 300"))
    # The two shared lines.
    catalogue, contents = root / "nnlib" / "catalog.py", root / "_toc.yml"
    row = re.search(
        r'    Architecture\(\n? *"cnn".+?\n    \),\n', catalogue.read_text(), re.DOTALL
    )[0]
    planned = re.sub(r",?\n?\s*\),\n$", ",\n", row)
    catalogue.write_text(catalogue.read_text().replace(row, planned + COMPLETED))
    before = "      - file: chapters/sequence/index\n"
    contents.write_text(contents.read_text().replace(before, CONTENTS + before))
    return root


def test_a_chapter_edits_two_shared_files_and_else_makes_its_own(grown):
    synced = _python(grown, "-m", "pipeline.checks.pairing", "sync", "vision/cnn")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    files = ["tests/test_layout.py", "tests/test_contract.py", "tests/test_catalog.py"]
    files += ["tests/vision", "tests/book/test_equations.py", "tests/book/test_template.py"]
    files += ["tests/book/test_presets.py", "tests/book/test_pairs.py"]
    files += ["tests/book/test_references.py"]
    wanted = "cnn or vision or family or families or references"
    chosen = ["-k", wanted, "-q", "-p", "no:cacheprovider"]
    held = _python(grown, "-m", "pytest", *files, *chosen)
    assert held.returncode == 0, held.stdout[-5000:]
    assert _python(grown, "-m", "ruff", "check", ".").returncode == 0
    edited = _git(grown, "diff", "--stat").splitlines()[:-1]
    assert [line.split()[0] for line in edited] == ["_toc.yml", "nnlib/catalog.py"]
    made = set(_git(grown, "ls-files", "-o", "--exclude-standard").split())
    assert made == {*ROOMS.values(), "chapters/vision/cnn.md", "chapters/vision/cnn.ipynb",
                    "nnlib/vision/__init__.py"}  # fmt: skip


def test_a_new_family_has_its_place_among_the_imports_and_none_in_another(grown):
    """The layers of imports name every family of the catalogue, written or not."""
    lint = ["-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    assert _python(grown, *lint).returncode == 0
    module = grown / "nnlib" / "vision" / "cnn.py"
    kept = module.read_text()
    module.write_text(kept + "\n\nfrom nnlib.foundations import mlp\n")
    told = _python(grown, *lint)
    module.write_text(kept)
    assert told.returncode != 0
    assert "nnlib.vision is not allowed to import nnlib.foundations" in told.stdout
