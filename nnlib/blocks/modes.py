"""A model in evaluation mode for a while, and afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
