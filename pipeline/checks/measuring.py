"""What a page is to a reader's browser, as numbers: the scripts beside this file do the counting.

A page is opened three times, each time with an empty cache: in a wide window, in a phone's, and at
the end of a slow line, of which only the first paint is waited for.
"""

from pathlib import Path
from typing import Any

from pipeline.site.browser import Visit

SCRIPTS = ("measure.js", "measure_figures.js", "measure_reading.js")
WIDE, WIDEST, PHONE = (1280, 800), (1440, 900), (390, 844)
KILOBYTES, LATENCY = 200, 150  # the slow line: 1.6 Mbit/s, 150 ms
SMALLEST = {1280: 11.0, 390: 9.0}  # px of a figure's type, as shown
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def instrument(tab: Any) -> None:
    """Give an open page `nnMeasure`, and stop its transitions, so that colours are final."""
    for name in SCRIPTS:
        tab.evaluate(Path(__file__).with_name(name).read_text("utf8"))


def measure(browser: Any, address: str, page: str, chapter: bool) -> dict[str, Any]:
    """Return everything about one page; of a chapter also what its text and figures are like."""
    seen = _wide(browser, address, page, chapter)
    seen |= _phone(browser, address, page, chapter)
    seen["slow_paint"] = _slow(browser, address, page)
    return seen


def _wide(browser: Any, address: str, page: str, chapter: bool) -> dict[str, Any]:
    visit = _visit(browser, address, WIDE)
    visit.open(page)
    watched, tab = visit.watched(), visit.page
    paint = tab.evaluate(_PAINT)
    instrument(tab)
    weight = tab.evaluate("nnMeasure.weight()")
    weight["holding"] = tab.evaluate("nnMeasure.holding()")
    seen = weight | {
        "nodes": tab.evaluate("nnMeasure.nodes()"),
        "paint": _seconds(paint),
        "cls_1280": round(watched["shift"], 3),
        "shifts_1280": watched["shifts"],
        "blocked_ms": round(watched["blocked"]),
        "stops": tab.evaluate("nnMeasure.stops()"),
    }
    if chapter:
        seen |= tab.evaluate("nnMeasure.screens()")
        seen["type_1280"] = _types(tab, 1280)
        seen["pale"] = {}
        for theme in ("light", "dark"):
            visit.set_theme(theme)
            seen["pale"][theme] = tab.evaluate("nnMeasure.pale()")
        tab.evaluate("nnMeasure.unfold()")
        seen["code_1280"] = tab.evaluate("nnMeasure.code()")
        tab.set_viewport_size(_size(WIDEST))
        seen["code_1440"] = tab.evaluate("nnMeasure.code()")
    visit.close()
    return seen


def _phone(browser: Any, address: str, page: str, chapter: bool) -> dict[str, Any]:
    visit = _visit(browser, address, PHONE)
    visit.open(page)
    watched, tab = visit.watched(), visit.page
    seen: dict[str, Any] = {"cls_390": round(watched["shift"], 3), "shifts_390": watched["shifts"]}
    if chapter:
        instrument(tab)
        seen["screens_390"] = tab.evaluate("nnMeasure.screens().screens")
        seen["type_390"] = _types(tab, 390)
        seen["equations"] = tab.evaluate("document.querySelectorAll('article div.math').length")
        seen["scrolling_equations"] = tab.evaluate("nnMeasure.cut()")
        tab.evaluate("nnMeasure.unfold()")
        seen["code_390"] = tab.evaluate("nnMeasure.code()")
    visit.close()
    return seen


def _slow(browser: Any, address: str, page: str) -> float | None:
    """Return the seconds to the first paint at the end of the slow line."""
    visit = _visit(browser, address, WIDE)
    visit.throttle(KILOBYTES, LATENCY)
    visit.page.goto(address + page, wait_until="commit")
    paint = visit.page.wait_for_function(_PAINT, polling=50).json_value()
    visit.close()
    return _seconds(paint)


def _visit(browser: Any, address: str, size: tuple[int, int]) -> Visit:
    return Visit(browser, address, width=size[0], height=size[1], gated=False)


def _size(size: tuple[int, int]) -> dict[str, int]:
    return {"width": size[0], "height": size[1]}


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else round(ms / 1000, 2)


def _types(tab: Any, width: int) -> dict[str, Any]:
    """Return how large the type of the figures is: least, middle, and what is too small."""
    found = tab.evaluate("nnMeasure.types()")
    sizes = [size for size, *_ in found]
    small = [label for label in found if label[0] < SMALLEST[width]]
    return {
        "labels": len(sizes),
        "least": sizes[0] if sizes else None,
        "median": sizes[len(sizes) // 2] if sizes else None,
        "small": len(small),
        "which": small[:5],
    }
