"""Tables: what they promise to hold, their splits, and where they come from."""

import pytest
import torch

from nnlib.data import tables
from nnlib.data.tables import breast_cancer, digits, iris, wine
from tests.support import refuses

TABLES = {
    digits: (1797, 64, 10),
    iris: (150, 4, 3),
    wine: (178, 13, 3),
    breast_cancer: (569, 30, 2),
}


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
    assert train.split == load().split == "train"


def test_digits_are_scaled_to_one():
    assert digits("all").x.min() == 0.0 and digits("all").x.max() == 1.0


@pytest.mark.parametrize("at_hand", [True, False], ids=["its file", "its loader"])
def test_digits_are_those_of_scikit_learn(monkeypatch, at_hand):
    from sklearn.datasets import load_digits

    if not at_hand:
        monkeypatch.setattr(tables, "find_spec", lambda name: None)
    own, theirs = tables._all_digits(), load_digits()
    assert torch.equal(
        torch.as_tensor(own.data), torch.as_tensor(theirs.data).to(torch.as_tensor(own.data).dtype)
    )
    assert list(own.target) == list(theirs.target)
    assert list(own.target_names) == list(theirs.target_names)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: digits("validation"), ValueError, "split='validation' must be one of"),
        (lambda: digits(test_share=0.0), ValueError, "test_share=0.0"),
        (lambda: digits(test_share=1.0), ValueError, "test_share=1.0"),
        (lambda: wine(test_share=float("nan")), ValueError, "test_share=nan"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with refuses(error, message):
        call()
