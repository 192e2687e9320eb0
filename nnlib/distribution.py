"""What this package knows of its own distribution: its name, its repository, its extras.

The distribution is not called nnlib: that name belongs to another package on PyPI. Importing this
module costs nothing, so a chapter's first cell asks for it: the other nnlib has none.
"""

import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NAME = "executable-encyclopedia"


def repository() -> str:
    """Return the repository's address, or "" where nothing tells it.

    It stands in `pyproject.toml`, beside the package in a clone, and in what pip has installed.

    Example:
        >>> repository().startswith("https://")
        True
    """
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        told = tomllib.loads(project.read_text("utf8")).get("project", {})
        if told.get("name") == NAME:
            return str(told["urls"]["repository"])
    try:
        links = metadata.metadata(NAME).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    return next((url for name, _, url in (link.partition(", ") for link in links)
                 if name == "repository"), "")  # fmt: skip


def needs(extra: str, *modules: str) -> None:
    """Ask for packages that only an extra brings.

    Args:
        extra: its name, such as `"data"`.
        *modules: what must be importable, such as `"sklearn"`.

    Raises:
        ModuleNotFoundError: one is missing; the message says how to install it.

    Example:
        >>> needs("data", "json")
    """
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(
                f'{module} is not installed; it comes with: pip install "{NAME}[{extra}]"',
                name=module,
            )
