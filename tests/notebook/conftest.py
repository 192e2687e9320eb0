"""A run that has just begun, and what it shows."""

import pytest

from nnlib import notebook
from nnlib.notebook import pictures, words


@pytest.fixture(autouse=True)
def fresh_run():
    notebook.setup()


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    for module in (pictures, words):
        monkeypatch.setattr(module, "display", outputs.append)
    return outputs
