"""A model in evaluation mode for a while, and afterwards as it was."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

Measure = Callable[[nn.Module], float]


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put whole trees of modules in evaluation mode; give each module its own mode back.

    A tree may be mixed, such as a frozen backbone in evaluation mode below a head that learns. Each
    module gets back what it had, whatever is raised in between.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training, model[1].training
        (True, False)
    """
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def evaluate(model: nn.Module, measures: Mapping[str, Measure]) -> dict[str, float]:
    """Return each `measure(model)`, taken without gradients in evaluation mode.

    Example:
        >>> evaluate(nn.Dropout(), {"kept": lambda drop: drop(torch.ones(8)).mean()})
        {'kept': 1.0}
    """
    with evaluating(model):
        return {name: float(measure(model)) for name, measure in measures.items()}
