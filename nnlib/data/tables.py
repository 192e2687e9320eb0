"""Small tables that ship inside scikit-learn: digits, iris, wine, breast cancer."""

import gzip
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nnlib.data.split import Split, split_indices
from nnlib.distribution import extra

Table = Split[Tensor, Tensor]
_UCI = "UCI Machine Learning Repository, as shipped with scikit-learn"
_LICENCE = "free to use with attribution (UCI, CC BY 4.0); packaged under BSD-3-Clause"


def digits(split: str = "train", *, test_share: float = 0.25) -> Table:
    """Load 1797 handwritten digits of 8 × 8 pixels.

    Args:
        split: `train` (1348 at the default share), `test` (449) or `all`.
        test_share: share held out, in (0, 1); the shuffle is fixed.

    Returns:
        `x` float32 of shape (n, 64) in 0 … 1, `y` int64 in 0 … 9.

    Example:
        >>> digits("test").x.shape
        torch.Size([449, 64])
    """
    source = (
        f"Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits; {_UCI}"
    )
    return _table(_all_digits(), split, test_share, source, scale=16.0)


def _all_digits() -> Any:
    """Return what scikit-learn's `load_digits` returns, read from its file where that is found.

    Importing `sklearn.datasets` takes a second of computing, the file five milliseconds.
    """
    found = find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                rows = [[float(value) for value in line.split(",")] for line in lines]
            return SimpleNamespace(
                data=[row[:-1] for row in rows],
                target=[int(row[-1]) for row in rows],
                target_names=range(10),
            )
    with extra("data"):
        from sklearn.datasets import load_digits

    return load_digits()


def iris(split: str = "train", *, test_share: float = 0.25) -> Table:
    """Load 150 flowers: lengths and widths of sepal and petal in cm, three species.

    Args:
        split: `train`, `test` or `all`.
        test_share: share held out, in (0, 1); the shuffle is fixed.

    Returns:
        `x` float32 of shape (n, 4) in centimetres, `y` int64 in 0 … 2.
    """
    with extra("data"):
        from sklearn.datasets import load_iris

    return _table(load_iris(), split, test_share, f"Fisher 1936, Iris; {_UCI}")


def wine(split: str = "train", *, test_share: float = 0.25) -> Table:
    """Load 178 Italian wines: 13 chemical measurements, three cultivars.

    Args:
        split: `train`, `test` or `all`.
        test_share: share held out, in (0, 1); the shuffle is fixed.

    Returns:
        `x` float32 of shape (n, 13), each in its own unit, `y` int64 in 0 … 2.
    """
    with extra("data"):
        from sklearn.datasets import load_wine

    return _table(load_wine(), split, test_share, f"Forina et al. 1991, Wine; {_UCI}")


def breast_cancer(split: str = "train", *, test_share: float = 0.25) -> Table:
    """Load 569 tumours: 30 measurements of cell nuclei, malignant (0) or benign (1).

    Args:
        split: `train`, `test` or `all`.
        test_share: share held out, in (0, 1); the shuffle is fixed.

    Returns:
        `x` float32 of shape (n, 30), each in its own unit, `y` int64 in 0 … 1.
    """
    with extra("data"):
        from sklearn.datasets import load_breast_cancer

    source = f"Wolberg et al. 1995, Breast Cancer Wisconsin (Diagnostic); {_UCI}"
    return _table(load_breast_cancer(), split, test_share, source)


def _table(
    bunch: Any, split: str, test_share: float, source: str, scale: float = 1.0
) -> Table:
    at = split_indices(len(bunch.data), test_share, split)
    return Split(
        x=torch.tensor(bunch.data, dtype=torch.float32)[at] / scale,
        y=torch.tensor(bunch.target, dtype=torch.int64)[at],
        split=split,
        source=source,
        licence=_LICENCE,
        classes=tuple(str(name) for name in bunch.target_names),
    )
