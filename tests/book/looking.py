"""What tests see of the built pages in a browser: each page is opened once in a process."""

import os
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.checks.measuring import instrument
from pipeline.site.browser import Visit, why_not
from pipeline.site.build import toc_pages

# `make check` looks at a page before it is published.
SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html"))
PAGES = [f"{doc}.html" for doc in toc_pages(ROOT)]
CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
REASON = why_not(SITE)

_known: dict[str, dict[str, Any]] = {}


class Looks:
    """Everything measured on a page; what one module has looked at, the next need not open."""

    def __init__(self, browser: Any, address: str):
        self._browser, self._address = browser, address
        self._visit: Visit | None = None

    def __call__(self, page: str) -> dict[str, Any]:
        if page not in _known:
            self._visit = self._visit or Visit(self._browser, self._address, width=390, height=844)
            _known[page] = _look(self._visit, page)
        return _known[page]

    def close(self) -> None:
        if self._visit:
            self._visit.close()


def _look(visit: Visit, page: str) -> dict[str, Any]:
    response = visit.open(page)
    tab = visit.page
    instrument(tab)
    seen: dict[str, Any] = {"status": response.status}
    seen["mathematics"] = tab.evaluate("nnMeasure.mathematics()")
    seen["wide"] = {390: tab.evaluate("nnMeasure.wide()")}
    seen["scrolled"] = tab.evaluate("nnMeasure.scrolled()")
    for theme in ("light", "dark"):
        visit.set_theme(theme)
        seen[theme] = tab.evaluate("nnMeasure.faint()")
    seen["sliders"] = [_steps(tab, slider) for slider in tab.locator(".nn-slider").all()]
    tab.set_viewport_size({"width": 1280, "height": 900})
    seen["wide"][1280] = tab.evaluate("nnMeasure.wide()")
    seen["cut"] = tab.evaluate("nnMeasure.cut()")
    tab.set_viewport_size({"width": 390, "height": 844})
    for name in ("foreign", "failed", "complaints"):
        seen[name] = list(getattr(visit, name))
    return seen


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
            or not frame["described"].rstrip(")").endswith(f"{name}: {frame['shown']}")
        ],
        "heights": sorted({frame["height"] for frame in seen}),
    }
