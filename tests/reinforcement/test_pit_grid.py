"""Boards against loops, ways against networkx."""

import networkx
import pytest
import torch

from nnlib.reinforcement.dqn import (
    Boards,
    PitGrid,
    distances,
    draw_boards,
    move,
    view,
    walk,
)
from tests.support import refuses

WAYS = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_boards_have_everything_in_a_cell_of_its_own():
    boards = draw_boards(4000, 4, 3, dice())
    cells = torch.cat([boards.agents[:, None], boards.goals[:, None], boards.pits], 1)
    assert all(len(set(row)) == 5 for row in cells.tolist())
    share = torch.bincount(boards.agents, minlength=16) / 4000
    assert ((share - 1 / 16).abs() < 4 * (15 / 256 / 4000) ** 0.5).all()
    with refuses(ValueError, "num_pits=15 must leave two of 16 cells free"):
        draw_boards(1, 4, 15)


def test_a_wall_holds():
    for cell in range(9):
        for action, (down, right) in enumerate(WAYS):
            row, column = cell // 3 + down, cell % 3 + right
            inside = 0 <= row < 3 and 0 <= column < 3
            wanted = row * 3 + column if inside else cell
            assert move(torch.tensor(cell), torch.tensor(action), 3) == wanted


@pytest.mark.parametrize("size", [3, 5])
def test_a_view_is_what_stands_at_each_place_around_the_agent(size):
    boards = draw_boards(20, size, 2, dice())
    seen = view(boards, size).reshape(20, 3, 2 * size - 1, 2 * size - 1)
    above = view(boards, size, egocentric=False).reshape(20, 3, size, size)
    for b in range(20):
        at, goal = int(boards.agents[b]), int(boards.goals[b])
        pits = boards.pits[b].tolist()
        for down in range(1 - size, size):
            for right in range(1 - size, size):
                row, column = at // size + down, at % size + right
                inside = 0 <= row < size and 0 <= column < size
                cell = row * size + column if inside else -1
                wanted = [cell == goal, cell in pits, not inside]
                assert seen[b, :, down + size - 1, right + size - 1].bool().tolist() == wanted
        for cell in range(size**2):
            wanted = [cell == goal, cell in pits, cell == at]
            assert above[b, :, cell // size, cell % size].bool().tolist() == wanted


def test_distances_are_networkxs():
    boards = draw_boards(30, 5, 6, dice(1))
    got = distances(boards)
    for b in range(30):
        grid = networkx.grid_2d_graph(5, 5)
        pits = [(cell // 5, cell % 5) for cell in boards.pits[b].tolist()]
        grid.remove_nodes_from(pits)
        goal = int(boards.goals[b])
        known = networkx.single_source_shortest_path_length(grid, (goal // 5, goal % 5))
        assert got[b].tolist() == [known.get((cell // 5, cell % 5), -1) for cell in range(25)]


def test_an_environment_pays_ends_and_begins_anew():
    env = PitGrid(64, max_steps=6, generator=dice())
    g, ends = dice(2), torch.zeros(3)
    for _ in range(60):
        before, steps = env.boards, env._steps.clone()
        torch.testing.assert_close(env.states, view(before))
        agents, goals, pits = (part.clone() for part in before)
        actions = torch.randint(4, (64,), generator=g)
        happened = env.step(actions)
        after = move(agents, actions, 5)
        won, lost = after == goals, (pits == after[:, None]).any(1)
        assert (happened.rewards == won.float() - lost.float()).all()
        assert (happened.terminated == (won | lost)).all()
        assert (happened.truncated == ((steps + 1 >= 6) & ~won & ~lost)).all()
        torch.testing.assert_close(happened.final, view(Boards(after, goals, pits)))
        torch.testing.assert_close(happened.states, view(env.boards))
        assert (env._steps == torch.where(happened.dones, 0, steps + 1)).all()
        assert (env.boards.agents[~happened.dones] == after[~happened.dones]).all()
        ends += torch.stack([won.sum(), lost.sum(), happened.truncated.sum()])
    assert (ends > 10).all(), "each way of ending was seen"


def test_seen_from_above_it_is_the_same_game():
    both = [PitGrid(8, egocentric=flag, generator=dice()) for flag in (True, False)]
    for _ in range(20):
        first, second = (env.step(torch.full((8,), 1)) for env in both)
        assert (first.rewards == second.rewards).all() and (first.dones == second.dones).all()
        torch.testing.assert_close(second.states, view(both[0].boards, egocentric=False))


def test_a_walk_by_the_shortest_way_takes_as_many_steps():
    boards = draw_boards(200, 5, 3, dice(3))
    far = distances(boards)

    def shortest(now):
        around = torch.stack([far.gather(1, move(now.agents, torch.full_like(now.agents, way), 5)
                                         [:, None])[:, 0] for way in range(4)], 1)  # fmt: skip
        return torch.where(around < 0, 99, around).argmin(1)

    played, begin = walk(shortest, boards), far.gather(1, boards.agents[:, None])[:, 0]
    assert (played.reached == (begin >= 0)).all()
    assert (played.steps == begin)[played.reached].all()
    assert (played.cells[0] == boards.agents).all()
    assert (played.cells[-1] == boards.goals)[played.reached].all()


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "num_envs"):
        PitGrid(0)
    with refuses(ValueError, "size"):
        PitGrid(2, size=1)
    with refuses(ValueError, "actions must be 0 … 3"):
        PitGrid(2).step(torch.tensor([0, 4]))
    with refuses(ValueError, "max_steps"):
        PitGrid(2, max_steps=0)
