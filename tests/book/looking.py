"""What tests see of the built pages in a browser: each page is opened once in a process."""

import os
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.checks.measuring import instrument
from pipeline.site.browser import Visit, why_not
from pipeline.site.toc import toc_pages
from tests.book import axe

# `make check` looks at a page before it is published.
SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html"))
PAGES = [f"{doc}.html" for doc in toc_pages(ROOT)]
CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
REASON = why_not(SITE)

SHIFT = 0.02
"""How far a page may jump while it comes, as the browser counts it."""

_PLAIN = """() => {
  for (const shape of document.querySelectorAll("article svg > :not(title, desc)")) shape.remove();
  for (const whole of document.querySelectorAll("article pre, article math"))
    whole.textContent = whole.textContent;
}"""

_known: dict[str, dict[str, Any]] = {}


class Looks:
    """Everything measured on a page; what one module has looked at, the next need not open."""

    def __init__(self, browser: Any, address: str):
        self._browser, self._address = browser, address
        self._visits: dict[int, Visit] = {}

    def __call__(self, page: str) -> dict[str, Any]:
        if page not in _known:
            _known[page] = self._look(page)
        return _known[page]

    def close(self) -> None:
        for visit in self._visits.values():
            visit.close()

    def _look(self, page: str) -> dict[str, Any]:
        seen: dict[str, Any] = {name: {} for name in ("wide", "shifts", "shift", "types")}
        for name in ("foreign", "failed", "complaints"):
            seen[name] = []
        for width, look in ((390, _on_a_phone), (1280, _in_a_window)):
            visit = self._visit(width)
            seen["status"] = visit.open(page).status
            watched = visit.watched()
            if watched["shift"] > SHIFT:  # on a busy machine a font may come late: once more
                visit.open(page)
                watched = visit.watched()
            seen["shift"][width], seen["shifts"][width] = watched["shift"], watched["shifts"]
            instrument(visit.page)
            seen["wide"][width] = visit.page.evaluate("nnMeasure.wide()")
            seen |= look(visit)
            seen["types"][width] = visit.page.evaluate("nnMeasure.types()")
            for name in ("foreign", "failed", "complaints"):
                seen[name] += getattr(visit, name)
        seen["frame"]["barriers"] = _barriers(visit.page)
        return seen

    def _visit(self, width: int) -> Visit:
        if width not in self._visits:
            height = 900 if width < 500 else 800
            self._visits[width] = Visit(self._browser, self._address, width=width, height=height)
        return self._visits[width]


def _on_a_phone(visit: Visit) -> dict[str, Any]:
    tab = visit.page
    seen: dict[str, Any] = {"mathematics": tab.evaluate("nnMeasure.mathematics()"), "pale": {}}
    seen["scrolled"] = tab.evaluate("nnMeasure.scrolled()")
    seen["sliders"] = [_steps(tab, slider) for slider in tab.locator(".nn-slider").all()]
    tab.evaluate("nnMeasure.unfold(), nnMeasure.lay_out()")
    for theme in ("light", "dark"):
        visit.set_theme(theme)
        seen[theme] = tab.evaluate("nnMeasure.faint()")
        seen["pale"][theme] = tab.evaluate("nnMeasure.pale()")
    return seen


def _in_a_window(visit: Visit) -> dict[str, Any]:
    tab = visit.page
    seen = {
        name: tab.evaluate(f"nnMeasure.{name}()") for name in ("weight", "holding", "cut", "stops")
    }
    seen["frame"] = tab.evaluate(Path(__file__).with_name("frame.js").read_text("utf8"))
    tab.evaluate("nnMeasure.unfold()")
    seen["code"] = tab.evaluate("nnMeasure.code()")
    return seen


def _barriers(tab: Any) -> list[str]:
    """Return what keeps anyone from using a page whose folds are open.

    What depends on colours, tests/book/test_site.py measures at every word. How links look within
    text, which alone takes half of the time, is asked on a few pages in test_frame.py: one style
    sheet serves them all. Shapes of pictures, colours of code and letters of formulas, which most
    elements of a page are, can bar nobody's way, so they are taken out first.
    """
    tab.evaluate(_PLAIN)
    return axe.grave(tab, without=["color-contrast", "link-in-text-block"])


def _steps(tab: Any, slider: Any) -> dict[str, Any]:
    """Move a slider by keyboard through all its frames; keep what it shows and says at each."""
    element = slider.element_handle()
    handle = slider.get_by_role("slider")
    name = slider.locator("label").inner_text()
    count = slider.locator(".nn-frame").count()
    handle.focus()
    seen = [tab.evaluate("s => nnMeasure.frame(s)", element)]
    for _ in range(count - 1):
        tab.keyboard.press("ArrowRight")
        seen.append(tab.evaluate("s => nnMeasure.frame(s)", element))
    pictures = [frame["picture"] for frame in seen]
    return {
        "name": name,
        "frames": count,
        "same": [n for n in range(1, count) if pictures[n] in (None, pictures[n - 1])],
        "unsaid": [
            frame["shown"]
            for frame in seen
            if frame["spoken"] != frame["shown"]
            or not frame["described"].removesuffix(")").endswith(f"{name}: {frame['shown']}")
        ],
        "heights": sorted({frame["height"] for frame in seen}),
    }
