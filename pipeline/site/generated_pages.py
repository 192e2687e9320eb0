"""Write the generated pages into `_build/pages`: architectures, gallery, ways, API reference, …

Each is a page of MyST at the path that `_toc.yml` gives it; a page that has not changed keeps its
time, so that the site is not built again for it.
"""

import argparse
import re
import sys
from pathlib import Path

from nnlib import catalog
from nnlib.markup import table
from pipeline import ROOT
from pipeline.execute.dependencies import Graph, digest
from pipeline.site import architecture_pages, changes, gallery_pages, truth_pages, ways_pages

PAGES = Path("_build/pages")
LOOSE = "nnlib"  # the page of the modules that stand directly in nnlib


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return every generated page: path below `_build/pages` → text."""
    packages, graph = _packages(root), Graph(root)
    return {
        "architectures.md": architecture_pages.page(),
        "gallery.md": gallery_pages.page(),
        "ways.md": ways_pages.page(),
        "changes.md": changes.page(root),
        **truth_pages.pages(root),
        "api/index.md": _api_index(packages),
        **{f"api/{name}.md": _api(name, modules, graph) for name, modules in packages.items()},
    }


def write(root: Path = ROOT) -> list[Path]:
    """Write the pages that changed, delete those that are no longer made; return the written."""
    wanted = {root / PAGES / path: text for path, text in pages(root).items()}
    for old in (root / PAGES).rglob("*.md"):
        if old not in wanted:
            old.unlink()
    changed = []
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


# ---------------------------------------------------------------- API reference


def _packages(root: Path) -> dict[str, list[str]]:
    """Return the modules of nnlib by page, in the order of the book's families."""
    found: dict[str, list[str]] = {}
    base = root / "nnlib"
    for file in sorted(base.rglob("*.py")):
        parts = file.relative_to(base).with_suffix("").parts
        if parts[-1].startswith("_"):
            continue
        page = parts[0] if len(parts) > 1 else LOOSE
        found.setdefault(page, []).append("nnlib." + ".".join(parts))
    places = [*catalog.FAMILIES, *sorted(set(found) - {LOOSE}), LOOSE]
    order = {row.module: at for at, row in enumerate(catalog.ARCHITECTURES)}
    for modules in found.values():
        modules.sort(key=lambda name: (order.get(name, 0), name))
    return dict(sorted(found.items(), key=lambda item: places.index(item[0])))


def _api_index(packages: dict[str, list[str]]) -> str:
    rows = [
        (f"[{'The rest' if name == LOOSE else f'`nnlib.{name}`'}]({name}.md)", _list(modules))
        for name, modules in packages.items()
    ]
    return (
        "# API reference\n\n"
        "`nnlib` is the package that the chapters import.\n"
        "Names and arguments follow `torch.nn` wherever it has the same thing.\n"
        "Shapes stand in the signatures, in the letters of the [notation](../chapters/notation.md)."
        "\n\n" + table(("Package", "Modules"), rows) + "\n"
    )


def _list(modules: list[str]) -> str:
    return ", ".join(f"`{module.rsplit('.', 1)[1]}`" for module in modules)


FOREIGN = "Module, Sequential, Optimizer, tuple, BaseException, RendererSVG"
"""Bases that are not ours: a class shows what it inherits, up to the first of them."""


def _api(name: str, modules: list[str], graph: Graph) -> str:
    """Return the page of one package: a section for each module, written by autodoc.

    It holds a digest of the files that it is written from, so that it changes with them: Sphinx
    would go by their time, and would not look at the bases that a docstring is inherited from.
    """
    title = "nnlib" if name == LOOSE else f"nnlib.{name}"
    files = graph.of([title, *modules])
    parts = [f"% of files with the digest {digest(graph.root, files)[:16]}", f"# {title}"]
    if name != LOOSE:
        parts.append(f"```{{eval-rst}}\n.. automodule:: {title}\n   :no-index:\n```")
    for module in modules:
        heading = module.removeprefix("nnlib.").removeprefix(f"{name}.")
        options = f"   :members:\n   :inherited-members: {FOREIGN}\n   :show-inheritance:"
        body = f".. automodule:: {module}\n{options}"
        parts.append(f"## {heading}\n\n```{{eval-rst}}\n{body}\n```")
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.site.generated_pages", description=__doc__
    )
    parser.parse_args(arguments)
    for path in write():
        print(f"wrote {re.sub(r'^.*/_build/', '_build/', path.as_posix())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
