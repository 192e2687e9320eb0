"""Every work that the book may cite, whichever file it stands in, and who cites what."""

import re
from functools import cache
from pathlib import Path

from pybtex.database import Entry, parse_file

from pipeline import ROOT
from pipeline.site.staging import bibliographies


@cache
def references(root: Path = ROOT) -> dict[str, Entry]:
    """Return every work that may be cited, by its key.

    Raises:
        ValueError: a key stands in two files; which of them is shown would be chance.
    """
    found, where = {}, {}
    for name in bibliographies(root):
        for key, entry in parse_file(root / name).entries.items():
            if key in found:
                raise ValueError(f"{key} stands in {where[key]} and in {name}")
            found[key], where[key] = entry, name
    return found


def cited(text: str) -> set[str]:
    """Return the keys of the works that a page cites."""
    found = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    return {key.strip() for keys in found for key in keys.split(",")}
