"""What a loader returns: tensors, the names of their classes, where they come from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib import checks


@dataclass(frozen=True)
class Split:
    """One named split of a data set.

    Attributes:
        x: inputs; the first axis counts examples.
        y: targets, as long as `x`.
        split: its name: `train`, `test` or `all`.
        classes: names of the classes, empty for regression.
        source: who made the data, where it comes from.
        licence: under which terms it may be used.
    """

    x: Tensor
    y: Tensor
    split: str
    source: str
    licence: str
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


def shuffled_halves(length: int, test_share: float, split: str) -> Tensor:
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
    return {"train": order[:cut], "test": order[cut:], "all": torch.arange(length)}[split]
