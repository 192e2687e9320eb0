"""The catalogue: cheap to import, consistent with itself, the bibliography and the history."""

import dataclasses
import re
import subprocess
import sys

import pytest

from nnlib import catalog
from pipeline import ROOT
from tests.book.references import references
from tests.support import refuses


def test_importing_it_imports_nothing_heavy():
    code = "import sys, nnlib, nnlib.catalog; print(*{'torch', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr


def test_names_are_unique_stems():
    names = [row.name for row in catalog.ARCHITECTURES]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)


def test_rows_stand_family_by_family_in_the_order_of_the_families():
    order = [list(catalog.FAMILIES).index(row.family) for row in catalog.ARCHITECTURES]
    assert order == sorted(order)
    assert set(order) == set(range(len(catalog.FAMILIES))), "a family without a member"


@pytest.mark.parametrize("row", catalog.ARCHITECTURES, ids=lambda row: row.name)
def test_a_row_is_complete(row):
    assert row.idea.endswith(".") and len(row.idea) <= 110
    assert 1940 < row.year < 2030
    assert row.people and row.title
    if row.module:
        if row.family == "kernels":  # a chapter there is about an operation, which has its own name
            assert row.module.startswith("nnlib.kernels.")
        else:
            assert row.module == f"nnlib.{row.family}.{row.name}"
        needed = ("cls", "parameters", "train_cost", "use_cost")
        missing = [name for name in needed if not getattr(row, name)]
        assert not missing, f"the written row {row.name} lacks {missing}"
        assert row.trained_by in ("gradient", "rule", "none")


@pytest.mark.parametrize("row", catalog.ARCHITECTURES, ids=lambda row: row.name)
def test_ancestors_exist_and_are_not_younger(row):
    for name in row.ancestors:
        assert catalog.get(name).year <= row.year
        assert name != row.name
        assert row in catalog.heirs(name)


def required(name: str) -> set[str]:
    """Return what must be read before, and before that; a circle would never end."""
    found: set[str] = set()
    waiting = list(catalog.get(name).requires)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += catalog.get(one).requires
    return found


@pytest.mark.parametrize("row", catalog.ARCHITECTURES, ids=lambda row: row.name)
def test_what_is_read_first_leads_to_a_beginning(row):
    assert row.name not in required(row.name), f"{row.name} must be read before itself"


@pytest.mark.parametrize("row", catalog.ARCHITECTURES, ids=lambda row: row.name)
def test_what_is_read_first_is_named_once(row):
    beyond = {name for one in row.requires for name in catalog.get(one).requires}
    assert len(set(row.requires)) == len(row.requires) <= 3
    assert not beyond & set(row.requires), f"{row.name}: follows from the others"


def test_few_chapters_need_nothing_before():
    bare = [row.name for row in catalog.ARCHITECTURES if not row.requires]
    assert "perceptron" in bare and len(bare) <= len(catalog.ARCHITECTURES) / 10


def test_sources_stand_in_the_bibliography():
    known = references()
    assert [row.name for row in catalog.ARCHITECTURES if row.source not in known] == []


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("perceptron", 1958),
        ("hopfield", 1982),
        ("lstm", 1997),
        ("attention", 2014),
        ("diffusion", 2015),
        ("transformer", 2017),
        ("gpt", 2018),
        ("bert", 2018),
        ("mamba", 2023),
    ],
)
def test_the_years_that_are_often_wrong_are_right(name, year):
    assert catalog.get(name).year == year


def test_later_additions_are_credited():
    assert "Gers et al. 1999" in catalog.get("lstm").people  # the 1997 cell had no forget gate
    assert "Sohl-Dickstein" in catalog.get("diffusion").people  # before DDPM
    assert "Hinton 2002" in catalog.get("rbm").people  # contrastive divergence


def test_load_returns_the_class():
    assert catalog.load("perceptron").__name__ == "Perceptron"


def test_a_row_without_a_module_is_planned(monkeypatch):
    row = dataclasses.replace(catalog.get("perceptron"), module="")
    monkeypatch.setattr(catalog, "get", lambda name: row)
    with refuses(ValueError, "name='perceptron' is planned"):
        catalog.load("perceptron")


def test_bad_names_are_refused_with_names_near_them():
    with refuses(ValueError, "name='perceptrn' is not in the catalogue: it takes 'perceptron'"):
        catalog.get("perceptrn")
    with refuses(TypeError, "name=3 must be a string"):
        catalog.get(3)
    with refuses(ValueError, "family='fondations' must be one of"):
        catalog.members("fondations")
    with refuses(ValueError, "name='no' is not in the catalogue"):
        catalog.heirs("no")
