"""Rows of numbers that a chapter hands to whoever runs it."""

import json

import pytest
import torch

from nnlib.notebook import record


def test_a_chapter_records_rows_for_whoever_runs_it(monkeypatch, tmp_path):
    monkeypatch.delenv("NNLIB_SCALARS", raising=False)
    record(["model", "bits"], {"VAE": [2.0]})  # with nobody there, nothing happens
    file = tmp_path / "scalars.jsonl"
    monkeypatch.setenv("NNLIB_SCALARS", str(file))
    record(["model", "bits", "Fréchet ↓"], [["VAE", torch.tensor(2.0), 4]])
    assert [json.loads(line) for line in file.read_text("utf8").splitlines()] == [
        ["VAE | bits", 2.0],
        ["VAE | Fréchet ↓", 4.0],
    ]
    with pytest.raises(ValueError, match=r"'a \| b', 'bits' must not hold ' \| '"):
        record(["model", "bits"], {"a | b": [2.0]})
