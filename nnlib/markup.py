"""Text for a page: tables in Markdown, prose in HTML, source without its docstrings.

Nothing is shown here; `nnlib.notebook` does that, and the site's generated pages use the tables.
"""

import ast
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def table(
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]] | Mapping[Any, Sequence[Any]],
    form: str | Sequence[str] = "",
) -> str:
    """Return a table in Markdown; columns of numbers stand at the right.

    Args:
        head: what stands over each column.
        rows: the cells of each row: text, which may hold Markdown, or numbers; or for each name,
            which makes the first cell, the others.
        form: how numbers are written, as in `".2f"`: all that are not whole, or column by column.

    Returns:
        Lines divided by newlines; a `|` in a cell is escaped.

    Raises:
        ValueError: a row, or `form`, is not as long as `head`.

    Example:
        >>> print(table(["model", "right"], {"counting": [0.4142], "network": [0.9]}, ".1%"))
        | model | right |
        |---|--:|
        | counting | 41.4% |
        | network | 90.0% |
    """
    if isinstance(rows, Mapping):
        rows = [(name, *cells) for name, cells in rows.items()]
    body = [tuple(row) for row in rows]
    for number, row in enumerate(body):
        if len(row) != len(head):
            raise ValueError(
                f"rows[{number}] has {len(row)} cells, head has {len(head)}"
            )
    forms = [form] * len(head) if isinstance(form, str) else list(form)
    if len(forms) != len(head):
        raise ValueError(f"form must be one or {len(head)}, got {len(forms)}")
    columns = zip(*body, strict=True) if body else [()] * len(head)
    marks = [
        "--:" if column and all(_is_number(cell) for cell in column) else "---"
        for column in columns
    ]
    whole = isinstance(form, str)
    lines = [[_cell(cell) for cell in head]]
    lines += [
        [_cell(cell, spec, whole=whole) for cell, spec in zip(row, forms, strict=True)]
        for row in body
    ]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "|".join(marks) + "|", *written[1:]])


def _is_number(cell: Any) -> bool:
    return not isinstance(cell, bool | str) and (
        isinstance(cell, Real) or hasattr(cell, "item")
    )


def _cell(cell: Any, form: str = "", *, whole: bool = True) -> str:
    """Return a cell on one line; a minus is a true one.

    Every `|` is escaped, in code and maths as well: Markdown cuts a table before it reads a cell.
    """
    if _is_number(cell):
        value = cell.item() if hasattr(cell, "item") else cell
        spec = "" if whole and isinstance(value, Integral) else form
        return format(value, spec).replace("-", "−")
    return " ".join(str(cell).split()).replace("|", "\\|")


def prose(text: str) -> str:
    """Escape text for HTML; `$…$` becomes what TeX is marked with, `*…*` emphasis.

    Example:
        >>> prose("fewer *and* < 3")
        'fewer <em>and</em> &lt; 3'
    """
    text = html.escape(" ".join(text.split()), quote=False)
    text = re.sub(
        r"\$([^$]+)\$",
        r'<span class="math notranslate nohighlight">\\(\1\\)</span>',
        text,
    )
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def without_docstrings(source: str) -> str:
    """Return Python source whose functions and classes have no docstrings."""
    lines: list[str | None] = list(source.splitlines())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, kinds)
            and ast.get_docstring(node) is not None
            and len(node.body) > 1
        ):
            first = node.body[0]
            end = first.end_lineno or first.lineno
            lines[first.lineno - 1 : end] = [None] * (end - first.lineno + 1)
            if end < len(lines) and not (lines[end] or "").strip():
                lines[end] = None
    return "\n".join(line for line in lines if line is not None)
