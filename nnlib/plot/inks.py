"""A colour as the page shows it: of a word or of a line, in light mode and in dark.

A figure is drawn once, and read on two grounds. So a colour with a meaning is written into the SVG
as one of the page's variables, `var(--nn-learned-ink, #c0354a)`, which `_static/book.css`
defines for both modes; the colour behind the comma is what a notebook shows, where they are
unknown. Any other colour that does not stand out in a mode is made darker or lighter there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from nnlib.plot.colors import COLORS, INK

Mode = tuple[str, str]  # in light mode, in dark mode

GROUND: Mode = ("#fcfbf8", "#16191e")
TEXT: Mode = ("#22262c", "#dde1e6")
WORDS: dict[str, Mode] = {
    "input": ("#35659b", "#7faedc"),
    "learned": ("#c0354a", "#f28b98"),
    "state": ("#1c752b", "#62be74"),
    "gate": ("#a02d6e", "#db86b6"),
    "baseline": ("#666a70", "#a3a8af"),
    "highlight": ("#7a6c0a", "#d6c75c"),
    "fixed": ("#11708f", "#7ad3f2"),
}
"""Colours of words, at least 4.5 : 1 against the page."""
LINES: dict[str, Mode] = {
    "input": ("#4477aa", "#5e92c8"),
    "learned": ("#e5566a", "#ee6677"),
    "state": ("#228833", "#38a14b"),
    "gate": ("#aa3377", "#cc5a9c"),
    "baseline": ("#808080", "#888888"),
    "highlight": ("#a08f16", "#ccbb44"),
    "fixed": ("#2e9bbe", "#66ccee"),
}
"""Colours of lines, markers and bars, at least 3 : 1."""

WORD, LINE = 4.5, 3.0
FAINT = 0.8  # opacity of what stands behind on purpose: single runs, trails, grids
_MEANINGS = {tone.lower(): name for name, tone in COLORS.items() if name != "target"}


@dataclass(frozen=True)
class Tone:
    """How a colour is written, and what it is in light and in dark mode."""

    css: str
    modes: Mode


PAPER = Tone(f"var(--nn-paper,{GROUND[0]})", GROUND)
PLAIN = Tone("currentColor", TEXT)


@cache
def luminance(color: str) -> float:
    """Return the relative luminance of a colour, from 0 (black) to 1 (white), as WCAG has it."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 (equal) to 21.

    Example:
        >>> round(contrast("white", "black"))
        21
    """
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def over(color: str, alpha: float, ground: str) -> str:
    """Return what one sees of a colour of this opacity on a ground."""
    if alpha >= 1:
        return to_hex(color)
    pairs = zip(to_rgb(color), to_rgb(ground), strict=True)
    mixed: Any = [alpha * a + (1 - alpha) * b for a, b in pairs]
    return to_hex(mixed)


@cache
def line(color: str) -> Tone:
    """Return the colour of a line, a marker or an area as the page shows it."""
    return _tone(color, "line", LINES, LINE)


@cache
def word(color: str) -> Tone:
    """Return the colour of words as the page shows it."""
    return _tone(color, "ink", WORDS, WORD)


def word_on(color: str, grounds: Sequence[Mode]) -> Tone:
    """Return how words are written on these grounds: in their colour, if one can read it there.

    Args:
        color: the colour that was asked for.
        grounds: what lies behind the words at some places, in light mode and in dark.
    """

    def least(ink: str, mode: int) -> float:
        return min(contrast(ink, ground[mode]) for ground in grounds)

    for tone in (word(color), PLAIN):
        if all(least(ink, mode) >= WORD for mode, ink in enumerate(tone.modes)):
            return tone
    light, dark = (
        max(("#000000", "#ffffff"), key=lambda end: least(end, mode)) for mode in (0, 1)
    )
    return _pair(light, dark)


def casing(color: str, grounds: Sequence[Sequence[Mode]]) -> str:
    """Return the colour of a casing that sets a line off from its ground; empty if it needs none.

    A line stands out if it does along two thirds of its length, from what lies on one side of it:
    many an edge is seen from one side only. The casing is of the page's colour, where that helps.

    Args:
        color: the colour that the line was given.
        grounds: what lies on either side of it, in light mode and in dark, at some places.
    """
    if not grounds:
        return ""
    edges = []
    for mode, ink in enumerate(line(color).modes):
        seen = sum(
            max(contrast(ink, side[mode]) for side in sides) >= LINE
            for sides in grounds
        )
        if 3 * seen >= 2 * len(grounds):
            edges.append("transparent")
        else:
            page = contrast(ink, GROUND[mode]) >= LINE
            edges.append(GROUND[mode] if page else TEXT[mode])
    return "" if set(edges) == {"transparent"} else f"light-dark({','.join(edges)})"


def _pair(light: str, dark: str) -> Tone:
    css = light if light == dark else f"light-dark({light},{dark})"
    return Tone(css, (light, dark))


def _tone(color: str, kind: str, known: dict[str, Mode], wanted: float) -> Tone:
    color = color.lower()
    if color in (INK, "#000000"):
        return PLAIN
    if color == "#ffffff":
        return _pair(color, color)
    if name := _MEANINGS.get(color):
        return Tone(f"var(--nn-{name}-{kind},{known[name][0]})", known[name])
    return _pair(*(_until(color, ground, wanted) for ground in GROUND))


def _until(color: str, ground: str, wanted: float) -> str:
    """Return the colour, darker or lighter step by step until it stands out from the ground."""
    end = "#000000" if luminance(ground) > 0.2 else "#ffffff"
    for step in range(20):
        mixed = over(end, step / 20, color)
        if contrast(mixed, ground) >= wanted:
            return mixed
    return end
