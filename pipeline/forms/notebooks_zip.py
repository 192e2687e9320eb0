"""The notebooks and what they need to run, as one zip: `python -m pipeline.forms.notebooks_zip`.

The notebooks are those of the repository, so they hold only the outputs that are compared. Their
first cell finds `nnlib` above them, as in a clone. The same files make the same bytes.
"""

import argparse
import io
import sys
import zipfile
from pathlib import Path

from pipeline import ROOT, address
from pipeline.execute.dependencies import chapters
from pipeline.forms import downloads as forms

TOP = forms.ZIP.removesuffix(".zip")  # the one folder that it unpacks into
# nnlib, the measurements that chapters read, the exact set of packages, the licences.
BESIDE = (
    "nnlib/**/*.py",
    "nnlib/**/*.csv",
    "benchmarks/results/*.json",
    "pyproject.toml",
    "requirements.txt",
    "LICENSE*",
)
README = """\
# The Executable Encyclopedia of Neural Networks: its notebooks

    python -m venv .venv
    .venv/bin/pip install -c requirements.txt ".[all,lab]"
    .venv/bin/jupyter lab {first}

With Python 3.11 or newer; on Windows the folder is `.venv\\Scripts`. Without the second line's
`-c requirements.txt` the newest packages are taken instead of the ones that the book was made with.
`nnlib` beside the notebooks is the one that they import: change it and run a chapter again.
The book's text, its tests and this archive's source are at {home}.
"""


def build(root: Path = ROOT, work: Path | None = None) -> Path:
    """Write the archive if it changed, in one step; return its path."""
    target = (work or root / "_build") / forms.FOLDER / forms.ZIP
    forms.write(target, pack(contents(root)))
    return target


def contents(root: Path = ROOT) -> dict[str, bytes]:
    """Return every file of the archive, by its path below the top folder."""
    notebooks = [f"chapters/{chapter}.ipynb" for chapter in chapters(root)]
    beside = [file for pattern in BESIDE for file in root.glob(pattern)]
    names = [*notebooks, *(file.relative_to(root).as_posix() for file in beside)]
    readme = README.format(first=_first(root, notebooks), home=address(root))
    return {"README.md": readme.encode()} | {name: (root / name).read_bytes() for name in names}


def _first(root: Path, notebooks: list[str]) -> str:
    """Return the chapter that the book begins with."""
    toc = (root / "_toc.yml").read_text("utf8")
    placed = [name for name in notebooks if name.removesuffix(".ipynb") in toc]
    return min(placed or notebooks, key=lambda name: toc.find(name.removesuffix(".ipynb")))


def pack(files: dict[str, bytes]) -> bytes:
    """Return a zip of the files that depends on nothing but names and bytes."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{TOP}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # on every machine alike
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, compresslevel=9)
    return held.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the notebooks as one zip.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    root = parser.parse_args().root.resolve()
    made = build(root)
    count = len(chapters(root))
    print(f"zip: {made.relative_to(root)}, {count} chapters, {forms.megabytes(made)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
