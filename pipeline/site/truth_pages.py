"""The truth table: an index, and a page for each family, in the order of the book.

An equation stands above the tests that verify it, so that both have the whole width of a phone. Its
box has its label as id: `truth/sequence.html#lstm-forget`. `_static/truth.js` brings the form at
the top to life, by what `data-` attributes say; without a script all is shown, and no form.
"""

import ast
import html
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnlib import catalog
from nnlib.markup import table
from pipeline import ROOT, address
from pipeline.checks import equations
from pipeline.checks.equations import Equation

FOLDER = "truth"
OTHERS = "others"  # the page of the equations that stand in no family
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
STATES = {"verified": "✓ verified", "failed": "✗ not verified", "unrun": "not run"}
UNTESTED: dict[str, Any] = {"tests": []}
# A browser that runs no script hides it, by `_static/truth.css`.
FORM = """\
<form class="nn-sieve" role="search" aria-label="Equations">
<label><span>Find an equation</span> <input id="nn-sieve-words" type="search" autocomplete="off"
 spellcheck="false" placeholder="chapter, label, words of a test"></label>
<label><span>Show</span> <select id="nn-sieve-state"><option value="">all</option>{options}</select>
</label>
<output for="nn-sieve-words nn-sieve-state" aria-live="polite">{count} equations</output>
</form>"""


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return the index and the families' pages: path → text."""
    report = root / equations.REPORT
    known = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    families: dict[str, dict[str, list[Equation]]] = {}
    for equation in sorted(equations.equations(root), key=_place):
        if equation.label:
            family = equation.chapter.split("/")[0] if "/" in equation.chapter else OTHERS
            families.setdefault(family, {}).setdefault(equation.chapter, []).append(equation)
    order = [*catalog.FAMILIES, OTHERS]
    families = {family: families[family] for family in order if family in families}
    lines = _test_lines(root)
    return {
        "truth.md": _index(families, known, root),
        **{
            f"{FOLDER}/{family}.md": _family(family, chapters, known, lines, root)
            for family, chapters in families.items()
        },
    }


def _place(equation: Equation) -> int:
    """Return where the equation's chapter stands in the book; the sort keeps the rest."""
    name = equation.chapter.rpartition("/")[2]
    order = [row.name for row in catalog.ARCHITECTURES]
    return order.index(name) if name in order else len(order)


def _index(
    families: dict[str, dict[str, list[Equation]]], known: dict[str, Any], root: Path
) -> str:
    every = [e for chapters in families.values() for found in chapters.values() for e in found]
    text = [
        "# Truth table",
        "Every displayed equation of the book has a label, and every label at least one test.\n"
        "A test verifies its equation against something independent: PyTorch's own operators, "
        "automatic differentiation, a closed form, brute force, or another library.",
        f"**{_verified(every, known)} of {len(every)} equations are verified, by "
        f"{len(_tests_of(every, known))} tests.**\n{_date(root)}",
        "Run it yourself with `make truth`.",
    ]
    for family, chapters in families.items():
        rows = [
            (
                f"[{_title(chapter)}](chapters/{chapter}.md)",
                f"{_verified(found, known)} of {len(found)}",
                str(len(_tests_of(found, known))),
            )
            for chapter, found in chapters.items()
        ]
        text.append(f"## [{_title_of_family(family)}]({FOLDER}/{family}.md)")
        text.append(table(("Chapter", "Verified equations", "Tests"), rows))
    return "\n\n".join(text) + "\n"


def _family(
    family: str,
    chapters: dict[str, list[Equation]],
    known: dict[str, Any],
    lines: dict[tuple[str, str], int],
    root: Path,
) -> str:
    title = _title_of_family(family)
    every = [equation for found in chapters.values() for equation in found]
    states = {_state(equation, known) for equation in every}
    options = "".join(
        f'<option value="{state}">{words}</option>'
        for state, words in STATES.items()
        if state in states
    )
    text = [
        f"# Equations of {title[0].lower() + title[1:]}",
        "Each equation with the tests that verify it; the [truth table](../truth.md) says how.",
        FORM.format(options=options, count=len(every)),
    ]
    for chapter, found in chapters.items():
        text.append(f"## [{_title(chapter)}](../chapters/{chapter}.md)")
        text += [_proof(equation, known, lines, address(root)) for equation in found]
    return "\n\n".join(text) + "\n"


def _proof(
    equation: Equation,
    known: dict[str, Any],
    lines: dict[tuple[str, str], int],
    address: str,
) -> str:
    """Return one equation, its number in its chapter and its label, and its tests below."""
    label, state = html.escape(equation.label), _state(equation, known)
    tests = _tests(known.get(equation.label, UNTESTED)["tests"], lines, address)
    name = f'<code class="nn-label">{label}</code>'
    told = "" if state == "verified" else f" {STATES[state]}"
    return "\n\n".join(
        [
            f'<div class="nn-proof" id="{label}" data-state="{state}">',
            f"$$\n{equation.maths}\n$$",
            f"{{eq}}`{equation.label}` {name}{told}",
            "\n".join(f"- {test}" for test in tests),
            "</div>",
        ]
    ).replace("\n\n\n\n", "\n\n")


def _state(equation: Equation, known: dict[str, Any]) -> str:
    entry = known.get(equation.label, UNTESTED)
    return "verified" if equations.holds(entry) else "failed" if entry["tests"] else "unrun"


def _verified(found: Iterable[Equation], known: dict[str, Any]) -> int:
    return sum(equations.holds(known.get(equation.label, UNTESTED)) for equation in found)


def _tests_of(found: Iterable[Equation], known: dict[str, Any]) -> set[str]:
    return {t["id"] for e in found for t in known.get(e.label, UNTESTED)["tests"]}


def _title(chapter: str) -> str:
    name = chapter.rpartition("/")[2]
    return next((row.title for row in catalog.ARCHITECTURES if row.name == name), name)


def _title_of_family(family: str) -> str:
    return catalog.FAMILIES[family][0] if family in catalog.FAMILIES else "Other pages"


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
