"""Write the generated pages into `_build/pages`: architectures, truth table, API reference.

Each is a page of MyST at the path that `_toc.yml` gives it; a page that has not changed keeps its
time, so that the site is not built again for it.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nnlib import catalog
from nnlib.markup import table
from pipeline import ROOT, address
from pipeline.checks import equations as truth
from pipeline.site import family_tree as tree

PAGES = Path("_build/pages")
LOOSE = "notebook"  # the page of the modules that stand directly in nnlib
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return every generated page: path below `_build/pages` → text."""
    packages = _packages(root)
    return {
        "architectures.md": architectures(),
        "truth.md": truth_table(root),
        "api/index.md": _api_index(packages),
        **{f"api/{name}.md": _api(name, modules) for name, modules in packages.items()},
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


# ---------------------------------------------------------------- architectures


def architectures() -> str:
    """Return the page with the family tree and the tables."""
    rows = catalog.ARCHITECTURES
    svg = tree.draw(rows, lambda row: f"chapters/{row.family}/{row.name}.html")
    written = len(catalog.written())
    text = [
        "# Architectures",
        f"{written} of {len(rows)} chapters are written; the others are planned, and stand here "
        "because a family tree with gaps would mislead.",
        "## Family tree",
        "Time runs to the right, with more room for the years in which more was found.\n"
        "A curve leads from an architecture to each that grew from it.\n"
        "Filled circles are written chapters and lead there; open ones are planned.\n"
        "Point at a name to bring out its ancestors and heirs.",
        f"```{{raw}} html\n{svg}\n```",
        "## Family by family",
        "$n$ counts weights, $L$ layers and $d$ features, unless the chapter says otherwise.\n"
        "Costs are stated where the chapter measures them.",
    ]
    for family, (title, idea) in catalog.FAMILIES.items():
        text += [f"### {title}", idea, *_tables(catalog.members(family))]
    return "\n\n".join(text) + "\n"


def _tables(rows: Iterable[catalog.Architecture]) -> list[str]:
    written = [row for row in rows if row.module]
    planned = [row for row in rows if not row.module]
    tables = []
    if written:
        head = ("Architecture", "Year", "People", "Parameters", "Training", "Use")
        cells = [
            (
                f"[{row.title}](chapters/{row.family}/{row.name}.md)",
                str(row.year),
                row.people,
                row.parameters,
                row.train_cost,
                row.use_cost,
            )
            for row in written
        ]
        tables.append(table(head, cells))
    if planned:
        head = ("Planned", "Year", "People", "Idea")
        cells = [(row.title, str(row.year), row.people, row.idea) for row in planned]
        tables.append(table(head, cells))
    return tables


# ---------------------------------------------------------------- truth table


def truth_table(root: Path = ROOT) -> str:
    """Return the page that ties every labelled equation to its tests and their results."""
    report = root / truth.REPORT
    known = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    chapters: dict[str, list[truth.Equation]] = {}
    for equation in truth.equations(root):
        if equation.label:
            chapters.setdefault(equation.chapter, []).append(equation)
    every = [equation for equations in chapters.values() for equation in equations]
    empty = {"tests": []}
    good = sum(truth.holds(known.get(equation.label, empty)) for equation in every)
    tests = {test["id"] for entry in known.values() for test in entry["tests"]}
    text = [
        "# Truth table",
        "Every displayed equation of the book has a label, and every label at least one test.\n"
        "A test verifies its equation against something independent: PyTorch's own operators, "
        "automatic differentiation, a closed form, brute force, or another library.",
        f"**{good} of {len(every)} equations are verified, by {len(tests)} tests.**\n{_date(root)}",
        "Run it yourself with `make truth`.",
    ]
    lines = _test_lines(root)
    for chapter, equations in chapters.items():
        family, name = ("", chapter) if "/" not in chapter else chapter.split("/")
        title = next((r.title for r in catalog.ARCHITECTURES if r.name == name), name)
        text.append(f"## [{title}](chapters/{chapter}.md)" if family else f"## {title}")
        rows = []
        for equation in equations:
            entry = known.get(equation.label, empty)
            mark = "✓" if truth.holds(entry) else "✗" if entry["tests"] else "not run"
            tested = "<br>".join(_tests(entry["tests"], lines, address(root)))
            rows.append((mark, f"{{eq}}`{equation.label}`", f"${equation.maths}$", tested))
        text.append(table(("", "", "Equation", "Verified by"), rows))
    return "\n\n".join(text) + "\n"


def _tests(tests: list[dict], lines: dict[tuple[str, str], int], address: str) -> list[str]:
    """Return a link for each test function, with the number of its cases and their result."""
    functions: dict[tuple[str, str], list[str]] = {}
    for test in tests:
        file, _, name = test["id"].partition("::")
        functions.setdefault((file, name.split("[")[0]), []).append(test["outcome"])
    links = []
    for (file, name), outcomes in functions.items():
        line = lines.get((file, name.split("::")[-1]))
        at = f"{address}/blob/main/{file}" + (f"#L{line}" if line else "")
        counts = [f"{outcomes.count(o)} {o}" for o in ("failed", "skipped") if o in outcomes]
        cases = f" × {len(outcomes)}" if len(outcomes) > 1 else ""
        mark = MARKS[max(outcomes, key=("passed", "skipped", "failed").index)]
        told = f" ({', '.join(counts)})" if counts else ""
        links.append(f"{mark} [{_words(name)}]({at}){cases}{told}")
    return links


def _words(name: str) -> str:
    """Turn a test's name, which is a sentence, back into one."""
    return name.split("::")[-1].removeprefix("test_").replace("_", " ")


def _test_lines(root: Path) -> dict[tuple[str, str], int]:
    """Return where each test function stands: (file, name) → line."""
    found = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        file = path.relative_to(root).as_posix()
        try:
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        except SyntaxError:
            continue
        found |= {(file, n.name): n.lineno for n in nodes if isinstance(n, ast.FunctionDef)}
    return found


def _date(root: Path) -> str:
    """Return which state of the code the results are of; the clock of the build is not asked."""
    where = ["--", "chapters", "nnlib", "tests"]
    commit = _git(root, "log", "-1", "--format=`%h` of %cs", *where)
    changed = " with changes that are not committed" if _git(root, "status", "-s", *where) else ""
    return f"The results are of commit {commit}{changed}." if commit else ""


def _git(root: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return "" if ran.returncode else ran.stdout.strip()


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


def _api(name: str, modules: list[str]) -> str:
    """Return the page of one package: a section for each module, written by autodoc."""
    title = "nnlib" if name == LOOSE else f"nnlib.{name}"
    parts = [f"# {title}"]
    if name != LOOSE:
        parts.append(f"```{{eval-rst}}\n.. automodule:: {title}\n   :no-index:\n```")
    for module in modules:
        heading = module.removeprefix("nnlib.").removeprefix(f"{name}.")
        body = f".. automodule:: {module}\n   :members:\n   :show-inheritance:"
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
