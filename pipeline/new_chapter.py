"""Begin an architecture: `make new CHAPTER=family/name` writes all files that are its own.

The catalogue and the table of contents are edited by hand, one line each; this prints them.
"""

import argparse
import re
import sys
from pathlib import Path

import jupytext

from nnlib import catalog
from pipeline import ROOT
from pipeline.checks import bootstrap
from pipeline.checks.equations import prefix

TEMPLATES = Path(__file__).resolve().parent / "template"

FILES = {
    "chapter.md": "chapters/{family}/{name}.md",
    "module.py.txt": "nnlib/{family}/{name}.py",
    "test.py.txt": "tests/{family}/test_{name}.py",
    "presets.yaml": "chapters/{family}/{name}.yaml",
}
FIRST_OF_FAMILY = {
    "index.md": "chapters/{family}/index.md",
    "references.bib": "chapters/{family}/references.bib",
    "package.py.txt": "nnlib/{family}/__init__.py",
}


class NotPossible(ValueError):
    """The chapter cannot be begun; the message says why and what to do."""


def create(chapter: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a new architecture and return their paths.

    Args:
        chapter: `family/name`, such as `vision/cnn`.
        root: the repository.

    Raises:
        NotPossible: a malformed or unknown name, or a file that exists.
    """
    family, name = parse(chapter)
    wanted = {root / path.format(family=family, name=name): t for t, path in FILES.items()}
    pair = root / "chapters" / family / f"{name}.ipynb"
    standing = [str(p.relative_to(root)) for p in [*wanted, pair] if p.exists()]
    if standing:
        raise NotPossible(f"{chapter} has begun: {', '.join(standing)} already there")
    for template, path in FIRST_OF_FAMILY.items():
        if not (target := root / path.format(family=family)).exists():
            wanted[target] = template
    words = _words(family, name)
    for target, template in wanted.items():
        text = bootstrap.filled((TEMPLATES / template).read_text(encoding="utf-8"), words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    jupytext.write(jupytext.read(pair.with_suffix(".md")), pair)
    return [*wanted, pair]


def parse(chapter: str) -> tuple[str, str]:
    """Return family and name.

    Raises:
        NotPossible: not of the form family/name, or the family is unknown.
    """
    if not re.fullmatch(r"[a-z]+/[a-z][a-z0-9]*(_[a-z0-9]+)*", chapter):
        raise NotPossible(f"CHAPTER={chapter!r} must be family/name in snake_case, as vision/cnn")
    family, name = chapter.split("/")
    if family not in catalog.FAMILIES:
        known = ", ".join(catalog.FAMILIES)
        raise NotPossible(f"CHAPTER={chapter!r}: the family must be one of {known}")
    elsewhere = [row.family for row in catalog.ARCHITECTURES if row.name == name]
    if elsewhere and elsewhere[0] != family:
        raise NotPossible(f"CHAPTER={chapter!r}: the catalogue has it as {elsewhere[0]}/{name}")
    if name in ("index", "init"):
        raise NotPossible(f"CHAPTER={chapter!r}: {name} is no name for an architecture")
    return family, name


def _words(family: str, name: str) -> dict[str, str]:
    rows = [row for row in catalog.ARCHITECTURES if row.name == name]
    title, idea = catalog.FAMILIES[family]
    cls = "".join(part.capitalize() for part in name.split("_"))
    if rows and rows[0].short.lower() == cls.lower():
        cls = rows[0].short  # GAN, ResNet
    return bootstrap.words() | {
        "family": family,
        "name": name,
        "label": prefix(name).removesuffix("-"),
        "class": cls,
        "title": rows[0].title if rows else name.replace("_", " ").capitalize(),
        "family_title": title,
        "family_idea": idea,
    }


def instructions(chapter: str, root: Path = ROOT) -> str:
    """Return the lines that are added by hand."""
    family, name = parse(chapter)
    words = _words(family, name)
    place = f'module="nnlib.{family}.{name}", cls="{words["class"]}", trained_by="gradient"'
    costs = 'parameters="…", train_cost="…", use_cost="…"'
    if any(row.name == name for row in catalog.ARCHITECTURES):
        row = f"complete the row {name!r}: {place}, {costs}"
    else:
        row = (
            f'Architecture("{name}", "{family}", "{words["title"]}", idea="One sentence.", '
            f'year=…, people="…", ancestors=("…",), source="bibtexkey", '
            f'requires=("…",), {place}, {costs})'
        )
    first = f"chapters/{family}/index" not in (root / "_toc.yml").read_text(encoding="utf-8")
    family_line = (
        f"  (first of its family) _toc.yml:  - file: chapters/{family}/index, with sections:\n"
    )
    return (
        f"Now two lines by hand:\n{family_line if first else ''}"
        f"  _toc.yml, under chapters/{family}/index:  - file: chapters/{family}/{name}\n"
        f"  nnlib/catalog.py:  {row}\n"
        f"Then `make check CHAPTER={chapter}` names what is still missing."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.new_chapter", description=__doc__)
    parser.add_argument("chapter", metavar="family/name")
    chapter = parser.parse_args(arguments).chapter
    try:
        written = create(chapter)
    except NotPossible as error:
        print(f"make new: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    print(instructions(chapter))
    return 0


if __name__ == "__main__":
    sys.exit(main())
