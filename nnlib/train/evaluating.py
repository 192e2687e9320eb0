"""What a model is worth at the moment: measures, taken in evaluation mode."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from nnlib.blocks.modes import evaluating

__all__ = ["Measure", "evaluate", "evaluating"]

Measure = Callable[[nn.Module], float]


@torch.no_grad()
def evaluate(model: nn.Module, measures: Mapping[str, Measure]) -> dict[str, float]:
    """Return each `measure(model)`, taken without gradients in evaluation mode.

    Example:
        >>> evaluate(nn.Dropout(), {"kept": lambda drop: drop(torch.ones(8)).mean()})
        {'kept': 1.0}
    """
    with evaluating(model):
        return {name: float(measure(model)) for name, measure in measures.items()}
