"""The family tree of the architectures as inline SVG: time across, one lane a family.

Ink is `currentColor`, so the page's dark mode applies to it. Written architectures are solid and
link to their chapters; planned ones are outlined.
"""

import itertools
from collections.abc import Callable, Iterable
from html import escape
from typing import NamedTuple

from nnlib.catalog import FAMILIES, Architecture

WIDTH = 740
TRACK = 19
HEADER = 17
GAP = 5
LETTER = 6.3  # mean width of a letter at the size of the labels
# Half of all architectures came after 2013, so the years since then get more room.
SCALE = ((1948, 14), (1980, 84), (2000, 176), (2012, 262), (2025, 726))
YEARS = (1950, 1980, 1990, 2000, 2010, 2015, 2020, 2024)
MILESTONES = (
    (2012, "AlexNet", "A deep convolutional network wins the ImageNet contest by a wide margin."),
    (2014, "VGG", "Depth from small filters alone."),
    (2015, "Luong attention", "Multiplicative scores for attention."),
    (2019, "EfficientNet", "Depth, width and resolution scaled together."),
    (2020, "GPT-3", "Tasks learned from a few examples in the prompt."),
    (2022, "ChatGPT", "A language model trained with human feedback reaches the public."),
    (2023, "GPT-4, Claude", "Large models that also read pictures; open weights with LLaMA."),
)
# A shadow at the side where the tree goes on; it leaves when the end is reached.
_GROUND = "var(--pst-color-background,Canvas)"
STYLE = (
    f".nn-tree{{overflow-x:auto;margin:1.5rem 0 .4rem;background:"
    f"linear-gradient(90deg,{_GROUND} 40%,transparent) left/48px 100% no-repeat local,"
    f"linear-gradient(270deg,{_GROUND} 40%,transparent) right/48px 100% no-repeat local,"
    "radial-gradient(farthest-side at 0,#8889,transparent) left/14px 100% no-repeat scroll,"
    "radial-gradient(farthest-side at 100%,#8889,transparent) right/14px 100% no-repeat scroll}"
    ".nn-tree svg{display:block;min-width:660px;width:100%;height:auto;"
    "font:11.5px var(--nn-sans,sans-serif)}"
    ".nn-tree a{color:inherit;text-decoration:none}"
    ".nn-tree a:hover text,.nn-tree a:focus text{text-decoration:underline}"
    ".nn-tree text{paint-order:stroke;stroke:var(--pst-color-background,Canvas);"
    "stroke-width:3px;stroke-opacity:.8;stroke-linejoin:round}"
    ".nn-tree .edge{fill:none;stroke-opacity:.42}"
    ".nn-tree .planned text{opacity:.78}"
    ".nn-tree [id^=tree-],.nn-tree .edge{transition:opacity .12s}"
    ".nn-tree svg:has([id^=tree-]:is(:hover,:focus)) :is([id^=tree-],.edge){opacity:.16}"
    ".nn-tree-hint{color:var(--pst-color-text-muted);font:.95rem var(--nn-sans,sans-serif)}"
    ".nn-tree-hint .wide,.nn-tree-hint .touch{display:none}"
    "@media (hover:none){.nn-tree-hint .touch{display:inline}.nn-tree-hint .point{display:none}}"
    "@media (max-width:720px){.nn-tree-hint .wide{display:inline}}"
    "@media print{.nn-tree-hint{display:none}}"
)
HINT = (
    '<p class="nn-tree-hint"><span class="point">Point at a name to bring out its ancestors and '
    'heirs; click it to open its chapter.</span><span class="touch">Tap a name to open its '
    'chapter.</span><span class="wide"> The tree goes on to the right: swipe or scroll it.</span>'
    "</p>"
)


class Node(NamedTuple):
    """A point of the drawing: where it stands and on which side its label goes."""

    x: float
    y: float
    leftward: bool


def across(year: float) -> float:
    """Return the x of a year."""
    for (y0, x0), (y1, x1) in itertools.pairwise(SCALE):
        if year <= y1:
            return x0 + (year - y0) * (x1 - x0) / (y1 - y0)
    return SCALE[-1][1]


def pack(labels: Iterable[tuple[str, int]]) -> tuple[dict[str, tuple[float, int, bool]], int]:
    """Put labels, given with their years, on as few tracks as keep them apart.

    Returns:
        For each label its x, its track and whether it is written leftward; the number of tracks.
    """
    tracks: list[list[tuple[float, float]]] = []
    placed: dict[str, tuple[float, int, bool]] = {}
    for label, year in sorted(labels, key=lambda pair: pair[1]):
        x, room = across(year), 12 + LETTER * len(label)
        leftward = x + room > WIDTH
        span = (x - room, x + 8) if leftward else (x - 8, x + room)
        free = (
            at
            for at, taken in enumerate(tracks)
            if all(span[1] < begin or end < span[0] for begin, end in taken)
        )
        at = next(free, len(tracks))
        if at == len(tracks):
            tracks.append([])
        tracks[at].append(span)
        placed[label] = (x, at, leftward)
    return placed, len(tracks)


def draw(rows: Iterable[Architecture], link: Callable[[Architecture], str]) -> str:
    """Return the tree as HTML.

    Args:
        rows: the architectures.
        link: gives the address of a written one's chapter.
    """
    rows = list(rows)
    lanes, nodes = [], {}
    milestones, tracks = pack((name, year) for year, name, _ in MILESTONES)
    top = 22.0
    height = HEADER + tracks * TRACK + GAP
    lanes.append((top, height, "Milestones", None))
    marks = {n: Node(x, top + HEADER + (t + 0.5) * TRACK, w) for n, (x, t, w) in milestones.items()}
    top += height + GAP
    for number, (family, (title, _)) in enumerate(FAMILIES.items()):
        own = {row.label: row for row in rows if row.family == family}
        placed, tracks = pack((label, row.year) for label, row in own.items())
        height = HEADER + tracks * TRACK + GAP
        lanes.append((top, height, title, _hue(number)))
        for label, (x, track, leftward) in placed.items():
            y = top + HEADER + (track + 0.5) * TRACK
            nodes[own[label].name] = Node(x, y, leftward)
        top += height + GAP
    edges = [
        _edge(nodes[ancestor], nodes[row.name], row, ancestor)
        for row in rows
        for ancestor in row.ancestors
    ]
    parts = [
        *(_lane(*lane) for lane in lanes),
        *(_year(year, top) for year in YEARS),
        *edges,
        *(_milestone(name, what, marks[name], year) for year, name, what in MILESTONES),
        *(_node(row, nodes[row.name], link) for row in rows),
    ]
    told = (
        "Family tree: time runs to the right, each family of architectures has a lane, "
        "and curves lead from ancestors to heirs. The tables below hold the same facts."
    )
    body = "\n".join(parts)
    return (
        f'{HINT}<div class="nn-tree" tabindex="0" role="group" aria-label="{told}">'
        f"<style>{STYLE}{''.join(_highlight(row, rows) for row in rows)}</style>\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
        f'fill="currentColor">\n{body}\n</svg></div>'
    )


def _highlight(row: Architecture, rows: Iterable[Architecture]) -> str:
    """Return the rule that brings out a name that is pointed at, with its ancestors and heirs."""
    heirs = [other.name for other in rows if row.name in other.ancestors]
    names = ",".join(f"#tree-{name}" for name in (row.name, *row.ancestors, *heirs))
    pointed = f".nn-tree svg:has(#tree-{row.name}:is(:hover,:focus))"
    return (
        f"{pointed} :is({names},.of-{row.name}){{opacity:1}}"
        f"{pointed} .of-{row.name}{{stroke-opacity:1;stroke-width:2.2}}"
    )


def _hue(number: int) -> str:
    """Return the colour of a lane, readable on light and dark ground; neighbours differ most."""
    return f"hsl({number * 137.5 % 360:.0f} 52% 50%)"


def _lane(top: float, height: float, title: str, color: str | None) -> str:
    fill = f'fill="{color}" fill-opacity=".11"' if color else 'fill="none"'
    return (
        f'<rect x="0" y="{top:.1f}" width="{WIDTH}" height="{height:.1f}" rx="4" {fill}/>'
        f'<text x="8" y="{top + 13:.1f}" font-weight="600">{escape(title)}</text>'
    )


def _year(year: int, bottom: float) -> str:
    x = across(year)
    return (
        f'<line x1="{x:.1f}" y1="18" x2="{x:.1f}" y2="{bottom:.1f}" stroke="currentColor" '
        f'stroke-opacity=".12"/><text x="{x:.1f}" y="12" text-anchor="middle" '
        f'opacity=".75">{year}</text>'
    )


def _edge(start: Node, end: Node, heir: Architecture, ancestor: str) -> str:
    color = _hue(list(FAMILIES).index(heir.family))
    bend = max(14.0, (end.x - start.x) / 2)
    if end.x - start.x < 6:  # of the same year: leave to the left and come back
        path = f"M{start.x:.1f} {start.y:.1f}C{start.x - 22:.1f} {start.y:.1f} "
        path += f"{end.x - 22:.1f} {end.y:.1f} {end.x:.1f} {end.y:.1f}"
    else:
        path = f"M{start.x:.1f} {start.y:.1f}C{start.x + bend:.1f} {start.y:.1f} "
        path += f"{end.x - bend:.1f} {end.y:.1f} {end.x:.1f} {end.y:.1f}"
    names = f"edge of-{ancestor} of-{heir.name}"
    return f'<path class="{names}" d="{path}" stroke="{color}"/>'


def _label(text: str, node: Node) -> str:
    x, anchor = (node.x - 8, "end") if node.leftward else (node.x + 8, "start")
    return f'<text x="{x:.1f}" y="{node.y + 4:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _milestone(name: str, what: str, node: Node, year: int) -> str:
    x, y = node.x, node.y
    return (
        f"<g><title>{year}: {escape(what)}</title>"
        f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill-opacity=".6"/>'
        f"{_label(name, node)}</g>"
    )


def _node(row: Architecture, node: Node, link: Callable[[Architecture], str]) -> str:
    color = _hue(list(FAMILIES).index(row.family))
    ground = color if row.module else "none"
    spot = (
        f"<title>{escape(row.title)}, {row.year}: {escape(row.idea)}</title>"
        f'<circle cx="{node.x:.1f}" cy="{node.y:.1f}" r="4.5" fill="{ground}" '
        f'stroke="{color}" stroke-width="1.8"/>{_label(row.label, node)}'
    )
    if not row.module:
        return f'<g class="planned" id="tree-{row.name}">{spot}</g>'
    return f'<a id="tree-{row.name}" href="{escape(link(row))}">{spot}</a>'
