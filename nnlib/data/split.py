"""What a loader returns: the data, the names of their classes, where they come from."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nnlib import checks

X = TypeVar("X", bound=Sized)
Y = TypeVar("Y", bound=Sized)
Strings = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What every set of data says of itself; each adds its own fields.

    Attributes:
        source: who made the data, where they come from.
        licence: under which terms they may be used.
    """

    source: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class Split(DataSet, Generic[X, Y]):
    """One named split of a data set of inputs and targets.

    Attributes:
        x: inputs, a tensor or a tuple of strings; the first axis counts examples.
        y: targets, as many as `x`.
        split: its name: `train`, `test` or `all`.
        classes: names of the classes, empty where targets are no classes.
        source, licence: as for `DataSet`.
    """

    x: X
    y: Y
    split: str
    classes: Strings = ()

    def __len__(self) -> int:
        return len(self.x)


def split_indices(length: int, test_share: float, split: str) -> Tensor:
    """Return the indices of a split under a fixed shuffle, the same in every run.

    Args:
        length: examples in all, ≥ 2.
        test_share: share of the test split, in (0, 1).
        split: `train`, `test` or `all`.
    """
    checks.one_of("split", split, ("train", "test", "all"))
    checks.number("test_share", test_share, above=0, below=1)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(20_201))
    cut = round(length * (1 - test_share))
    return {"train": order[:cut], "test": order[cut:], "all": torch.arange(length)}[
        split
    ]
