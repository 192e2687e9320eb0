"""Say which pinned packages are not installed: `python -m pipeline.checks.environment FILE…`.

`install.sh` asks at every `make`, since a package that somebody removed or changed by hand would
otherwise show as an error deep inside a chapter. It reads names and versions, not files.
"""

import sys
from importlib import metadata
from pathlib import Path

from pipeline import ROOT


def lacking(*pins: Path) -> list[str]:
    """Return one sentence for each pin that this Python does not have."""
    told = []
    for line in (line for file in pins for line in file.read_text("utf8").splitlines()):
        name, sign, rest = line.partition("==")
        version, _, marker = (part.strip() for part in rest.partition(";"))
        if not sign or name.startswith("#") or (marker and not _holds(marker)):
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            told.append(f"{name} {version} is missing")
            continue
        if found.partition("+")[0] != version:  # a local version, such as +cpu, is the same
            told.append(f"{name} is {found}, {version} is wanted")
    return told


def _holds(marker: str) -> bool:
    from packaging.markers import Marker

    return Marker(marker).evaluate()


if __name__ == "__main__":
    problems = lacking(*(ROOT / name for name in sys.argv[1:] or ["requirements.txt"]))
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(1 if problems else 0)
