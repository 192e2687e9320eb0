"""What is folded on a page says what it holds: parameters, the code of a figure, a solution.

The label of a fold follows from its cell: from its tags, from its code, from what it shows and from
the exercise that it answers. A cell whose metadata has `mystnb: {code_prompt_show: …}` says it
itself. Before the first section there is one fold at most: the code of all folded cells that
stand there moves into it. A call whose output says all, such as a card's, is left out.
"""

import ast
import html
import re
from collections.abc import Iterable
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx

FIRST = "Parameters and imports"
SAID_BY_ITSELF = ("card", "show_source")  # calls whose output tells all that their code does
_SHOWN = (
    ("slider", re.compile(r'class="[^"]*\bnn-slider\b')),
    ("figure", re.compile(r'class="[^"]*\bnn-figure\b')),
    ("table", re.compile(r"<table\b")),
)
_CHECK = re.compile(r"^[✓✗] ", re.MULTILINE)
_EXERCISE = re.compile(r"Exercise (\d+)\b")
_SOLUTION = re.compile(r"\s*# Solution\b")


def setup(app: Sphinx) -> None:
    app.setup_extension("myst_nb")
    app.add_node(HideCodeCellNode, html=(_open, _close), override=True)
    app.connect("doctree-read", _label)


def _open(writer: Any, node: nodes.Element) -> None:
    label = html.escape(node["prompt_show"])
    writer.body.append(f'<details class="nn-fold">\n<summary>{label}</summary>\n')


def _close(writer: Any, node: nodes.Element) -> None:
    writer.body.append("</details>\n")


def _label(app: Sphinx, doctree: nodes.document) -> None:
    cells = [node for node in doctree.findall(nodes.container) if _is(node, "cell_code")]
    for cell in cells:
        if cell.get("hide_mode"):
            _without_what_is_said(cell)
        if cell.get("hide_mode"):
            own = (cell["cell_metadata"].get("mystnb") or {}).get("code_prompt_show")
            cell["prompt_show"] = own or label(cell)
    _gather(doctree, cells)


def _is(node: nodes.Node, kind: str) -> bool:
    return isinstance(node, nodes.Element) and node.get("nb_element") == kind


def _part(cell: nodes.Element, kind: str) -> nodes.Element | None:
    return next((child for child in cell.children if _is(child, kind)), None)


def _code(cell: nodes.Element) -> str:
    source = _part(cell, "cell_code_source")
    return source.astext() if source else ""


def _without_what_is_said(cell: nodes.Element) -> None:
    """Leave the folded code of a card out, and the call that shows a source."""
    source, output = _part(cell, "cell_code_source"), _part(cell, "cell_code_output")
    if "input" not in cell["hide_mode"] or not source or not output:
        return
    names = [_called(statement) for statement in _statements(source.astext())]
    if names and all(name in SAID_BY_ITSELF for name in names):
        cell["called"] = source.astext()
        cell.remove(source)
        cell["hide_mode"] = "output" if cell["hide_mode"] == "input+output" else ""


def _gather(doctree: nodes.document, cells: Iterable[nodes.Element]) -> None:
    """Put all folded code before the first section into one fold, just before that section."""
    top = next(iter(doctree.findall(nodes.section)), doctree)
    lead = [cell for cell in cells if cell.parent is top and not _after_a_section(cell)]
    folded = [cell for cell in lead if cell.get("hide_mode") == "input"]
    if not folded:
        return
    sources = [_part(cell, "cell_code_source") for cell in folded]
    known = {cell["prompt_show"] for cell in folded}
    held = nodes.container(
        nb_element="cell_code", hide_mode="all", classes=["cell"], cell_metadata={}
    )
    held["prompt_show"] = held["prompt_hide"] = known.pop() if len(known) == 1 else FIRST
    sections = (at for at, node in enumerate(top) if isinstance(node, nodes.section))
    top.insert(next(sections, len(top)), held)
    for cell, source in zip(folded, sources, strict=True):
        cell.remove(source)
        held.append(source)
        cell["hide_mode"] = ""
        if not cell.children:
            top.remove(cell)


def _after_a_section(cell: nodes.Element) -> bool:
    siblings = cell.parent.children
    return any(isinstance(node, nodes.section) for node in siblings[: siblings.index(cell)])


def label(cell: nodes.Element) -> str:
    """Return what a folded cell holds, in a few words."""
    code = _code(cell)
    if cell["hide_mode"] == "output":
        named = _sources(cell.get("called", code))
        return f"Source of {_listed(named)}" if named else "Output"
    if exercise := _exercise(cell):
        return f"Solution to exercise {exercise}" if exercise != "?" else "Solution"
    if "parameters" in cell["cell_metadata"].get("tags", []):
        return "Parameters"
    if cell["hide_mode"] != "input":
        return "Code and output"
    output = _part(cell, "cell_code_output")
    return _of_what_it_shows(output) if output else _of_what_it_defines(code)


def _exercise(cell: nodes.Element) -> str:
    """Return the number of the exercise that a cell answers, `?` for an unknown one, or nothing."""
    solves = _SOLUTION.match(_code(cell)) or "solution" in cell["cell_metadata"].get("tags", [])
    siblings = cell.parent.children
    for node in reversed(siblings[: siblings.index(cell)]):
        if _is(node, "cell_code"):
            continue
        if isinstance(node, nodes.paragraph) and (found := _EXERCISE.match(node.astext())):
            return found[1]
        if not solves:
            return ""
    return "?" if solves else ""


def _of_what_it_shows(output: nodes.Element) -> str:
    text = "".join(raw.astext() for raw in output.findall(nodes.raw))
    for kind, pattern in _SHOWN:
        count = len(pattern.findall(text))
        if kind == "table":
            count += len(list(output.findall(nodes.table)))
        if count:
            return f"Code of this {kind}" if count == 1 else f"Code of these {kind}s"
    checks = _CHECK.findall(output.astext())
    if checks:
        return "Code of this check" if len(checks) == 1 else "Code of these checks"
    return f"Code of {'these numbers' if re.search(r'[0-9]', output.astext()) else 'this text'}"


def _of_what_it_defines(code: str) -> str:
    statements = _statements(code)
    defined = [
        each.name
        for each in statements
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    if defined:
        return f"Source of {_listed(defined)}"
    return "Imports" if statements and all(map(_is_preparation, statements)) else "Code"


def _is_preparation(statement: ast.stmt) -> bool:
    imports = isinstance(statement, ast.Import | ast.ImportFrom)
    return imports or "notebook.setup(" in ast.unparse(statement)


def _statements(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except SyntaxError:  # a magic of IPython
        return []


def _called(statement: ast.stmt) -> str:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""


def _sources(code: str) -> list[str]:
    """Return the names of what `show_source` is asked for."""
    calls = [each.value for each in _statements(code) if _called(each) == "show_source"]
    return [ast.unparse(argument) for call in calls for argument in call.args]


def _listed(names: list[str]) -> str:
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
