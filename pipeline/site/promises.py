"""Lines that begin with ✓: what they mean, told once a page; a long list of them, folded to a line.

`check` and `band` print a line for each promise. A reader whom a search engine has led to one
chapter finds below the first of them what ✓ stands for, with a link to the introduction. More than
three in a row fold to one line that says how many they are and what about; a line with ✗, and
whatever else a cell prints, stands open.
"""

import re
from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

MARK = "✓ "
OPEN = 3  # promises in a row that stand open
ABOUT = 64  # characters of the claims that a fold names
LABEL = "promises"  # where the introduction says what ✓ means
_TOLERANCE = re.compile(r" \((?:atol|rtol|baseline) [^()]*\)$")


class Kept(nodes.General, nodes.Element):
    """A long list of promises, folded."""


class Meaning(nodes.General, nodes.TextElement):
    """The line that says what ✓ stands for."""


def setup(app: Sphinx) -> None:
    app.add_node(Kept, html=(_open_kept, _close_kept))
    app.add_node(Meaning, html=(_open_meaning, _close_meaning))
    app.connect("doctree-read", _shown)


def _open_kept(writer: Any, node: Kept) -> None:
    claims = node["claims"]
    writer.body.append(
        f'<details class="nn-kept"><summary>{MARK}{len(claims)} promises kept: '
        f"<span>{escape(about(claims))}</span></summary>\n"
    )


def _close_kept(writer: Any, node: Kept) -> None:
    writer.body.append("</details>\n")


def _open_meaning(writer: Any, node: Meaning) -> None:
    writer.body.append('<p class="nn-meaning">')


def _close_meaning(writer: Any, node: Meaning) -> None:
    writer.body.append("</p>\n")


def about(claims: list[str]) -> str:
    """Return the first of the claims, as many as fit a line, and how many more there are.

    Example:
        >>> about(["Base", "Large (atol 1e-06)", 60 * "x"])
        'Base; Large; and 1 more'
    """
    told = [_TOLERANCE.sub("", claim) for claim in claims]
    shown = told[:1]
    for claim in told[1:]:
        if len("; ".join([*shown, claim])) > ABOUT:
            break
        shown.append(claim)
    rest = len(told) - len(shown)
    return "; ".join([*shown, f"and {rest} more"] if rest else shown)


def _shown(app: Sphinx, doctree: nodes.document) -> None:
    printed = [block for block in doctree.findall(nodes.literal_block) if is_printed(block)]
    first = next((block for block in printed if _is_open(block)), None)
    if first is not None:
        first.parent.insert(first.parent.index(first) + 1, meaning(app.env.docname))
    for block in printed:
        block.parent[block.parent.index(block) : block.parent.index(block) + 1] = parts(block)


def is_printed(block: nodes.literal_block) -> bool:
    """Whether a cell has printed the block, and a promise stands in it."""
    output = block.parent.get("nb_element") == "cell_code_output"
    return output and any(line.startswith(MARK) for line in block.astext().splitlines())


def _is_open(block: nodes.literal_block) -> bool:
    """Whether the block shows before anything is unfolded."""
    node: nodes.Element | None = block
    while node is not None:
        mode = node.get("hide_mode") or ""
        if "output" in mode or mode == "all" or node.get("design_component") == "dropdown":
            return False
        node = node.parent
    return True


def meaning(doc: str) -> Meaning:
    """Return the line that says what ✓ stands for, with a link to where more is said."""
    words = nodes.inline("", "what this means")
    link = addnodes.pending_xref(
        "", words, refdomain="std", reftype="ref", reftarget=LABEL, refexplicit=True,
        refwarn=False, refdoc=doc,
    )  # fmt: skip
    text = f"{MARK}compared when this page was built ("
    return Meaning("", "", nodes.Text(text), link, nodes.Text(")"))


def parts(block: nodes.literal_block) -> list[nodes.Element]:
    """Return what stands in the place of a block: open text, and folds of many promises."""
    found: list[nodes.Element] = []
    waiting: list[str] = []
    for lines, fold in _runs(block.astext().rstrip("\n").split("\n")):
        if not fold:
            waiting += lines
            continue
        found += _blocks(block, waiting)
        waiting = []
        claims = [line.removeprefix(MARK) for line in lines]
        found.append(Kept("", *_blocks(block, lines), claims=claims))
    if not found:
        return [block]
    return found + _blocks(block, waiting)


def _runs(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield lines of one kind that follow one another, and whether they fold."""
    for promised, run in groupby(lines, key=lambda line: line.startswith(MARK)):
        together = list(run)
        yield together, promised and len(together) > OPEN


def _blocks(block: nodes.literal_block, lines: list[str]) -> list[nodes.Element]:
    """Return a block like the one given with these lines; none for no line."""
    text = "\n".join(lines)
    if not text.strip():
        return []
    new = block.copy()
    new.rawsource = text  # by which Sphinx knows that it may be coloured
    new += nodes.Text(text)
    return [new]
