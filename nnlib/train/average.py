"""A slow copy of a model: the exponential moving average of its weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnlib import checks


class ExponentialMovingAverage:
    r"""The average $\bar\theta \leftarrow \beta \bar\theta + (1 - \beta)\,\theta$ of weights.

    A model that is still moving is averaged over about its last $1 / (1 - \beta)$ steps: diffusion
    models and GANs are sampled from it, an agent's targets and a momentum encoder are it. It starts
    as a copy. Buffers, such as the running statistics of a batch norm, are taken over as they are.

    (`torch.optim.swa_utils.AveragedModel` does the same, but looks at a counter on the device in
    every update, and so waits for it.)

    Args:
        model: whose weights are averaged; itself unchanged.
        decay: β, in 0 … 1, below 1.

    Attributes:
        model: the averaged model, in evaluation mode and without gradients; call it.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> average = ExponentialMovingAverage(layer, decay=0.75)
        >>> before = layer.weight.item()
        >>> _ = nn.init.constant_(layer.weight, before + 4)
        >>> average.update()
        >>> round(average.model.weight.item() - before, 5)
        1.0

    Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        self.decay = checks.number("decay", decay, least=0, below=1)
        self._source = model
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model, once a step."""
        slow: list[Tensor] = list(self.model.parameters())
        if slow:
            torch._foreach_lerp_(
                slow, list[Tensor](self._source.parameters()), 1 - self.decay
            )
        for mine, its in zip(self.model.buffers(), self._source.buffers(), strict=True):
            mine.copy_(its)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Lend the average to the model, which gets its own weights back, whatever is raised."""
        own = {name: value.clone() for name, value in self._source.state_dict().items()}
        try:
            self._source.load_state_dict(self.model.state_dict())
            yield
        finally:
            self._source.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, under the names that the model gives its weights."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the averages of `state`."""
        self.model.load_state_dict(state)
