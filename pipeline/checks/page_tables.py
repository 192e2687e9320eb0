"""The measured pages as Markdown: a row a page, and a second table with a row a chapter."""

from collections.abc import Callable
from typing import Any, NamedTuple

Seen = dict[str, Any]


class Column(NamedTuple):
    """A column: its head, and what it shows of a page."""

    head: str
    show: Callable[[Seen], str]


def _number(name: str, places: int = 0) -> Callable[[Seen], str]:
    return lambda seen: _told(seen[name], places)


def _told(value: float | None, places: int = 0) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _type(width: int) -> Callable[[Seen], str]:
    def show(seen: Seen) -> str:
        kind = seen[f"type_{width}"]
        return f"{_told(kind['least'], 1)} / {_told(kind['median'], 1)}"

    return show


def _small(width: int) -> Callable[[Seen], str]:
    return lambda seen: "{small}/{labels}".format(**seen[f"type_{width}"])


def _blocks(width: int) -> Callable[[Seen], str]:
    return lambda seen: "{cut}/{blocks}".format(**seen[f"code_{width}"])


def _lines(width: int) -> Callable[[Seen], str]:
    return lambda seen: "{linesCut}/{lines}".format(**seen[f"code_{width}"])


def _pale(kind: str) -> Callable[[Seen], str]:
    return lambda seen: " / ".join(str(len(seen["pale"][mode][kind])) for mode in ("light", "dark"))


def _stops(name: str) -> Callable[[Seen], str]:
    return lambda seen: _told(seen["stops"][name])


PAGES = (
    Column("requests", _number("requests")),
    Column("kB", _number("kB")),
    Column("kB gz", _number("kBgz")),
    Column("html kB (gz)", lambda seen: f"{seen['html']:.0f} ({seen['htmlgz']:.0f})"),
    Column("JS kB gz", _number("jsgz")),
    Column("before paint kB gz", _number("blockinggz")),
    Column("nodes", _number("nodes")),
    Column("first paint s", _number("paint", 2)),
    Column("on the slow line s", _number("slow_paint", 2)),
    Column("CLS 1280", _number("cls_1280", 3)),
    Column("CLS 390", _number("cls_390", 3)),
    Column("blocked ms", _number("blocked_ms")),
    Column("stops to the text", _stops("before")),
    Column("to the end of section 1", _stops("first")),
    Column("a section", _stops("section")),
    Column("in all", _stops("all")),
)
CHAPTERS = (
    Column("blocks cut 1440", _blocks(1440)),
    Column("lines cut 1440", _lines(1440)),
    Column("blocks cut 1280", _blocks(1280)),
    Column("lines cut 1280", _lines(1280)),
    Column("blocks cut 390", _blocks(390)),
    Column("lines cut 390", _lines(390)),
    Column("screens 1280", _number("screens", 1)),
    Column("1st figure", _number("figure", 2)),
    Column("1st slider", _number("slider", 2)),
    Column("label px 1280 least / median", _type(1280)),
    Column("labels < 11 px", _small(1280)),
    Column("label px 390 least / median", _type(390)),
    Column("labels < 9 px", _small(390)),
    Column("pale words, light / dark", _pale("words")),
    Column("pale lines, light / dark", _pale("lines")),
    Column(
        "equations that scroll 390",
        lambda seen: f"{len(seen['scrolling_equations'])}/{seen['equations']}",
    ),
    Column("screens 390", _number("screens_390", 1)),
    Column("nodes", _number("nodes")),
)


def tables(found: dict[str, Seen], before: dict[str, Seen] | None = None) -> str:
    """Return both tables; where pages were measured before, each cell that differs shows both."""
    before = before or {}
    chapters = {name: seen for name, seen in found.items() if "code_1280" in seen}
    text = ["## Pages\n", _table("page", PAGES, found, before)]
    if chapters:
        text += ["\n## Chapters\n", _table("chapter", CHAPTERS, chapters, before)]
    return "\n".join(text)


def _table(
    first: str, columns: tuple[Column, ...], found: dict[str, Seen], before: dict[str, Seen]
) -> str:
    rows = [[first, *(column.head for column in columns)], ["---"] * (len(columns) + 1)]
    for name, seen in found.items():
        old = before.get(name)
        short = name.removeprefix("chapters/").removesuffix(".html")
        rows.append([short, *(_cell(column, seen, old) for column in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(column: Column, seen: Seen, old: Seen | None) -> str:
    now = column.show(seen)
    if old is None:
        return now
    try:
        then = column.show(old)
    except KeyError:  # a number that the earlier run did not take
        return now
    return now if then == now else f"{then} → {now}"
