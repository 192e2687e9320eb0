r"""The neural cellular automaton: one small network in every cell, which sees its neighbours only.

Chapter: chapters/dynamics/neural_cellular_automata.md
Paper: Mordvintsev, Randazzo, Niklasson and Levin 2020, Growing neural cellular automata. What a
cell sees stands in `_perception`, what trains it in `_sample_pool`.
Axes: b batch of grids, c channels of a cell, p what a cell sees, y x rows and columns, t steps.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._perception import (
    PADDINGS,
    PERCEPTIONS,
    living,
    perceive,
    perceive_reference,
    senses,
)
from nnlib.dynamics._sample_pool import (
    SamplePool,
    disc_masks,
    half_plane_masks,
    normalize_gradients,
)

__all__ = [
    "NeuralCellularAutomaton",
    "SamplePool",
    "disc_masks",
    "half_plane_masks",
    "living",
    "normalize_gradients",
    "perceive",
    "perceive_reference",
]


class NeuralCellularAutomaton(nn.Module):
    r"""A grid of cells that all follow the same learned rule, and see only their neighbours.

    A step adds to each cell what a network of one hidden layer makes of what it sees, if the cell
    fires (equation `neural-cellular-automata-step`):
    $\mathbf{s}_i \leftarrow \mathbf{s}_i + m_i\,\mathbf{W}_2\,\mathrm{relu}(\mathbf{W}_1
    \mathbf{p}_i + \mathbf{b}_1)$, and sets to zero what does not live before and after it. The last
    layer begins at zero, so a fresh automaton does nothing.

    Args:
        channels: numbers of a cell, ≥ 1; the first ones are what one looks at.
        hidden_size: units of the hidden layer, ≥ 1.
        fire_rate: the share of cells that are updated in a step, drawn anew each time, in
            (0, 1]; at 1 all are, and nothing is drawn.
        alive: the channel that says who lives (see `living`); None: nothing ever dies.
        threshold: what it must exceed, ≥ 0.
        perception: what a cell sees: `sobel`, `laplacian` or `both` (see `perceive`).
        padding: what lies around the grid: `zeros`, or `circular`: it is a torus.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> automaton = NeuralCellularAutomaton()
        >>> seed = automaton.seed(40, 40)
        >>> automaton.grow(seed, 64).shape, sum(p.numel() for p in automaton.parameters())
        (torch.Size([1, 16, 40, 40]), 8320)

    Source: Mordvintsev, Randazzo, Niklasson and Levin 2020, Growing neural cellular automata.
    """

    def __init__(
        self,
        channels: int = 16,
        hidden_size: int = 128,
        *,
        fire_rate: float = 0.5,
        alive: int | None = 3,
        threshold: float = 0.1,
        perception: str = "sobel",
        padding: str = "zeros",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = checks.count("channels", channels)
        self.hidden_size = checks.count("hidden_size", hidden_size)
        self.fire_rate = checks.number("fire_rate", fire_rate, above=0, most=1)
        self.threshold = checks.number("threshold", threshold, least=0)
        self.alive = None if alive is None else checks.count("alive", alive, least=0)
        if self.alive is not None and self.alive >= channels:
            raise ValueError(
                f"alive={alive} must be one of channels={channels}, from 0"
            )
        self.perception = checks.one_of("perception", perception, PERCEPTIONS)
        self.padding = checks.one_of("padding", padding, PADDINGS)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.hidden = nn.Linear(PERCEPTIONS[perception] * channels, hidden_size, **like)
        self.out = nn.Linear(hidden_size, channels, bias=False, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the hidden layer as torch does, and set the last one to zero."""
        self.hidden.reset_parameters()
        nn.init.zeros_(self.out.weight)

    def seed(
        self,
        height: int,
        width: int | None = None,
        *,
        at: tuple[int, int] | None = None,
        visible: int | None = None,
    ) -> Float[Tensor, "1 c y x"]:
        """Return an empty grid with one cell in it, whose hidden channels are 1.

        Args:
            height: rows of the grid, ≥ 1.
            width: columns; as many as rows if None.
            at: row and column of the cell; the middle if None.
            visible: channels that stay 0, such as its colour; those before `alive` if None.
        """
        height = checks.count("height", height)
        width = height if width is None else checks.count("width", width)
        if at is None:
            at = height // 2, width // 2
        if not isinstance(at, tuple | list) or len(at) != 2:
            raise TypeError(f"at={at!r} must be a row and a column")
        row, column = at
        checks.count("at", row, least=0), checks.count("at", column, least=0)
        if row >= height or column >= width:
            raise ValueError(f"at={at!r} must lie in a grid of {height} × {width}")
        if visible is None:
            visible = self.alive or 0
        first = checks.count("visible", visible, least=0)
        if first >= self.channels:
            raise ValueError(
                f"visible={visible} must be below channels={self.channels}: one is to be 1"
            )
        state = self.out.weight.new_zeros(1, self.channels, height, width)
        state[:, first:, row, column] = 1
        return state

    def step(
        self,
        state: Float[Tensor, "b c y x"],
        *,
        angle: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c y x"]:
        """Return the state one step later.

        Args:
            state: the grid.
            angle: by which the cells' axes are turned, in radians.
            generator: draws who fires; torch's own if None.
        """
        return self.grow(state, 1, angle=angle, generator=generator)

    def grow(
        self,
        state: Float[Tensor, "b c y x"],
        num_steps: int,
        *,
        angle: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c y x"]:
        """Return the state after so many steps.

        Args:
            state: the grid to begin with.
            num_steps: ≥ 0.
            angle: as `step` takes it.
            generator: likewise.
        """
        *_, last = self._steps(state, num_steps, angle, generator)
        return last.permute(2, 3, 0, 1)

    def path(
        self,
        state: Float[Tensor, "b c y x"],
        num_steps: int,
        *,
        angle: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "t b c y x"]:
        """Return a state and all that follow it, `num_steps` + 1 in number.

        Args:
            state: the grid to begin with.
            num_steps: ≥ 0.
            angle: as `step` takes it.
            generator: likewise.
        """
        every = list(self._steps(state, num_steps, angle, generator))
        return torch.stack(every).permute(0, 3, 4, 1, 2)

    def forward(
        self, state: Float[Tensor, "b c y x"], num_steps: int = 1
    ) -> Float[Tensor, "b c y x"]:
        """Grow, as `grow` does."""
        return self.grow(state, num_steps)

    def _steps(
        self,
        state: Tensor,
        num_steps: int,
        angle: float,
        generator: torch.Generator | None,
    ) -> Iterator[Tensor]:
        """Yield the states, from the first one on, as y x b c: a layer is then one product."""
        s = checks.images("state", state, self.channels).permute(2, 3, 0, 1)
        num_steps = checks.count("num_steps", num_steps, least=0)
        sees, lives = senses(
            s, self.perception, checks.number("angle", angle), self.padding
        )
        fine = torch.promote_types(s.dtype, torch.float32)  # halves draw 0 too often
        yield s
        for _ in range(num_steps):
            # eq. neural-cellular-automata-update
            change = self.out(F.relu(self.hidden(sees(s))))
            if self.fire_rate < 1:  # eq. neural-cellular-automata-mask
                drawn = torch.rand(
                    *s.shape[:3], 1, generator=generator, device=s.device, dtype=fine
                )
                change = change * (drawn < self.fire_rate)
            new = s + change  # eq. neural-cellular-automata-step
            if self.alive is not None:
                who = self.alive, self.threshold
                new = new * (lives(s, *who) & lives(new, *who))
            s = new
            yield s

    def extra_repr(self) -> str:
        """Tell what is not a size of its layers."""
        return (
            f"fire_rate={self.fire_rate:g}, alive={self.alive}, "
            f"perception={self.perception!r}, padding={self.padding!r}"
        )
