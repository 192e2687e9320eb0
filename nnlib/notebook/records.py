"""Records: numbers that a run hands to whoever runs it, for its record, sweeps and comparisons."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BETWEEN = " | "
"""What stands between the parts of a recorded name."""


def record(
    head: Sequence[Any], rows: Iterable[Sequence[Any]] | Mapping[Any, Sequence[Any]]
) -> None:
    """Record the numbers of a table, for one of the whole family; nothing is printed.

    Args:
        head: as for `nnlib.notebook.table`; the first column holds the names.
        rows: the cells of each row; or, for each name, those that follow it.

    Raises:
        ValueError: a name holds what stands between names.

    Example:
        >>> record(["model", "bits"], {"VAE": [2.16]})
    """
    if isinstance(rows, Mapping):
        rows = [(name, *cells) for name, cells in rows.items()]
    for name, *cells in rows:
        for column, value in zip(head[1:], cells, strict=True):
            if BETWEEN in f"{name}{column}":
                raise ValueError(f"{name!r}, {column!r} must not hold {BETWEEN!r}")
            tell(f"{name}{BETWEEN}{column}", float(value))


def tell(name: str, value: float) -> None:
    """Write one number into the file that the run was given, if it was given one."""
    if file := os.environ.get("NNLIB_SCALARS"):
        with open(file, "a", encoding="utf8") as lines:
            lines.write(json.dumps([name, value]) + "\n")
