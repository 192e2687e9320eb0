"""Measures of a model on data."""

import torch
from torch import Tensor, nn

from nnlib import checks


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of rows whose largest score is the target, in evaluation mode.

    Args:
        model: gives scores of shape (n, classes).
        x: inputs, n rows.
        y: classes, n integers.

    Raises:
        TypeError: `y` holds no integers.
        ValueError: `y` is empty or not as long as `x`.
    """
    checks.tensor("y", y, shape=(len(x),), floating=False, empty=False)
    was_training = model.training
    model.eval()
    right = (model(x).argmax(-1) == y).double().mean().item()
    model.train(was_training)
    return right


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers `model` learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
