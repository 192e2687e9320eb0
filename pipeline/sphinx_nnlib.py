"""The book's own Sphinx extension: docstrings with `$maths$`, no third party on the pages."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_MATHS = re.compile(r"(?<![\\$\w])\$(?!\s)([^$]+?)(?<!\s)\$(?![\w$])")
_LITERAL = re.compile(r"(``.+?``|`[^`\n]+`(?:_|__)?)")
_WORD_AFTER = re.compile(r"\w")


def setup(app: Sphinx) -> dict[str, Any]:
    # Priority: before napoleon (500) turns sections into fields, so that it sees final markup.
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    app.connect("config-inited", lambda app, config: _without_thebe(app))
    app.connect("doctree-resolved", _scroll_tables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst("\n".join(lines)).split("\n")


def to_rst(text: str) -> str:
    """Turn the Markdown that docstrings use (`$maths$`, `$$…$$`, `code`) into reStructuredText."""
    blocks = re.split(r"(^[ \t]*\$\$.*?\$\$[ \t]*(?:\([\w-]+\))?[ \t]*$)", text, flags=re.M | re.S)
    return "".join(_display(block) if at % 2 else _inline(block) for at, block in enumerate(blocks))


def _display(block: str) -> str:
    indent = re.match(r"[ \t]*", block)[0]
    maths = re.sub(r"\([\w-]+\)\s*$", "", block.strip()).strip().strip("$").strip()
    body = "\n".join(f"{indent}   {line.strip()}" for line in maths.splitlines())
    return f"\n{indent}.. math::\n\n{body}\n"


def _inline(text: str) -> str:
    parts = []
    for line in text.split("\n"):
        if line.lstrip().startswith((">>>", "...")):
            parts.append(line)
            continue
        pieces = _LITERAL.split(line)
        pieces[0::2] = [_MATHS.sub(_role, piece) for piece in pieces[0::2]]
        pieces[1::2] = [_code(piece) for piece in pieces[1::2]]
        parts.append("".join(pieces))
    return "\n".join(parts)


def _role(found: re.Match[str]) -> str:
    return f":math:`{found[1]}`"


def _code(piece: str) -> str:
    """Single backticks mean code, as in Markdown; roles and links keep theirs."""
    single = not piece.startswith("``") and piece.endswith("`")
    return f"`{piece}`" if single else piece


def _without_thebe(app: Sphinx) -> None:
    """Take the sphinx-thebe listeners away.

    jupyter-book loads that extension always; although it is switched off, it writes a third
    party's address into every page, twice, which browsers report as an error.
    """
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if (listener.handler.__module__ or "").startswith("sphinx_thebe"):
                listeners.remove(listener)


def _scroll_tables(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put each table into a box of its own, which scrolls where the table is wider than it."""
    for table in list(doctree.findall(nodes.table)):
        if "nn-scroll" in table.parent.get("classes", ()):
            continue
        box = nodes.container(classes=["nn-scroll"])
        table.replace_self(box)
        box += table
