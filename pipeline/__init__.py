"""Execute the chapters, build the site and its other forms, and check both."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]  # the repository
# For `gc.set_threshold`: importing torch makes hundreds of thousands of objects that stay, and to
# look through them at Python's own rate took a second of a chapter's time.
COLLECT = (10_000, 20, 20)


def project(root: Path = ROOT) -> dict[str, Any]:
    """Return what pyproject.toml says of the project."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]


def address(root: Path = ROOT) -> str:
    """Return the repository's address, which stands in pyproject.toml alone."""
    return project(root)["urls"]["repository"]


def site_address(root: Path = ROOT) -> str:
    """Return where the site is published: `documentation` in pyproject.toml, or GitHub's own."""
    if told := project(root)["urls"].get("documentation"):
        return told.rstrip("/")
    owner, name = address(root).split("/")[-2:]
    return f"https://{owner}.github.io/{name}"
