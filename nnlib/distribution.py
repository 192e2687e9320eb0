"""What this package knows of its own distribution: its name, its repository, its extras.

The distribution is not called nnlib: that name belongs to another package on PyPI. Importing this
module costs nothing, so a chapter's first cell asks for it: the other nnlib has none.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
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


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import within this what only an extra brings; where it is missing, the error names the extra.

    Args:
        name: of the extra, such as `"data"`.

    Raises:
        ModuleNotFoundError: an import within found no package.

    Example:
        >>> with extra("data"):
        ...     import sklearn
    """
    try:
        yield
    except ModuleNotFoundError as error:
        how = f'it comes with: pip install "{NAME}[{name}]"'
        raise ModuleNotFoundError(
            f"{error.name} is not installed; {how}", name=error.name
        ) from error
