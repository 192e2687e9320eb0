"""What a training run recorded."""

import math
from typing import Any

import torch
from torch import Tensor

LONGEST = 100  # values of a curve that may wait on their device


class History:
    """Curves with a value for each step, and measures that were taken now and then.

    To read a number from a GPU is to wait for all that it still has to do. So the values of a curve
    stay where they are until somebody asks for them, or a hundred of them wait. One that is NaN or
    infinite is found then, and named by its step; by that time, more steps may have been taken.

    Attributes:
        at: the steps after which the measures were taken.
        measures: a list of values, as long as `at`, for each name.

    Example:
        >>> history = History()
        >>> for value in (2.0, 1.0):
        ...     history.add(loss=torch.tensor(value), lr=0.1)
        >>> history.note(2, accuracy=0.9)
        >>> history.loss, history["lr"], history.at, history.last("accuracy")
        ([2.0, 1.0], [0.1, 0.1], [2], 0.9)
    """

    def __init__(self) -> None:
        self.at: list[int] = []
        self.measures: dict[str, list[float]] = {}
        self._curves: dict[str, list[float]] = {}
        self._waiting: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor | float) -> None:
        """Note one value of each curve for a step, without looking at it."""
        for name, value in values.items():
            waiting = self._waiting.setdefault(name, [])
            if not isinstance(value, Tensor):
                value = torch.tensor(value, dtype=torch.float64)
            waiting.append(value.detach())
            if len(waiting) >= LONGEST:
                self.read()

    def note(self, at: int, **measures: float) -> None:
        """Note measures that were taken after `at` steps."""
        if measures:
            self.at.append(at)
        for name, value in measures.items():
            self.measures.setdefault(name, []).append(value)

    def read(self) -> None:
        """Look at what waits.

        Raises:
            FloatingPointError: a value is NaN or infinite; the first one is named by its step.
        """
        for name in list(self._waiting):
            waiting = self._waiting.pop(name)
            known = self._curves.setdefault(name, [])
            start = len(known)
            known += torch.stack(waiting).tolist()
            for step, value in enumerate(known[start:], start):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the {name} is {value} at step {step}; a lower lr?"
                    )

    def __getitem__(self, name: str) -> list[float]:
        """Return a curve, one value a step."""
        self.read()
        if name not in self._curves:
            raise KeyError(
                f"name={name!r} has no curve; there are {sorted(self._curves)}"
            )
        return self._curves[name]

    @property
    def loss(self) -> list[float]:
        """The loss of each step."""
        return self["loss"]

    @property
    def lr(self) -> list[float]:
        """The learning rate of each step."""
        return self["lr"]

    def latest(self) -> dict[str, float]:
        """Return the last value of each curve."""
        self.read()
        return {name: values[-1] for name, values in self._curves.items()}

    def last(self, name: str) -> float:
        """Return the last value of a measure."""
        if name not in self.measures:
            raise KeyError(
                f"name={name!r} was not measured; there are {sorted(self.measures)}"
            )
        return self.measures[name][-1]

    def smooth_loss(self, width: int = 25) -> list[float]:
        """Return the mean of the last `width` losses at each step."""
        smooth, total, loss = [], 0.0, self.loss
        for step, value in enumerate(loss):
            total += value - (loss[step - width] if step >= width else 0.0)
            smooth.append(total / min(width, step + 1))
        return smooth

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs; it reads what waits."""
        self.read()
        return {"curves": self._curves, "at": self.at, "measures": self.measures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._curves, self.at, self.measures = (
            state["curves"],
            state["at"],
            state["measures"],
        )
        self._waiting = {}
