"""The small drawings that a page shows before its scripts have run, and a form in a notebook."""

import html
from collections.abc import Sequence

from torch import Tensor

PHOTOGRAPH = " nn-photograph"
"""Class of what holds pixels that are light where they are high, in a dark page and a light one."""


def pixels(values: Tensor, label: str) -> str:
    """Return a grey picture, rows of numbers between 0 and 1, in the ink of the page.

    Example:
        >>> import torch
        >>> "M1 0h1v1h-1z" in pixels(torch.eye(2).flip(0), "a corner")
        True
    """
    rows, columns = values.shape
    levels: dict[int, list[str]] = {}
    for y, row in enumerate((values.clamp(0, 1) * 16).round().int().tolist()):
        for x, level in enumerate(row):
            if level:
                levels.setdefault(level, []).append(f"M{x} {y}h1v1h-1z")
    inks = "".join(
        f'<path fill-opacity="{level / 16:g}" d="{"".join(squares)}"/>'
        for level, squares in sorted(levels.items())
    )
    return (
        f'<svg class="nn-pixels" viewBox="0 0 {columns} {rows}" role="img" '
        f'aria-label="{html.escape(label)}" shape-rendering="crispEdges">{inks}</svg>'
    )


def bar_rows(rows: Sequence[tuple[str, float]], best: int | None = None) -> str:
    """Return named bars with their shares, of which one may be marked."""
    lines = []
    for at, (name, share) in enumerate(rows):
        mark = " data-best" if at == best else ""
        lines.append(
            f'<li{mark} style="--v:{share:.4f}"><b>{html.escape(visible(name))}</b>'
            f"<i></i><span>{percent(share)}</span></li>"
        )
    return "".join(lines)


def visible(letter: str) -> str:
    """Return a letter, or a sign for one that nobody sees."""
    return {" ": "␣", "\n": "⏎"}.get(letter, letter)


def percent(share: float) -> str:
    """Return a share in per cent.

    Example:
        >>> percent(0.123), percent(0.0098), percent(0.00996), percent(0.0)
        ('12 %', '1.0 %', '1 %', '0 %')
    """
    hundred = 100 * share
    return (
        f"{hundred:.0f} %" if hundred >= 0.995 or hundred < 0.05 else f"{hundred:.1f} %"
    )


CELL_WIDTH, CELL_HEIGHT, EDGE = 12, 15, 18


def heat(values: Tensor, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Return a map of weights from 0 to 1, its rows and columns named by letters."""
    width = EDGE + CELL_WIDTH * len(columns)
    height = EDGE + CELL_HEIGHT * len(rows)
    parts = []
    for x, letter in enumerate(columns):
        at = EDGE + CELL_WIDTH * (x + 0.5)
        parts.append(f'<text x="{at:g}" y="{EDGE - 6}">{_letter(letter)}</text>')
    for y, letter in enumerate(rows):
        at = EDGE + CELL_HEIGHT * (y + 0.8)
        parts.append(f'<text x="8" y="{at:g}">{_letter(letter)}</text>')
        for x, weight in enumerate(values[y].tolist()):
            if weight >= 0.03:
                parts.append(
                    f'<rect x="{EDGE + CELL_WIDTH * x}" y="{EDGE + CELL_HEIGHT * y}" '
                    f'width="{CELL_WIDTH}" height="{CELL_HEIGHT}" '
                    f'fill-opacity="{weight:.2f}"/>'
                )
    words = f"Where it looks: {len(rows)} written rows, {len(columns)} read columns"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{words}">{"".join(parts)}</svg>'
    )


def _letter(letter: str) -> str:
    return html.escape(visible(letter))


def curve(values: Sequence[float], label: str) -> str:
    """Return a line through values at equal distances, with its least and its largest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    last = max(1, len(values) - 1)
    points = " ".join(
        f"{300 * at / last:.1f},{100 - 100 * (value - low) / span:.1f}"
        for at, value in enumerate(values)
    )
    return (
        f'<svg viewBox="-4 -4 308 108" role="img" aria-label="{html.escape(label)}">'
        f'<polyline points="{points}"/></svg>'
        f"<span>{html.escape(label)}: {low:.3g} to {high:.3g}</span>"
    )
