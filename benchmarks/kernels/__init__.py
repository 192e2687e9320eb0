"""Benchmarks of the operations of nnlib/kernels: one file each, found here by its name.

A file has `build(like, **sizes)`, which returns the operation at one size, and `CPU` and `GPU`, the
sizes to measure, smallest first.
"""

import importlib
from pathlib import Path
from types import ModuleType

OPERATIONS = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))


def load(name: str) -> ModuleType:
    """Return the file of an operation; imported one by one, so that one may fail alone."""
    return importlib.import_module(f"{__name__}.{name}")
