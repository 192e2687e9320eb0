"""Measures of a model on data."""

import torch
from torch import Tensor, nn

from nnlib import checks
from nnlib.train.evaluating import evaluating


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of rows whose largest score is the target, in evaluation mode.

    Args:
        model: gives scores of shape (n, classes).
        x: inputs, n rows.
        y: classes, n integers.
    """
    checks.tensor("y", y, shape=(len(x),), floating=False, empty=False)
    with evaluating(model):
        return (model(x).argmax(-1) == y).double().mean().item()


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers `model` learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
