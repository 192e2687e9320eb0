"""Benchmarks of the models: a file for what has the same peers, found here by its name.

A file lists its cases under `CASES`; `benchmarks/README.md` says what each of them compares.
"""

import importlib
from pathlib import Path

from benchmarks.models._contest import Case

FILES = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
CASES: dict[str, Case] = {}
for _file in FILES:
    CASES |= importlib.import_module(f"{__name__}.{_file}").CASES
