"""Early stopping: keep the best state that validation has seen, and say when to stop.

Chapter: chapters/foundations/regularization.md     Paper: Prechelt 1998
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nnlib import checks


class EarlyStopping:
    """Watch a measure of validation; keep the state of its best moment; say when to stop.

    Args:
        patience: updates in a row without an improvement after which to stop, ≥ 1.
        mode: "min" where lower is better, such as a loss; "max" for an accuracy.

    Attributes:
        best: the best value so far, None before the first.
        at: how many updates came before the best one.
        state: a copy of the state then.

    Example:
        >>> stopping = EarlyStopping(patience=2)
        >>> [stopping.update(loss, {}) for loss in (3.0, 1.0, 2.0, 2.0, 0.5)], stopping.best
        ([False, False, False, True, True], 1.0)

    Source: Prechelt 1998.
    """

    def __init__(self, patience: int, mode: str = "min"):
        self.patience = checks.count("patience", patience)
        self.sign = {"min": 1, "max": -1}[checks.one_of("mode", mode, ("min", "max"))]
        self.best: float | None = None
        self.at = self.updates = 0
        self.state: dict[str, Tensor] = {}

    def update(self, value: float, model: nn.Module | Mapping[str, Tensor]) -> bool:
        """Take note of one measure, of a model or a state; return whether to stop.

        NaN counts as no improvement. Once it has said stop, nothing changes any more.
        """
        if self.updates - self.at > self.patience:
            return True
        value = float(value)
        better = self.best is None or self.sign * value < self.sign * self.best
        if better and not math.isnan(value):
            state = model.state_dict() if isinstance(model, nn.Module) else model
            self.state = {name: part.detach().clone() for name, part in state.items()}
            self.best, self.at = value, self.updates
        self.updates += 1
        return self.updates - self.at > self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            name: getattr(self, name) for name in ("best", "at", "updates", "state")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        vars(self).update(state)
