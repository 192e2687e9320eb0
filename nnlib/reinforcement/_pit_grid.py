r"""A square of cells with a goal and pits, drawn anew for every episode: small enough to be solved.

Breadth-first search knows the shortest way on each board, so an agent's success has a ceiling that
is exact. Axes: b boards side by side, p pits of a board, d numbers of a view; a cell's number is
row · size + column.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.reinforcement._environment import Transition

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns of the four actions: up, right, down, left."""
STOCK = 512  # boards that are drawn at a time
PLANES = 3  # goal, pits, and what lies outside or, seen from above, the agent


class Boards(NamedTuple):
    """Where everything stands, a row for each board."""

    agents: Int[Tensor, " b"]
    goals: Int[Tensor, " b"]
    pits: Int[Tensor, "b p"]


class Played(NamedTuple):
    """What a policy did on each board, until it ended or the steps were used up."""

    reached: Bool[Tensor, " b"]
    """Whether it came to the goal."""
    steps: Int[Tensor, " b"]
    """How many it took."""
    cells: Int[Tensor, "t b"]
    """Where it stood, from the beginning; at the end it stays."""


def draw_boards(
    num_boards: int,
    size: int = 5,
    num_pits: int = 3,
    generator: torch.Generator | None = None,
) -> Boards:
    """Return boards with agent, goal and pits in cells of their own, all equally probable.

    Example:
        >>> board = draw_boards(1, size=2, num_pits=2)
        >>> sorted([*board.agents.tolist(), *board.goals.tolist(), *board.pits[0].tolist()])
        [0, 1, 2, 3]
    """
    num_boards, size = (
        checks.count("num_boards", num_boards),
        checks.count("size", size, least=2),
    )
    num_pits = checks.count("num_pits", num_pits, least=0)
    if num_pits > size**2 - 2:
        raise ValueError(f"num_pits={num_pits} must leave two of {size**2} cells free")
    order = torch.rand(num_boards, size**2, generator=generator).argsort(1)
    return Boards(order[:, 0], order[:, 1], order[:, 2 : 2 + num_pits])


def move(
    cells: Int[Tensor, "*b"], actions: Int[Tensor, "*b"], size: int
) -> Int[Tensor, "*b"]:
    """Return the cells that actions lead to: up, right, down or left; a wall holds.

    Example:
        >>> move(torch.tensor([0, 0, 0, 0]), torch.arange(4), 5).tolist()
        [0, 1, 5, 0]
    """
    size = checks.count("size", size, least=2)
    checks.tensor("cells", cells, floating=False)
    checks.tensor("actions", actions, shape=tuple(cells.shape), floating=False)
    return _neighbours(size)[actions, cells]


@cache
def _neighbours(size: int) -> Int[Tensor, "w n"]:
    """Return where each of the four ways leads from each cell."""
    row, column = torch.arange(size**2) // size, torch.arange(size**2) % size
    ways = [
        (row + down).clamp(0, size - 1) * size + (column + right).clamp(0, size - 1)
        for down, right in MOVES
    ]
    return torch.stack(ways)


def view(
    boards: Boards, size: int = 5, egocentric: bool = True
) -> Float[Tensor, "b d"]:
    """Return what the agent sees: three planes of zeros and ones, flattened.

    Seen from the agent, who stands in the middle, they are goal, pits and what lies outside, of
    2 · size − 1 rows and columns, so that the whole board is always in sight. From above they are
    goal, pits and agent, of `size` rows and columns. Either way nothing is hidden.

    Example:
        >>> boards = draw_boards(2)
        >>> view(boards).shape, view(boards, egocentric=False).shape
        (torch.Size([2, 243]), torch.Size([2, 75]))
    """
    canvas, window = _canvas(boards, size, egocentric)
    if not egocentric:
        return canvas.scatter(1, 2 * size**2 + boards.agents[:, None], 1.0)
    return canvas.gather(1, window + _corner(boards.agents, size))


def _canvas(boards: Boards, size: int, egocentric: bool) -> tuple[Tensor, Tensor]:
    """Return the planes with a margin all round, and the places of a view from the first cell."""
    margin = size - 1 if egocentric else 0
    width = size + 2 * margin
    planes = torch.zeros(len(boards.goals), PLANES, width * width)

    def places(cells: Tensor) -> Tensor:
        return (cells // size + margin) * width + cells % size + margin

    planes[:, 0].scatter_(1, places(boards.goals[:, None]), 1.0)
    planes[:, 1].scatter_(1, places(boards.pits), 1.0)
    if egocentric:
        planes[:, 2] = 1.0
        planes[:, 2, places(torch.arange(size**2))] = 0.0
    side = torch.arange(2 * size - 1 if egocentric else size)
    square = (side[:, None] * width + side).flatten()
    window = (torch.arange(PLANES)[:, None] * width * width + square).flatten()
    return planes.flatten(1), window


def _corner(cells: Tensor, size: int) -> Tensor:
    """Return where the view from a cell begins in a row of the canvas."""
    return ((cells // size) * (3 * size - 2) + cells % size)[:, None]


class PitGrid:
    """Boards side by side: +1 and the end at the goal, −1 and the end in a pit, else nothing.

    Args:
        num_envs: how many.
        size: rows and columns, ≥ 2.
        num_pits: of a board.
        max_steps: steps after which an episode is cut off.
        egocentric: whether the agent sees the board from its own cell, or from above: see `view`.
        generator: source of the boards; torch's own if None.

    Attributes:
        states: what the agents see where the next actions are taken.
        boards: where everything stands.

    Example:
        >>> env = PitGrid(4, generator=torch.Generator().manual_seed(0))
        >>> env.states.shape, env.step(torch.zeros(4, dtype=torch.long)).rewards.shape
        (torch.Size([4, 243]), torch.Size([4]))
    """

    num_actions = 4

    def __init__(
        self,
        num_envs: int,
        size: int = 5,
        num_pits: int = 3,
        *,
        max_steps: int = 30,
        egocentric: bool = True,
        generator: torch.Generator | None = None,
    ):
        self.num_envs = checks.count("num_envs", num_envs)
        self.size, self.num_pits = size, num_pits
        self.max_steps = checks.count("max_steps", max_steps)
        self.egocentric = checks.flag("egocentric", egocentric)
        self.generator = generator
        self.reset()

    @property
    def state_size(self) -> int:
        """Numbers of a view."""
        return self.states.shape[1]

    def reset(self) -> Float[Tensor, "b d"]:
        """Begin on new boards, and return what is seen."""
        self._used = STOCK  # so that new ones are drawn
        self.boards = draw_boards(
            self.num_envs, self.size, self.num_pits, self.generator
        )
        self._canvas, self._window = _canvas(self.boards, self.size, self.egocentric)
        self._steps = torch.zeros(self.num_envs, dtype=torch.long)
        self.states = self._seen()
        return self.states

    def step(self, actions: Int[Tensor, " b"]) -> Transition:
        """Move each agent: 0 up, 1 right, 2 down, 3 left."""
        checks.tokens(
            "actions", actions, 4, shape=(self.num_envs,), of="up, right, down, left"
        )
        agents, goals, pits = self.boards
        agents = move(agents, actions, self.size)
        won, lost = agents == goals, (pits == agents[:, None]).any(1)
        self._steps += 1
        terminated = won | lost
        truncated = (self._steps >= self.max_steps) & ~terminated
        self.boards = self.boards._replace(agents=agents)
        final = self.states = self._seen()
        done = terminated | truncated
        if bool(done.any()):
            self._renew(done)
            self.states = self._seen()
        return Transition(
            self.states, won.float() - lost.float(), terminated, truncated, final
        )

    def _renew(self, done: Tensor) -> None:
        """Begin anew in these rows, on boards from a stock that is drawn many at a time."""
        rows = done.nonzero()[:, 0]
        if self._used + len(rows) > STOCK:
            count = max(STOCK, len(rows))
            self._stock = draw_boards(count, self.size, self.num_pits, self.generator)
            self._canvases = _canvas(self._stock, self.size, self.egocentric)[0]
            self._used = 0
        fresh = slice(self._used, self._used + len(rows))
        self._used += len(rows)
        for old, new in zip(self.boards, self._stock, strict=True):
            old[rows] = new[fresh]
        self._canvas[rows] = self._canvases[fresh]
        self._steps[rows] = 0

    def _seen(self) -> Tensor:
        if not self.egocentric:
            return self._canvas.scatter(
                1, 2 * self.size**2 + self.boards.agents[:, None], 1.0
            )
        return self._canvas.gather(
            1, self._window + _corner(self.boards.agents, self.size)
        )


def walk(
    policy: Callable[[Boards], Tensor],
    boards: Boards,
    size: int = 5,
    max_steps: int = 30,
) -> Played:
    """Let a policy play each board once.

    Args:
        policy: gives each board an action.
        boards: where to begin.
        size: their rows and columns.
        max_steps: after which an episode is cut off.

    Example:
        >>> boards = Boards(torch.tensor([0]), torch.tensor([2]), torch.tensor([[6]]))
        >>> walk(lambda now: torch.ones_like(now.agents), boards).steps.tolist()  # to the right
        [2]
    """
    done = torch.zeros(len(boards.agents), dtype=torch.bool)
    reached, steps, cells = (
        done.clone(),
        torch.zeros_like(boards.agents),
        [boards.agents],
    )
    for _ in range(checks.count("max_steps", max_steps)):
        agents = torch.where(
            done, boards.agents, move(boards.agents, policy(boards), size)
        )
        boards = boards._replace(agents=agents)
        steps = steps + ~done
        reached = reached | (~done & (agents == boards.goals))
        done = done | reached | (boards.pits == agents[:, None]).any(1)
        cells.append(agents)
        if bool(done.all()):
            break
    return Played(reached, steps, torch.stack(cells))


def distances(boards: Boards, size: int = 5) -> Int[Tensor, "b n"]:
    """Return, for each cell, the steps of the shortest way to the goal round all pits.

    Cells from which there is none, and pits, have −1. It spreads from the goal, a step at a time.

    Example:
        >>> board = Boards(torch.tensor([0]), torch.tensor([3]), torch.tensor([[1]]))
        >>> distances(board, 2).tolist()
        [[2, -1, 1, 0]]
    """
    cells = size**2
    around = _neighbours(size)
    far = 2 * cells
    known = torch.full((len(boards.goals), cells), far)
    known.scatter_(1, boards.goals[:, None], 0)
    for _ in range(cells):
        known = torch.minimum(known, known[:, around].amin(1) + 1)
        known = known.scatter(1, boards.pits, far)
    return known.masked_fill(known >= far, -1)
