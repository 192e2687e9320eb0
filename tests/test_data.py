"""Every data set: what it promises to hold, with no network, and where it comes from."""

import socket

import pytest
import torch

from nnlib.data.pictures import china, elevation
from nnlib.data.split import shuffled_halves
from nnlib.data.tables import breast_cancer, digits, iris, wine
from tests.support import refuses

TABLES = {
    digits: (1797, 64, 10),
    iris: (150, 4, 3),
    wine: (178, 13, 3),
    breast_cancer: (569, 30, 2),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a data set asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.parametrize("load", TABLES, ids=lambda load: load.__name__)
def test_table_has_its_size_classes_source_and_licence(load):
    rows, columns, classes = TABLES[load]
    table = load("all")
    assert table.x.shape == (rows, columns) and table.x.dtype == torch.float32
    assert table.y.dtype == torch.int64 and sorted(table.y.unique().tolist()) == list(
        range(classes)
    )
    assert len(table.classes) == classes and len(table) == rows
    assert table.source and table.licence


@pytest.mark.parametrize("load", TABLES, ids=lambda load: load.__name__)
def test_splits_part_the_whole_and_never_change(load):
    train, test, whole = load("train"), load("test"), load("all")
    assert len(train) + len(test) == len(whole)
    together = torch.cat([train.x, test.x]).sum(0)
    torch.testing.assert_close(together, whole.x.sum(0))
    assert torch.equal(load("train").x, train.x)
    assert train.split == "train"


def test_digits_are_scaled_to_one():
    assert digits("all").x.min() == 0.0 and digits("all").x.max() == 1.0


def test_indices_of_the_splits_are_disjoint():
    parts = [shuffled_halves(101, 0.25, split) for split in ("train", "test")]
    assert sorted(torch.cat(parts).tolist()) == list(range(101))
    assert len(parts[1]) == 25


@pytest.mark.parametrize("size", [8, 33, 427])
def test_photograph_is_cut_to_size(size):
    picture = china(size)
    assert picture.pixels.shape == (size, size, 3)
    assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    assert "CC BY" in picture.licence and "photograph by" in picture.source


def test_small_photograph_is_the_mean_of_its_areas():
    large, small = china(427).pixels, china(61).pixels  # 427 = 7 × 61
    blocks = large.reshape(61, 7, 61, 7, 3).mean(dim=(1, 3))
    torch.testing.assert_close(small, blocks, atol=1e-5, rtol=0)


def test_terrain_is_in_metres():
    terrain = elevation()
    assert terrain.height.shape == (344, 403)
    assert 200 < terrain.height.min() < terrain.height.max() < 1200
    assert "matplotlib" in terrain.source and "no licence" in terrain.licence


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: digits("validation"), ValueError, "split='validation' must be one of"),
        (lambda: digits(test_share=0.0), ValueError, "test_share=0.0"),
        (lambda: digits(test_share=1.0), ValueError, "test_share=1.0"),
        (lambda: wine(test_share=float("nan")), ValueError, "test_share=nan"),
        (lambda: china(7), ValueError, "size=7"),
        (lambda: china(428), ValueError, "size=428"),
        (lambda: china(64.0), TypeError, "size=64.0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
