"""Pictures of pages for people who review: `python -m pipeline.site.screenshots OUT page.html ...`.

Each page is taken at 1280 and at 390 pixels, in light and in dark.
"""

import argparse
import sys
from pathlib import Path

from pipeline import ROOT

WIDTHS = {"desktop": (1280, 900, 1), "phone": (390, 844, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("pages", nargs="+", help="pages below _build/html, or `all` of the book")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--fold", action="store_true", help="only what the window shows")
    parser.add_argument("--at", help="a CSS selector to scroll to; implies --fold")
    chosen = parser.parse_args()

    from pipeline.site.browser import Visit, browsing, served, why_not

    if reason := why_not(chosen.site):
        print(f"screenshots: {reason}", file=sys.stderr)
        return 1
    pages = chosen.pages
    if pages == ["all"]:
        from pipeline.site.toc import toc_pages

        pages = [f"{doc}.html" for doc in toc_pages(ROOT)]
    chosen.out.mkdir(parents=True, exist_ok=True)
    with served(chosen.site) as address, browsing() as browser:
        for device, (width, height, scale) in WIDTHS.items():
            for theme in ("light", "dark"):
                visit = Visit(
                    browser, address, width=width, height=height, device_scale_factor=scale
                )
                for page in pages:
                    visit.open(page, theme)
                    if chosen.at:
                        visit.page.locator(chosen.at).first.scroll_into_view_if_needed()
                    name = page.removesuffix(".html").replace("/", "-")
                    file = chosen.out / f"{name}-{device}-{theme}.png"
                    visit.page.screenshot(path=file, full_page=not (chosen.fold or chosen.at))
                    print(file)
                visit.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
