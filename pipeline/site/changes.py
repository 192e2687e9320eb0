"""The page `What changed`: CHANGELOG.md as a page of the book."""

import re
from pathlib import Path

_FEED = 'Every change of a page, as it comes, is in <a href="feed.xml">the feed</a>.'


def page(root: Path) -> str:
    """Return the page; its headings lose the brackets that the file's form gives them."""
    text = (root / "CHANGELOG.md").read_text("utf8")
    text = re.sub(r"^## \[([^\]]+)\]", r"## \1", text, flags=re.M)
    return re.sub(r"\A# .*\n", f"# What changed\n\n{_FEED}\n", text)
