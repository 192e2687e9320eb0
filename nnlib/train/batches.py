"""The steps of a run, and the batch that each of them reads; both can be resumed."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nnlib import checks


class Steps:
    """The numbers 0, 1, 2, … of the steps of a run; one that is resumed goes on where it stood.

    Args:
        steps: how many in all, ≥ 1; endless when None.

    Attributes:
        step: how many have been handed out, the present one included.

    Example:
        >>> run = Steps(4)
        >>> next(iter(run)), run.step
        (0, 1)
        >>> list(run)
        [1, 2, 3]
    """

    def __init__(self, steps: int | None = None):
        self.steps = None if steps is None else checks.count("steps", steps)
        self.step = 0

    def __iter__(self) -> Iterator[Any]:
        while self.steps is None or self.step < self.steps:
            self.step += (
                1  # before the body, so that a checkpoint made there counts this step
            )
            yield self._at(self.step - 1)

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("steps=None: a run without an end has no length")
        return self.steps

    def _at(self, step: int) -> Any:
        return step

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from `state`; what else it holds must be as it is here."""
        for name, mine in self.state_dict().items():
            if name != "step" and state[name] != mine:
                raise ValueError(
                    f"{name}={mine} differs from {name}={state[name]} of the run that is resumed: "
                    f"give it {state[name]}, or begin anew"
                )
        self.step = state["step"]


class Batches(Steps):
    """Batches of `data`: epoch after epoch, each in an order that the seed alone decides.

    What is left at the end of an epoch, fewer rows than a batch, waits for another epoch. Nothing
    here touches torch's own random state, and on a GPU nothing waits for it.

    Args:
        data: tensors with a common first axis; a batch is some rows of each.
        batch_size: rows a batch, ≥ 1; all of them when there are fewer.
        steps: batches in all, ≥ 1; endless when None.
        seed: of the order, ≥ 0.
        device: where `data` goes to; it stays where it is when None.

    Example:
        >>> for rows, squares in Batches((torch.arange(4), torch.arange(4) ** 2), 2, steps=2):
        ...     print(rows.tolist(), squares.tolist())
        [0, 1] [0, 1]
        [3, 2] [9, 4]
    """

    def __init__(
        self,
        data: Sequence[Tensor],
        batch_size: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ):
        super().__init__(steps)
        self.batch_size = checks.count("batch_size", batch_size)
        self.seed = checks.count("seed", seed, least=0)
        _check(data)
        self.data = [part if device is None else part.to(device) for part in data]
        self.rows = len(data[0])
        self.batch_size = min(self.batch_size, self.rows)
        self._epoch, self._order = -1, torch.empty(0)

    def _at(self, step: int) -> tuple[Tensor, ...]:
        epoch, at = divmod(step, self.rows // self.batch_size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        rows = self._order[at * self.batch_size : (at + 1) * self.batch_size]
        return tuple(part[rows] for part in self.data)

    def _shuffled(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order, device = (
            torch.randperm(self.rows, generator=generator),
            self.data[0].device,
        )
        if device.type == "cuda":  # from pinned memory, the copy need not be waited for
            return order.pin_memory().to(device, non_blocking=True)
        return order.to(device)

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs; a run with another of these reads other batches."""
        return {
            **super().state_dict(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "rows": self.rows,
        }


def _check(data: Sequence[Tensor]) -> None:
    if isinstance(data, Tensor) or not data:
        raise TypeError("data must be a sequence of tensors, such as (x, y)")
    for at, part in enumerate(data):
        checks.tensor(f"data[{at}]", part, empty=False)
        if part.ndim == 0 or len(part) != len(data[0]):
            raise ValueError(
                f"data[{at}] must have {len(data[0])} rows like data[0], got {tuple(part.shape)}"
            )
        if part.is_floating_point():
            checks.tensor(f"data[{at}]", part, finite=True)
