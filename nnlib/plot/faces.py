"""The letters of the figures: Source Sans 3, the face of the site's headings."""

from dataclasses import replace
from pathlib import Path

from matplotlib.font_manager import fontManager

FOLDER = Path(__file__).with_name("fonts")
FAMILY = "NN Sans"
ON_THE_PAGE = "&quot;Source Sans 3&quot;,system-ui,sans-serif"  # within an attribute
SEMIBOLD, BOLD = 600, 700


def register() -> None:
    """Tell matplotlib of the faces in `fonts/`, once in a process.

    The semibold face stands for bold, too: so matplotlib need not say that there is none.
    """
    known = {font.fname for font in fontManager.ttflist}
    for file in sorted(FOLDER.glob("*.ttf")):
        if str(file) in known:
            continue
        fontManager.addfont(file)
        if fontManager.ttflist[-1].weight == SEMIBOLD:
            fontManager.ttflist.append(replace(fontManager.ttflist[-1], weight=BOLD))
